"""Predictions for a test set as a file: written atomically, and readable with plain NumPy."""

import numpy as np
import pytest

from pipeline.storage.predictions import (
    MOST,
    WORST,
    are_kept,
    highest_loss,
    predictions_of,
    read_outputs,
    read_predictions,
    write_outputs,
)  # fmt: skip
from pipeline.storage.run_folder import PREDICTIONS

NAMES = ["target", "predicted", "loss", "confidence", "worst", "worst_images"]


@pytest.fixture
def split():
    """Forty distinct images with pixels up to 16, and their three classes."""
    random = np.random.default_rng(0)
    images = random.integers(0, 17, (40, 2, 3, 1), np.uint8)
    images[7, 0, 0] = 16
    return images, random.integers(0, 3, 40)


@pytest.fixture
def said():
    """Predicted class, loss and confidence of forty samples."""
    random = np.random.default_rng(1)
    return found_of(random.integers(0, 3, 40), random.random(40), random.random(40))


def found_of(*arrays):
    """Prediction of a backend for each sample."""
    return dict(zip(("predicted", "loss", "confidence"), arrays, strict=True))


def test_predictions_are_read_back_and_load_with_plain_numpy(split, said, tmp_path):
    ours = predictions_of(*split, said)
    ours.write(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [PREDICTIONS], "nothing is left aside"
    again = read_predictions(tmp_path)
    with np.load(tmp_path / PREDICTIONS, allow_pickle=False) as file:
        assert file.files == NAMES
        for name in NAMES:
            np.testing.assert_array_equal(file[name], getattr(ours, name))
            np.testing.assert_array_equal(getattr(again, name), getattr(ours, name))
        types = {name: str(file[name].dtype) for name in NAMES}
    floats = dict.fromkeys(("loss", "confidence"), "float64")
    whole = dict.fromkeys(("target", "predicted", "worst"), "int64")
    assert types == floats | whole | {"worst_images": "uint8"}
    np.testing.assert_array_equal(ours.target, split[1])
    for name, array in said.items():
        np.testing.assert_array_equal(getattr(ours, name), array)


def test_classes_are_named_as_in_the_data_set(split, said, tmp_path):
    predictions_of(*split, said, ("cat", "naïve dog", "bird", "frog")).write(tmp_path)
    with np.load(tmp_path / PREDICTIONS, allow_pickle=False) as file:
        assert file.files == [*NAMES, "classes"]
        assert file["classes"].tolist() == ["cat", "naïve dog", "bird", "frog"]
    assert read_predictions(tmp_path).names == ["cat", "naïve dog", "bird"], "no frog occurs"


def test_classes_without_names_are_named_by_their_numbers(split, said, tmp_path):
    predictions_of(*split, said).write(tmp_path)
    assert read_predictions(tmp_path).names == ["0", "1", "2"]


def test_the_worst_samples_come_with_images_scaled_for_display(split, said):
    found = predictions_of(*split, said)
    assert found.worst.tolist() == np.argsort(-said["loss"])[:WORST].tolist()
    assert found.worst_images.shape == (WORST, 2, 3, 1)
    np.testing.assert_array_equal(found.worst_images, np.rint(split[0][found.worst] * (255 / 16)))


def test_vectors_have_no_images_and_all_of_a_few_samples_are_worst(said, tmp_path):
    found = predictions_of(
        np.zeros((5, 2)), np.zeros(5, np.int64), {name: array[:5] for name, array in said.items()}
    )
    found.write(tmp_path)
    assert read_predictions(tmp_path).worst_images is None
    assert sorted(found.worst) == [0, 1, 2, 3, 4]


def test_highest_loss_puts_nan_first_and_keeps_the_order_of_ties():
    loss = np.array([1.0, np.nan, 2.0, np.inf, 2.0, np.nan, 0.0])
    assert highest_loss(loss).tolist() == [1, 5, 3, 2, 4, 0, 6]
    assert highest_loss(np.zeros(100)).tolist() == list(range(WORST))


def test_confusion_matrix_has_true_classes_as_rows():
    targets, predicted = np.array([0, 0, 1, 2, 2, 2]), np.array([0, 1, 1, 0, 2, 2])
    said = found_of(predicted, np.zeros(6), np.ones(6))
    found = predictions_of(np.zeros((6, 1)), targets, said).confusion(4)
    assert found.tolist() == [[1, 1, 0, 0], [0, 1, 0, 0], [1, 0, 2, 0], [0, 0, 0, 0]]
    assert found.dtype == np.int64


@pytest.mark.parametrize("kept", [0, 10, 500, -1])
def test_a_truncated_or_corrupted_file_reads_as_none(split, said, tmp_path, kept):
    assert read_predictions(tmp_path) is None
    predictions_of(*split, said).write(tmp_path)
    whole = (tmp_path / PREDICTIONS).read_bytes()
    (tmp_path / PREDICTIONS).write_bytes(whole[:kept])
    assert read_predictions(tmp_path) is None
    at = whole.index(said["loss"].tobytes())
    (tmp_path / PREDICTIONS).write_bytes(whole[:at] + b"\0\1" + whole[at + 2 :])
    assert read_predictions(tmp_path) is None, "a bit has flipped"


def test_a_foreign_npz_reads_as_none(tmp_path):
    np.savez(tmp_path / PREDICTIONS, other=np.zeros(3))
    assert read_predictions(tmp_path) is None


def test_outputs_of_other_tasks_are_kept_in_the_smallest_types_that_hold_them(tmp_path):
    single = np.float32([[0.1, 2.0], [np.nan, 4.0]]).astype(np.float64)
    found = {
        "outputs/mean": single,
        "outputs/1": np.array([0.1]),
        "predicted": np.array([3.0, 299.0]),
    }
    write_outputs(tmp_path, found)
    again = read_outputs(tmp_path)
    assert {name: str(array.dtype) for name, array in again.items()} == {
        "outputs/mean": "float32", "outputs/1": "float64", "predicted": "uint16",
    }  # fmt: skip
    for name, array in found.items():
        np.testing.assert_array_equal(again[name], array)
    assert read_predictions(tmp_path) is None


def test_more_than_so_many_numbers_are_not_kept():
    assert are_kept([(), (2, 7)], MOST // 15)
    assert not are_kept([(), (2, 7)], MOST // 15 + 1)
