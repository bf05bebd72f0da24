"""The array cache is written once and atomically, mapped by every job, and rebuilt when damaged."""

import json
import multiprocessing
import time

import numpy as np
import pytest

from pipeline.config.datasets import DatasetConfig, ImagesConfig
from pipeline.data import sources
from pipeline.data.sources.array_cache import load_or_build, open_cache
from pipeline.data.sources.channel_stats import channel_moments
from pipeline.data.sources.decode_subprocess import decode
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


def test_arrays_are_memory_mapped_and_no_other_files_remain(tmp_path):
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


def test_a_finished_cache_opens_without_building_or_writing(tmp_path):
    load_or_build(tmp_path, "set-v1", build)
    (tmp_path / "cache" / "set-v1.lock").unlink()
    load_or_build(tmp_path, "set-v1", fail)
    assert not (tmp_path / "cache" / "set-v1.lock").exists()


def build_slowly(root, seconds):
    """Build slowly, and append to a file at each build."""

    def slow(scratch):
        with (root / "built").open("a") as stream:
            stream.write("x")
        time.sleep(seconds)
        return arrays()

    assert len(load_or_build(root, "set-v1", slow)["train_targets"]) == 40


def test_four_concurrent_processes_build_once(tmp_path):
    context = multiprocessing.get_context("fork")
    jobs = [context.Process(target=build_slowly, args=(tmp_path, 0.3)) for _ in range(4)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join(60)
    assert [job.exitcode for job in jobs] == [0] * 4
    assert (tmp_path / "built").read_text() == "x"


def test_a_file_in_the_scratch_folder_is_moved_only_if_the_array_is_all_of_it(tmp_path):
    def build(scratch):
        np.save(scratch / "whole.npy", np.arange(10))
        whole = np.load(scratch / "whole.npy", mmap_mode="r")
        return {"part": whole[2:5], "turned": whole[::-1], "whole": whole}

    found = load_or_build(tmp_path, "set-v1", build)
    assert {name: array.tolist() for name, array in found.items()} == {
        "part": [2, 3, 4], "turned": [*range(9, -1, -1)], "whole": [*range(10)],
    }  # fmt: skip


def test_a_build_that_resumes_finds_its_files_again(tmp_path):
    def build(scratch):
        if not (scratch / "half").exists():
            (scratch / "half").touch()
            raise KeyboardInterrupt
        return arrays()

    with pytest.raises(KeyboardInterrupt):
        load_or_build(tmp_path, "set-v1", build, resumes=True)
    assert [file.name for file in (tmp_path / "cache").glob("set*")] != []
    load_or_build(tmp_path, "set-v1", build, resumes=True)
    assert {file.name for file in (tmp_path / "cache").iterdir()} == {"set-v1", "set-v1.lock"}


def test_a_file_stays_in_the_scratch_folder_if_another_array_cannot_be_written(tmp_path):
    def build(scratch):
        if not (scratch / "large.npy").exists():
            np.save(scratch / "large.npy", np.arange(10))
        return {"large": np.load(scratch / "large.npy", mmap_mode="r"), "odd": np.array([object()])}

    with pytest.raises(ValueError, match="pickle"):
        load_or_build(tmp_path, "set-v1", build, resumes=True)
    assert (tmp_path / "cache/set-v1.unfinished/scratch/large.npy").exists()


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
def test_a_damaged_cache_is_detected_and_rebuilt(harm, tmp_path):
    load_or_build(tmp_path, "set-v1", build)
    harm(tmp_path / "cache" / "set-v1")
    assert open_cache(tmp_path / "cache" / "set-v1") is None
    again = load_or_build(tmp_path, "set-v1", build)
    np.testing.assert_array_equal(again["train_inputs"], arrays()["train_inputs"])


def test_a_damaged_cache_without_raw_files_reports_the_damage_and_the_missing_files(tmp_path):
    load_or_build(tmp_path, "set-v1", build)
    truncate(tmp_path / "cache" / "set-v1")
    with pytest.raises(UserError, match=r"raw files.*set-v1 is damaged.*Put them there"):
        load_or_build(tmp_path, "set-v1", fail)


def test_a_failed_or_killed_build_leaves_nothing_behind(tmp_path):
    (tmp_path / "cache" / "set-v1.part-killed" / "scratch").mkdir(parents=True)
    with pytest.raises(UserError, match="raw files"):
        load_or_build(tmp_path, "set-v1", fail)
    assert [file.name for file in (tmp_path / "cache").iterdir()] == ["set-v1.lock"]


def test_a_root_that_cannot_be_written_is_reported(tmp_path):
    (tmp_path / "cache").write_text("in the way")
    with pytest.raises(
        UserError, match=r"dataset.root.*array cache cannot be written.*TANDEM_DATA"
    ):
        load_or_build(tmp_path, "set-v1", build)


def test_a_full_disk_is_reported(tmp_path):
    def full(scratch):
        raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match=r"dataset.root.*No space left"):
        load_or_build(tmp_path, "set-v1", full)


def test_a_root_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    for root in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UserError, match=r"dataset.root="):
            sources.load(ImagesConfig(name="mnist", root=str(root)))


def test_a_missing_root_is_not_created_without_a_download(tmp_path):
    with pytest.raises(UserError, match=r"dataset.root.*no such folder.*dataset.download=true"):
        sources.load(ImagesConfig(name="cifar10", root=str(tmp_path / "none")))
    assert not (tmp_path / "none").exists()


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(UserError, match=r"dataset.name=imagenet.*cifar10, cifar100, digits"):
        sources.load(DatasetConfig(name="imagenet"))


def test_a_crash_of_the_decoder_is_not_reported_as_the_users_error(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "pipeline.data.sources.decode_subprocess.MODULES",
        {"broken": "pipeline.data.sources.no_such_module"},
    )
    with pytest.raises(RuntimeError, match="exit code 1"):
        decode("broken", "mnist", tmp_path, False, tmp_path)


def test_an_unreachable_mirror_is_named(tmp_path, monkeypatch):
    from pipeline.data.sources import mirror

    for url in ("http://127.0.0.1:9", "nonsense"):
        monkeypatch.setenv("TANDEM_MIRROR", url)
        with pytest.raises(
            UserError, match=f"TANDEM_MIRROR={url}/mnist/checksums.json: the mirror does not answer"
        ):
            mirror.fetch_checksums("mnist", tmp_path)


def test_channel_moments_are_exact_and_a_constant_channel_has_deviation_one():
    images = np.random.default_rng(0).integers(0, 256, (5000, 3, 3, 2), dtype=np.uint8)
    images[..., 1] = 7
    mean, std = channel_moments(images)
    np.testing.assert_allclose(mean, images.mean(axis=(0, 1, 2)), rtol=1e-14)
    np.testing.assert_allclose(std, [images[..., 0].std(), 1.0], rtol=1e-13)
    assert (mean.dtype, std.dtype) == (np.float64, np.float64)
    np.testing.assert_array_equal(channel_moments(images[::-1])[1], std)
