"""A user's own callbacks: the same calls on both backends, Lightning's on torch, resume and refusals."""

from collections.abc import Iterator

import numpy as np
import own_training
import pytest
from asserts import assert_arrays_close
from PIL import Image
from short_runs import FP64

from pipeline.backend_specs import BACKENDS
from pipeline.errors import UserError
from pipeline.loggers.metrics_file import read_metrics
from pipeline.storage.run_folder import RunFolder

RUN = f"{FP64} model=mlp model.hidden=[8] optimizer=adamw train.steps=20"
SAMPLES = "callbacks=[own_training:Samples]"
STEPS = [5, 10, 15, 20]


@pytest.fixture(autouse=True)
def seen() -> Iterator[list]:
    """Calls of `Samples`."""
    own_training.Samples.seen.clear()
    own_training.lightning_one.count = 0
    return own_training.Samples.seen


def test_a_callback_gets_the_same_on_both_backends_at_the_same_steps(train, tmp_path, seen):
    calls = {}
    for backend in BACKENDS:
        assert train(backend, backend, f"{RUN} {SAMPLES} train.ema=0.9") == 0
        calls[backend] = list(seen)
        seen.clear()
    for (step, metrics, arrays), (other, theirs, expected) in zip(*calls.values(), strict=True):
        assert step == other
        assert metrics.keys() == theirs.keys()
        assert metrics["val/loss"] == pytest.approx(theirs["val/loss"], rel=1e-10)
        assert_arrays_close(arrays, expected, 1e-10)
    assert [step for step, *_ in calls["jax"]] == STEPS
    # The averages were evaluated, and the callback has got them, too.
    first, last = (calls["torch"][at][2]["layers.0.weight"] for at in (0, -1))
    assert 0 < np.abs(first - last).max() < 0.1
    for backend in BACKENDS:
        media = tmp_path / backend / "media"
        assert sorted(path.name for path in media.rglob("*.png")) == [
            f"first-{step:06d}.png" for step in STEPS
        ]
        rows = read_metrics(tmp_path / backend / "metrics.jsonl")
        own = {row["step"]: row["own/largest"] for row in rows if "own/largest" in row}
        table = (media / "norms-000020.csv").read_text().splitlines()
        assert table[0] == "name,norm"
        assert max(float(line.split(",")[1]) for line in table[1:]) == own[20]
    ours, theirs = (
        Image.open(tmp_path / backend / "media/weights/first-000020.png") for backend in BACKENDS
    )
    assert ours.size == (64, 8)
    np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_resumed_run_goes_on_with_the_calls_and_pictures(train, tmp_path, seen, backend):
    assert train("run", backend, f"{RUN} {SAMPLES} train.stop_after=12") == 130
    late = tmp_path / "run" / "media" / "norms-000015.csv"
    late.write_text("of an attempt whose checkpoint is gone")
    first = [step for step, *_ in seen]
    assert train("run", backend, f"{RUN} {SAMPLES} resume={tmp_path / 'run'}") == 0
    assert (first, [step for step, *_ in seen]) == ([5, 10], STEPS)
    assert "norm" in late.read_text()


def test_a_callback_of_lightning_runs_on_torch_and_keeps_its_state(train, tmp_path):
    own = f"{RUN} callbacks=[own_training:lightning_one,own_training:Samples]"
    assert train("run", "torch", f"{own} train.stop_after=12") == 130
    assert own_training.lightning_one.count == 12
    own_training.lightning_one.count = 0
    assert train("run", "torch", f"{own} resume={tmp_path / 'run'}") == 0
    assert own_training.lightning_one.count == 20
    assert [step for step, *_ in own_training.Samples.seen] == STEPS


@pytest.mark.parametrize(
    ("backend", "callback", "message", "step"),
    [
        ("torch", "fails_at_ten", r"failed after step 10: KeyError: .*own_training.py, line", 10),
        ("jax", "fails_at_ten", r"failed after step 10: KeyError: .*own_training.py, line", 10),
        ("torch", "Failing", r"failed after step 7: ZeroDivisionError: .* \(own_training.py", 7),
    ],
)
def test_a_callback_that_fails_fails_the_run_by_its_name(
    train, tmp_path, backend, callback, message, step
):
    with pytest.raises(UserError, match=rf"callbacks=own_training:{callback}: it {message}"):
        train("run", backend, f"{RUN} callbacks=[own_training:{callback}]")
    result = RunFolder(tmp_path / "run").result
    assert (result.status, result.steps) == ("failed", step)
    assert callback in result.error


@pytest.mark.parametrize(
    ("callback", "message"),
    [
        ("own_training:Sample", "has no Sample. Did you mean own_training:Samples?"),
        ("own_trainings:Samples", "no module own_trainings"),
        ("math:pi", r"it is a float, which cannot be called\. Name a function of \(step, metrics"),
        (
            "own_training:takes_two",
            r"it takes \(step, metrics\), and is called with \(step, metrics",
        ),
        ("own_training:Momentum", r"it cannot be made: TypeError.*made without arguments"),
        ("own_training:AtBatches", r"lightning.*Callback, which only backend=torch runs\. Write a"),
    ],
)
def test_what_is_no_callback_is_refused_before_the_first_step(train, tmp_path, callback, message):
    with pytest.raises(UserError, match=message) as refused:
        train("run", "jax", f"{RUN} callbacks=[{callback}]")
    assert (refused.value.key, refused.value.value) == ("callbacks", callback)
    assert not (tmp_path / "run" / "metrics.jsonl").exists()
