"""Portable checkpoints and weights as files, and errors of `pipeline.convert` that need no framework."""

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

from pipeline.config.experiment import plain
from pipeline.config.tasks import TaskConfig
from pipeline.convert import convert
from pipeline.convert.__main__ import main
from pipeline.data.data_spec import data_spec, placeholder_data
from pipeline.digest import digest
from pipeline.errors import UserError
from pipeline.run.transfer import check_optimizer
from pipeline.run.unfinished_runs import resumed_arguments
from pipeline.storage.checkpoints import BrokenCheckpoint, check_shapes
from pipeline.storage.portable_file import (
    PortableCheckpoint,
    read_portable,
    write_portable,
    write_weights,
)
from pipeline.storage.portable_state import PortableState
from pipeline.storage.recorder_state import RecorderState
from pipeline.storage.run_folder import RunFolder

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
MEMORY = RecorderState(window=[[0.1, float("nan"), 2.0]], facts={"parameters": 3})


@given(
    step=st.integers(0, 2**40),
    parameters=ARRAYS,
    buffers=ARRAYS,
    averages=ARRAYS,
    slots=st.dictionaries(st.text("mv_", min_size=1), ARRAYS, max_size=2),
)
def test_a_portable_checkpoint_is_read_back_bit_for_bit(
    tmp_path_factory, step, parameters, buffers, averages, slots
):
    path = tmp_path_factory.getbasetemp() / "portable.safetensors"
    state = PortableState(step, parameters, buffers, slots, averages)
    write_portable(path, PortableCheckpoint(state, MEMORY, {"source": "a/b", "backend": "jax"}))
    back = read_portable(path)
    assert back.state.step == step
    for name in ("parameters", "buffers", "averages"):
        assert digest(getattr(back.state, name)) == digest(getattr(state, name)), name
    assert back.state.slots.keys() == slots.keys()
    for slot in slots:
        assert digest(back.state.slots[slot]) == digest(slots[slot])
    assert json.dumps(back.recorder_state.to_json()) == json.dumps(MEMORY.to_json())
    assert (back.run, back.source) == ({"source": "a/b", "backend": "jax"}, Path("a/b"))


STATE = PortableState(
    step=7,
    parameters={"conv1.weight": np.ones((2, 1, 3, 3), np.float32), "bn1.weight": np.ones(2)},
    buffers={"bn1.running_mean": np.zeros(2), "bn1.running_var": np.full(2, 3.0)},
    slots={"momentum_buffer": {"bn1.weight": np.ones(2)}},
)


@pytest.fixture
def run(configure):
    """Identity of the run in a portable checkpoint."""
    config = configure("train.accumulate=4 train.batch_size=8")
    return {"source": "outputs/made", "backend": "torch", "config": plain(config)}


def test_exported_weights_are_a_plain_torch_state_dict(tmp_path, run):
    path = tmp_path / "weights.safetensors"
    write_weights(path, PortableCheckpoint(STATE, MEMORY, run))
    weights = load_file(path)
    counted = weights.pop("bn1.num_batches_tracked")
    assert (counted.dtype, counted.shape, int(counted)) == (np.int64, (), 7 * 4)
    assert digest(weights) == digest(STATE.parameters | STATE.buffers)
    back = read_portable(path)
    assert back.recorder_state is None
    assert (back.state.step, back.state.slots) == (0, {}), "as of a run that has not begun"
    assert back.state.shapes == STATE.shapes
    assert back.run["config"] == run["config"]


def test_exported_weights_are_the_averages_if_there_are_any(tmp_path, run):
    path, averages = tmp_path / "weights.safetensors", {"fc.weight": np.full((1, 2), 5.0)}
    state = PortableState(1, {"fc.weight": np.zeros((1, 2))}, averages=averages)
    write_weights(path, PortableCheckpoint(state, MEMORY, run))
    assert digest(load_file(path)) == digest(averages)


def test_weights_of_any_origin_can_be_read(tmp_path):
    path = tmp_path / "theirs.safetensors"
    save_file(STATE.parameters | STATE.buffers | STATE.counters(1), path)
    portable = read_portable(path)
    assert (digest(portable.state.parameters), digest(portable.state.buffers)) == (
        digest(STATE.parameters),
        digest(STATE.buffers),
    )
    assert portable.run == {"source": str(path)}


def flip(content):
    return content[:-3] + bytes([content[-3] ^ 1]) + content[-2:]


