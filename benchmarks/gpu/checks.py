"""The checks of a machine with GPUs, the most valuable first: commands, each with a limit of time."""

import ast
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks.cases import LARGE
from pipeline.bench.statistics import FEWEST

ROOT = Path(__file__).resolve().parents[2]
TESTS = ROOT / "tests" / "end_to_end" / "test_gpu.py"
ON = "TANDEM_GPU_TESTS_ON"  # environment variable of `TESTS`: gpu, or cpu for a rehearsal

SECTIONS = ("checks", "parity", "speed")
PARITY = {
    "cnn": ("model=cnn", "train.steps=20"),
    "resnet18": ("model=resnet18", "model.width=16", "train.steps=10"),
    "vit": ("model=vit", "train.steps=10"),  # of an odd number of tokens
    "gpt": ("model=gpt", "dataset=text", "dataset.max_bytes=200_000", "train.steps=10"),
}
PRECISIONS = ("fp64", "fp32", "bf16")
SLOWER = 5  # times the limits, on a CPU

# What makes a model so small that a CPU trains it in seconds, for a rehearsal.
SMALL_TRANSFORMER = ("model.depth=1", "model.width=16", "model.heads=2")
SMALL = {
    "gpt2": (*SMALL_TRANSFORMER, "dataset.length=8"),
    "vit_small": (*SMALL_TRANSFORMER, "dataset.shape=[32,32,3]", "dataset.samples=256"),
    "resnet18_large": ("model.width=4",),
}


@dataclass(frozen=True)
class Check:
    """A command, the seconds that it may take, and the number of GPUs that it needs.

    With `alone` nothing runs beside it. `result` is the JSON file that it leaves.
    """

    section: str
    name: str
    command: tuple[str, ...]
    seconds: float
    gpus: int = 1
    alone: bool = False
    result: Path | None = None
    environment: dict[str, str] = field(default_factory=dict)


def checks(on: str, turns: float) -> list[Check]:
    """Return all checks; `turns` are the seconds of the turns at one batch size of a benchmark.

    On a `cpu`, as a rehearsal of the checks themselves, each has the smallest size.
    """
    asked = [*_sight(on), *_tests(on), *_parity(on), *_benches(on, turns), *_hands(on)]
    factor = SLOWER if on == "cpu" else 1
    return [replace(check, seconds=factor * check.seconds) for check in asked]


def _sight(on: str) -> Iterator[Check]:
    """Yield what tells the versions, and that each framework computes on the device."""
    product = {
        "torch": "import torch; device = 'cuda' if '{on}' == 'gpu' else 'cpu'; "
        "x = torch.ones(512, 512, device=device); assert (x @ x).sum().item() == 512**3; "
        "print('torch', torch.__version__, torch.version.cuda, x.device)",
        "jax": "import jax; assert jax.default_backend() == '{on}', jax.default_backend(); "
        "x = jax.numpy.ones((512, 512)); assert (x @ x).sum() == 512**3; "
        "print('jax', jax.__version__, x.device)",
    }
    for backend, code in product.items():
        command = (sys.executable, "-c", code.format(on=on))
        calm = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"} | (
            {"JAX_PLATFORMS": "cpu"} if on == "cpu" else {}
        )
        yield Check("checks", f"{backend} computes on it", command, 60, environment=calm)


def _tests(on: str) -> Iterator[Check]:
    """Yield each test of `TESTS` that needs a GPU, in its own process; those for several come last."""
    for gpus, mark in ((1, "gpu"), (2, "gpus")):
        for name, cases in cases_marked(mark):
            for case in cases:
                said = name.removeprefix("test_").replace("_", " ")
                command = (
                    sys.executable, "-m", "pytest", "-m", mark, "-n", "0", "-q", "-x", "--no-header",
                    "-p", "no:cacheprovider", f"{TESTS.relative_to(ROOT)}::{name}{case}",
                )  # fmt: skip
                yield Check(
                    "checks", f"{said}{f' {case}' * bool(case)}", command, 150, gpus,
                    environment={ON: on},
                )  # fmt: skip


def cases_marked(mark: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the tests of `TESTS` with a mark, in their order, each with the names of its cases.

    Read from the source: to collect them takes as long as a check.
    """
    for node in ast.parse(TESTS.read_text()).body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            marks = [ast.unparse(one) for one in node.decorator_list]
            if f"pytest.mark.{mark}" in marks:
                has_backends = any("BACKENDS" in one for one in marks)
                yield node.name, ["[torch]", "[jax]"] if has_backends else [""]


def _parity(on: str) -> Iterator[Check]:
    """Yield the agreement of both backends in each precision."""
    for precision in PRECISIONS:
        for model, overrides in PARITY.items():
            name = f"gpu-parity-{model}-{precision}"
            small = ("train.steps=2", "train.batch_size=4", *_small_parity(model))
            command = (
                sys.executable, "-m", "pipeline.parity", *overrides, f"train.precision={precision}",
                f"accelerator={on}", f"name={name}", *(small if on == "cpu" else ()),
            )  # fmt: skip
            result = ROOT / "outputs" / name / "parity.json"
            yield Check("parity", f"{model} in {precision}", command, 120, result=result)


def _small_parity(model: str) -> tuple[str, ...]:
    small = {
        "vit": SMALL_TRANSFORMER,
        "gpt": (*SMALL_TRANSFORMER, "dataset.length=8"),
        "resnet18": ("model.width=4",),
    }
    return ("dataset.limit=64", *small.get(model, ()))


def _benches(on: str, turns: float) -> Iterator[Check]:
    """Yield the comparison of all backends at a size that fills a GPU, in bf16."""
    for model, case in LARGE.items():
        name = f"gpu-bench-{model}"
        small = SMALL[model] if on == "cpu" else ()
        command = (
            sys.executable, "-m", "pipeline.bench", *case.overrides, *small, f"accelerator={on}",
            "precisions=bf16", f"seconds={turns:g}", f"name={name}",
            f"batch_sizes={4 if on == 'cpu' else case.batch}",
        )  # fmt: skip
        result = ROOT / "outputs" / name / "bench.json"
        yield Check("speed", model, command, 150, alone=True, result=result)


def _hands(on: str) -> Iterator[Check]:
    """Yield the loops by hand beside Tandem's, in bf16, and the smallest step in float32."""
    hand = (sys.executable, "benchmarks/overhead.py", *(["--gpu"] if on == "gpu" else []))
    few = ("--rounds=1", "--steps=1") if on == "cpu" else (f"--rounds={FEWEST}", "--steps=16")
    for model in LARGE:
        for backend in ("torch", "jax"):
            small = SMALL[model] if on == "cpu" else ()
            keys = (f"accelerator={on}", "train.precision=bf16", *small)
            command = (*hand, *few, f"--backend={backend}", f"--case={model}", *keys)
            yield Check("speed", f"{model} by hand in {backend}", command, 120, alone=True)
    for devices in (1, 2):
        command = (*hand, *few[:1], f"--devices={devices}", "--case=digits", f"accelerator={on}")
        says = "the smallest step by hand" + " on two" * (devices == 2)
        yield Check("speed", says, command, 100, gpus=devices, alone=True)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))
