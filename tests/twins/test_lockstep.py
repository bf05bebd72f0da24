"""The same experiment on both backends, through the real Trainer and the real Flax loop.

In float64 nothing but the order of additions differs, so every number of every step must agree.
What a wrong epsilon, momentum or schedule would cost is many times the tolerance.
"""

from itertools import combinations, product

import pytest
from asserts import assert_rows_close

FP64 = "train.precision=fp64 train.steps=200 train.batch_size=16 train.eval_every=100steps"
SHORTER = "train.steps=50 train.eval_every=25steps dataset.limit=160"
NARROW = {"cnn": "model.channels=[3,4] model.hidden=[8]", "mlp": "model.hidden=[16]"}
TOLERANCE = 1e-10

MODELS = ("cnn", "simple_cnn", "mlp", "linear")
OPTIMIZERS = {
    "sgd": "optimizer=sgd optimizer.lr=0.05",
    "nesterov": "optimizer=sgd optimizer.lr=0.05 optimizer.nesterov=true",
    "plain": "optimizer=sgd optimizer.lr=0.05 optimizer.momentum=0",
    "adam": "optimizer=adam",
    "adamw": "optimizer=adamw",
}
SCHEDULES = ("constant", "step", "cosine", "warmup_cosine")
OPTIONS = {
    "clip": "train.clip_norm=0.5",
    "parts2": "train.accumulate=2",
    "parts4": "train.accumulate=4",
    "smooth": "train.label_smoothing=0.1",
    "ema": "train.ema=0.9",
    "augment": "dataset.augment=true dataset.crop_padding=2",
    "decay": "optimizer.weight_decay=0.01",
    "size12": "model.input_size=12",
    **{name: f"model.activation={name}" for name in ("relu", "sigmoid", "tanh", "gelu")},
}
# Every two of these meet in one row at least; a test below holds it.
COVERING = [
    ("cnn", "sgd", "constant", "clip parts2 ema augment decay gelu size12"),
    ("cnn", "nesterov", "step", "clip smooth ema augment decay sigmoid size12"),
    ("cnn", "plain", "cosine", "parts4 smooth decay gelu"),
    ("cnn", "adam", "warmup_cosine", "parts4 tanh size12"),
    ("cnn", "adamw", "constant", "clip ema augment relu"),
    ("simple_cnn", "sgd", "step", "clip parts4 smooth ema decay"),
    ("simple_cnn", "nesterov", "cosine", ""),
    ("simple_cnn", "plain", "warmup_cosine", "parts2 smooth ema decay"),
    ("simple_cnn", "adam", "constant", "parts2 smooth ema augment"),
    ("simple_cnn", "adamw", "step", "parts2 decay"),
    ("mlp", "sgd", "cosine", "parts4 smooth relu"),
    ("mlp", "nesterov", "warmup_cosine", "clip parts2 augment decay relu"),
    ("mlp", "plain", "constant", "parts2 sigmoid"),
    ("mlp", "adam", "step", "smooth ema augment gelu"),
    ("mlp", "adamw", "cosine", "clip parts2 smooth ema augment decay tanh"),
    ("linear", "sgd", "warmup_cosine", "clip smooth ema augment decay"),
    ("linear", "nesterov", "constant", "clip parts4 ema decay"),
    ("linear", "plain", "step", "clip smooth augment"),
    ("linear", "adam", "cosine", "clip parts2 ema decay"),
    ("linear", "adamw", "warmup_cosine", "parts4 smooth augment decay"),
]


def overrides(model, optimizer, schedule, options=""):
    words = (f"model={model}", NARROW.get(model, ""), OPTIMIZERS[optimizer], f"schedule={schedule}")
    return " ".join((*words, *(OPTIONS[option] for option in options.split())))


def unexplained(rows):
    """Rows with 1 - R² in place of R², whose relative error is the smaller."""
    return [
        {key: 1 - value if key.endswith("/r2") else value for key, value in row.items()}
        for row in rows
    ]


