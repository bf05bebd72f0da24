"""A run that changes its backend halfway goes on as if nothing had happened."""

import numpy as np
import orbax.checkpoint as ocp
import pytest
import torch
from crossings import EPOCH, EVERYTHING, FP64, MLP, OTHER, assert_close, lines

from pipeline import crossing
from pipeline.checkpoints import FOLDER, checkpoint_of_step
from pipeline.errors import UserError
from pipeline.runs import RunFolder

CASES = [
    pytest.param(EVERYTHING, [12, 15], id="averages, clipping, parts"),
    pytest.param(
        f"{MLP} optimizer=sgd optimizer.lr=0.3 schedule=plateau schedule.patience=0 "
        "train.label_smoothing=0.1",
        [12, 15],
        id="momentum, plateau",
        marks=pytest.mark.slow,
    ),
    # The best checkpoint lies before the crossing, and is tested after it.
    pytest.param(
        "model=linear optimizer=rmsprop optimizer.lr=1e-9 schedule=constant",
        [12, 13],
        id="the best at first",
        marks=pytest.mark.slow,
    ),
    pytest.param(
        "model=resnet18 model.width=4 optimizer=sgd optimizer.lr=0.05 train.accumulate=2 "
        "train.ema=0.8 schedule=step",
        [12, 15],
        id="batch statistics",
        marks=pytest.mark.slow,
    ),
    pytest.param(
        "model=vit model.width=8 model.heads=2 model.depth=1 model.patch=4 optimizer=muon "
        "train.ema=0.9 schedule=cosine",
        [12, 15],
        id="attention, muon",
        marks=pytest.mark.slow,
    ),
]


@pytest.mark.parametrize("backend", ["torch", "jax"])
@pytest.mark.parametrize(("case", "stops"), CASES)
def test_half_on_one_and_half_on_the_other_equals_the_uninterrupted_run(
    train, tmp_path, backend, case, stops
):
    overrides, other = f"{FP64} {case}", OTHER[backend]
    assert train("whole", backend, overrides) == 0
    whole = RunFolder(tmp_path / "whole").result
    for step in stops:
        first, second = tmp_path / f"{step}-first", tmp_path / f"{step}-second"
        assert train(first.name, backend, f"{overrides} train.stop_after={step}") == 130
        before = (first / "run.json").read_text(), sorted((first / FOLDER).iterdir())
        assert train(second.name, other, f"{overrides} resume={first}") == 0
        assert_close(lines(tmp_path / "whole"), lines(second))
        result = RunFolder(second).result
        assert result["backend"] == other
        assert result["resumed_from"] == str(checkpoint_of_step(first, step).path)
        assert (result["steps"], result["best"]["step"]) == (30, whole["best"]["step"])
        for key in ("parameters", "init_digest", "data_digest"):
            assert result[key] == whole[key]
        after = (first / "run.json").read_text(), sorted((first / FOLDER).iterdir())
        assert after == before, "the run that was gone on from is left as it was"
    assert [12 % EPOCH, 13 % EPOCH, 15 % EPOCH] == [0, 1, 3], "at an epoch boundary, and inside one"


def test_the_best_of_the_third_case_is_its_first(train, tmp_path):
    assert train("whole", "jax", f"{FP64} {CASES[2].values[0]}") == 0
    assert RunFolder(tmp_path / "whole").result["best"]["step"] == 5


def content(checkpoint):
    """All that a checkpoint holds, in plain containers."""
    if checkpoint.backend == "torch":
        return torch.load(checkpoint.path, weights_only=True)
    with ocp.CheckpointManager(
        checkpoint.path.parent, options=ocp.CheckpointManagerOptions(step_format_fixed_length=6)
    ) as manager:
        items = ocp.args.Composite(state=ocp.args.StandardRestore(), memory=ocp.args.JsonRestore())
        return dict(manager.restore(checkpoint.step, args=items))


