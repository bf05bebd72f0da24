"""Runs of one shape that train at once give the numbers of the same runs alone."""

import gc
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from asserts import assert_rows_close, parts_of
from image_folders import write_images
from short_runs import MLP, SELDOM

from pipeline.config.experiment import BackendConfig
from pipeline.devices.world import ALONE
from pipeline.loggers.metrics_file import read_metrics
from pipeline.run.together import vectorized
from pipeline.run.together.members import Member
from pipeline.run.together.run_inputs import obstacle, shape_of
from pipeline.run.together.vectorized import run_vectorized
from pipeline.run.transfer import export_run
from pipeline.storage.checkpoints import checkpoints_of
from pipeline.storage.predictions import read_predictions
from pipeline.storage.run_folder import RunFolder

BACKENDS = ["jax", "torch"]
PACKAGES = {"jax": "flax_impl", "torch": "lightning_impl"}


@pytest.fixture
def alone(train, tmp_path):
    """A function that runs each of several experiments by itself; see `together`."""

    def run(backend, common, *differing, code=0):
        for number, own in enumerate(differing):
            assert train(f"alone{number}", backend, f"{SELDOM} {common} {own}") == code
        return [tmp_path / f"alone{number}" for number in range(len(differing))]

    return run


@pytest.fixture
def together(configure, tmp_path, one_process):
    """A function that runs several experiments at once, and returns their folders."""

    def run(backend, common, *differing, code=0, resume=False):
        members = []
        for number, own in enumerate(differing):
            folder = tmp_path / f"together{number}"
            config = configure(f"{SELDOM} {common} {own}")
            config = replace(config, backend=BackendConfig(name=backend))
            config = replace(config, resume=str(folder)) if resume else config
            members.append(Member(config, folder, own, "", (own,)))
        assert len({shape_of(member.config) for member in members}) == 1
        assert [obstacle(replace(m.config, resume=None)) for m in members] == [None] * len(members)
        assert run_vectorized(members, "sweep", ALONE) == code
        return [member.folder for member in members]

    return run


def assert_same_run(found, expected, rtol=1e-10):
    """Assert equal curves, results, predictions and states of two finished runs."""
    rows, wanted = read_metrics(found / "metrics.jsonl"), read_metrics(expected / "metrics.jsonl")
    assert_rows_close(rows, wanted, rtol, atol=1e-13)
    ours, theirs = RunFolder(found).result, RunFolder(expected).result
    assert (ours.status, ours.steps, ours.parameters) == (
        "completed",
        theirs.steps,
        theirs.parameters,
    )
    assert (ours.init_digest, ours.data_digest) == (theirs.init_digest, theirs.data_digest)
    assert ours.best.step == theirs.best.step
    assert ours.test == pytest.approx(theirs.test, rel=rtol)
    assert ours.signature == theirs.signature
    predictions = [read_predictions(run) for run in (found, expected)]
    if predictions[1] is not None:
        losses = [one.loss for one in predictions]
        np.testing.assert_allclose(*losses, rtol=rtol, atol=1e-13)
    states = [export_run(checkpoints_of(run), "resume")[-1].state for run in (found, expected)]
    assert states[0].step == states[1].step
    for part, arrays in parts_of(states[1]).items():
        for name, array in arrays.items():
            # A gradient that is zero but for rounding has no digits in common.
            atol = max(rtol * np.abs(array).max(), 1e-13)
            own = parts_of(states[0])[part][name]
            np.testing.assert_allclose(own, array, rtol=0, atol=atol, err_msg=f"{part} {name}")


