"""Keys that are set, but that have no effect on a run."""

from collections.abc import Iterator

from pipeline.backend_specs import BACKENDS
from pipeline.config.accelerator import AcceleratorConfig
from pipeline.config.experiment import BackendConfig, Config, plain
from pipeline.config.schedules import ScheduleConfig
from pipeline.config.stored_config import defaults_of
from pipeline.formatting import format_value

OF_COMPILED = ("backend.mode", "backend.inductor")  # without `backend.compile` they have no effect
OF_DEVICES = ("accelerator.strategy", "accelerator.sync_batchnorm")  # of several devices


def without_effect(config: Config, device: str) -> list[str]:
    """Return a sentence for each key of `backend`, `accelerator` and a warm-up that is set without effect.

    `device` is how a backend describes it: `torch on 2 × cpu, 1 thread`.
    """
    backend = config.backend.name
    ignored = BACKENDS[backend].ignores if backend in BACKENDS else ()
    found = []
    for key, value in _set_keys(config):
        start = f"{key}={format_value(value)} has no effect"
        if key in ignored:
            found.append(f"{start} on backend={backend}.")
        elif key in OF_COMPILED and not config.backend.compile:
            found.append(f"{start} without backend.compile=true.")
        elif (key, value) == ("accelerator.matmul_precision", "tf32") and "cpu" in device:
            found.append(f"{start} on a CPU, which multiplies in float32.")
        elif key in OF_DEVICES and value in ("fsdp", False) and "×" not in device:
            found.append(f"{start} on one device.")
        elif key == "schedule.start" and not config.schedule.warmup:
            found.append(f"{start} without schedule.warmup.")
    return found


def _set_keys(config: Config) -> Iterator[tuple[str, object]]:
    """Yield keys of `backend`, `accelerator` and a warm-up that are not at their defaults, and values."""
    for group, node, schema in (
        ("backend", config.backend, BackendConfig),
        ("accelerator", config.accelerator, AcceleratorConfig),
        ("schedule", config.schedule, ScheduleConfig),
    ):
        values = plain(node)
        for name, default in defaults_of(schema).items():
            if values[name] != default and name != "name":
                yield f"{group}.{name}", values[name]
