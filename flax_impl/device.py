"""Where JAX computes, and in which precision."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pipeline.config import Config, Kind, MatmulPrecision, Precision
from pipeline.errors import UserError
from pipeline.hardware import resident_memory_mb
from pipeline.world import ALONE, World

STEPS_PER_CALL = 32  # on a GPU, where a call costs more than a small step

# Compiled programs are kept here, so that the next run of the same shapes need not compile.
CACHE = Path(os.environ.get("TANDEM_CACHE", Path.home() / ".cache" / "tandem")) / "jax"


@dataclass(frozen=True)
class Device:
    """One device and the number types of the run on it.

    Args:
        kind: `cpu` or `gpu`.
        precision: of the configuration.
        steps_per_call: training steps in one compiled call.
        description: for people.
    """

    kind: str
    precision: Precision
    steps_per_call: int
    description: str

    @property
    def dtype(self) -> Any:
        """Type of parameters, inputs and losses; bf16 lowers only products and convolutions."""
        return jnp.float64 if self.precision is Precision.fp64 else jnp.float32

    @property
    def compute_dtype(self) -> Any:
        """Type of products and convolutions."""
        return jnp.bfloat16 if self.precision is Precision.bf16 else self.dtype

    def read(self, values: list[jax.Array]) -> np.ndarray:
        """Per-step values `[values]` or `[steps, values]` off the device: float64 `[steps, values]`."""
        host = [np.atleast_2d(value) for value in jax.device_get(values)]
        return np.concatenate(host).astype(np.float64)

    def highest(self, number: int) -> int:
        """See `pipeline.backends.Device`."""
        return number

    def wait_for_all(self) -> None:
        """Return when all processes of the run have come here."""

    def peak_memory_mb(self) -> float:
        """Highest memory so far in MB: the device's, or on a CPU the process's."""
        if self.kind == "gpu":
            return jax.local_devices()[0].memory_stats()["peak_bytes_in_use"] / 2**20
        return resident_memory_mb()


def prepare(config: Config, world: World = ALONE) -> Device:
    """Choose the device and set JAX's precision and determinism flags.

    Raises:
        UserError: a GPU is asked for and JAX sees none.
    """
    accelerator = config.accelerator
    # Taken as needed, not three quarters at the first operation: other jobs may share the GPU.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    if accelerator.deterministic:
        _add_xla_flag("--xla_gpu_deterministic_ops=true")
    if accelerator.kind is Kind.cpu:
        jax.config.update("jax_platforms", "cpu")
    tf32 = accelerator.matmul_precision is MatmulPrecision.tf32
    jax.config.update("jax_default_matmul_precision", "tensorfloat32" if tf32 else "highest")
    jax.config.update("jax_enable_x64", config.train.precision is Precision.fp64)
    jax.config.update("jax_compilation_cache_dir", str(CACHE))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
    gpu = jax.default_backend() == "gpu"
    if accelerator.kind is Kind.gpu and not gpu:
        raise UserError(
            "accelerator",
            "gpu",
            "cpu or auto here: JAX sees no GPU",
            "Set accelerator=cpu, or install JAX for your GPU: pip install -e '.[cuda]'.",
        )
    name = jax.devices()[0].device_kind if gpu else f"cpu, {len(os.sched_getaffinity(0))} threads"
    return Device(
        kind="gpu" if gpu else "cpu",
        precision=config.train.precision,
        steps_per_call=accelerator.steps_per_call or (STEPS_PER_CALL if gpu else 1),
        description=f"jax on {name}",
    )


def _add_xla_flag(flag: str) -> None:
    """Add to XLA's flags, which it reads when the first device is touched; once, as the compilation
    cache tells programs apart by them.
    """
    flags = os.environ.get("XLA_FLAGS", "").split()
    if flag not in flags:
        os.environ["XLA_FLAGS"] = " ".join([*flags, flag])
