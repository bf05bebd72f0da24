"""Likely causes of differences: each mistake of a tiny pair is named, and confirmed by its remedy."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from wrong_pairs import Image, Text, inputs, subject

from pipeline.verify.alignment.align import Aligner, Alignment
from pipeline.verify.causes import find_cause
from pipeline.verify.causes.documented import ROWS
from pipeline.verify.causes.trial import BUDGET
from pipeline.verify.checks.checker import Checker, Finding
from pipeline.verify.checks.differences import by_name, relative
from pipeline.verify.verdict import Cause, Part

MIXED, TORCH, JAX = ("torch", "jax"), ("torch", "torch"), ("jax", "jax")


pytestmark = pytest.mark.usefixtures("float64", "torch_float64")


@cache
def aligned(base: Text | Image, sides: tuple[str, str]) -> Alignment:
    """Align the two models without mistakes: which parameters belong together is known here."""
    given = inputs(base)
    subjects = subject(sides[0], base), subject(sides[1], base)
    return Aligner(*subjects, (given, given), 0).align()


def cause_of(
    base: Text | Image,
    left: dict,
    right: dict,
    sides: tuple[str, str] = MIXED,
    part: Part = Part.forward,
    gradients: bool = False,
    budget: float = BUDGET,
) -> Cause | None:
    """Find the cause of the difference of two models with other details."""
    training = part in (Part.training, Part.buffers)
    models = subject(sides[0], replace(base, **left)), subject(sides[1], replace(base, **right))
    right_base = Text(layers=base.layers) if isinstance(base, Text) else Image()
    alignment, given = aligned(right_base, sides), inputs(base)
    checker = Checker(*models, alignment)
    checker.load(alignment.values)
    traces = [model.trace(given, training) for model in models]
    checker.match_outputs(traces[0].outputs, traces[1].outputs)
    path, (other, layout) = next(iter(checker.layouts.items()))
    far = relative(np.squeeze(traces[0].outputs[path]), layout.to_left(traces[1].outputs[other]))
    wrong = Finding(part, path, far, 0, training)
    if part is Part.buffers:
        after = [{**m.values(), **t.buffers} for m, t in zip(models, traces, strict=True)]
        found = by_name(after[0], checker.mapping.to_left(after[1], after[0]))
        wrong = Finding(part, max(found, key=found.__getitem__), max(found.values()), 0, training)
    if part is Part.gradient:
        found = checker.compare_pass((given, given), training, 0)
        wrong = max((f for f in found if f.part is part), key=lambda f: f.value)
    assert wrong.value > 1e-8  # there is something to explain
    return find_cause(checker, wrong, (given, given), budget, gradients)


TEXT = [
    # details of the left side, of the right side, cause, phrase of the remedy
    ({}, {"activation": "gelu_tanh"}, "GELU exact or tanh", "approximate='tanh'"),
    ({"activation": "relu"}, {"activation": "silu"}, "activation", "with SiLU on the left"),
    ({"activation": "leaky_relu"}, {"activation": "leaky_relu", "slope": 0.2}, "negative slope",
     "leaky ReLU with 0.2 on the left"),
    ({}, {"epsilon": 1e-6}, "norm epsilon", "with epsilon 1e-06 on the left"),
    ({}, {"norm": "rms"}, "RMS norm or layer norm", "the mean square (RMS)"),
    ({"norm": "rms"}, {}, "RMS norm or layer norm", "on the right the two are the same"),
    ({}, {"norm": "outside"}, "epsilon inside or outside the root", "epsilon 1e-05 outside"),
    ({"norm": "unbiased"}, {}, "biased variance", "the unbiased variance"),
    ({}, {"norm": "rows"}, "norm axes", "over axes 1, 2"),
    ({"plus_one": 1.0}, {}, "norm factor plus one", "without the 1"),
    ({}, {"scale": 1.0}, "attention scale", "a factor of 2 on the left"),
    ({}, {"softmax_axis": -2}, "softmax axis", "softmax over axis -2"),
    ({}, {"causal": 1}, "causal mask off by one", "the diagonal up by one"),
    ({}, {"causal": -1}, "causal mask off by one", "the diagonal down by one"),
    ({}, {"causal": None}, "missing causal mask", "a mask that right lacks"),
    ({}, {"pads": False}, "padding mask ignored", "a mask that right lacks"),
    ({}, {"offset": 1}, "position offset", "1 added to them"),
    ({"offset": 2}, {}, "position offset", "2 taken from them"),
    ({}, {"embedding_scale": 8**0.5}, "embedding scale", "√8"),
    ({}, {"post_norm": True}, "pre-norm or post-norm", "before the residual"),
    ({}, {"residual": "norm"}, "residual source", "blocks.0.norm1"),
    ({}, {"residual": "none"}, "missing residual", "which right lacks"),
    ({}, {"final_norm": False}, "missing norm", "left applies the norm"),
    ({"rotary": "halves"}, {"rotary": "pairs"}, "rotary layout", "features 2i and 2i + 1"),
    ({"rotary": "halves"}, {}, "missing rotary positions", "which right lacks"),
    ({"rotary": "halves"}, {"rotary": "halves", "theta": 1e4}, "rope theta", "rope theta 10000"),
]  # fmt: skip
IMAGE = [
    ({}, {"padding": (0, 1)}, "padding", "0 before and 1 behind (as SAME) on the left"),
    ({"padding": (0, 1)}, {}, "padding", "padding of 0 on each side"),
    ({}, {"mode": "reflect"}, "padding mode", "zeros, 1 on each side"),
    ({"padding": (1, 0)}, {"padding": (1, 0), "mode": "reflect"}, "padding mode",
     "zeros, 1 before and 0 behind"),
    ({}, {"stride": 1}, "stride", "stride 1 on the left"),
    ({"dilation": 2, "padding": (2, 2)}, {"padding": (2, 2)}, "dilation", "dilation 1 on the left"),
    ({}, {"pool": "avg"}, "pooling kind", "average pooling on the left"),
    ({"pool_padding": (0, 0), "ceil": True}, {"pool_padding": (0, 0)}, "ceil mode", "ceil_mode"),
    ({"pool": "avg"}, {"pool": "avg", "counts": False}, "average pool counts padding",
     "averages without padding on the left"),
    ({}, {"swaps": True}, "order of norm and activation", "before the relu"),
    ({}, {"epsilon": 1e-3}, "norm epsilon", "epsilon 0.001"),
    ({"resize": "corners"}, {"resize": "plain"}, "align corners", "linear, align_corners"),
    ({"resize": "plain"}, {"resize": "smooth"}, "antialiasing", "linear, antialiased"),
]  # fmt: skip


@pytest.mark.parametrize(("left", "right", "name", "phrase"), TEXT)
def test_a_mistake_in_a_transformer_is_named_and_its_remedy_confirmed(left, right, name, phrase):
    cause = cause_of(Text(), left, right)
    assert cause is not None
    assert (cause.name, cause.confirmed) == (name, True)
    assert phrase in cause.remedy


@pytest.mark.parametrize(
    ("left", "right", "name"),
    [
        ({}, {"activation": "gelu_tanh"}, "GELU exact or tanh"),
        ({"plus_one": 1.0}, {}, "norm factor plus one"),
        ({}, {"scale": 1.0}, "attention scale"),
    ],
)
def test_a_cause_is_applied_to_all_layers_that_have_it(left, right, name):
    cause = cause_of(Text(layers=2), left, right)
    assert cause is not None
    assert (cause.name, cause.confirmed) == (name, True)


@pytest.mark.parametrize(("left", "right", "name", "phrase"), IMAGE)
def test_a_mistake_in_a_convolutional_network_is_named_and_its_remedy_confirmed(
    left, right, name, phrase
):
    cause = cause_of(Image(), left, right)
    assert cause is not None
    assert (cause.name, cause.confirmed) == (name, True)
    assert phrase in cause.remedy


@pytest.mark.parametrize(
    ("base", "left", "right", "part", "name", "phrase"),
    [
        (Text(), {"rate": 0.1}, {"rate": 0.5}, Part.training, "dropout rate", "1.8"),
        (Text(), {"rate": 0.1}, {}, Part.training, "missing dropout", "0.9"),
        (Text(rate=0.1), {}, {"dropout_after": True}, Part.training, "dropout place", "residual"),
        (Image(), {}, {"is_still": True}, Part.training, "running statistics in training", "batch"),
        (
            Image(),
            {},
            {"momentum": 0.9},
            Part.buffers,
            "running statistics momentum",
            "0.9 for 0.1",
        ),
        (
            Image(),
            {},
            {"momentum": 0.01},
            Part.buffers,
            "running statistics momentum",
            "0.99, 0.01",
        ),
        (Image(), {}, {"unbiased": False}, Part.buffers, "biased running variance", "1.01124"),
        (Text(), {}, {"stops": True}, Part.gradient, "stop gradient", "right"),
        (Text(), {"stops": True}, {}, Part.gradient, "stop gradient", "left"),
        (Text(), {"padding_idx": 2}, {}, Part.gradient, "padding_idx", "row 2"),
    ],
)
def test_a_mistake_that_training_shows_is_named(base, left, right, part, name, phrase):
    cause = cause_of(base, left, right, part=part)
    assert cause is not None
    assert (cause.name, cause.confirmed) == (name, True)
    assert phrase in cause.remedy


@pytest.mark.parametrize("sides", [TORCH, JAX])
@pytest.mark.parametrize(
    ("base", "right", "name"),
    [
        pytest.param(
            Text(), {"activation": "gelu_tanh"}, "GELU exact or tanh", marks=pytest.mark.slow
        ),
        (Text(), {"norm": "outside"}, "epsilon inside or outside the root"),
        pytest.param(Text(), {"post_norm": True}, "pre-norm or post-norm", marks=pytest.mark.slow),
        (Image(), {"padding": (2, 0)}, "padding"),
        (Image(pool="avg"), {"counts": False}, "average pool counts padding"),
    ],
)
def test_causes_are_found_between_two_models_of_one_framework(sides, base, right, name):
    cause = cause_of(base, {}, right, sides)
    assert cause is not None
    assert (cause.name, cause.confirmed) == (name, True)


def test_a_padding_is_guessed_though_the_norm_behind_it_is_not_run_with_another_shape():
    cause = cause_of(Image(stride=1, groups=2), {}, {"padding": (0, 0)})
    assert cause is not None
    assert (cause.name, cause.confirmed) == ("padding", False)
    assert "with padding of 0 on each side on the left this place agrees" in cause.remedy


def test_a_remedy_is_confirmed_in_gradients_too():
    cause = cause_of(Text(), {}, {"activation": "gelu_tanh"}, gradients=True)
    assert cause is not None
    same = "the two are the same in outputs and gradients"
    assert cause.remedy.endswith(f"{same}; see docs/differences.md#gelu-approximation")


def test_each_row_that_a_cause_names_is_on_the_page_of_differences():
    page = (Path(__file__).parents[2] / "docs" / "differences.md").read_text()
    assert [row for row in ROWS.values() if f'<a id="{row}"></a>' not in page] == []


def test_trials_end_when_their_work_is_spent_however_fast_the_machine_is():
    case = Text(), {}, {"final_norm": False}  # a cause that comes late in the catalogue
    assert cause_of(*case, budget=1.0) is None
    assert cause_of(*case, budget=1e5) is not None


def test_two_mistakes_at_once_have_no_confirmed_cause():
    cause = cause_of(Text(), {}, {"activation": "gelu_tanh", "final_norm": False})
    assert cause is None or not cause.confirmed
