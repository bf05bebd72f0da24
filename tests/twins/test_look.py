"""`mode=look` shows what the model is really fed: the plan's pixels, the same on both backends."""

import os
from dataclasses import replace
from io import BytesIO
from signal import SIGINT, getsignal
from threading import Thread
from time import sleep

import numpy as np
import pytest
from matplotlib.figure import Figure

from pipeline import backends, datasets
from pipeline.config import BackendConfig, Config, Mode
from pipeline.datasets import Data, Split, Task
from pipeline.errors import UserError
from pipeline.experiment import Job, assemble
from pipeline.experiment import run as run_experiment
from pipeline.interruption import Interruption
from pipeline.look import FILE, Look, draw_images, fed
from pipeline.plan import data_plan
from pipeline.progress import Silence
from pipeline.runs import RunFolder
from pipeline.tracker import Tracker

LOOK = "debug=look accelerator=cpu"
BACKENDS = ["torch", "jax"]
GPT = (
    "model=gpt model.depth=1 model.heads=2 model.width=8 dataset=text dataset.length=16 "
    "dataset.max_bytes=9_000"
)


@pytest.fixture
def seen(configure, tmp_path):
    """A function that gives what a backend fed to the model, and the plan of the batches."""

    def ran(backend, overrides):
        config = replace(configure(f"{LOOK} {overrides}"), backend=BackendConfig(name=backend))
        plan = data_plan(config, datasets.load(config.dataset))
        around = {"tracker": Tracker(), "progress": Silence(), "interruption": Interruption()}
        experiment = assemble(config, plan, tmp_path / backend, **around)
        times = experiment.recorder.timetable
        experiment.recorder.observer = Look(times, config.train.batch_size)
        loaded = backends.load(backend)
        return fed(loaded, experiment, loaded.prepare(config)), plan

    return ran


def cropped(image, padding, down, right, mirrored):
    """An image cut out of its zero-padded self, then mirrored: as a person would write it."""
    height, width, _ = image.shape
    padded = np.pad(image, ((padding, padding), (padding, padding), (0, 0)))
    part = padded[down : down + height, right : right + width]
    return part[:, ::-1] if mirrored else part


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("case", "steps"),
    [
        ("model=simple_cnn train.batch_size=24 train.accumulate=2 dataset.crop_padding=2", 3),
        ("model=mlp dataset=synthetic dataset.shape=[7,9,3] dataset.samples=100", 2),
        ("model=linear dataset.limit=40 train.batch_size=16", 2),  # one epoch
        pytest.param("model=resnet18 model.width=4 train.batch_size=32", 2, marks=pytest.mark.slow),
    ],
    ids=["digits, in parts", "photographs", "a small set", "statistics of batches"],
)
def test_the_samples_shown_are_the_pixels_that_the_plan_draws(seen, backend, case, steps):
    found, plan = seen(backend, f"{case} dataset.augment=true")
    rows = [
        (index, *draw)
        for step in range(steps)
        for index, draw in zip(plan.indices(step), plan.draws(step), strict=True)
    ][:64]
    train = plan.data.train
    expected = [cropped(train.inputs[row[0]], plan.padding, *row[1:]) for row in rows]
    assert found.inputs.dtype == np.uint8
    np.testing.assert_array_equal(found.inputs, np.stack(expected))
    np.testing.assert_array_equal(found.targets, train.targets[[row[0] for row in rows]])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", ["experiment=line", f"{GPT} train.batch_size=8"])
def test_vectors_and_tokens_are_shown_as_they_are_stored(seen, backend, case):
    found, plan = seen(backend, case)
    steps = min(8, plan.steps_per_epoch)
    indices = np.concatenate([plan.indices(step) for step in range(steps)])[:64]
    for part in ("inputs", "targets"):
        stored = getattr(plan.data.train, part)
        assert getattr(found, part).dtype == stored.dtype
        np.testing.assert_array_equal(getattr(found, part), stored[indices])


