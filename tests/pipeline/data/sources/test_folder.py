"""Images in a folder: listed by class, decoded once, with splits, moments and clear errors."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from image_folders import picture, write_images
from PIL import Image

from pipeline.config.datasets import FolderConfig
from pipeline.config.tasks import ClassificationConfig, DenoisingConfig, MultilabelConfig
from pipeline.data import sources
from pipeline.data.sources import folder
from pipeline.data.sources.folder import decoding
from pipeline.data.sources.folder.listing import list_folder
from pipeline.data.sources.folder.shared_listing import launch_of
from pipeline.errors import UserError
from pipeline.job_context import JobContext

COUNTS = {"ant": 20, "bee": 10, "cat": 10}


@pytest.fixture
def load(tmp_path):
    """A function that loads a folder with small images, and its cache in the test's own folder."""

    def loaded(root: Path, **keys):
        keys = {"size": 12, "cache": str(tmp_path / "kept")} | keys
        return sources.load(FolderConfig(root=str(root), **keys))

    return loaded


@pytest.fixture
def images(tmp_path):
    return write_images(tmp_path / "images", COUNTS)


def by_hand(path, resize=13, size=12):
    """Torchvision's `Resize` and `CenterCrop` with Pillow alone."""
    image = Image.open(path).convert("RGB")
    width, height = image.size
    ratio = resize / min(width, height)
    image = image.resize((max(resize, int(width * ratio)), max(resize, int(height * ratio))), 2)
    left, top = round((image.width - size) / 2), round((image.height - size) / 2)
    return np.asarray(image.crop((left, top, left + size, top + size)))


def files_of(root):
    return sorted(path for path in root.rglob("*") if path.suffix in (".jpg", ".png"))


def test_classes_are_subfolders_and_every_class_is_in_every_split_in_its_proportion(load, images):
    data = load(images)
    assert (data.name, data.outputs, data.classes) == ("folder", 3, ("ant", "bee", "cat"))
    assert data.input_shape == (12, 12, 3)
    splits = data.train, data.val, data.test
    assert [len(split) for split in splits] == [32, 4, 4]
    assert [np.bincount(split.arrays["label"]).tolist() for split in splits] == [
        [16, 8, 8], [2, 1, 1], [2, 1, 1],
    ]  # fmt: skip
    rows = np.concatenate([split.fields["image"].rows for split in splits])
    assert sorted(rows.tolist()) == list(range(40))


def test_evaluation_pixels_are_those_of_pillow_resized_and_cut_from_the_middle(load, images):
    data, files = load(images), files_of(images)
    for split in (data.train, data.val, data.test):
        stored = split.fields["image"]
        pixels = stored[np.arange(len(split))]
        assert (pixels.dtype, pixels.shape) == (np.uint8, stored.shape)
        for row, image, label in zip(stored.rows, pixels, split.arrays["label"], strict=True):
            np.testing.assert_array_equal(image, by_hand(files[row]))
            assert files[row].parent.name == data.classes[label]


def test_images_smaller_than_the_store_are_kept_as_they_are_and_enlarged_when_taken(load, tmp_path):
    root = write_images(tmp_path / "tiny", {"a": 4, "b": 4}, lambda _: (5, 7))
    stored = load(root, val_fraction=0.0).train.fields["image"]
    assert {tuple(size) for size in stored.file.sizes.tolist()} == {(5, 7)}
    for row, image in zip(stored.rows, stored[np.arange(len(stored))], strict=True):
        np.testing.assert_array_equal(image, by_hand(files_of(root)[row]))


