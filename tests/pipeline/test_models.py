"""Which models fit which data."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from pipeline.config import MLPConfig, ModelConfig
from pipeline.datasets import Data, Form, Split, Task
from pipeline.errors import UserError
from pipeline.models import TAKES, check_model

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