OWN_LOSS = (
    "task=own task.targets=[label] task.torch=own_losses:torch_pairs task.jax=own_losses:jax_pairs "
    "task.metrics=[distance] optimizer.eps=1e-4"  # the last bias has no gradient but for rounding
)
CASES = {
    "an MLP with other rates, decays and schedules": (
        MLP,
        "seed=0 optimizer.lr=0.01 optimizer.weight_decay=0 optimizer.eps=1e-4 schedule=constant",
        "seed=1 optimizer.weight_decay=0.2 schedule=plateau schedule.patience=0",
    ),
    "all that a checkpoint can hold": (
        f"{MLP} train.ema=0.9 train.accumulate=2 dataset.augment=true dataset.crop_padding=1",
        "seed=0 train.clip_norm=0.5",
        "seed=1 train.clip_norm=0.05",
    ),
    "momentum": (
        f"{MLP} optimizer=sgd optimizer.lr=0.01",
        "optimizer.momentum=0.9",
        "optimizer.momentum=0.5",
    ),
    "batch norm": ("model=resnet18 model.width=2 train.steps=6", "seed=0", "seed=1"),
    "dropout": (
        "model=vit model.depth=1 model.width=8 model.heads=2 model.patch=4 model.dropout=0.3 "
        "model.drop_path=0.2 train.steps=10",
        "seed=0",
        "seed=1",
    ),
    "shared dropout": (
        "model=vit model.depth=1 model.width=8 model.heads=2 model.patch=4 model.dropout=0.3 "
        "train.randomness=shared train.steps=10",
        "seed=0",
        "seed=1",
    ),
    "a CNN with frozen weights, factors on rates and a momentum of its own": (
        "model=cnn model.channels=[2,3] model.hidden=[8] train.steps=8 optimizer=sgd "
        "optimizer.nesterov=true optimizer.no_decay=[bias] optimizer.lr_factors={fc.*:0.5} "
        "train.frozen=[conv1.*] train.clip_value=0.05 optimizer.weight_decay=0.1",
        "seed=0 optimizer.lr=0.02",
        "seed=1 optimizer.lr=0.01",
    ),
    "other smoothing and averages": (
        f"{MLP} train.steps=10",
        "seed=0 train.label_smoothing=0.1 train.ema=0.9",
        "seed=1 train.label_smoothing=0.3 train.ema=0.5",
        "seed=2 train.label_smoothing=0.1 train.ema=0.99",
    ),
    "other rates of shared dropout": (
        "model=vit model.depth=2 model.width=8 model.heads=2 model.patch=4 "
        "train.randomness=shared train.steps=6",
        "seed=0 model.dropout=0.3 model.drop_path=0.1",
        "seed=1 model.dropout=0.1 model.drop_path=0.3",
    ),
    "other rates of dropout": (
        "model=vit model.depth=2 model.width=8 model.heads=2 model.patch=4 train.steps=6 "
        "train.remat=true",
        "seed=0 model.dropout=0.3 model.drop_path=0.1",
        "seed=1 model.dropout=0.1 model.drop_path=0.3",
    ),
    "other betas": (
        f"{MLP} train.steps=5",
        "seed=0 optimizer.betas=[0.9,0.99]",
        "seed=1 optimizer.betas=[0.8,0.999]",
    ),
    "an own loss": (
        f"{MLP} {OWN_LOSS} task.options={{margin:0.5}}",
        "seed=0 optimizer.lr=0.01",
        "seed=1",
    ),
    "an own loss of whole batches, in parts": (
        f"{MLP} {OWN_LOSS} task.whole_batch=true task.group=7 train.accumulate=2",
        "seed=0",
        "seed=1",
    ),
    "two views": (
        f"{MLP} task=contrastive task.group=10 dataset.augment=true dataset.crop_padding=1",
        "seed=0",
        "seed=1",
    ),
    # The gradient of a bias before a norm is nearly zero: Adam divides it by itself.
    "noise of a task": (
        "model=unet model.width=8 model.depth=1 task=denoising task.samples=0 train.steps=6 "
        "optimizer.eps=1e-4",
        "seed=0",
        "seed=1",
    ),
}


SLOW = (
    "two views",
    "an own loss of whole batches, in parts",
    "noise of a task",
    "dropout",
    "shared dropout",
    "batch norm",
    "momentum",
    "other rates of dropout",
    "other rates of shared dropout",
    "other betas",
)


ONE_BY_ONE = {("torch", "dropout"), ("torch", "other rates of dropout"), ("jax", "other betas")}
AT_ONCE = [  # of own losses, what torch cannot map is refused below
    pytest.param(
        backend,
        case,
        marks=[pytest.mark.slow] * (case in SLOW or (backend, case) == ("jax", "an own loss")),
    )
    for backend in BACKENDS
    for case in CASES
    if (backend, case) not in ONE_BY_ONE
]