@pytest.mark.parametrize(
    "damage",
    [
        flip,
        lambda content: content.replace(b'\\"step\\": 7', b'\\"step\\": 8'),
        lambda content: content[: len(content) // 2],
        lambda content: b"",
        lambda c: c[9:],
    ],
)
def test_a_damaged_file_is_reported_and_not_read(tmp_path, capsys, damage):
    path = tmp_path / "run.safetensors"
    write_portable(path, PortableCheckpoint(STATE, MEMORY, {"source": "x", "backend": "torch"}))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(BrokenCheckpoint):
        read_portable(path)
    with pytest.raises(UserError, match=rf"SRC={path}: it is broken: .+"):
        convert(path, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_file_is_replaced_atomically(tmp_path, monkeypatch):
    path = tmp_path / "run.safetensors"
    write_portable(path, PortableCheckpoint(STATE, MEMORY, {}))

    def fails(arrays, aside, metadata):
        Path(aside).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pipeline.storage.portable_file.save_file", fails)
    with pytest.raises(OSError, match="No space"):
        write_portable(path, PortableCheckpoint(replace(STATE, step=8), MEMORY, {}))
    assert read_portable(path).state.step == 7
    assert list(tmp_path.iterdir()) == [path]


def test_mismatched_parameters_are_named_and_many_are_counted():
    saved = {"a.weight": (2, 3), "b.weight": (1,)}
    model = {"a.weight": (2, 4), "c.weight": (1,), "c.bias": (1,)}
    with pytest.raises(UserError) as told:
        check_shapes(Path("there"), saved, model)
    assert told.value.problem.endswith(
        "another model: c.weight is missing; c.bias is missing; b.weight is left over; "
        "a.weight is [2, 3] where the model has [2, 4]"
    )
    with pytest.raises(UserError, match=r"7\.weight is missing; and 4 more"):
        check_shapes(Path("there"), {}, {f"{place}.weight": (1,) for place in range(12)})
    check_shapes(Path("there"), saved, {name: list(shape) for name, shape in saved.items()})


def test_a_data_spec_is_enough_to_build_a_model(configure):
    from pipeline.data import sources

    data = sources.load(configure("dataset=synthetic dataset.shape=[5,6,3]").dataset)
    told = json.loads(json.dumps(data_spec(data)))
    again = placeholder_data(told, TaskConfig())
    assert json.loads(json.dumps(data_spec(again))) == told
    assert again.train.fields["image"].shape == data.train.fields["image"].shape
    assert again.train.fields["image"].strides == (0, 0, 0, 0), "which takes no memory"
    assert (again.task.name, again.outputs, again.form) == (
        data.task.name,
        data.outputs,
        data.form,
    )


@pytest.mark.parametrize(
    ("source", "target", "options", "told"),
    [
        ("nowhere", "new", [], "SRC=nowhere: must be an existing run or checkpoint"),
        ("nowhere.safetensors", "new", [], "SRC=nowhere.safetensors: must be an existing file"),
        ("empty", "new", [], "SRC=empty: must be a run, or a checkpoint inside one"),
        (".", "new", [], "It is a sweep: name the folder of one of its jobs, such as "),
        ("run", "new", [], "SRC=run: must be a run with a checkpoint"),
        ("theirs.safetensors", "full", [], "DST=full: it already exists"),
        ("theirs.safetensors", "theirs.safetensors", [], "DST=theirs.safetensors: it already exists"),
        ("theirs.safetensors", "new", [], "--backend=None: must be one of torch, jax"),
        ("theirs.pth", "new", [], "is not read. Save it as safetensors: safetensors.torch.save_file"),
        (
            "theirs.safetensors", "new", ["--backend", "jax", "model=cnn", "--leave-out", "nope*"],
            "--leave-out=nope*: must be a pattern of an array's name",
        ),
        ("theirs.safetensors", "x.onnx", [], "DST=x.onnx: .onnx is no format to convert to"),
        ("theirs.safetensors", "run/run.json/new", [], "run.json is a file"),
        ("theirs.safetensors", "new", ["--backend", "jax"], "as in model=resnet18 dataset=cifar10"),
        ("theirs.safetensors", "new", ["--config", "empty"], "--config=empty: must be a run"),
        (
            "theirs.safetensors", "new", ["--backend", "jax", "model=cnn", "model.channel=3"],
            "model.channel=3: must be a key of model=cnn",
        ),
    ],
)  # fmt: skip
def test_bad_input_gets_one_message_and_creates_no_file(
    tmp_path, monkeypatch, capsys, source, target, options, told
):
    monkeypatch.chdir(tmp_path)
    for folder in ("empty", "full/inside", "run"):
        Path(folder).mkdir(parents=True)
    Path("run/run.json").write_text("{}")
    save_file(STATE.parameters, "theirs.safetensors")
    Path("theirs.pth").write_bytes(b"PK")
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setattr(sys, "argv", ["convert", source, target, *options])
    assert main() == 1
    output = capsys.readouterr()
    assert told in output.err
    assert output.err.startswith("error: ")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_run_resumes_in_its_own_folder_unless_another_or_another_backend_is_named(
    configure, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    run = Path("outputs/first")
    RunFolder(run).identify(configure("backend=torch"))
    asked, resume = f"resume={run}", f"resume='{run}'"
    own = [resume, f"hydra.run.dir='{run}'", "hydra.output_subdir=null"]
    assert resumed_arguments([asked]) == own
    assert resumed_arguments([asked, "backend=torch"]) == ["backend=torch", *own]
    assert resumed_arguments([asked, "name=first"]) == ["name=first", *own]
    # As a job of a sweep, which has the name of the sweep, resumes.
    job = ["name=sweep", f"hydra.run.dir='{tmp_path / run}'"]
    assert resumed_arguments([asked, *job]) == ["name=sweep", *own]
    RunFolder(Path("outputs/sweep/0")).identify(configure("backend=torch"))
    asked_of_job = ["resume=outputs/sweep/0", "name=sweep"]
    assert "hydra.run.dir='outputs/sweep/0'" in resumed_arguments(asked_of_job)
    for other in (["name=second"], ["hydra.run.dir='second'"], ["backend=jax"]):
        assert resumed_arguments([asked, *other]) == [*other, resume]


def test_slots_of_another_optimizer_are_refused(configure, run):
    check_optimizer(PortableCheckpoint(STATE, MEMORY, run), configure(""))
    with pytest.raises(
        UserError, match=r"optimizer=sgd: .* holds the state of adamw.* weights\.safetensors"
    ):
        check_optimizer(PortableCheckpoint(STATE, MEMORY, run), configure("optimizer=sgd"))
    check_optimizer(
        PortableCheckpoint(replace(STATE, step=0), None, run), configure("optimizer=sgd")
    )


def test_help_shows_every_option_and_examples():
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.convert", "--help"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for part in ("SRC", "DST", "--backend", "--whole", "--config", "KEY=VALUE", ".safetensors"):
        assert part in done.stdout
    assert "python -m pipeline.convert outputs/first outputs/first-jax" in done.stdout
