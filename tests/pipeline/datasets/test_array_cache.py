"""The array cache: written once, whole or not at all, mapped by every job; and what can fail."""

import json
import multiprocessing
import time

import numpy as np
import pytest

from pipeline import datasets
from pipeline.config import DatasetConfig, ImagesConfig
from pipeline.datasets.cache import load_or_build, open_cache
from pipeline.datasets.decoding import decode
from pipeline.datasets.moments import moments
from pipeline.errors import UserError


def arrays(seed=0):
    rng = np.random.default_rng(seed)
    return {
        "train_inputs": rng.integers(0, 256, (40, 4, 4, 3), dtype=np.uint8),
        "train_targets": np.arange(40) % 4,
        "test_inputs": rng.integers(0, 256, (8, 4, 4, 3), dtype=np.uint8),
        "test_targets": np.arange(8) % 4,
    }


def build(scratch):
    (scratch / "big.npy").write_bytes(b"decoded")
    return arrays()


def fail(scratch):
    raise UserError("dataset.root", "x", "a folder with the raw files", "Put them there.")


def test_the_arrays_come_back_mapped_and_nothing_else_is_left(tmp_path):
    found = load_or_build(tmp_path, "set-v1", build)
    assert found.keys() == arrays().keys()
    for name, array in arrays().items():
        assert isinstance(found[name], np.memmap)
        assert not found[name].flags.writeable
        np.testing.assert_array_equal(found[name], array)
    assert {file.name for file in (tmp_path / "cache").iterdir()} == {"set-v1", "set-v1.lock"}
    assert {file.name for file in (tmp_path / "cache" / "set-v1").iterdir()} == {
        *(f"{name}.npy" for name in arrays()),
        "meta.json",
    }


def test_a_finished_cache_is_opened_without_building_or_writing(tmp_path):
    load_or_build(tmp_path, "set-v1", build)
    (tmp_path / "cache" / "set-v1.lock").unlink()
    load_or_build(tmp_path, "set-v1", fail)
    assert not (tmp_path / "cache" / "set-v1.lock").exists()


def count(root, seconds):
    """Build slowly, and leave a mark each time."""

    def slow(scratch):
        with (root / "built").open("a") as stream:
            stream.write("x")
        time.sleep(seconds)
        return arrays()

    assert len(load_or_build(root, "set-v1", slow)["train_targets"]) == 40


def test_four_processes_at_once_build_once(tmp_path):
    context = multiprocessing.get_context("fork")
    jobs = [context.Process(target=count, args=(tmp_path, 0.3)) for _ in range(4)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join(60)
    assert [job.exitcode for job in jobs] == [0] * 4
    assert (tmp_path / "built").read_text() == "x"


def truncate(folder):
    file = folder / "train_inputs.npy"
    file.write_bytes(file.read_bytes()[:-1])


def replace(folder):
    np.save(folder / "train_targets.npy", np.zeros(40, np.float64))  # as long, but not the same


def remove(folder):
    (folder / "test_inputs.npy").unlink()


def garble(folder):
    (folder / "meta.json").write_text('{"format": 1')


def age(folder):
    meta = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps(meta | {"format": 0}))


@pytest.mark.parametrize("harm", [truncate, replace, remove, garble, age])
def test_a_harmed_cache_is_noticed_and_built_again(harm, tmp_path):
    load_or_build(tmp_path, "set-v1", build)
    harm(tmp_path / "cache" / "set-v1")
    assert open_cache(tmp_path / "cache" / "set-v1") is None
    again = load_or_build(tmp_path, "set-v1", build)
    np.testing.assert_array_equal(again["train_inputs"], arrays()["train_inputs"])


def test_a_harmed_cache_without_raw_files_says_that_it_is_damaged_and_what_is_missing(tmp_path):
    load_or_build(tmp_path, "set-v1", build)
    truncate(tmp_path / "cache" / "set-v1")
    with pytest.raises(UserError, match=r"raw files.*set-v1 is damaged.*Put them there"):
        load_or_build(tmp_path, "set-v1", fail)


def test_a_build_that_fails_or_was_killed_leaves_nothing_behind(tmp_path):
    (tmp_path / "cache" / "set-v1.part-killed" / "scratch").mkdir(parents=True)
    with pytest.raises(UserError, match="raw files"):
        load_or_build(tmp_path, "set-v1", fail)
    assert [file.name for file in (tmp_path / "cache").iterdir()] == ["set-v1.lock"]


def test_a_root_that_cannot_be_written_says_so(tmp_path):
    (tmp_path / "cache").write_text("in the way")
    with pytest.raises(UserError, match=r"dataset.root.*can be written.*TANDEM_DATA"):
        load_or_build(tmp_path, "set-v1", build)


def test_a_disk_without_room_says_so(tmp_path):
    def full(scratch):
        raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match=r"dataset.root.*has room.*No space left"):
        load_or_build(tmp_path, "set-v1", full)


def test_a_root_that_is_a_file_says_so(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    for root in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UserError, match=r"dataset.root="):
            datasets.load(ImagesConfig(name="mnist", root=str(root)))


def test_a_missing_root_is_not_created_without_a_download(tmp_path):
    with pytest.raises(UserError, match=r"dataset.root.*no such folder.*dataset.download=true"):
        datasets.load(ImagesConfig(name="cifar10", root=str(tmp_path / "none")))
    assert not (tmp_path / "none").exists()


def test_an_unknown_name_lists_the_names():
    with pytest.raises(UserError, match=r"dataset.name=imagenet.*cifar10, cifar100, digits"):
        datasets.load(DatasetConfig(name="imagenet"))


def test_a_child_that_crashes_is_not_taken_for_the_users_error(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "pipeline.datasets.decoding.MODULES", {"broken": "pipeline.datasets.no_such_module"}
    )
    with pytest.raises(RuntimeError, match="exit code 1"):
        decode("broken", "mnist", tmp_path, False, tmp_path)


def test_an_unreachable_mirror_is_named(tmp_path, monkeypatch):
    from pipeline.datasets import mirror

    for url in ("http://127.0.0.1:9", "nonsense"):
        monkeypatch.setenv("TANDEM_MIRROR", url)
        with pytest.raises(UserError, match=f"TANDEM_MIRROR={url}/mnist/checksums.json.*answers"):
            mirror.fetch_checksums("mnist", tmp_path)


def test_moments_are_exact_and_guard_a_constant_channel():
    images = np.random.default_rng(0).integers(0, 256, (5000, 3, 3, 2), dtype=np.uint8)
    images[..., 1] = 7
    mean, std = moments(images)
    np.testing.assert_allclose(mean, images.mean(axis=(0, 1, 2)), rtol=1e-14)
    np.testing.assert_allclose(std, [images[..., 0].std(), 1.0], rtol=1e-13)
    assert (mean.dtype, std.dtype) == (np.float64, np.float64)
    np.testing.assert_array_equal(moments(images[::-1])[1], std)
