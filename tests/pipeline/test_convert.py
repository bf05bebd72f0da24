"""Parcels and weights as files, and what `pipeline.convert` says before it needs a framework."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from safetensors.numpy import load_file, save_file

from pipeline.checkpoints import BrokenCheckpoint, check_shapes
from pipeline.config import plain
from pipeline.convert import convert, main
from pipeline.crossing import check_optimizer
from pipeline.errors import UserError
from pipeline.outline import hollow, outline
from pipeline.parcels import Parcel, read_parcel, write_parcel, write_weights
from pipeline.portable import PortableState, digest
from pipeline.runs import RunFolder
from pipeline.saved import resumed_arguments

ROOT = Path(__file__).parents[2]

ARRAYS = st.dictionaries(
    st.text("ab.", min_size=1),
    arrays(
        st.sampled_from([np.float32, np.float64]),
        array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3),
        elements=st.floats(width=16),
    ),
    max_size=3,
)
MEMORY = {"window": [[0.1, float("nan"), 2.0]], "best": None, "facts": {"parameters": 3}}


@given(
    step=st.integers(0, 2**40),
    parameters=ARRAYS,
    buffers=ARRAYS,
    averages=ARRAYS,
    slots=st.dictionaries(st.text("mv_", min_size=1), ARRAYS, max_size=2),
)
def test_a_parcel_comes_back_from_its_file_bit_for_bit(
    tmp_path_factory, step, parameters, buffers, averages, slots
):
    path = tmp_path_factory.getbasetemp() / "parcel.safetensors"
    state = PortableState(step, parameters, buffers, slots, averages)
    write_parcel(path, Parcel(state, MEMORY, {"source": "a/b", "backend": "jax"}))
    back = read_parcel(path)
    assert back.state.step == step
    for name in ("parameters", "buffers", "averages"):
        assert digest(getattr(back.state, name)) == digest(getattr(state, name)), name
    assert back.state.slots.keys() == slots.keys()
    for slot in slots:
        assert digest(back.state.slots[slot]) == digest(slots[slot])
    assert json.dumps(back.memory) == json.dumps(MEMORY)
    assert (back.run, back.source) == ({"source": "a/b", "backend": "jax"}, Path("a/b"))


STATE = PortableState(
    step=7,
    parameters={"conv1.weight": np.ones((2, 1, 3, 3), np.float32), "bn1.weight": np.ones(2)},
    buffers={"bn1.running_mean": np.zeros(2), "bn1.running_var": np.full(2, 3.0)},
    slots={"momentum_buffer": {"bn1.weight": np.ones(2)}},
)


@pytest.fixture
def run(configure):
    """Who the run of a parcel is."""
    config = configure("train.accumulate=4 train.batch_size=8")
    return {"source": "outputs/made", "backend": "torch", "config": plain(config)}


def test_weights_alone_are_what_a_plain_torch_model_loads(tmp_path, run):
    path = tmp_path / "weights.safetensors"
    write_weights(path, Parcel(STATE, MEMORY, run))
    weights = load_file(path)
    counted = weights.pop("bn1.num_batches_tracked")
    assert (counted.dtype, counted.shape, int(counted)) == (np.int64, (), 7 * 4)
    assert digest(weights) == digest(STATE.parameters | STATE.buffers)
    back = read_parcel(path)
    assert back.memory is None
    assert (back.state.step, back.state.slots) == (0, {}), "as of a run that has not begun"
    assert back.state.shapes == STATE.shapes
    assert back.run["config"] == run["config"]


def test_with_averages_the_weights_are_the_averages(tmp_path, run):
    path, averages = tmp_path / "weights.safetensors", {"fc.weight": np.full((1, 2), 5.0)}
    state = PortableState(1, {"fc.weight": np.zeros((1, 2))}, averages=averages)
    write_weights(path, Parcel(state, MEMORY, run))
    assert digest(load_file(path)) == digest(averages)


def test_weights_of_anybody_can_be_read(tmp_path):
    path = tmp_path / "theirs.safetensors"
    save_file(STATE.parameters | STATE.buffers | STATE.counters(1), path)
    parcel = read_parcel(path)
    assert (digest(parcel.state.parameters), digest(parcel.state.buffers)) == (
        digest(STATE.parameters),
        digest(STATE.buffers),
    )
    assert parcel.run == {"source": str(path)}


def flip(content):
    return content[:-3] + bytes([content[-3] ^ 1]) + content[-2:]


@pytest.mark.parametrize(
    "damage",
    [flip, lambda content: content[: len(content) // 2], lambda content: b"", lambda c: c[9:]],
)
def test_a_damaged_file_is_told_and_not_read(tmp_path, capsys, damage):
    path = tmp_path / "run.safetensors"
    write_parcel(path, Parcel(STATE, MEMORY, {"source": "x", "backend": "torch"}))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(BrokenCheckpoint):
        read_parcel(path)
    with pytest.raises(UserError, match=rf"SRC={path}: must be whole, but it is broken: .+"):
        convert(path, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_file_that_is_being_replaced_is_the_old_or_the_new_one(tmp_path, monkeypatch):
    path = tmp_path / "run.safetensors"
    write_parcel(path, Parcel(STATE, MEMORY, {}))

    def fails(arrays, aside, metadata):
        Path(aside).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pipeline.parcels.save_file", fails)
    with pytest.raises(OSError, match="No space"):
        write_parcel(path, Parcel(replace(STATE, step=8), MEMORY, {}))
    assert read_parcel(path).state.step == 7
    assert list(tmp_path.iterdir()) == [path]


def test_parameters_that_do_not_fit_are_named_and_many_are_counted():
    saved = {"a.weight": (2, 3), "b.weight": (1,)}
    model = {"a.weight": (2, 4), "c.weight": (1,), "c.bias": (1,)}
    with pytest.raises(UserError) as told:
        check_shapes(Path("there"), saved, model)
    assert told.value.allowed.endswith(
        "made with: c.weight is missing; c.bias is missing; b.weight is left over; "
        "a.weight is [2, 3] where the model has [2, 4]"
    )
    with pytest.raises(UserError, match=r"7\.weight is missing; and 4 more"):
        check_shapes(Path("there"), {}, {f"{place}.weight": (1,) for place in range(12)})
    check_shapes(Path("there"), saved, {name: list(shape) for name, shape in saved.items()})


def test_an_outline_is_enough_for_what_a_model_asks_of_its_data(configure):
    from pipeline import datasets

    data = datasets.load(configure("dataset=synthetic dataset.shape=[5,6,3]").dataset)
    told = json.loads(json.dumps(outline(data)))
    again = hollow(told)
    assert outline(again) == told
    assert again.train.inputs.shape == data.train.inputs.shape
    assert again.train.inputs.strides == (0, 0, 0, 0), "which takes no memory"
    assert (again.task, again.outputs, again.train.form) == (
        data.task,
        data.outputs,
        data.train.form,
    )


@pytest.mark.parametrize(
    ("source", "target", "options", "told"),
    [
        ("nowhere", "new", [], "SRC=nowhere: must be an existing run or checkpoint"),
        ("nowhere.safetensors", "new", [], "SRC=nowhere.safetensors: must be an existing file"),
        ("empty", "new", [], "SRC=empty: must be a run, or a checkpoint inside one"),
        ("run", "new", [], "SRC=run: must be a run with a checkpoint"),
        ("theirs.safetensors", "full", [], "DST=full: must be a new file or folder"),
        ("theirs.safetensors", "theirs.safetensors", [], "DST=theirs.safetensors: must be a new"),
        ("theirs.safetensors", "new", [], "--backend=None: must be one of torch, jax"),
        ("theirs.safetensors", "new", ["--backend", "jax"], "as in model=resnet18 dataset=cifar10"),
        ("theirs.safetensors", "new", ["--config", "empty"], "--config=empty: must be a run"),
        (
            "theirs.safetensors", "new", ["--backend", "jax", "model=cnn", "model.channel=3"],
            "model.channel=3: must be a key of model=cnn",
        ),
    ],
)  # fmt: skip
def test_bad_input_gets_one_message_and_makes_nothing(
    tmp_path, monkeypatch, capsys, source, target, options, told
):
    monkeypatch.chdir(tmp_path)
    for folder in ("empty", "full/inside", "run"):
        Path(folder).mkdir(parents=True)
    Path("run/run.json").write_text("{}")
    save_file(STATE.parameters, "theirs.safetensors")
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setattr(sys, "argv", ["convert", source, target, *options])
    assert main() == 1
    output = capsys.readouterr()
    assert told in output.err
    assert output.err.startswith("error: ")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_run_goes_on_in_its_own_folder_but_on_another_backend_in_a_new_one(configure, tmp_path):
    RunFolder(tmp_path).identify(configure("backend=torch"))
    asked = [f"resume={tmp_path}", "name=second"]
    own = f"hydra.run.dir='{tmp_path}'"
    assert own in resumed_arguments(asked)
    assert own in resumed_arguments([*asked, "backend=torch"])
    assert resumed_arguments([*asked, "backend=jax"]) == [
        "name=second", "backend=jax", f"resume='{tmp_path}'",
    ]  # fmt: skip


def test_slots_of_another_optimizer_are_refused(configure, run):
    check_optimizer(Parcel(STATE, MEMORY, run), configure(""))
    with pytest.raises(UserError, match=r"optimizer=sgd: must be adamw, .* weights\.safetensors"):
        check_optimizer(Parcel(STATE, MEMORY, run), configure("optimizer=sgd"))
    check_optimizer(Parcel(replace(STATE, step=0), None, run), configure("optimizer=sgd"))


def test_help_shows_every_option_and_examples():
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.convert", "--help"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for part in ("SRC", "DST", "--backend", "--whole", "--config", "KEY=VALUE", ".safetensors"):
        assert part in done.stdout
    assert "python -m pipeline.convert outputs/first outputs/first-jax" in done.stdout