@pytest.mark.slow
@pytest.mark.parametrize(
    "case",
    ["model=mlp dataset.augment=true", "experiment=line", f"{GPT} train.batch_size=8"],
    ids=["images", "vectors", "tokens"],
)
def test_both_backends_draw_the_same_picture_and_leave_nothing_to_go_on_from(
    configure, tmp_path, capsys, case
):
    config, pictures = configure(f"{LOOK} {case} train.eval_every=1steps"), []
    assert config.mode is Mode.look
    for backend in BACKENDS:
        job = Job(tmp_path / backend, backend)
        for _ in range(2):  # the same name can be looked at again
            assert run_experiment(replace(config, backend=BackendConfig(name=backend)), job) == 0
        assert f"{job.folder / FILE}" in capsys.readouterr().out.replace("\n", "")
        result = RunFolder(job.folder).result
        assert (result["status"], result["look"]) == ("completed", str(job.folder / FILE))
        assert "test" not in result
        left = {path.name for path in job.folder.iterdir()}
        assert left == {FILE, "run.json", "result.json", "metrics.jsonl"}
        pictures.append((job.folder / FILE).read_bytes())
    assert pictures[0].startswith(b"\x89PNG")
    assert pictures[0] == pictures[1]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("size", [16, 64], ids=["before its last step", "in its last step"])
def test_a_look_that_is_interrupted_says_so_and_can_be_had_again(
    configure, tmp_path, caplog, backend, size
):
    config = configure(f"{LOOK} model=linear train.batch_size={size}")
    config = replace(config, backend=BackendConfig(name=backend))
    job = Job(tmp_path / "look", "look")
    person = Thread(target=press_ctrl_c, daemon=True)
    person.start()
    assert run_experiment(config, job) == 130
    person.join()
    assert [line.getMessage() for line in caplog.records if line.name.startswith("pipeline")] == [
        "interrupted"
    ]
    result = RunFolder(job.folder).result
    assert (result["status"], result["interrupted_by"]) == ("interrupted", "SIGINT")
    assert not {"look.png", "checkpoints"} & {path.name for path in job.folder.iterdir()}
    assert run_experiment(config, job) == 0


def press_ctrl_c():
    """As soon as it is heard."""
    while not isinstance(getattr(getsignal(SIGINT), "__self__", None), Interruption):
        sleep(0.001)
    os.kill(os.getpid(), SIGINT)


@pytest.mark.parametrize("classes", [None, ("cat", r"$\dog$", "bird")])
def test_above_an_image_stands_what_its_class_is_called(classes):
    images = Split(np.zeros((4, 5, 6, 3), np.uint8), np.array([2, 0, 1, 2]))
    data = Data("animals", Task.classification, *3 * [images], 3, np.zeros(3), np.ones(3), classes)
    axes = Figure().add_subplot()
    draw_images(axes, images, data)
    names = [classes[target] if classes else str(target) for target in images.targets]
    assert [text.get_text() for text in axes.texts] == names
    axes.figure.savefig(BytesIO())  # no letter of a name is taken for a formula


@pytest.mark.parametrize("augment", [True, False])
def test_the_picture_tells_whether_images_are_augmented(seen, augment):
    found, plan = seen("jax", f"model=linear dataset.augment={augment}".lower())
    indices = np.concatenate([plan.indices(step) for step in range(2)])
    same = np.array_equal(found.inputs, plan.data.train.inputs[indices])
    assert same is not augment


@pytest.mark.parametrize(
    ("key", "value"),
    [("resume", "outputs/run"), ("accelerator.devices", 2), ("accelerator.nodes", "auto")],
)
def test_what_a_look_cannot_show_is_refused(configure, key, value):
    with pytest.raises(UserError, match="when mode=look") as refused:
        configure(f"{LOOK} {key}={value}")
    assert (refused.value.key, refused.value.value) == (key, value)
    assert isinstance(configure(f"{key}={value}"), Config)
