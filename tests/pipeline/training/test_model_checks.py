"""Checks that a model fits its data set."""

import sys
from contextlib import nullcontext
from dataclasses import dataclass, replace

import numpy as np
import pytest

from pipeline.config.models import (
    MODELS,
    EncoderDecoderConfig,
    GPTConfig,
    MLPConfig,
    ModelConfig,
    ResNet18Config,
    Stem,
    UNetConfig,
    ViTConfig,
)
from pipeline.data.dataset import Data, Form, Split
from pipeline.errors import UserError
from pipeline.tasks import TASKS, Classification, Language, Regression
from pipeline.training.model_checks import (
    ACCEPTED,
    check_model,
    drop_path_rates,
    feature_map,
    fill_from_data,
    import_user_model,
)
from pipeline.training.model_outputs import check_outputs

SAMPLES = {
    Form.images: (np.zeros((3, 9, 8, 2), np.uint8), Classification(), "images of 9×8×2"),
    Form.vectors: (np.zeros((3, 5)), Regression(), "vectors of 5"),
    Form.tokens: (np.zeros((3, 7), np.uint8), Language(), "token sequences of 7"),
}


def data_of(form):
    """A data set with samples of a form."""
    inputs, task, _ = SAMPLES[form]
    name = "tokens" if form is Form.tokens else "inputs"
    split = Split({name: inputs, task.targets[0]: inputs})
    return Data("test", task, split, split, split, {"label": 4, "tokens": 4}, {})


@dataclass(kw_only=True)
class Named(ModelConfig):
    """A model config with nothing but a name."""


@pytest.mark.parametrize("form", SAMPLES)
def test_the_form_of_samples_follows_from_their_shape_and_type(form):
    assert data_of(form).form is form


@pytest.mark.parametrize("form", SAMPLES)
@pytest.mark.parametrize("name", ACCEPTED)
def test_a_model_that_does_not_accept_the_data_is_refused_with_those_that_do(configure, name, form):
    config = replace(configure(), model=Named(name=name))
    data = data_of(form)
    fitting = [other for other, fits in ACCEPTED.items() if form in fits[0]]
    one_row = data.task.name in ("classification", "regression")
    fitting = [
        o
        for o in fitting
        if data.task.name in (ACCEPTED[o][1] or ()) or (ACCEPTED[o][1] is None and one_row)
    ]
    if name in fitting:
        check_model(config, data)
        return
    with pytest.raises(UserError) as refused:
        check_model(config, data)
    assert str(refused.value) == (
        f"model={name}: must be {' or '.join(fitting)} for task={data.task.name} on dataset=test, "
        f"whose samples are {SAMPLES[form][2]}. Set model={fitting[0]}."
    )


def test_accepted_inputs_fit_the_shipped_models():
    assert ACCEPTED.keys() == MODELS.keys() - {"own"}
    assert ACCEPTED["gpt"] == ((Form.tokens,), ("language",))
    assert Form.tokens not in ACCEPTED["linear"][0] + ACCEPTED["cnn"][0]
    assert Form.vectors not in ACCEPTED["cnn"][0] + ACCEPTED["vit"][0]


def test_a_model_that_does_not_fit_the_task_is_refused_with_those_that_do(configure):
    tokens, masked = data_of(Form.tokens), TASKS["masked_language"]()
    # It would see the tokens that it has to predict.
    assert "must be gpt for task=language" in refusal(configure, Form.tokens, Named(name="bert"))
    with pytest.raises(UserError, match="must be bert for task=masked_language"):
        check_model(replace(configure(), model=Named(name="gpt")), replace(tokens, task=masked))


@pytest.mark.parametrize("form", SAMPLES)
def test_a_users_own_model_accepts_any_data(configure, form):
    check_model(replace(configure(), model=Named(name="mine")), data_of(form))


def test_label_smoothing_needs_classes_or_tokens(configure):
    smooth = configure("train.label_smoothing=0.1")
    check_model(replace(smooth, model=MLPConfig()), data_of(Form.images))
    check_model(replace(smooth, model=Named(name="gpt")), data_of(Form.tokens))
    with pytest.raises(
        UserError, match=r"train\.label_smoothing=0\.1: must be 0 for task=regression"
    ):
        check_model(replace(smooth, model=MLPConfig()), data_of(Form.vectors))


def refusal(configure, form, model, overrides=""):
    """Message about a model that does not fit."""
    with pytest.raises(UserError) as refused:
        check_model(replace(configure(overrides), model=model), data_of(form))
    return str(refused.value)


def test_the_patch_size_must_divide_the_image_size(configure):
    check_model(replace(configure(), model=ViTConfig(patch=1)), data_of(Form.images))
    assert refusal(configure, Form.images, ViTConfig(patch=4)) == (
        "model.patch=4: must be a divisor of the sides of test's images, 9×8. Set model.patch to one of 1."
    )


def test_a_unet_halves_the_sides_of_images_evenly(configure):
    def check(shape, depth):
        image = np.zeros((3, *shape), np.uint8)
        split = Split({"image": image})
        data = Data("test", TASKS["denoising"](), split, split, split, {}, {})
        config = replace(configure(), model=UNetConfig(depth=depth))
        check_model(config, data)
        assert fill_from_data(config.model, data).time is True

    check((8, 12, 1), 2)
    with pytest.raises(UserError) as refused:
        check((8, 12, 1), 3)
    assert str(refused.value) == (
        "model.depth=3: must be at most 2, the number of times that the sides of test's images, "
        "8×12, can be halved."
    )
    timed = replace(configure(), model=UNetConfig(depth=1, time=True))
    labelled = Split({"image": np.zeros((3, 8, 8, 1), np.uint8), "mask": np.zeros((3, 8, 8), int)})
    segmented = Data("test", TASKS["segmentation"](), *3 * [labelled], {"mask": 4}, {})
    assert fill_from_data(UNetConfig(), segmented).time is False
    with pytest.raises(UserError, match="null for task=segmentation, which draws no time"):
        check_model(timed, segmented)
    with pytest.raises(UserError, match=r"the sides of test's, 9×8, are not even\. Resize"):
        check((9, 8, 2), 1)


