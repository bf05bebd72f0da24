"""Samples from a model that is known: images from noise, sequences token by token."""

from functools import partial

import numpy as np
import pytest

from pipeline.config.tasks import DenoisingConfig
from pipeline.data.dataset import Moments
from pipeline.run.generation.decoding import LIKELIEST, Choice, answered, continued
from pipeline.run.generation.diffusion import denoise, to_pixels
from pipeline.run.generation.record import arranged
from pipeline.tasks import Denoising

KEPT = Denoising(DenoisingConfig(levels=40, last_beta=0.3)).kept_signal()
FINE = Denoising(DenoisingConfig(levels=400, last_beta=0.05)).kept_signal()
SHAPE = (3, 4, 5, 2)


def normal(shares, images, level):
    """Noise in images whose pixels are drawn from a normal distribution of mean 2 and deviation 0.5."""
    kept = shares[level].reshape(-1, 1, 1, 1)
    share = np.sqrt(1 - kept) / (kept * 0.25 + 1 - kept)
    return share * (images - 2 * np.sqrt(kept))


def test_a_perfect_model_of_one_image_makes_this_image():
    image = np.random.default_rng(0).standard_normal(SHAPE)

    def predict(noisy, level):
        kept = KEPT[level].reshape(-1, 1, 1, 1)
        return (noisy - np.sqrt(kept) * image) / np.sqrt(1 - kept)

    np.testing.assert_allclose(denoise(predict, KEPT, SHAPE), image, rtol=1e-9)


def test_a_perfect_model_of_a_distribution_draws_from_it():
    made = denoise(partial(normal, FINE), FINE, (4, 32, 32, 1))
    assert made.mean() == pytest.approx(2, abs=0.02)
    assert made.std() == pytest.approx(0.5, abs=0.02)


def test_an_image_depends_on_the_seed_and_its_number_alone():
    first = denoise(partial(normal, KEPT), KEPT, SHAPE, seed=1)
    np.testing.assert_array_equal(
        denoise(partial(normal, KEPT), KEPT, (2, *SHAPE[1:]), seed=1), first[:2]
    )
    assert not np.isclose(denoise(partial(normal, KEPT), KEPT, SHAPE, seed=2), first).any()


def test_pixels_are_rounded_to_the_units_of_the_data_set_and_what_is_no_number_is_black():
    moments = Moments(np.array([10.0]), np.array([4.0]))
    values = np.array([-9.0, 0.2, 1.0, 99.0, np.nan, np.inf])
    assert to_pixels(values[:, None], moments, np.dtype(np.uint8)).ravel().tolist() == [
        0, 11, 14, 255, 0, 0,
    ]  # fmt: skip
    assert to_pixels(values[:2], None, np.dtype(np.float32)).tolist() == [-9, np.float32(0.2)]


def test_small_images_are_shown_in_a_square_large_enough_to_see():
    picture = arranged(np.full((5, 8, 8, 1), 16, np.uint8), brightest=16)
    assert picture.shape == (2 * (64 + 22) + 8, 3 * (64 + 8) + 8, 1)
    assert picture.max() == 255
    assert arranged(np.zeros((1, 100, 100, 2)), 1).shape == (100 + 34 + 13, 100 + 2 * 13, 1)


LOGITS = np.log(np.tile([[0.5, 0.2, 0.25, 0.05]], (2000, 1)))


def test_a_token_is_drawn_as_often_as_it_is_likely():
    drawn = np.bincount(Choice(temperature=1.0)(LOGITS, 3), minlength=4) / len(LOGITS)
    np.testing.assert_allclose(drawn, [0.5, 0.2, 0.25, 0.05], atol=0.03)
    colder = np.bincount(Choice(temperature=0.5)(LOGITS, 3), minlength=4) / len(LOGITS)
    squares = np.array([0.5, 0.2, 0.25, 0.05]) ** 2
    np.testing.assert_allclose(colder, squares / squares.sum(), atol=0.03)


def test_only_the_likeliest_are_drawn_from_if_asked():
    two = np.bincount(Choice(temperature=1.0, top_k=2)(LOGITS, 0), minlength=4) / len(LOGITS)
    np.testing.assert_allclose(two, [2 / 3, 0, 1 / 3, 0], atol=0.03)
    for choice in (LIKELIEST, Choice(temperature=5.0, top_k=1)):
        assert (choice(LOGITS, 0) == 0).all()


def test_a_draw_depends_on_the_seed_the_place_and_the_row():
    choice = Choice(temperature=1.0, seed=1)
    first = choice(LOGITS, 0)
    np.testing.assert_array_equal(choice(LOGITS[:10], 0), first[:10])
    for other in (choice(LOGITS, 1), Choice(temperature=1.0, seed=2)(LOGITS, 0)):
        assert 0.2 < (other == first).mean() < 0.6


def counting(vocabulary):
    """A model that is sure of the next number."""
    return lambda tokens: np.eye(vocabulary)[(tokens + 1) % vocabulary]


def test_a_text_goes_on_beyond_the_window_of_the_model():
    seen = []

    def logits(tokens):
        seen.append(tokens.copy())
        return counting(9)(tokens)

    made = continued(logits, np.array([[1, 2], [5, 6]], np.uint8), new=5, window=4)
    assert made.tolist() == [[1, 2, 3, 4, 5, 6, 7], [5, 6, 7, 8, 0, 1, 2]]
    assert [row[0].tolist() for row in seen] == [
        [1, 2, 0, 0], [1, 2, 3, 0], [1, 2, 3, 4], [2, 3, 4, 5], [3, 4, 5, 6],
    ]  # fmt: skip


def test_an_answer_ends_at_the_first_padding():
    def logits(later):
        after = counting(4)(later)
        after[0] = np.eye(4)[2]  # this row never ends
        return after

    assert answered(logits, samples=2, length=5).tolist() == [[2, 2, 2, 2, 2], [1, 2, 3, 0, 0]]
    assert answered(counting(3), samples=1, length=1).tolist() == [[1]]
