"""The GPUs of a machine: whether torch can use them."""

import re

import torch

from pipeline.devices.hardware import gpu_count
from pipeline.errors import UserError


def reason_of_fallback() -> str:
    """Return why torch sees none of this machine's GPUs; empty if there is none."""
    if not gpu_count():
        return ""
    if torch.version.cuda is None:  # pyrefly: ignore[missing-attribute]
        return "torch is installed without CUDA; pip install torch"
    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:
        return f"torch sees none: {str(error).splitlines()[0].rstrip('.')}"
    return "torch sees none; nvidia-smi shows what the driver sees"


def check_architecture(capability: tuple[int, int], built: list[str]) -> None:
    """Refuse a GPU that is older than the oldest of `built`, the architectures of this torch (`sm_75`, …)."""
    numbers = [int(found[1]) for name in built if (found := re.match(r"sm_(\d+)", name))]
    if numbers and 10 * capability[0] + capability[1] < min(numbers):
        lowest, own = divmod(min(numbers), 10), f"{capability[0]}.{capability[1]}"
        problem = (
            f"the GPU has compute capability {own}, and this torch {torch.__version__} starts at "
            f"{lowest[0]}.{lowest[1]}"
        )
        hint = "Set accelerator=cpu, or install a build of torch for an older CUDA, such as cu126."
        raise UserError("accelerator", "gpu", problem=problem, hint=hint)