@pytest.mark.parametrize(("backend", "case"), AT_ONCE)
def test_runs_that_train_at_once_are_those_of_each_alone(backend, case, alone, together):
    found = together(backend, *CASES[case])
    for one, other in zip(found, alone(backend, *CASES[case]), strict=True):
        assert_same_run(one, other)


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_interrupted_runs_resume_together_and_alone(
    backend, alone, together, train, tmp_path, capsys, monkeypatch
):
    monkeypatch.setenv("TANDEM_PROGRESS", "plain")
    seeds, stopped = ("seed=0", "seed=1", "seed=2"), f"{MLP} train.stop_after=13"
    together(backend, stopped, *seeds[:2], code=130)
    output = capsys.readouterr().out
    assert output.count(" parameters") == output.count("interrupted at step") == 1
    assert "each run: interrupted at step 13; the same command resumes it" in output
    assert train("together2", backend, f"{SELDOM} {stopped} {seeds[2]}") == 130
    shutil.copytree(tmp_path / "together0", tmp_path / "by_itself")
    found = together(backend, MLP, *seeds, resume=True)
    resumed = f"{SELDOM} {MLP} {seeds[0]} resume={tmp_path / 'by_itself'}"
    assert train("by_itself", backend, resumed) == 0
    assert_same_run(tmp_path / "by_itself", found[0])
    for one, other in zip(found, alone(backend, MLP, *seeds), strict=True):
        assert_same_run(one, other)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_run_that_diverges_or_stops_early_leaves_the_others_alone(backend, alone, together):
    common = f"{MLP} optimizer=sgd schedule=constant callbacks=[own_training:pausing]"
    runs = (
        "optimizer.lr=0.01",
        "optimizer.lr=1e200",
        "optimizer.lr=0.5 train.early_stopping=1",
        "optimizer.lr=0.02",
    )
    found = together(backend, common, *runs)
    failed = RunFolder(found[1]).result
    assert failed.status == "failed"
    assert "train/loss is nan" in failed.error
    *_, last, _ = read_metrics(found[3] / "metrics.jsonl")  # of the training; then comes the test
    assert failed.seconds["total"] < last["perf/seconds"], "it does not wait for the others"
    later = (2, 3)  # after the one that is taken out
    for number, other in zip(later, alone(backend, common, *(runs[n] for n in later)), strict=True):
        assert_same_run(found[number], other)
    assert RunFolder(found[2]).result.steps < 30, "it has stopped early"
    assert [RunFolder(found[n]).result.vectorized for n in (0, *later)] == [4, 4, 4]