def assert_same(one, other, path=""):
    """Equal to the last bit, all the way down."""
    assert type(one) is type(other), path
    if isinstance(one, dict):
        assert one.keys() == other.keys(), path
        for key in one:
            assert_same(one[key], other[key], f"{path}/{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), path
        for place, pair in enumerate(zip(one, other, strict=True)):
            assert_same(*pair, f"{path}/{place}")
    elif hasattr(one, "shape"):
        one, other = np.asarray(one), np.asarray(other)
        assert (one.dtype, one.shape) == (other.dtype, other.shape), path
        assert one.tobytes() == other.tobytes(), path
    else:
        assert one == other, path


def again(run, step, folder):
    """What a checkpoint holds, and what it does after it was taken out and put in again."""
    folder.mkdir()
    (folder / "run.json").write_text((run / "run.json").read_text())
    chosen = checkpoint_of_step(run, step)
    crossing.adopted(folder, crossing.exported([chosen], "resume"))
    return content(chosen), content(checkpoint_of_step(folder, step))


# Evaluations are every five steps and at the end, epochs have six.
FEW, MANY = (5, 6, 12, 17), (3, 15, 20, 30)


@pytest.mark.parametrize(
    ("backend", "step"),
    [
        *(("torch", step) for step in FEW),
        *(pytest.param("torch", step, marks=pytest.mark.slow) for step in MANY),
        ("jax", 17),
        *(pytest.param("jax", step, marks=pytest.mark.slow) for step in (5, 6, 12, 30)),
    ],
)
def test_a_checkpoint_that_is_taken_out_and_put_in_again_is_the_same_checkpoint(
    train, tmp_path, backend, step
):
    stop = "" if step == 30 else f"train.stop_after={step}"
    train("first", backend, f"{FP64} {EVERYTHING} {stop}")
    ours, theirs = again(tmp_path / "first", step, tmp_path / "second")
    if backend == "torch":
        for one in (ours, theirs):
            # Each has its own folder, and older files in it.
            stores = one.pop("callbacks")
            assert set(stores) == {"BestCheckpoint", "LastCheckpoints"}
            newest = stores["LastCheckpoints"]["best_model_path"]
            assert newest.endswith(f"last-{step:06d}.ckpt")
            for group in one["optimizer_states"][0]["param_groups"]:
                del group["lr"]  # of the last update; set anew before the next
    assert_same(ours, theirs)


def test_the_batches_that_torch_has_counted_are_counted_again(train, tmp_path):
    case = "model=resnet18 model.width=2 train.accumulate=2 train.ema=0.9 train.stop_after=3"
    train("first", "torch", f"{FP64} {case}")
    ours, theirs = again(tmp_path / "first", 3, tmp_path / "second")
    for prefix in ("model", "average.module"):
        assert ours["state_dict"][f"{prefix}.bn1.num_batches_tracked"] == 3 * 2
    assert ours["state_dict"]["average.n_averaged"] == 3
    assert_same(ours["state_dict"], theirs["state_dict"])


@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_either_backend_evaluates_the_checkpoints_of_both(train, tmp_path, backend):
    first = tmp_path / "first"
    assert train("first", backend, f"{FP64} {EVERYTHING}") == 0
    result = RunFolder(first).result
    last = checkpoint_of_step(first, 30).path
    for name, checkpoint in {"best": first, "last": last}.items():
        for tester in ("torch", "jax"):
            chosen = f"mode=test checkpoint={checkpoint}"
            assert train(f"{name}-{tester}", tester, f"{FP64} {EVERYTHING} {chosen}") == 0
        ours, theirs = (RunFolder(tmp_path / f"{name}-{tester}").result for tester in OTHER)
        for key, value in ours["test"].items():
            assert abs(theirs["test"][key] - value) <= 1e-10 * abs(value)
        assert not (tmp_path / f"{name}-{OTHER[backend]}" / FOLDER).exists()
        if name == "best":
            assert theirs["test"].keys() == result["test"].keys()
            assert ours["test"] == result["test"] or theirs["test"] == result["test"]


@pytest.mark.parametrize("backend", ["torch", pytest.param("jax", marks=pytest.mark.slow)])
def test_a_broken_checkpoint_is_named_and_the_one_before_it_crosses(
    train, tmp_path, capfd, backend
):
    assert train("whole", backend, f"{FP64} {EVERYTHING}") == 0
    assert train("first", backend, f"{FP64} {EVERYTHING} train.stop_after=17") == 130
    newest = checkpoint_of_step(tmp_path / "first", 17).path
    files = [newest] if newest.is_file() else [file for file in newest.rglob("*") if file.is_file()]
    largest = max(files, key=lambda file: file.stat().st_size)
    largest.write_bytes(largest.read_bytes()[: largest.stat().st_size // 2])
    crossed = f"{FP64} {EVERYTHING} resume={tmp_path / 'first'}"
    assert train("second", OTHER[backend], crossed) == 0
    assert f"{newest} is broken" in capfd.readouterr().err
    assert_close(lines(tmp_path / "whole"), lines(tmp_path / "second"))


@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_a_run_of_another_model_names_the_parameters(train, tmp_path, backend):
    assert train("first", backend, f"{FP64} {MLP} train.stop_after=5") == 130
    other = f"model=mlp model.hidden=[8,4] resume={tmp_path / 'first'}"
    with pytest.raises(UserError) as told:
        train("second", OTHER[backend], f"{FP64} {other}")
    for part in (
        str(checkpoint_of_step(tmp_path / "first", 5).path),
        "layers.2.weight is missing",
        "layers.0.weight is [16, 64] where the model has [8, 64]",
    ):
        assert part in str(told.value)
    assert RunFolder(tmp_path / "second").result["status"] == "failed"


def test_a_run_does_not_cross_into_a_folder_that_holds_one(train, tmp_path):
    assert train("first", "torch", f"{FP64} {MLP} train.stop_after=5") == 130
    before = (tmp_path / "first" / "run.json").read_text()
    assert train("second", "jax", f"{FP64} {MLP} train.stop_after=5 seed=1") == 130
    for name in ("first", "second"):
        with pytest.raises(UserError, match=f"{name} holds a run already"):
            train(name, "jax", f"{FP64} {MLP} resume={tmp_path / 'first'}")
    assert (tmp_path / "first" / "run.json").read_text() == before


@pytest.mark.parametrize(
    "precisions",
    [pytest.param(("fp32", "fp64"), marks=pytest.mark.slow), ("fp64", "fp32")],
    ids="-".join,
)
def test_a_run_may_be_gone_on_with_in_another_precision_on_either_backend(
    train, tmp_path, precisions
):
    one, other = (f"{FP64} {MLP} train.precision={precision}" for precision in precisions)
    found = {}
    for first in OTHER:
        assert train(first, first, f"{one} train.stop_after=9") == 130
        crossed = f"{first}-crossed"
        assert train(crossed, OTHER[first], f"{other} resume={tmp_path / first}") == 0
        assert train(first, first, f"{other} resume={tmp_path / first}") == 0
        for name in (first, crossed):
            found[name] = lines(tmp_path / name)[-3]["train/loss"]
    np.testing.assert_allclose([*found.values()], found["torch"], rtol=1e-4)
