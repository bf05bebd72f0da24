"""Where torch computes, and in which precision."""

import os
from dataclasses import dataclass

import numpy as np
import torch

from pipeline.config import Config, Kind, MatmulPrecision, Precision
from pipeline.errors import UserError
from pipeline.hardware import resident_memory_mb
from pipeline.world import ALONE, World


@dataclass(frozen=True)
class Device:
    """One device and the number types of the run on it.

    Args:
        kind: `cpu` or `gpu`.
        precision: of the configuration.
        description: for people.
    """

    kind: str
    precision: Precision
    description: str

    @property
    def torch_device(self) -> torch.device:
        """The device as torch names it."""
        return torch.device("cuda" if self.kind == "gpu" else "cpu")

    @property
    def dtype(self) -> torch.dtype:
        """Type of parameters, inputs and losses; bf16 lowers only products and convolutions."""
        return torch.float64 if self.precision is Precision.fp64 else torch.float32

    @property
    def lightning_precision(self) -> str:
        """The precision as Lightning's Trainer names it."""
        return {
            Precision.fp32: "32-true",
            Precision.bf16: "bf16-mixed",
            Precision.fp64: "64-true",
        }[self.precision]

    def read(self, values: list[torch.Tensor]) -> np.ndarray:
        """Per-step values `[values]` off the device in one transfer: float64 `[steps, values]`."""
        return torch.stack(values).double().cpu().numpy()

    def highest(self, number: int) -> int:
        """See `pipeline.backends.Device`."""
        return number

    def wait_for_all(self) -> None:
        """Return when all processes of the run have come here."""

    def peak_memory_mb(self) -> float:
        """Highest memory so far in MB: the device's, or on a CPU the process's."""
        if self.kind == "gpu":
            return torch.cuda.max_memory_allocated() / 2**20
        return resident_memory_mb()


def prepare(config: Config, world: World = ALONE) -> Device:
    """Choose the device and set torch's precision and determinism flags.

    Raises:
        UserError: a GPU is asked for and torch sees none.
    """
    accelerator = config.accelerator
    available = torch.cuda.is_available()
    if accelerator.kind is Kind.gpu and not available:
        raise UserError(
            "accelerator",
            "gpu",
            "cpu or auto here: torch sees no GPU",
            "Set accelerator=cpu, or install torch for your GPU.",
        )
    gpu = available and accelerator.kind is not Kind.cpu
    tf32 = accelerator.matmul_precision is MatmulPrecision.tf32
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = tf32  # torch's own default differs from that of matmul
    torch.use_deterministic_algorithms(accelerator.deterministic)
    # Otherwise every empty tensor is filled first, to make reading one by mistake repeatable.
    torch.utils.deterministic.fill_uninitialized_memory = False
    torch.backends.cudnn.benchmark = not accelerator.deterministic
    if accelerator.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    if accelerator.threads is not None:
        torch.set_num_threads(accelerator.threads)
    name = torch.cuda.get_device_name() if gpu else f"cpu, {torch.get_num_threads()} threads"
    return Device(
        kind="gpu" if gpu else "cpu",
        precision=config.train.precision,
        description=f"torch on {name}",
    )