def test_grayscale_transparent_palette_and_cmyk_images_become_rgb_and_exif_is_ignored(
    load, tmp_path
):
    root = tmp_path / "modes"
    saved = {"L": "png", "RGBA": "png", "P": "png", "LA": "png", "CMYK": "jpg", "I;16": "png"}
    for name in ("a", "b"):
        (root / name).mkdir(parents=True)
        for mode, suffix in saved.items():
            made = picture(1, 20, 30, "L" if mode == "I;16" else mode)
            made = Image.fromarray(np.asarray(made, np.uint16) * 200) if mode == "I;16" else made
            made.save(root / name / f"{mode.replace(';', '')}.{suffix}")
        exif = Image.Exif()
        exif[0x0112] = 6  # rotated by 90 degrees
        picture(2, 20, 30).save(root / name / "rotated.jpg", exif=exif)
    stored = load(root, val_fraction=0.0).train.fields["image"]
    for row, image in zip(stored.rows, stored[np.arange(len(stored))], strict=True):
        np.testing.assert_array_equal(image, by_hand(files_of(root)[row]))


def test_moments_are_those_of_all_decoded_training_pixels_or_as_given(load, images):
    data = load(images, val_fraction=0.2)
    rows = np.concatenate([split.fields["image"].rows for split in (data.train, data.val)])
    file = data.train.fields["image"].file
    pixels = np.concatenate([file[row].reshape(-1, 3) for row in rows])
    np.testing.assert_allclose(data.moments["image"].mean, pixels.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(data.moments["image"].std, pixels.std(axis=0), rtol=1e-12)
    given = load(images, mean=[0.5, 0.4, 0.3], std=[0.2, 0.2, 0.1]).moments["image"]
    np.testing.assert_allclose(given.mean, [127.5, 102, 76.5])
    np.testing.assert_allclose(given.std, [51, 51, 25.5])


def test_given_splits_are_taken_and_a_missing_test_split_is_the_validation_split(load, tmp_path):
    root = tmp_path / "split"
    write_images(root / "train", {"a": 4, "b": 2})
    write_images(root / "val", {"b": 3})
    data = load(root)
    assert [len(split) for split in (data.train, data.val, data.test)] == [6, 3, 3]
    assert data.val.arrays["label"].tolist() == [1, 1, 1]
    write_images(root / "test", {"a": 1, "b": 1})
    data = load(root, limit=3)
    assert [len(split) for split in (data.train, data.val, data.test)] == [3, 3, 2]
    assert sorted(data.train.arrays["label"].tolist()) == [0, 0, 1]
    shutil.rmtree(root / "val")
    data = load(root, val_fraction=0.34)
    assert [len(split) for split in (data.train, data.val, data.test)] == [4, 2, 2]


def test_a_table_gives_classes_and_splits(load, images, tmp_path):
    table = tmp_path / "labels.csv"
    lines = [
        f"{path.relative_to(images)},{10 if i % 2 else 9}"
        for i, path in enumerate(files_of(images))
    ]
    table.write_text("\n".join(["file,label", *lines]))
    data = load(images, labels=str(table))
    assert data.classes == ("9", "10")  # by number
    assert len(data.train) + len(data.val) + len(data.test) == 40
    parts = ["train"] * 20 + ["val"] * 12 + ["test"] * 8
    lines = [f"{line},{part}" for line, part in zip(lines, parts, strict=True)]
    table.write_text("\n".join(["file,label,split", *lines]))
    data = load(images, labels=str(table))
    assert [len(split) for split in (data.train, data.val, data.test)] == [20, 12, 8]
    stored = data.val.fields["image"]
    first = stored[np.arange(1)][0]
    wanted = files_of(images)[20:32]
    assert any((first == by_hand(path)).all() for path in wanted)


def test_several_labels_of_one_image_stand_in_a_cell(load, images, tmp_path):
    table, files = tmp_path / "labels.csv", files_of(images)
    cells = ["", "sun", "sun; sea", "sea;wind"] * 10
    lines = [f"{p.relative_to(images)},{cell}" for p, cell in zip(files, cells, strict=True)]
    table.write_text("\n".join(["file,label", *lines]))
    config = FolderConfig(
        root=str(images), labels=str(table), separator=";", size=12, cache=str(tmp_path / "kept")
    )
    data = sources.load(config, MultilabelConfig())
    assert (data.outputs, data.classes, data.inputs) == (3, ("sea", "sun", "wind"), ("image",))
    wanted = {"": [0, 0, 0], "sun": [0, 1, 0], "sun; sea": [1, 1, 0], "sea;wind": [1, 0, 1]}
    for split in (data.train, data.val, data.test):
        for row, labels in zip(split.fields["image"].rows, split.arrays["labels"], strict=True):
            assert labels.tolist() == wanted[cells[row]]
    assert load(images, labels=str(table), separator=";").task.name == "multilabel"
    with pytest.raises(UserError, match=r"task=classification: each sample needs label \[\]"):
        sources.load(config, ClassificationConfig())


def test_images_without_labels_may_lie_anywhere_below_the_root(load, images, tmp_path):
    picture(0, 20, 20).save(images / "above.png")
    config = FolderConfig(
        root=str(images), labels="none", size=12, cache=str(tmp_path / "kept"), val_fraction=0.2
    )
    data = sources.load(config, DenoisingConfig())
    assert [len(split) for split in (data.train, data.val, data.test)] == [30, 7, 4]
    assert (data.train.fields.keys(), data.classes) == ({"image"}, None)
    with pytest.raises(UserError, match=r"each sample needs label.*Set task to one that fits"):
        load(images, labels="none")
    shutil.rmtree(images / "ant")
    (images / "bee").rename(images / "train")
    (images / "cat").rename(images / "val")
    data = sources.load(config, DenoisingConfig())
    assert [len(split) for split in (data.train, data.val, data.test)] == [10, 10, 10]


def test_a_restart_opens_the_store_without_decoding_and_a_changed_file_builds_another(
    load, images, monkeypatch
):
    once = load(images)
    pixels = once.train.fields["image"].file.pixels
    assert isinstance(pixels, np.memmap)
    assert not pixels.flags.writeable
    decoded = []

    def counted(path, shorter, decode=decoding.decode_image):
        decoded.append(path)
        return decode(path, shorter)

    monkeypatch.setattr(decoding, "decode_image", counted)
    load(images, val_fraction=0.3, test_fraction=0.2, workers=1)
    assert decoded == []
    os.utime(images / "ant/00.jpg", ns=(1, 1))
    load(images)
    assert len(decoded) == 40


def lose_the_end(pixels, records):
    with pixels.open("r+b") as stream:
        stream.truncate(pixels.stat().st_size - 1000)


def tear(pixels, records):
    with records.open("ab") as stream:
        stream.write(bytes(100))
    with pixels.open("ab") as stream:
        stream.write(bytes(77))


@pytest.mark.parametrize("harm", [lose_the_end, tear])
@pytest.mark.parametrize("threads", [1, 3])
def test_an_interrupted_build_continues_and_gives_the_same_pixels(
    load, images, tmp_path, monkeypatch, threads, harm
):
    whole = load(images, cache=str(tmp_path / "whole"), workers=1).train.fields["image"].file
    decoded, stops = [], {files_of(images)[25]}

    def decode(path, shorter, real=decoding.decode_image):
        if path in stops:
            raise KeyboardInterrupt
        decoded.append(path)
        return real(path, shorter)

    monkeypatch.setattr(decoding, "decode_image", decode)
    with pytest.raises(KeyboardInterrupt):
        load(images, workers=threads)
    [unfinished] = (tmp_path / "kept/cache").glob("*.unfinished")
    pixels, records = unfinished / "scratch/pixels.npy", unfinished / "scratch/records"
    assert records.stat().st_size == 25 * 64
    harm(pixels, records)  # as a power failure may
    decoded.clear()
    stops.clear()
    file = load(images, workers=threads).train.fields["image"].file
    assert len(decoded) == 15 if harm is tear else 15 < len(decoded) < 20
    for name in ("pixels", "offsets", "sizes"):
        np.testing.assert_array_equal(getattr(file, name), getattr(whole, name))
    assert not unfinished.exists()


def test_what_is_left_of_the_same_folder_with_other_files_is_removed(load, images, tmp_path):
    (images / "ant/01.png").write_bytes(b"broken")
    other = write_images(tmp_path / "others", COUNTS)
    (other / "ant/01.png").write_bytes(b"broken")
    for root in (other, images):
        with pytest.raises(UserError, match="cannot be decoded"):
            load(root)
    assert len(list((tmp_path / "kept/cache").glob("*.unfinished"))) == 2
    (images / "ant/01.png").unlink()
    load(images)
    [left] = (tmp_path / "kept/cache").glob("*.unfinished")
    assert (left / "scratch/root").read_text() == str(other)


def test_folds_cut_the_images_of_every_class(load, images):
    seen = []
    for fold in range(4):
        data = load(images, folds=4, fold=fold, val_fraction=0.2)
        assert [len(split) for split in (data.train, data.val, data.test)] == [24, 6, 10]
        assert np.bincount(data.test.arrays["label"]).tolist() in ([5, 3, 2], [5, 2, 3])
        rows = data.test.fields["image"].rows.tolist()
        pixels = data.test.fields["image"][np.array([3])][0]
        np.testing.assert_array_equal(pixels, by_hand(files_of(images)[rows[3]]))
        seen += rows
    assert sorted(seen) == list(range(40))


def test_a_corrupt_file_is_named_and_left_out_only_if_asked(load, images, capsys):
    broken = images / "bee/03.png"
    broken.write_bytes(broken.read_bytes()[:60])
    (images / "cat/01.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"bee/03\.png cannot be decoded: .*skip_corrupt=true"):
        load(images)
    data = load(images, skip_corrupt=True)
    assert len(data.train) + len(data.val) + len(data.test) == 38
    assert f"left out 2 files that cannot be decoded: {broken}, …" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"bee/03\.png cannot be decoded, and 1 more files cannot"):
        load(images)


def broken(kind, root):
    """Damage a folder of images, or a table; return the keys of the config."""
    table = root.parent / "labels.csv"
    match kind:
        case "a folder without images":
            for path in files_of(root):
                path.unlink()
            (root / "read.me").write_text("")
        case "images in no sub-folder":
            for path in files_of(root):
                path.unlink()
            picture(0, 9, 9).save(root / "a.png")
        case "one class":
            shutil.rmtree(root / "bee")
            shutil.rmtree(root / "cat")
        case "a class with one image":
            for path in files_of(root / "cat")[1:]:
                path.unlink()
        case "a class without images":
            (root / "dog").mkdir()
        case "an unknown class in val":
            write_images(root / "train", {"ant": 2, "bee": 2})
            write_images(root / "val", {"ants": 2})
        case "a class without training images":
            write_images(root / "train", {"ant": 2, "bee": 2})
            (root / "train/dog").mkdir()
        case "a table without a column":
            table.write_text("file,class\na,b\n")
        case "a table with a missing file":
            table.write_text("file,label\nant/00.jpg,a\nant/xx.jpg,b\n")
        case "a table with an odd split":
            table.write_text("file,label,split\nant/00.jpg,a,dev\n")
        case "a table with an empty label":
            table.write_text("file,label\nant/00.jpg,\n")
        case "a table without rows":
            table.write_text("file,label\n")
        case "a table without training images":
            table.write_text("file,label,split\nant/00.jpg,a,val\n")
        case "no table":
            pass
        case "a dangling link":
            (root / "ant/99.jpg").symlink_to("nowhere")
    return {"labels": str(table)} if "table" in kind else {}


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("a folder without images", r"no sub-folder of .*images has a \.jpg \.jpeg \.png file.* 1 × \.me"),
        ("images in no sub-folder", "lie in no sub-folder that names their class.*dataset.labels=FILE"),
        ("one class", "all images are of one class: ant.*dataset.labels=none"),
        ("a class with one image", "the class cat has 1 image for 3 splits.*give the splits"),
        ("a class without images", "the class dog has no image to train on"),
        ("an unknown class in val", "val/ants is a class without training images.*Did you mean ant?"),
        ("a class without training images", "the class dog has no image to train on"),
        ("a table without a column", r"no column label, but file, class.*file,label"),
        ("a table with a missing file", r"1 of its 2 files are not below .*: ant/xx\.jpg"),
        ("a table with an odd split", "line 2 has the split 'dev'.*train, val, test"),
        ("a table with an empty label", "line 2 lacks a file or label"),
        ("a table without rows", "it has no rows"),
        ("a table without training images", "no row has split=train"),
        ("no table", "labels.csv: it cannot be read: No such file"),
        ("a dangling link", r"ant/99\.jpg cannot be read: No such file"),
    ],
)  # fmt: skip
def test_a_wrong_folder_or_table_gets_one_clear_message(load, images, kind, message):
    with pytest.raises(UserError, match=f"dataset.(root|labels)=.*{message}"):
        load(images, **broken(kind, images))


