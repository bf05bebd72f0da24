"""`mode=look` shows the inputs of the model: the pixels of the batch plan, the same on both backends."""

import os
from dataclasses import replace
from io import BytesIO
from signal import SIGINT, getsignal
from threading import Thread
from time import sleep

import numpy as np
import pytest
from matplotlib.figure import Figure

from pipeline.config.experiment import BackendConfig, Config, Mode
from pipeline.data import sources
from pipeline.data.batch_plan import AUGMENT, make_batch_plan
from pipeline.data.dataset import Data, Split
from pipeline.devices.stop_signals import StopSignal
from pipeline.errors import UserError
from pipeline.run import backends
from pipeline.run.experiment import Experiment, Job
from pipeline.run.preview_inputs import FILE, InputPreview, draw_images, first_inputs
from pipeline.run.recording.recorder import Recorder
from pipeline.run.runner import run as run_experiment
from pipeline.storage.run_folder import RunFolder
from pipeline.tasks import Classification

LOOK = "debug=look accelerator=cpu"
BACKENDS = ["torch", "jax"]
GPT = (
    "model=gpt model.depth=1 model.heads=2 model.width=8 dataset=text dataset.length=16 "
    "dataset.max_bytes=9_000"
)


@pytest.fixture
def seen(configure, tmp_path):
    """A function that returns what a backend fed to the model, and the batch plan."""

    def ran(backend, overrides):
        config = replace(configure(f"{LOOK} {overrides}"), backend=BackendConfig(name=backend))
        plan = make_batch_plan(config, sources.load(config.dataset))
        observer = InputPreview(config, plan)
        recorder = Recorder(config, plan.data, observer=observer)
        experiment = Experiment(config, plan, recorder, tmp_path / backend)
        loaded = backends.load(backend)
        return first_inputs(loaded, experiment, loaded.prepare(config)), plan

    return ran


def cropped(image, padding, down, right, mirrored):
    """A crop of the zero-padded image, flipped if `mirrored`."""
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
def test_the_shown_samples_are_the_augmented_images_of_the_batch_plan(seen, backend, case, steps):
    found, plan = seen(backend, f"{case} dataset.augment=true")
    rows = [
        (index, *draw)
        for step in range(steps)
        for index, draw in zip(plan.indices(step), plan.draws(step)[AUGMENT], strict=True)
    ][:64]
    train = plan.data.train
    expected = [cropped(train.fields["image"][row[0]], plan.padding, *row[1:]) for row in rows]
    assert found.fields["image"].dtype == np.uint8
    np.testing.assert_array_equal(found.fields["image"], np.stack(expected))
    np.testing.assert_array_equal(
        found.fields["label"], train.fields["label"][[row[0] for row in rows]]
    )


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", ["experiment=line", f"{GPT} train.batch_size=8"])
def test_vectors_and_tokens_are_shown_as_stored(seen, backend, case):
    found, plan = seen(backend, case)
    steps = min(8, plan.steps_per_epoch)
    indices = np.concatenate([plan.indices(step) for step in range(steps)])[:64]
    assert found.fields.keys() == plan.data.train.fields.keys()
    for name, stored in plan.data.train.fields.items():
        assert found.fields[name].dtype == stored.dtype
        np.testing.assert_array_equal(found.fields[name], stored[indices])


@pytest.mark.slow
@pytest.mark.parametrize(
    "case",
    ["model=mlp dataset.augment=true", "experiment=line", f"{GPT} train.batch_size=8"],
    ids=["images", "vectors", "tokens"],
)
def test_both_backends_draw_the_same_picture_and_leave_no_checkpoint(
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
        assert (result.status, result.look) == ("completed", str(job.folder / FILE))
        assert not result.test
        left = {path.name for path in job.folder.iterdir()}
        assert left == {FILE, "run.json", "result.json", "metrics.jsonl"}
        pictures.append((job.folder / FILE).read_bytes())
    assert pictures[0].startswith(b"\x89PNG")
    assert pictures[0] == pictures[1]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("size", [16, 64], ids=["before its last step", "in its last step"])
def test_an_interrupted_look_is_reported_and_can_be_repeated(
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
    assert (result.status, result.interrupted_by) == ("interrupted", "SIGINT")
    assert not {"look.png", "checkpoints"} & {path.name for path in job.folder.iterdir()}
    assert run_experiment(config, job) == 0


def press_ctrl_c():
    """Send SIGINT as soon as its handler is installed."""
    while not isinstance(getattr(getsignal(SIGINT), "__self__", None), StopSignal):
        sleep(0.001)
    os.kill(os.getpid(), SIGINT)


@pytest.mark.parametrize("classes", [None, ("cat", r"$\dog$", "bird")])
def test_the_class_name_is_shown_above_an_image(classes):
    images = Split({"image": np.zeros((4, 5, 6, 3), np.uint8), "label": np.array([2, 0, 1, 2])})
    data = Data("animals", Classification(), *3 * [images], {"label": 3}, {}, classes)
    figure = Figure()
    axes = figure.add_subplot()
    draw_images(figure, axes, images, data)
    names = [classes[target] if classes else str(target) for target in images.fields["label"]]
    assert [text.get_text() for text in axes.texts] == names
    figure.savefig(BytesIO())  # no letter of a name is taken for a formula


@pytest.mark.parametrize("augment", [True, False])
def test_the_picture_shows_whether_images_are_augmented(seen, augment):
    found, plan = seen("jax", f"model=linear dataset.augment={augment}".lower())
    indices = np.concatenate([plan.indices(step) for step in range(2)])
    same = np.array_equal(found.fields["image"], plan.data.train.fields["image"][indices])
    assert same is not augment


@pytest.mark.parametrize(
    ("key", "value"),
    [("resume", "outputs/run"), ("accelerator.devices", 2), ("accelerator.nodes", "auto")],
)
def test_settings_that_a_look_cannot_show_are_refused(configure, key, value):
    with pytest.raises(UserError, match="when mode=look") as refused:
        configure(f"{LOOK} {key}={value}")
    assert (refused.value.key, refused.value.value) == (key, value)
    assert isinstance(configure(f"{key}={value}"), Config)
