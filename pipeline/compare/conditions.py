"""Conditions under which the speed of a run was measured, and how those of two backends differ."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.backend_specs import BACKENDS, COMPILED, in_order
from pipeline.compare.records import Record
from pipeline.config.experiment import BackendConfig
from pipeline.config.stored_config import defaults_of
from pipeline.formatting import counted

PRECISIONS = {"fp32": "float32", "bf16": "bfloat16", "fp64": "float64"}
ALGORITHMS = {True: "deterministic", False: "any"}

EAGER = "eager"
# How a sentence tells of the conditions that make speeds unlike.
PHRASES = {
    "mode": "ran {}",
    "precision": "in {}",
    "products": "with {} products",
    "algorithms": "with {} algorithms",
    "attention": "with {} attention",
    "devices": "on {}",
    "together": "trained {}",
}
# What a condition that is left out stands for; of all others it is unknown.
LEFT_OUT = {"together": "one run at a time"}
# How a line tells of the others, where the value alone would not do.
WORDS = {
    "products": "{} products",
    "algorithms": "{} algorithms",
    "attention": "{} attention",
    "steps per call": "steps per call: {}",
}


@dataclass(frozen=True)
class Conditions:
    """Conditions by column, and the positions of the runs that had them."""

    values: Mapping[str, str]
    runs: tuple[int, ...]


def conditions_of(record: Record) -> dict[str, str]:
    """Return the conditions of a run by the columns of the table."""
    config = record.config
    precision = str(config.get("train.precision", ""))
    devices = (record.result.devices or "").partition(" on ")[2]
    not_gpu = ", not on the GPU" if record.result.fallback else ""
    found = {
        "backend": str(record.backend),
        "mode": _mode(record),
        "precision": PRECISIONS.get(precision, precision),
        "products": str(config.get("accelerator.matmul_precision", "")),
        "algorithms": ALGORITHMS.get(config.get("accelerator.deterministic") is not False, ""),
        "devices": f"{devices}{not_gpu}",
        "steps per call": _steps_per_call(record, devices),
        "together": f"{together} runs at once" if (together := record.result.vectorized) else "",
        "attention": next((str(v) for k, v in config.items() if k.endswith(".attention")), ""),
        "options": _options(config),
    }
    return found if config else {}


def conditions(records: Sequence[Record]) -> list[Conditions]:
    """Group the runs that have a speed by their conditions."""
    found: dict[tuple[tuple[str, str], ...], list[int]] = {}
    for position, record in enumerate(records):
        if record.result.throughput and (known := conditions_of(record)):
            found.setdefault(tuple(known.items()), []).append(position)
    return [Conditions(dict(values), tuple(runs)) for values, runs in found.items()]


def unlike(found: Sequence[Conditions]) -> str:
    """Return a sentence if the speeds of the backends are not like with like; else nothing.

    Eager torch beside compiled torch is no such case: that is what is compared.
    """
    sides: dict[str, list[Mapping[str, str]]] = {}
    for one in found:
        sides.setdefault(one.values["backend"], []).append(one.values)
    told = {name: {key: _listed(sides[name], key) for key in PHRASES} for name in in_order(sides)}
    known = {key: {each[key] or LEFT_OUT.get(key, "") for each in told.values()} for key in PHRASES}
    differing = [key for key in PHRASES if len(known[key] - {""}) > 1]
    last = [each["mode"] for name, each in told.items() if f"{name}{COMPILED}" not in told]
    if "mode" in differing and len({mode == EAGER for mode in last}) < 2:
        differing.remove("mode")  # compiled is compiled, whatever the mode
    if not differing:
        return ""
    parts = [
        " ".join(
            [
                name,
                *(
                    PHRASES[key].format(each[key] or LEFT_OUT.get(key, "unknown"))
                    for key in differing
                ),
            ]
        )
        for name, each in told.items()
    ]
    hint = "; backend=torch_compiled compiles torch, too" * (EAGER in last and "mode" in differing)
    sentence = f"not like with like: {', '.join(parts)}{hint}"
    return sentence.replace("ran eager", "ran in eager mode")


def lines(found: Sequence[Conditions]) -> list[str]:
    """Return a line for each group of runs: what they used."""
    return [
        ": ".join(
            [
                f"{one.values['backend']} ({counted(len(one.runs), 'run')})",
                ", ".join(
                    WORDS.get(key, "{}").format(value)
                    for key, value in one.values.items()
                    if value and key != "backend"
                ),
            ]
        )
        for one in found
    ]


def _mode(record: Record) -> str:
    backend = record.result.config.get("backend") or {}
    spec = BACKENDS.get(str(backend.get("name")))
    if backend.get("compile"):
        mode = backend.get("mode", "default")
        return "compiled" if mode == "default" else f"compiled ({mode})"
    return EAGER if spec and spec.compiles else "compiled"


def _steps_per_call(record: Record, devices: str) -> str:
    if given := record.config.get("accelerator.steps_per_call"):
        return str(given)
    many = record.result.backend == "jax" and devices and not devices.startswith("cpu")
    return "up to 32" if many else "1"


def _options(config: Mapping[str, object]) -> str:
    """Return the other keys of `backend` that are not at their defaults, and rematerialisation."""
    defaults = defaults_of(BackendConfig)
    named = {key.removeprefix("backend."): v for key, v in config.items() if "backend." in key}
    known = {key: v for key, v in named.items() if key not in ("name", "compile", "mode")}
    told = [f"{key}={v}" for key, v in known.items() if v != defaults.get(key)]
    return ", ".join([*told, *(["remat"] if config.get("train.remat") else [])])


def _listed(rows: Sequence[Mapping[str, str]], key: str) -> str:
    return " and ".join(sorted({row[key] for row in rows if row[key]}))
