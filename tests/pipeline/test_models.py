"""Which models fit which data."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from pipeline.config import GPTConfig, MLPConfig, ModelConfig, ResNet18Config, Stem, ViTConfig
from pipeline.datasets import Data, Form, Split, Task
from pipeline.errors import UserError
from pipeline.models import TAKES, check_model, drop_path_rates, feature_map

SAMPLES = {
    Form.images: (np.zeros((3, 9, 8, 2), np.uint8), Task.classification, "images of 9×8×2"),
    Form.vectors: (np.zeros((3, 5)), Task.regression, "vectors of 5"),
    Form.tokens: (np.zeros((3, 7), np.uint8), Task.language, "token sequences of 7"),
}


def of(form):
    """A data set of samples of a form."""
    inputs, task, _ = SAMPLES[form]
    split = Split(inputs, inputs)
    return Data("test", task, split, split, split, 4, np.zeros(1), np.ones(1))


@dataclass(kw_only=True)
class Named(ModelConfig):
    """A model of which only the name is known."""


@pytest.mark.parametrize("form", SAMPLES)
def test_the_form_of_samples_is_told_by_their_shape_and_type(form):
    assert of(form).train.form is form


@pytest.mark.parametrize("form", SAMPLES)
@pytest.mark.parametrize("name", TAKES)
def test_a_model_is_refused_for_what_it_does_not_take_and_those_that_do_are_named(
    configure, name, form
):
    config = replace(configure(), model=Named(name=name))
    if form in TAKES[name]:
        check_model(config, of(form))
        return
    with pytest.raises(UserError) as refused:
        check_model(config, of(form))
    fitting = [other for other in TAKES if form in TAKES[other]]
    assert str(refused.value) == (
        f"model={name}: must be {' or '.join(fitting)} for dataset=test, whose samples are "
        f"{SAMPLES[form][2]}. Set model={fitting[0]}."
    )


def test_what_takes_what_is_said_of_every_model_that_ships():
    assert TAKES["gpt"] == (Form.tokens,)
    assert Form.tokens not in TAKES["linear"] + TAKES["cnn"]
    assert Form.vectors not in TAKES["cnn"] + TAKES["vit"]


@pytest.mark.parametrize("form", SAMPLES)
def test_a_model_of_ones_own_may_take_anything(configure, form):
    check_model(replace(configure(), model=Named(name="mine")), of(form))


def test_labels_are_smoothed_where_there_are_classes_or_tokens(configure):
    smooth = configure("train.label_smoothing=0.1")
    check_model(replace(smooth, model=MLPConfig()), of(Form.images))
    check_model(replace(smooth, model=Named(name="gpt")), of(Form.tokens))
    with pytest.raises(UserError, match=r"train\.label_smoothing=0\.1: must be 0 for dataset=test"):
        check_model(replace(smooth, model=MLPConfig()), of(Form.vectors))


def refusal(configure, form, model, overrides=""):
    """What is said of a model that does not fit."""
    with pytest.raises(UserError) as refused:
        check_model(replace(configure(overrides), model=model), of(form))
    return str(refused.value)


def test_a_patch_divides_the_image(configure):
    check_model(replace(configure(), model=ViTConfig(patch=1)), of(Form.images))
    assert refusal(configure, Form.images, ViTConfig(patch=4)) == (
        "model.patch=4: must be a divisor of the sides of test's images, 9×8. Set model.patch to one of 1."
    )


def test_a_sample_has_no_more_tokens_than_there_are_positions(configure):
    for length in (None, 7, 8):
        check_model(replace(configure(), model=GPTConfig(max_length=length)), of(Form.tokens))
    assert refusal(configure, Form.tokens, GPTConfig(max_length=6)) == (
        "model.max_length=6: must be null or at least 7, the length of test's samples. "
        "Or shorten them with dataset.length=6."
    )


def test_batch_normalisation_has_two_values_to_normalise(configure):
    imagenet = ResNet18Config(stem=Stem.imagenet)
    for overrides, model in (("2", imagenet), ("1", ResNet18Config())):
        config = configure(f"train.batch_size={overrides}")
        check_model(replace(config, model=model), of(Form.images))
    parts = "train.batch_size=4 train.accumulate=4"
    assert refusal(configure, Form.images, imagenet, parts) == (
        "train.batch_size=4: must be at least 8 for model=resnet18 on dataset=test: one image has "
        "one value per channel in the end, and batch normalisation needs two."
    )


@pytest.mark.parametrize(
    ("override", "told"),
    [
        (
            "model=vit model.heads=3",
            "model.heads=3: must be a divisor of model.width=128. "
            "Each head has an equal share of the width.",
        ),
        ("model=gpt model.heads=0", "model.heads=0: must be a divisor of model.width=128."),
        ("model=gpt model.depth=0", "model.depth=0: must be at least 1."),
        ("model=gpt model.width=0", "model.width=0: must be at least 1."),
        ("model=gpt model.max_length=0", "model.max_length=0: must be null or at least 1."),
        ("model=gpt model.dropout=1", "model.dropout=1.0: must be in [0, 1)."),
        ("model=gpt model.norm_epsilon=0", "model.norm_epsilon=0.0: must be above 0."),
        ("model=vit model.drop_path=-0.1", "model.drop_path=-0.1: must be in [0, 1)."),
        ("model=vit model.patch=0", "model.patch=0: must be at least 1."),
        ("model=resnet18 model.width=0", "model.width=0: must be at least 1."),
    ],
)
def test_a_model_that_cannot_be_is_refused_at_composition(configure, override, told):
    with pytest.raises(UserError) as refused:
        configure(override)
    assert str(refused.value).startswith(told)


def test_layers_are_skipped_more_often_the_deeper_they_are():
    assert drop_path_rates(ViTConfig(depth=3, drop_path=0.2)) == [0.0, 0.1, 0.2]
    assert drop_path_rates(ViTConfig(depth=1, drop_path=0.2)) == [0.0]


@pytest.mark.parametrize("side", range(1, 40))
def test_a_residual_network_halves_an_image_as_often_as_its_stem_says(side):
    """Each 3×3, padded, of stride 2 leaves ⌈side / 2⌉."""
    for stem, halvings in ((Stem.cifar, 3), (Stem.imagenet, 5)):
        rest = side
        for _ in range(halvings):
            rest = (rest + 1) // 2
        assert feature_map(ResNet18Config(stem=stem), (side, 8, 3))[0] == rest
