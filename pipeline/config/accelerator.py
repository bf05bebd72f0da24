"""The `accelerator` group."""

from enum import Enum

from pipeline.config.fields import ConfigGroup, option

AUTO = "auto"
COUNT = "auto or a whole number, at least 1"


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


class AcceleratorConfig(ConfigGroup, key="accelerator"):
    kind: Kind = option(Kind.auto, "auto takes the GPU when there is one")
    devices: int | str = option(
        1, "devices per node; auto: all GPUs, or what the launcher started", COUNT
    )
    nodes: int | str = option(1, "machines; auto: as many as the launcher started", COUNT)
    strategy: Strategy = option(
        Strategy.auto, "ddp: replicate the model; fsdp: shard it over the devices; auto: ddp"
    )
    sync_batchnorm: bool = option(
        True, "BatchNorm over the global batch; false: per device, only torch, other results"
    )
    matmul_precision: MatmulPrecision = option(
        MatmulPrecision.highest, "highest: full float32; tf32: TF32 on Nvidia's tensor cores"
    )
    deterministic: bool = option(True, "deterministic algorithms only")
    threads: int | None = option(
        None, "CPU threads per process; null: its part of the cores", "null or in 1 … 1024"
    )
    steps_per_call: int | None = option(
        None,
        "jax: steps in one compiled call; null: 1 on CPU, up to 32 on GPU, as log_every allows",
        "null or in 1 … 1000000",
    )
