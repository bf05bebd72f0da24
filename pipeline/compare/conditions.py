"""Conditions under which a speed was measured, and how those of two backends differ."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.backend_specs import BACKENDS, COMPILED, in_order
from pipeline.compare.records import Record
from pipeline.config.experiment import BackendConfig
from pipeline.config.stored_config import defaults_of
from pipeline.formatting import counted
from pipeline.run.recording.kernels import CUDNN, EFFICIENT, FLASH, MATH, WRITTEN_OUT
from pipeline.storage.signature import flat

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
# Attention that is alike: what it keeps in memory. `auto` is of runs that do not say what it was.
KEPT = {kernel: "nothing" for kernel in (FLASH, EFFICIENT, CUDNN, "fused")} | {
    WRITTEN_OUT: "softmax",
    MATH: "softmax",
    "auto": "",
}
# How a line tells of the others, where the value alone would not do.
WORDS = {
    "products": "{} products",
    "algorithms": "{} algorithms",
    "attention": "{} attention",
    "steps per call": "steps per call: {}",
    "one by one": "one by one: {}",
}


@dataclass(frozen=True)
class Conditions:
    """Conditions by column, and the positions of the runs that had them."""

    values: Mapping[str, str]
    runs: tuple[int, ...]


def conditions_of_run(record: Record) -> dict[str, str]:
    """Return the conditions of a run by the columns of the table; none for a refused job."""
    result = record.result
    return conditions_of(
        str(record.backend),
        result.config,
        result.devices or "",
        is_fallback=bool(result.fallback),
        together=result.vectorized or 1,
        alone=result.alone,
        attention=result.attention,
        steps_per_call=result.steps_per_call,
    )


def conditions_of(
    label: str,
    config: Mapping[str, object],
    devices: str,
    *,
    is_fallback: bool = False,
    together: int = 1,
    alone: str | None = None,
    attention: str | None = None,
    steps_per_call: int | None = None,
) -> dict[str, str]:
    """Return the conditions of a speed by the columns of the table; none for an empty config.

    `devices` is how a backend describes them; `is_fallback` if they are a CPU beside an unused GPU. So many
    runs trained `together`, or one by one for the reason `alone`. `attention` and `steps_per_call` are what
    it took, if that is known; else the config tells what was asked for.
    """
    if not config:
        return {}
    flattened = flat(dict(config))
    precision = str(flattened.get("train.precision", ""))
    devices = devices.partition(" on ")[2]
    asked = next((str(v) for k, v in flattened.items() if k.endswith(".attention")), "")
    not_gpu = ", not on the GPU" if is_fallback else ""
    return {
        "backend": label,
        "mode": _mode(flattened),
        "precision": PRECISIONS.get(precision, precision),
        "products": str(flattened.get("accelerator.matmul_precision", "")),
        "algorithms": ALGORITHMS.get(flattened.get("accelerator.deterministic") is not False, ""),
        "devices": f"{devices}{not_gpu}",
        "steps per call": str(steps_per_call or _steps_per_call(flattened, devices)),
        "together": f"{together} runs at once" if together > 1 else "",
        "one by one": alone or "",
        "attention": attention or asked,
        "options": _options(flattened),
    }


def conditions(records: Sequence[Record]) -> list[Conditions]:
    """Group the runs that have a speed by their conditions."""
    return grouped([conditions_of_run(one) if one.result.throughput else {} for one in records])


def grouped(found: Sequence[Mapping[str, str]]) -> list[Conditions]:
    """Group the positions of speeds by their conditions; those without any are left out."""
    places: dict[tuple[tuple[str, str], ...], list[int]] = {}
    for position, values in enumerate(found):
        if values:
            places.setdefault(tuple(values.items()), []).append(position)
    return [Conditions(dict(values), tuple(runs)) for values, runs in places.items()]


def unlike(found: Sequence[Conditions], group: str = "backend") -> str:
    """Return a sentence if the speeds of the backends are not like with like; else nothing.

    Eager torch beside compiled torch is no such case: that is what is compared. `group` is the key
    that chooses a backend.
    """
    sides: dict[str, list[Mapping[str, str]]] = {}
    for one in found:
        sides.setdefault(one.values["backend"], []).append(one.values)
    told = {name: {key: _listed(sides[name], key) for key in PHRASES} for name in in_order(sides)}
    known = {key: {each[key] or LEFT_OUT.get(key, "") for each in told.values()} for key in PHRASES}
    known["attention"] = {_kept(kernels) for kernels in known["attention"]}
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
    hint = f"; {group}=torch_compiled compiles torch, too" * (EAGER in last and "mode" in differing)
    sentence = f"not like with like: {', '.join(parts)}{hint}"
    if "mode" in differing:
        sentence = sentence.replace(" trained ", " and trained ")
    return sentence.replace("ran eager", "ran in eager mode")


def lines(found: Sequence[Conditions]) -> list[str]:
    """Return a line for each group of runs: what they used."""
    return [
        f"{one.values['backend']} ({counted(len(one.runs), 'run')}): {described(one.values)}"
        for one in found
    ]


def described(values: Mapping[str, str]) -> str:
    """Return conditions in words, without the backend."""
    told = {key: value for key, value in values.items() if value and key != "backend"}
    return ", ".join(WORDS.get(key, "{}").format(value) for key, value in told.items())


def columns_of(found: Sequence[Conditions]) -> list[str]:
    """Return the columns of a table of conditions: those that any has a value for."""
    keys = found[0].values if found else ()
    return [key for key in keys if any(one.values[key] for one in found)]


def _mode(config: Mapping[str, object]) -> str:
    spec = BACKENDS.get(str(config.get("backend.name")))
    if config.get("backend.compile"):
        mode = config.get("backend.mode", "default")
        return "compiled" if mode == "default" else f"compiled ({mode})"
    return EAGER if spec and spec.compiles else "compiled"


def _kept(kernels: str) -> str:
    return " and ".join(sorted({KEPT.get(kernel, kernel) for kernel in kernels.split(" and ")}))


def _steps_per_call(config: Mapping[str, object], devices: str) -> str:
    spec = BACKENDS.get(str(config.get("backend.name")))
    key = "accelerator.steps_per_call"
    if (given := config.get(key)) and not (spec and key in spec.ignores):
        return str(given)
    many = config.get("backend.name") == "jax" and devices and not devices.startswith("cpu")
    return "up to 32" if many else "1"


def _options(config: Mapping[str, object]) -> str:
    """Return the other keys of `backend` that it reads and that are not at their defaults, and remat."""
    defaults, spec = defaults_of(BackendConfig), BACKENDS.get(str(config.get("backend.name")))
    ignored = [key.removeprefix("backend.") for key in (spec.ignores if spec else ())]
    named = {
        name: v
        for key, v in config.items()
        if key != (name := key.removeprefix("backend."))
        and not any(name == one or name.startswith(f"{one}.") for one in ignored)
    }
    known = {key: v for key, v in named.items() if key not in ("name", "compile", "mode")}
    told = [f"{key}={v}" for key, v in known.items() if v != defaults.get(key)]
    return ", ".join([*told, *(["remat"] if config.get("train.remat") else [])])


def _listed(rows: Sequence[Mapping[str, str]], key: str) -> str:
    return " and ".join(sorted({row[key] for row in rows if row[key]}))