@pytest.mark.parametrize("backend", BACKENDS)
def test_runs_that_do_not_fit_into_memory_train_in_parts(
    backend, together, alone, monkeypatch, capsys
):
    seeds = ("seed=0", "seed=1")
    monkeypatch.setenv("TANDEM_PROGRESS", "plain")
    memory = f"{PACKAGES[backend]}.vectorized.steps.free_memory"
    monkeypatch.setattr(memory, lambda: 0)
    found = together(backend, f"{MLP} train.steps=5", *seeds)
    output = capsys.readouterr().out
    assert "memory is enough for 1 of 2 runs at once" in output
    assert output.count(" parameters") == 2, "a line for each run of its own"
    results = [RunFolder(run).result for run in found]
    assert [(one.vectorized, one.alone) for one in results] == [
        (None, "memory is enough for 1 of 2 runs at once")
    ] * 2
    for one, other in zip(found, alone(backend, f"{MLP} train.steps=5", *seeds), strict=True):
        assert_same_run(one, other)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_broken_logger_ends_one_run_alone(backend, together, tmp_path):
    (tmp_path / "together1").mkdir()
    (tmp_path / "together1/metrics.jsonl").mkdir()
    found = together(backend, f"{MLP} train.steps=5", "seed=0", "seed=1", "seed=2")
    assert [RunFolder(run).status for run in found] == ["completed", "failed", "completed"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_runs_whose_images_are_decoded_while_they_train_run_one_by_one(
    backend, together, tmp_path, capsys
):
    root = write_images(tmp_path / "images", {"a": 90, "b": 90})
    images = f"dataset=folder dataset.root={root} dataset.size=8 dataset.cache={tmp_path / 'cache'}"
    found = together(backend, f"model=linear {images} train.steps=2", "seed=0", "seed=1")
    assert "2 jobs run one by one: dataset=folder is decoded for each" in capsys.readouterr().out
    assert [RunFolder(run).status for run in found] == ["completed", "completed"]
    result = RunFolder(found[0]).result
    assert result.vectorized is None
    assert result.alone.startswith("dataset=folder is decoded for each")


def test_runs_with_a_callback_of_lightning_run_one_by_one(together, capsys):
    timed = f"{MLP} train.steps=2 callbacks=[lightning.pytorch.callbacks:Timer]"
    found = together("torch", timed, "seed=0", "seed=1")
    reason = "callbacks=lightning.pytorch.callbacks:Timer is called by the loop of a single run"
    assert f"2 jobs run one by one: {reason}" in capsys.readouterr().out
    assert [RunFolder(run).status for run in found] == ["completed", "completed"]


OWN = {"torch": "model.torch=own_models:Torch", "jax": "model.jax=own_models:Flax"}


@pytest.mark.parametrize("backend", BACKENDS)
def test_own_models_train_at_once(backend, together, alone):
    mapped = (
        f"model=own train.steps=4 {OWN[backend]}Net"  # with native randomness: it draws nothing
    )
    found = together(backend, mapped, "seed=0", "seed=1")
    for one, other in zip(found, alone(backend, mapped, "seed=0", "seed=1"), strict=True):
        assert_same_run(one, other)
        assert RunFolder(one).result.vectorized == 2


OWN_TORCH_LOSS = "task=own task.targets=[label] task.torch=own_losses:torch"
DRAWN = "layers of model=own draw numbers that would be shared; set train.randomness=shared"
REFUSALS = {
    f"model=own {OWN['torch']}Plain": DRAWN,
    f"model=own {OWN['torch']}Tossing": DRAWN,
    f"model=own {OWN['jax']}Plain": DRAWN,
    f"model=own train.randomness=shared {OWN['torch']}Branching": "data-dependent control flow",
    f"model=own train.randomness=shared {OWN['jax']}Branching": "vmap",
    f"{MLP} {OWN_TORCH_LOSS}_branching": "data-dependent control flow",
    f"{MLP} {OWN_TORCH_LOSS}_drawing": "vmap: called random operation",
}


@pytest.mark.parametrize("common", REFUSALS)
def test_own_code_that_refuses_to_be_mapped_runs_one_by_one(common, together, capsys, monkeypatch):
    monkeypatch.setenv("TANDEM_PROGRESS", "plain")
    backend = "jax" if "model.jax" in common else "torch"
    found = together(backend, f"{common} train.steps=4", "seed=0", "seed=1")
    said = capsys.readouterr().out.partition("2 jobs run one by one: ")[2]
    assert REFUSALS[common] in said.partition("\n")[0]
    assert [RunFolder(run).status for run in found] == ["completed", "completed"]
    assert [RunFolder(run).result.vectorized for run in found] == [None, None]


def test_runs_that_run_out_of_memory_train_in_two_parts(together, capsys, monkeypatch):
    monkeypatch.setenv("TANDEM_PROGRESS", "plain")
    hungry = "model=own model.torch=own_models:TorchHungry train.steps=4"
    usual = vectorized.test_trained

    def test_of_one_fails(*arguments):
        monkeypatch.setattr(vectorized, "test_trained", usual)
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(vectorized, "test_trained", test_of_one_fails)
    found = together("torch", hungry, *(f"seed={seed}" for seed in range(4)))
    said = capsys.readouterr().out
    assert "4 jobs train in two parts: " in said
    assert "MemoryError" in said.partition("4 jobs train in two parts: ")[2].partition("\n")[0]
    assert f"1 job runs alone: {vectorized.OUT_OF_MEMORY}" in said
    results = [RunFolder(run).result for run in found]
    assert {one.status for one in results} == {"completed"}
    assert [one.vectorized for one in results] == [None, 2, 2, 2]
    assert [one.alone for one in results] == [vectorized.OUT_OF_MEMORY, None, None, None]
    gc.collect()
    tensors = [one for one in gc.get_objects() if type(one) is torch.Tensor]
    assert not [one for one in tensors if one.requires_grad and one.shape[:1] == (4,)], "a stack"
