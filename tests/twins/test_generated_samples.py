"""Samples of trained models: the same on both backends in float64, shown at the end of a run."""

import csv

import numpy as np
import pytest
from PIL import Image

import tandem

FP64 = "train.precision=fp64 train.steps=4 train.batch_size=8 train.eval_every=2steps"
DIGITS = (
    f"{FP64} dataset.limit=48 task=denoising task.levels=12 task.last_beta=0.4 task.samples=5 "
    "task.samples_at_evaluations=true model=unet model.width=4 model.groups=2 model.depth=1 train.ema=0.5"
)
REVERSE = (
    "dataset=reverse dataset.samples=80 dataset.length=3 dataset.vocabulary=4 optimizer.lr=0.01 "
    "model=encoder_decoder model.depth=1 model.heads=2 model.width=16"
)
TEXT = (
    "dataset=text dataset.length=12 dataset.max_bytes=3_000 dataset.root={root} model=gpt "
    "model.depth=1 model.heads=2 model.width=8"
)


@pytest.fixture
def both(run, train, tmp_path):
    """A function that runs an experiment on both backends and loads the runs."""

    def loaded(overrides):
        run(overrides)
        return [tandem.load(tmp_path / backend) for backend in ("torch", "jax")]

    return loaded


def table(folder):
    [file] = folder.glob("media/samples-*.csv")
    return list(csv.reader(file.open()))


def test_images_made_from_noise_are_the_same_bytes_and_shown_in_the_run(both):
    runs = both(DIGITS)
    made = [run.generate(5) for run in runs]
    np.testing.assert_array_equal(*made)
    assert made[0].shape == (5, 8, 8, 1)
    assert made[0].std() > 1
    shown = [(run.folder / "samples.png").read_bytes() for run in runs]
    assert shown[0] == shown[1]
    pictures = [np.asarray(Image.open(run.folder / "samples.png")) for run in runs]
    first = np.minimum(np.rint(made[0][0, ..., 0] * 255.0 / 16), 255)
    np.testing.assert_array_equal(pictures[0][22:86:8, 8:72:8], first)
    for run in runs:
        files = sorted(file.name for file in run.folder.glob("media/*"))
        assert files == ["samples-000002.png", "samples-000004.png"]
        last = (run.folder / "media" / "samples-000004.png").read_bytes()
        assert last == shown[0], "the weights that were tested are those of the last evaluation"


def test_what_a_model_writes_by_itself_is_right_as_often_as_its_test_says(both):
    runs = both(f"{FP64} train.steps=120 train.eval_every=120steps {REVERSE}")
    sources, right = (runs[0].data.test.fields[name] for name in ("source", "target"))
    made = [run.generate(sources) for run in runs]
    np.testing.assert_array_equal(*made)
    share = (made[0] == right).all(axis=1).mean()
    assert 0.1 < share < 1
    for run in runs:
        assert run.result.test["test/exact_match"] == share
    drawn = [run.generate(sources, temperature=2.0, seed=3) for run in runs]
    np.testing.assert_array_equal(*drawn)
    assert (drawn[0] != made[0]).any()
    head, *rows = table(runs[0].folder)
    assert head == ["source", "target", "generated", "right"]
    is_right = (made[0] == right).all(axis=1)[:4]
    assert [row[3] for row in rows] == ["yes" if one else "no" for one in is_right]
    assert table(runs[1].folder) == [head, *rows]


def test_texts_go_on_the_same_on_both_backends(both, tmp_path):
    runs = both(f"{FP64} {TEXT.format(root=tmp_path)} task=language task.samples=2")
    begun = runs[0].data.test.fields["tokens"][:3, :5]
    for options in ({}, {"temperature": 1.0}, {"temperature": 1.5, "top_k": 7, "seed": 2}):
        made = [run.generate(begun, new=11, **options) for run in runs]
        np.testing.assert_array_equal(*made)
        assert made[0].shape == (3, 16)
        np.testing.assert_array_equal(made[0][:, :5], begun)
    one_each = r"run\.generate\(2 arguments\): must be called with one argument for each of tokens"
    with pytest.raises(tandem.UserError, match=one_each):
        runs[0].generate(begun, begun)
    rows = table(runs[0].folder)
    assert rows == table(runs[1].folder)
    assert rows[0] == ["beginning", "likeliest", "temperature 0.8, the 40 likeliest"]
    assert len(rows) == 3


def test_a_model_that_cannot_be_sampled_does_not_cost_the_run(train, tmp_path, monkeypatch, capsys):
    def call(self, *inputs):
        raise TypeError("takes two")

    monkeypatch.setattr("lightning_impl.models.trained.TrainedModel.call", call)
    monkeypatch.setenv("TANDEM_PROGRESS", "plain")
    text = TEXT.format(root=tmp_path)
    assert train("run", "torch", f"logger=none accelerator=cpu {FP64} {text}") == 0
    assert "no samples: TypeError: takes two" in capsys.readouterr().out
    assert tandem.load(tmp_path / "run").result.test["test/loss"] > 0


@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_no_samples_are_made_if_none_are_asked_for(train, tmp_path, backend):
    text = TEXT.format(root=tmp_path)  # whose samples are a table: its model compiles fast
    quiet = f"logger=none accelerator=cpu {FP64} {text} task=language task.samples=0"
    assert train("run", backend, quiet) == 0
    assert not (tmp_path / "run" / "media").exists()