def test_a_root_that_is_missing_or_a_file_is_refused(load, images):
    with pytest.raises(UserError, match=r"dataset\.root='': must be the folder with the images"):
        sources.load(FolderConfig())
    with pytest.raises(UserError, match=r"there is no such folder\. Set dataset.root to the"):
        load(images / "nowhere")
    with pytest.raises(UserError, match=r"no such folder\. Did you mean ant\?"):
        load(images / "ants")
    with pytest.raises(UserError, match="it is a file, not a folder"):
        load(images / "ant/00.jpg")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_without_permission_is_named(load, images):
    (images / "bee").chmod(0)
    with pytest.raises(UserError, match="bee cannot be read: Permission denied"):
        load(images)
    (images / "bee").chmod(0o755)


def test_too_small_a_disk_is_found_after_the_first_images(load, images, monkeypatch):
    monkeypatch.setattr(decoding, "ESTIMATED", 10)
    usage = shutil.disk_usage(images)._replace(free=2000)
    monkeypatch.setattr(decoding.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(UserError, match=r"dataset\.cache=.*need about 0 GB more.*dataset\.store"):
        load(images)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"size": 0}, "dataset.size=0: must be at least 1"),
        ({"size": 32, "store": 31}, "dataset.store=31: must be null or at least dataset.size=32"),
        ({"scale": [0.5, 0.1]}, r"dataset.scale=.*\[lowest, highest\], in \(0, 1\]"),
        ({"jitter": [0.1]}, "dataset.jitter=.*three numbers in"),
        ({"mean": [0.1, 0.2, 0.3]}, "dataset.mean=.*Set dataset.std, too"),
        ({"std": [0.1, 0.2, 0.0], "mean": [0.0, 0.0, 0.0]}, "dataset.std=.*three numbers in"),
    ],
)
def test_keys_out_of_range_are_refused(keys, message):
    with pytest.raises(UserError, match=message):
        FolderConfig(root="x", **keys)


