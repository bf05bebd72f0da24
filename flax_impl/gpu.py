"""The GPUs of a machine: whether JAX may look for one and can use it, and XLA's settings for it."""

import os
import re
from collections.abc import Mapping
from importlib.util import find_spec

import jax

from pipeline.config.accelerator import Kind
from pipeline.devices.hardware import gpu_count
from pipeline.errors import UserError

# JAX's CUDA plugins, each with the lowest compute capability that it has kernels for.
PLUGINS = {"jax_cuda13_plugin": (7, 5), "jax_cuda12_plugin": (5, 2)}


def set_memory_limits() -> None:
    """Let JAX allocate as needed, up to nearly all memory; what the user has set stays.

    By default it takes three quarters at the start, of which other jobs on the GPU get none, and never takes
    more. Only here: torch has no such limit.
    """
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    if "XLA_PYTHON_CLIENT_MEM_FRACTION" not in os.environ:  # both together are an error
        os.environ.setdefault("XLA_CLIENT_MEM_FRACTION", "0.95")


def set_deterministic_flags(gpu: bool) -> None:
    """Set XLA's flags before the first device is initialised, when XLA reads them.

    With deterministic operations XLA does not time its own (Triton's) kernels for a product, but takes the
    first. So cuBLAS computes it, which is deterministic, too, and chooses by heuristics. No flag is added
    twice: the compilation cache distinguishes programs by their flags. Only here: torch has functions for it.
    """
    flags = os.environ.get("XLA_FLAGS", "").split()
    wanted = {"--xla_gpu_deterministic_ops": "true"}
    if gpu and not any(flag.startswith("--xla_gpu_enable_triton_gemm") for flag in flags):
        wanted["--xla_gpu_enable_triton_gemm"] = "false"
    added = [flag for name, value in wanted.items() if (flag := f"{name}={value}") not in flags]
    if added:
        os.environ["XLA_FLAGS"] = " ".join([*flags, *added])


def select_platform(kind: Kind) -> None:
    """Keep JAX from looking for a GPU where there is none: without a driver its CUDA plugin crashes.

    A platform that the user has chosen (JAX_PLATFORMS) stays, unless the run is on the CPU. Only here: torch
    looks without a crash.
    """
    is_chosen = bool(jax.config.jax_platforms)  # pyrefly: ignore[missing-attribute]
    if kind is not Kind.cpu and (gpu_count() or is_chosen):
        return
    if kind is Kind.gpu:
        raise no_gpu()
    jax.config.update("jax_platforms", "cpu")


def no_gpu() -> UserError:
    """Error of a run that requires a GPU. Only here: torch looks for one in one place."""
    hint = "Set accelerator=cpu, or install JAX for your GPU: pip install -e '.[cuda]'."
    return UserError("accelerator.kind", "gpu", problem="JAX sees no GPU", hint=hint)


def reason_of_fallback() -> str:
    """Return why JAX sees none of this machine's GPUs; empty if there is none."""
    if not gpu_count():
        return ""
    if not any(map(find_spec, PLUGINS)):
        return "JAX is installed without CUDA; pip install -e '.[cuda]'"
    return "JAX sees none; its CUDA 13 needs NVIDIA's driver 580 or newer (nvidia-smi shows it)"


def check_flags(flags: Mapping[str, object]) -> None:
    """Refuse flags that XLA does not take for a program. Only here: Inductor's are checked by torch.

    Raises:
        UserError: a flag is unknown, or has another type.
    """
    if not flags:
        return
    try:
        jax.jit(lambda: 0, compiler_options=dict(flags))()
    except jax.errors.JaxRuntimeError as error:
        problem = f"XLA refuses it: {str(error).removeprefix('INVALID_ARGUMENT: ')}"
        hint = "Write it without --, as backend.xla_flags={xla_cpu_enable_fast_math:true}."
        raise UserError("backend.xla_flags", dict(flags), problem=problem, hint=hint) from error


def check_architecture(device: jax.Device) -> None:
    """Refuse a GPU that is older than the oldest that the CUDA plugin has kernels for."""
    lowest = next((low for name, low in PLUGINS.items() if find_spec(name)), (0, 0))
    own = getattr(device, "compute_capability", "")  # such as 7.0; AMD's have names
    if re.fullmatch(r"\d+\.\d+", own) and tuple(map(int, own.split("."))) < lowest:
        problem = (
            f"the GPU has compute capability {own}, and this JAX {jax.__version__} starts at "
            f"{lowest[0]}.{lowest[1]}"
        )
        hint = "Set accelerator=cpu, or install JAX for an older CUDA: pip install 'jax[cuda12]'."
        raise UserError("accelerator", "gpu", problem=problem, hint=hint)
