"""The `accelerator` group."""

from dataclasses import dataclass
from enum import Enum

from pipeline.config.fields import option, require


class Kind(Enum):
    auto = "auto"
    cpu = "cpu"
    gpu = "gpu"


class MatmulPrecision(Enum):
    highest = "highest"
    tf32 = "tf32"


@dataclass(kw_only=True)
class AcceleratorConfig:
    kind: Kind = option(Kind.auto, "auto takes the GPU when there is one")
    devices: int = option(1, "devices per node")
    nodes: int = option(1, "machines")
    strategy: str = option("auto", "how several devices share the work")
    matmul_precision: MatmulPrecision = option(
        MatmulPrecision.highest, "highest: full float32; tf32: Nvidia's 19-bit products"
    )
    deterministic: bool = option(True, "only algorithms that repeat bit for bit")
    threads: int | None = option(None, "CPU threads of the run; null: as many as cores")
    steps_per_call: int | None = option(
        None, "jax: steps in one compiled call; null: 1 on CPU, up to 32 on GPU"
    )

    def __post_init__(self) -> None:
        for name in ("devices", "nodes"):
            value = getattr(self, name)
            require(value == 1, f"accelerator.{name}", value, "1", "More is not built yet.")
        require(self.strategy == "auto", "accelerator.strategy", self.strategy, "auto")
        for name in ("threads", "steps_per_call"):
            value = getattr(self, name)
            require(value is None or value >= 1, f"accelerator.{name}", value, "null or at least 1")
