"""The `accelerator` group."""

from dataclasses import dataclass
from enum import Enum

from pipeline.config.fields import option, require

AUTO = "auto"


class Kind(Enum):
    auto = "auto"
    cpu = "cpu"
    gpu = "gpu"


class Strategy(Enum):
    auto = "auto"
    ddp = "ddp"
    fsdp = "fsdp"


class MatmulPrecision(Enum):
    highest = "highest"
    tf32 = "tf32"


@dataclass(kw_only=True)
class AcceleratorConfig:
    kind: Kind = option(Kind.auto, "auto takes the GPU when there is one")
    devices: int | str = option(1, "devices per node; auto: all GPUs, or what the launcher started")
    nodes: int | str = option(1, "machines; auto: as many as the launcher started")
    strategy: Strategy = option(
        Strategy.auto, "ddp: each device holds the model; fsdp: a share of it; auto: ddp"
    )
    sync_batchnorm: bool = option(
        True, "batch statistics over all devices; false: torch's per device, another experiment"
    )
    matmul_precision: MatmulPrecision = option(
        MatmulPrecision.highest, "highest: full float32; tf32: Nvidia's 19-bit products"
    )
    deterministic: bool = option(True, "only algorithms that repeat bit for bit")
    threads: int | None = option(None, "CPU threads of a process; null: as many as cores")
    steps_per_call: int | None = option(
        None, "jax: steps in one compiled call; null: 1 on CPU, up to 32 on GPU"
    )

    def __post_init__(self) -> None:
        for name in ("devices", "nodes"):
            value = getattr(self, name)
            fits = value == AUTO or (isinstance(value, int) and value >= 1)
            require(fits, f"accelerator.{name}", value, "auto or a whole number, at least 1")
        for name in ("threads", "steps_per_call"):
            value = getattr(self, name)
            require(value is None or value >= 1, f"accelerator.{name}", value, "null or at least 1")