def test_positions_are_as_many_as_the_longest_sequences(configure):
    split = Split({"source": np.zeros((3, 5), int), "target": np.zeros((3, 8), int)})
    data = Data(
        "test", TASKS["seq2seq"](), split, split, split, dict.fromkeys(("source", "target"), 4), {}
    )
    assert fill_from_data(EncoderDecoderConfig(), data).max_length == 8
    assert fill_from_data(EncoderDecoderConfig(max_length=9), data).max_length == 9
    config = replace(configure(), model=EncoderDecoderConfig(max_length=7))
    with pytest.raises(UserError, match="must be null or at least 8, the length of test's"):
        check_model(config, data)


def test_max_length_must_not_be_below_the_sample_length(configure):
    for length in (None, 7, 8):
        check_model(replace(configure(), model=GPTConfig(max_length=length)), data_of(Form.tokens))
    assert refusal(configure, Form.tokens, GPTConfig(max_length=6)) == (
        "model.max_length=6: must be null or at least 7, the length of test's samples. "
        "Or shorten them with dataset.length=6."
    )


def test_batch_norm_needs_two_values_per_channel(configure):
    imagenet = ResNet18Config(stem=Stem.imagenet)
    for overrides, model in (("2", imagenet), ("1", ResNet18Config())):
        config = configure(f"train.batch_size={overrides}")
        check_model(replace(config, model=model), data_of(Form.images))
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
        ("model=unet model.groups=5", "model.groups=5: must be a divisor of model.width=32."),
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
def test_an_invalid_model_is_refused_at_composition(configure, override, told):
    with pytest.raises(UserError) as refused:
        configure(override)
    assert str(refused.value).startswith(told)


def test_drop_path_rates_grow_with_depth():
    assert drop_path_rates(ViTConfig(depth=3, drop_path=0.2)) == [0.0, 0.1, 0.2]
    assert drop_path_rates(ViTConfig(depth=1, drop_path=0.2)) == [0.0]


@pytest.mark.parametrize("side", range(1, 40))
def test_a_resnet_halves_an_image_as_often_as_its_stem_says(side):
    """Each 3×3, padded, of stride 2 leaves ⌈side / 2⌉."""
    for stem, halvings in ((Stem.cifar, 3), (Stem.imagenet, 5)):
        rest = side
        for _ in range(halvings):
            rest = (rest + 1) // 2
        assert feature_map(ResNet18Config(stem=stem), (side, 8, 3))[0] == rest


def test_a_users_model_that_cannot_be_created_is_reported_in_one_message(tmp_path, monkeypatch):
    (tmp_path / "bad_syntax.py").write_text("def x(:")
    (tmp_path / "bad_exit.py").write_text("raise SystemExit(3)")
    (tmp_path / "bad_class.py").write_text("class Net:\n    def __init__(self, *_): 1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    for path, problem in {
        None: r"model\.torch=null: your model has no side for backend=torch.*or backend=jax",
        "./net.py:Net": r"it names a file\. Name the module: net:Net",
        "bad_syntax:Net": r"cannot be imported: SyntaxError",
        "bad_exit:Net": r"cannot be imported: SystemExit: 3",
        "bad_class:Other": r"has no Other",
        "bad_class:Net": r"cannot be created \(ZeroDivisionError.*It is called as Net\(input_shape",
    }.items():
        with pytest.raises(UserError, match=problem):
            import_user_model("model.torch", path, (4,), 2, {})


def test_a_users_model_is_found_in_the_working_folder(tmp_path, monkeypatch):
    (tmp_path / "found_here.py").write_text("def Net(*arguments):\n    return arguments")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    assert import_user_model("model.torch", "found_here:Net", (4,), 2, {}) == ((4,), 2)


@pytest.mark.parametrize(
    ("outputs", "targets", "task", "problem"),
    [
        (np.zeros((8, 10)), (8,), Classification(), ""),
        (np.zeros((8, 5, 256)), (8, 5), Language(), ""),
        (np.zeros((8, 1)), (8, 1), Regression(), ""),
        (
            np.zeros((8, 1)),
            (8, 2),
            Regression(),
            r"\[8, 1\], and the loss needs an array \[8, 2\]",
        ),
        (np.zeros((8, 10, 4)), (8,), Classification(), r"\[8, 10, 4\].* \[8, classes\]"),
        ({"logits": 1}, (8,), Classification(), "returns a dict"),
        (
            np.zeros((8, 13)),
            (8,),
            Classification(),
            "logits of 13 classes, and the data set has 10",
        ),
        (np.zeros((8, 5, 9)), (8, 5), Language(), "logits of 9 classes, and the data set has 10"),
    ],
)
def test_outputs_of_a_users_model_must_have_the_shape_that_the_loss_needs(
    outputs, targets, task, problem
):
    with pytest.raises(UserError, match=problem) if problem else nullcontext():
        check_outputs(outputs, {task.targets[0]: targets}, task, 10)
