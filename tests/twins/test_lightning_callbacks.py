"""Metrics that a user's Lightning callback sees, and refusal of an incompatible Lightning."""

import lightning
import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop

from pipeline.errors import UserError
from pipeline.loggers.metrics_file import read_metrics
from pipeline.storage.run_folder import RunFolder

RUN = (
    "dataset=digits dataset.limit=100 train.batch_size=10 train.steps=24 logger=none "
    "train.log_every=4 train.eval_every=6steps train.accumulate=2 model=own "
    f"model.torch={__name__}:Net optimizer.lr=0.1 accelerator=cpu"
)


class Seen(Callback):
    """Records the metrics after each batch and each evaluation."""

    def __init__(self):
        self.steps, self.evaluations = {}, {}

    def on_train_batch_end(self, trainer, *args):
        self.steps[trainer.global_step] = noted(trainer)

    def on_validation_end(self, trainer, module):
        self.evaluations[trainer.global_step] = noted(trainer)


def noted(trainer):
    return {key: value.item() for key, value in trainer.callback_metrics.items()}


class Net(torch.nn.Module):
    """A linear model with callbacks."""

    callbacks = ()

    def __init__(self, input_shape, outputs):
        super().__init__()
        self.fc = torch.nn.Linear(64, outputs)

    def forward(self, x):
        return self.fc(x.flatten(1))

    def configure_callbacks(self):
        return list(self.callbacks)


def test_a_callback_sees_the_logged_metrics(train, tmp_path, monkeypatch):
    seen = Seen()
    kept = ModelCheckpoint(tmp_path / "kept", "{step}", monitor="val/accuracy", mode="max")
    monkeypatch.setattr(Net, "callbacks", [seen, kept])
    assert train("run", "torch", RUN) == 0
    rows = read_metrics(tmp_path / "run" / "metrics.jsonl")
    lines = {
        kind: {row["step"]: row for row in rows if f"{kind}/loss" in row}
        for kind in ("train", "val")
    }
    assert list(lines["train"]) == [4, 8, 12, 16, 20, 24]
    for step, metrics in seen.steps.items():
        if step < 4:
            assert metrics == {}
            continue
        for key in ("train/loss", "train/accuracy"):
            line = lines["train"][step - step % 4]
            assert metrics[key] == pytest.approx(line[key], rel=1e-6)
    assert list(seen.evaluations) == list(lines["val"]) == [6, 12, 18, 24]
    for step, metrics in seen.evaluations.items():
        for key in ("val/loss", "val/accuracy"):
            assert metrics[key] == pytest.approx(lines["val"][step][key], rel=1e-6)
        assert metrics["train/loss"] == seen.steps[step]["train/loss"]
    # Nothing is logged twice.
    assert len(rows) == len({(*row, row["step"]) for row in rows})
    best = max(lines["val"].values(), key=lambda row: row["val/accuracy"])
    assert kept.best_model_score.item() == pytest.approx(best["val/accuracy"])
    assert kept.best_model_path.endswith(f"step={best['step']}.ckpt")


def test_a_callback_may_end_the_run(train, tmp_path, monkeypatch):
    stop = EarlyStopping("val/loss", min_delta=100.0, patience=1)
    monkeypatch.setattr(Net, "callbacks", [stop])
    assert train("run", "torch", RUN) == 0
    assert stop.stopped_epoch > 0
    assert RunFolder(tmp_path / "run").result.steps == 12


class Ways(Callback):
    """Records the loop's way through a step, and where the loop is, at each evaluation."""

    def __init__(self):
        self.short, self.places = [], []

    def on_validation_end(self, trainer, module):
        loop = trainer.fit_loop.epoch_loop
        self.short.append(loop.is_short)
        self.places.append(trainer.fit_loop.state_dict())


class WaysWithAHook(Ways):
    """The same, with a hook in each step."""

    def on_before_optimizer_step(self, trainer, module, optimizer):
        self.hooked = trainer.global_step


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_step_without_hooks_is_lightnings_own_step_bit_for_bit(
    precision, train, tmp_path, monkeypatch
):
    run = f"{RUN} train.accumulate=1 train.ema=0.9 train.clip_norm=0.1 train.precision={precision}"
    ways = {"short": Ways(), "own": WaysWithAHook()}
    states = {}
    for name, callback in ways.items():
        monkeypatch.setattr(Net, "callbacks", [callback])
        assert train(name, "torch", run) == 0
        files = (tmp_path / name / "checkpoints").glob("*24.ckpt")
        states[name] = torch.load(next(files), weights_only=False)["state_dict"]
    assert ways["short"].short == [True] * 4
    assert ways["own"].short == [False] * 4
    assert ways["own"].hooked == 23
    assert ways["short"].places == ways["own"].places
    assert states["short"].keys() == states["own"].keys()
    for name, tensor in states["short"].items():
        assert torch.equal(tensor, states["own"][name]), name


def test_an_incompatible_lightning_is_refused_with_its_version(train, tmp_path, monkeypatch):
    monkeypatch.delattr(_TrainingEpochLoop, "_broadcast_sigterm_tensor")
    with pytest.raises(
        UserError, match=r"has no Trainer.fit_loop.epoch_loop._broadcast"
    ) as refused:
        train("run", "torch", RUN)
    assert f"lightning {lightning.__version__}" in str(refused.value)
    assert "lightning>=2.6,<2.7" in str(refused.value)