def test_of_several_ranks_one_lists_the_folder(load, images, tmp_path, monkeypatch):
    calls = []

    def counted(*arguments, **keys):
        calls.append(arguments)
        return list_folder(*arguments, **keys)

    monkeypatch.setattr(folder, "list_folder", counted)
    alone = load(images)
    assert len(calls) == 1
    monkeypatch.setenv("TANDEM_JOB", JobContext(launch="this one").to_json())
    ranks = [load(images) for _ in range(3)]
    assert len(calls) == 2
    for rank in ranks:
        assert rank.classes == alone.classes
        for one, other in ((rank.train, alone.train), (rank.test, alone.test)):
            np.testing.assert_array_equal(one.fields["image"].rows, other.fields["image"].rows)
            np.testing.assert_array_equal(one.arrays["label"], other.arrays["label"])
    monkeypatch.setenv("TANDEM_JOB", JobContext(launch="the next").to_json())
    [left] = (tmp_path / "kept/cache").glob("listing-*-v1")
    os.utime(left, (0, 0))
    load(images)
    assert len(calls) == 3
    assert not left.exists()
    monkeypatch.delenv("TANDEM_JOB")
    slurm = {"SLURM_STEP_NUM_TASKS": "2", "SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0"}
    assert (launch_of(slurm), launch_of({"SLURM_JOB_ID": "7"})) == ("7 0 ", None)
