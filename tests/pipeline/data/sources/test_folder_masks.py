"""Masks of images in a folder: found by name, cut with their images, and what is refused."""

import numpy as np
import pytest
from PIL import Image

from pipeline.config.datasets import FolderConfig
from pipeline.config.tasks import SegmentationConfig
from pipeline.data import sources
from pipeline.data.batch_plan import make_batch_plan
from pipeline.data.image_augmentation import sample_words
from pipeline.errors import UserError

SIZE = 24


def scene(seed):
    """An image of some blocks, and its mask: class n has the grey value 80 n, and 255 is ignored."""
    random = np.random.default_rng(seed)
    height, width = 30 + seed % 7, 48 - seed % 11
    mask = np.zeros((height, width), np.uint8)
    for number in (1, 2, 3):
        top, left = random.integers(0, height - 12), random.integers(0, width - 12)
        mask[top : top + 12, left : left + 12] = number
    image = np.repeat(mask[..., None] * 80, 3, axis=2)
    mask[:8] = 255
    return image, mask


def save(root, name, image, mask, mode="L"):
    for folder, array in (("images", image), ("masks", mask)):
        file = root / folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        made = Image.fromarray(array)
        if folder == "masks" and mode == "P":
            made = Image.fromarray(array, "P")
            made.putpalette([value for _ in range(256) for value in (9, 9, 9)])
        made.save(file.with_suffix(".png"))


@pytest.fixture
def root(tmp_path):
    """A folder with images and masks side by side, in a sub-folder with a space."""
    for seed in range(40):
        save(tmp_path / "data", f"ß b/{seed:02d}", *scene(seed), mode="LP"[seed % 2])
    return tmp_path / "data"


@pytest.fixture
def load(tmp_path):
    """A function that loads a folder, with its cache in the test's own folder."""

    def loaded(root, task=None, **keys):
        keys = {"size": SIZE, "cache": str(tmp_path / "kept")} | keys
        return sources.load(FolderConfig(root=str(root), **keys), task)

    return loaded


def agreement(image, mask):
    """Share of the pixels of whose grey value the mask has the class, among those not ignored."""
    kept = mask != 255
    return (np.rint(image[..., 0] / 80) == mask)[kept].mean()


def test_masks_are_cut_and_mirrored_as_their_images_are(load, root):
    data = load(root, augment=True)
    assert (data.task.name, data.outputs) == ("segmentation", 4)
    assert data.train.shapes()["mask"] == (32, SIZE, SIZE)
    image, mask = data.train.fields["image"], data.train.fields["mask"]
    rows = np.arange(len(mask))
    words = sample_words(0, 1, rows)
    for drawn in (None, words):
        pixels, classes = image.take(rows, drawn), mask.take(rows, drawn)
        assert classes.dtype == np.uint8
        assert {*np.unique(classes).tolist()} == {0, 1, 2, 3, 255}
        assert agreement(pixels, classes) > 0.88
    assert agreement(image.take(rows, words[::-1]), mask.take(rows, words)) < 0.8


def test_the_middle_of_a_mask_is_the_nearest_pixels_of_pillow(load, root):
    data = load(root)
    mask = data.test.fields["mask"]
    names = sorted((root / "masks").rglob("*.png"))
    for place, row in enumerate(mask.rows.tolist()):
        picture = Image.open(names[row])
        ratio = mask.resize / min(picture.size)
        width, height = (max(mask.resize, int(side * ratio)) for side in picture.size)
        picture = picture.resize((width, height), Image.Resampling.NEAREST)
        left, top = round((width - SIZE) / 2), round((height - SIZE) / 2)
        expected = np.asarray(picture.crop((left, top, left + SIZE, top + SIZE)))
        np.testing.assert_array_equal(mask.take(np.array([place]))[0], expected)


def test_terms_are_the_pixels_of_the_crops_that_are_trained_on(load, root, configure):
    config = configure("dataset=folder dataset.augment=true train.batch_size=8 task=segmentation")
    plan = make_batch_plan(config, load(root, augment=True))
    kept = plan.take_stored(3)["mask"] != 255
    assert plan.terms(3) == kept.sum() < 8 * SIZE**2


def test_masks_lie_anywhere_and_a_changed_one_is_decoded_anew(load, root, tmp_path):
    (root / "masks").rename(tmp_path / "m")
    (root / "images").rename(tmp_path / "i")
    data = load(tmp_path / "i", masks=str(tmp_path / "m"))
    assert data.outputs == 4
    file = tmp_path / "m/ß b/00.png"
    Image.fromarray(np.where(scene(0)[1] == 3, 7, scene(0)[1]).astype(np.uint8)).save(file)
    assert load(tmp_path / "i", masks=str(tmp_path / "m")).outputs == 8
    assert (
        load(tmp_path / "i", SegmentationConfig(ignored=7), masks=str(tmp_path / "m")).outputs
        == 256
    )


def test_splits_are_folders_on_both_sides(load, tmp_path):
    for seed in range(12):
        save(tmp_path / "data", f"{('train', 'train', 'val')[seed % 3]}/{seed}", *scene(seed))
    data = load(tmp_path / "data")
    assert [len(split) for split in (data.train, data.val, data.test)] == [8, 4, 4]


def harm(root, kind):
    """Make one kind of mistake."""
    image, mask = scene(0)
    if kind == "missing":
        (root / "masks/ß b/03.png").unlink()
    elif kind == "none":
        for file in (root / "masks").rglob("*.png"):
            file.rename(file.with_suffix(".gif"))
    elif kind == "colours":
        save(root, "ß b/03", image, image)
    elif kind == "size":
        save(root, "ß b/03", image, mask[:-4])
    elif kind == "white":
        for file in (root / "masks").rglob("*.png"):
            array = np.asarray(Image.open(file))
            Image.fromarray(np.where(array == 1, 255, 0).astype(np.uint8)).save(file)
    elif kind == "damaged":
        (root / "masks/ß b/03.png").write_bytes(b"\x89PNG")


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("missing", r"dataset\.masks=.*masks: 1 of 40 images .* among its 39 PNG files: ß b/03\.png"),
        ("none", r"dataset\.masks=.*masks: 40 of 40 images have no mask among its 0 PNG files"),
        ("colours", r"03\.png cannot be decoded: a mask has one class .*not RGB"),
        ("size", r"dataset\.masks=.*: ß b/03\.png has 48 × 26 pixels, its image 48 × 30"),
        ("white", r"all pixels of the masks are of one class; their values are 0, 255\. .*task\.ignored=255"),
        ("damaged", r"03\.png cannot be decoded"),
    ],
)  # fmt: skip
def test_what_is_no_mask_is_refused(load, root, kind, words):
    harm(root, kind)
    with pytest.raises(UserError, match=words):
        load(root, store=60)
    if kind == "damaged":
        assert load(root, store=60, skip_corrupt=True).train.shapes()["mask"][0] == 31


def test_the_folder_of_masks_is_checked(load, root, tmp_path):
    with pytest.raises(UserError, match=r"dataset\.masks=.*nowhere: there is no such folder"):
        load(root / "images", masks=str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match=r"dataset\.masks=m: must be null with dataset\.labels"):
        load(root, masks="m", labels="table.csv")
