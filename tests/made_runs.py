"""Run folders written by hand, in milliseconds instead of the minutes of real runs."""

import json
from collections.abc import Sequence
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from hydra import compose

from pipeline.config.experiment import plain, register, typed
from pipeline.config.hydra_compat import compose_from

ROOT = Path(__file__).parents[1]
OTHER = {"torch": "jax", "jax": "torch"}  # the other backend

TRAIN = (
    '{"step": %d, "train/loss": %.17g, "train/accuracy": %.17g, "optim/lr": %.17g, '
    '"optim/grad_norm": %.17g, "perf/samples_per_second": %.17g, "perf/step_ms": %.17g, '
    '"perf/peak_memory_mb": %.17g, "perf/seconds": %.17g, "epoch": %.17g}\n'
)
EVAL = '{"step": %d, "val/loss": %.17g, "val/accuracy": %.17g, "perf/seconds": %.17g, "epoch": %.17g}\n'
TEST = '{"step": %d, "test/loss": %.17g, "test/accuracy": %.17g, "perf/seconds": %.17g}\n'


@cache
def config() -> dict[str, Any]:
    """Config of a run, as its files hold it."""
    register()
    with compose_from(ROOT / "conf"):
        return plain(typed(compose("config", ["model=linear", "train.batch_size=32"])))


def config_of(**values: Any) -> dict[str, Any]:
    """Config with some values changed, by dotted keys with `__` for the dot."""
    made = deepcopy(config())
    for key, value in values.items():
        *path, last = key.split("__")
        node = made
        for part in path:
            node = node[part]
        node[last] = value
    return made


def write_run(
    folder: Path,
    backend: str = "torch",
    seed: int = 0,
    steps: int = 100,
    evaluate: int = 10,
    noise: float = 0.0,
    **values: Any,
) -> Path:
    """Write a finished run.

    Args:
        folder: the run folder, created if missing.
        backend: the name of the backend.
        seed: the seed; two backends with the same seed have the same curves.
        steps: number of steps, each of which is logged.
        evaluate: steps between two evaluations.
        noise: relative difference of JAX's curves from torch's.
        values: changes of the config, with `__` for the dot of a key.
    """
    folder.mkdir(parents=True, exist_ok=True)
    made = config_of(backend__name=backend, seed=seed, **values)
    curves = curves_of(backend, seed, steps, noise, made["optimizer"]["lr"])
    lines = [TRAIN % row for row in zip(*(column.tolist() for column in curves), strict=True)]
    evaluations = range(evaluate, steps + 1, evaluate)
    losses = curves[1].tolist()
    for step in reversed(evaluations):
        loss = 1.1 * losses[step - 1]
        lines.insert(step, EVAL % (step, loss, 1 - loss / 3, step / 500, step / 40))
    best = 1 - 1.1 * min(losses[step - 1] for step in evaluations) / 3
    test = {"test/loss": 1.2 * losses[-1], "test/accuracy": 1 - 1.2 * losses[-1] / 3}
    lines.append(TEST % (steps, *test.values(), steps / 500))
    (folder / "metrics.jsonl").write_text("".join(lines))
    write_json(
        folder / "run.json",
        {"signature": folder.name, "host": "n", "process": 1} | {"config": made},
    )
    write_json(
        folder / "result.json",
        {
            "status": "completed",
            "error": None,
            "name": folder.name,
            "backend": backend,
            "config": made,
            "hardware": {"processor": "EPYC", "cores": 2, "memory_gb": 23.5},
            "versions": {backend: "2.0", "numpy": "2.1"},
            "devices": f"{backend} on cpu",
            "best": {"metric": "val/accuracy", "value": best, "step": evaluations[-1]},
            "test": test,
            "init_digest": "00",
            "data_digest": "11",
            "steps": steps,
            "seconds": {"setup": 1.0, "compile": 0.5, "train": steps / 500, "eval": 0.2}
            | {"total": 2.0 + steps / 500},
            "throughput": 16_000.0 + 1000 * seed if backend == "torch" else 8000.0,
            "peak_memory_mb": 900.5,
        },
    )  # fmt: skip
    return folder


def curves_of(backend: str, seed: int, steps: int, noise: float, rate: float) -> list[np.ndarray]:
    """Columns of `TRAIN`, each `[steps]`."""
    draw = np.random.default_rng(seed)
    step = np.arange(1, steps + 1)
    loss = 2.3 * np.exp(-step / (steps * 0.2 + 20)) + 0.05 + 5 * rate
    loss *= 1 + 0.1 * draw.standard_normal(steps)
    if backend != "torch":
        loss *= 1 + noise * draw.standard_normal(steps)
    return [
        step, loss, 1 - loss / 3, np.full(steps, rate), loss * 0.7 + 0.1, np.full(steps, 16_000.0),
        np.full(steps, 2.0), np.full(steps, 900.0), step / 500, step / 40,
    ]  # fmt: skip


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file."""
    path.write_text(json.dumps(content))


def change_result(folder: Path, **values: Any) -> None:
    """Change values in a run's `result.json`."""
    result = json.loads((folder / "result.json").read_text())
    write_json(folder / "result.json", result | values)


def write_predictions(
    folder: Path,
    seed: int = 0,
    classes: int = 10,
    samples: int = 300,
    names: Sequence[str] | None = None,
) -> None:
    """Write predictions for a test set, nine of ten right, with class names if given."""
    draw = np.random.default_rng(seed)
    target = np.arange(samples) % classes
    wrong = draw.random(samples) < 0.1
    predicted = np.where(wrong, (target + 1) % classes, target)
    loss = np.where(wrong, 2.0, 0.1) + draw.random(samples)
    worst = np.argsort(-loss)[:8]
    images = draw.integers(0, 256, (8, 8, 8, 1)).astype(np.uint8)
    known = {} if names is None else {"classes": np.array(names)}
    np.savez(folder / "predictions.npz", target=target, predicted=predicted, loss=loss, **known,
             confidence=draw.uniform(0.4, 1, samples), worst=worst, worst_images=images)  # fmt: skip


def write_sweep(folder: Path, seeds: int = 2, rates: tuple[float, ...] = (0.01, 0.003)) -> Path:
    """Write a sweep over both backends, seeds and learning rates, with predictions."""
    number = 0
    for backend in ("torch", "jax"):
        for seed in range(seeds):
            for rate in rates:
                run = folder / f"{number}_backend={backend}_seed={seed}_optimizer.lr={rate}"
                write_run(run, backend, seed, noise=1e-6, optimizer__lr=rate)
                write_predictions(run, seed + (backend == "jax"))
                number += 1
    return folder