def assert_agree(torch_run, jax_run, tolerance=TOLERANCE, steps=None):
    """Assert equal rows, keys and numbers, time and memory excepted."""
    assert len(torch_run.rows) == len(jax_run.rows)
    ours, theirs = (unexplained(run.rows[:steps]) for run in (torch_run, jax_run))
    assert_rows_close(theirs, ours, tolerance)
    for key in ("parameters", "init_digest", "data_digest"):
        assert getattr(torch_run.result, key) == getattr(jax_run.result, key), key


# Every setting is in one of these at least; the others leave the everyday suite.
EVERYDAY = [COVERING[row] for row in (0, 5, 7, 8, 11, 12, 14, 18)]


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=" ".join(case), marks=[pytest.mark.slow] * (case not in EVERYDAY))
        for case in COVERING
    ],
)
def test_both_backends_agree_at_each_of_fifty_steps(run, case):
    torch_run, jax_run = run(f"{FP64} {overrides(*case)} {SHORTER}")
    assert [row["step"] for row in torch_run.rows if "train/loss" in row] == list(range(1, 51))
    assert [row["step"] for row in torch_run.rows if "val/loss" in row] == [25, 50]
    assert torch_run.rows[-1].keys() == {"step", "test/loss", "test/accuracy", "perf/seconds"}
    assert_agree(torch_run, jax_run)


@pytest.mark.parametrize("model", ["linear", "mlp"])
def test_both_backends_agree_on_a_regression(run, model):
    torch_run, jax_run = run(
        f"{FP64} model={model} dataset=line train.batch_size=2 optimizer=sgd optimizer.lr=0.01 "
        "train.steps=50 train.eval_every=25steps"
    )
    of_the_test = {"test/loss", "test/mse", "test/mae", "test/r2"}
    assert torch_run.rows[-1].keys() == {"step", "perf/seconds", *of_the_test}
    assert_agree(torch_run, jax_run)


@pytest.mark.parametrize(
    "data", ["model=cnn dataset.limit=160 dataset.augment=true", "model=linear dataset=line"]
)
def test_both_backends_agree_for_ten_steps_in_float32(run, data):
    torch_run, jax_run = run(f"{data} train.steps=10 train.batch_size=4 train.precision=fp32")
    assert_agree(torch_run, jax_run, tolerance=1e-5, steps=10)


def test_every_two_settings_are_combined_in_the_covering_table():
    free = ("clip", "smooth", "ema", "augment", "decay")

    def settings(case):
        model, optimizer, schedule, options = case
        chosen = options.split()
        parts = next((option for option in chosen if option.startswith("parts")), "parts1")
        switches = {option if option in chosen else f"no {option}" for option in free}
        return {model, optimizer, schedule, parts} | switches

    met = {frozenset(pair) for case in COVERING for pair in combinations(settings(case), 2)}
    factors = [MODELS, OPTIMIZERS, SCHEDULES, ("parts1", "parts2", "parts4")]
    factors += [(option, f"no {option}") for option in free]
    wanted = [pair for two in combinations(factors, 2) for pair in product(*two)]
    assert [pair for pair in wanted if frozenset(pair) not in met] == []
    for cases in (COVERING, EVERYDAY):
        everything = " ".join(" ".join(case) for case in cases).split()
        assert set(everything) == {*MODELS, *OPTIMIZERS, *SCHEDULES, *OPTIONS}


def test_early_stopping_ends_both_backends_after_the_same_evaluation(run):
    torch, jax = run(
        "model=mlp dataset.limit=160 train.batch_size=16 train.epochs=60 train.precision=fp64 "
        "train.early_stopping=2 optimizer=adamw optimizer.lr=0.02"
    )
    assert torch.result.steps == jax.result.steps < 600
    assert torch.result.best.step == jax.result.best.step
    assert torch.result.steps == torch.result.best.step + 2 * 10, "two evaluations later"
