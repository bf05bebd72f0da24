"""Tests of the parity check: it reports equal backends as the same, and locates each planted mistake."""

import json
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

import jax
import numpy as np
import pytest

import flax_impl.backend
import flax_impl.data.batches
import flax_impl.layers
import flax_impl.models.resnet
import flax_impl.models.vit
import flax_impl.training.step
import lightning_impl.optimizers
import lightning_impl.training.step
from pipeline.config.models import Activation
from pipeline.errors import Diverged
from pipeline.parity.differences import (
    BATCH,
    BUFFERS,
    CLIPPED,
    FORWARD,
    GRADIENT,
    RATE,
    UPDATE,
    WEIGHTS,
)
from pipeline.parity.lockstep import Comparison, compare
from pipeline.parity.report import as_json, place, verdict
from pipeline.run.recording.recorder import Recorder

QUIET = "logger=none train.log_every=1 train.precision=fp64 train.randomness=shared accelerator=cpu"
SMALL = f"{QUIET} dataset.limit=64 train.batch_size=16 train.steps=6"
MLP = f"{SMALL} model=mlp model.hidden=[16,16] model.activation=gelu optimizer=adamw"
VIT = f"{SMALL} model=vit model.depth=1 model.width=16 model.heads=2 model.dropout=0.2"
RESNET = f"{SMALL} model=resnet18 model.width=4 train.steps=3"


@pytest.fixture
def compared(on_two) -> Callable[[str], Comparison]:
    """A function that compares the two backends on an experiment."""

    def run(overrides: str) -> Comparison:
        return compare(on_two(overrides), False, lambda *news: None)

    return run


def clip_without_epsilon(patch):
    def clip(gradients, norm, train):
        return jax.tree.map(lambda gradient: gradient * (train.clip_norm / norm), gradients)

    patch.setattr(flax_impl.training.step, "clip_gradients", clip)


def other_norm_epsilon(patch):
    made = flax_impl.models.vit.LayerNorm
    patch.setattr(
        flax_impl.models.vit,
        "LayerNorm",
        lambda **options: made(**{**options, "epsilon": 1e-5}),
    )


def other_optimizer_setting(**changes):
    def mutate(patch):
        made = lightning_impl.optimizers.OPTIMIZERS["adamw"]
        patch.setitem(
            lightning_impl.optimizers.OPTIMIZERS,
            "adamw",
            lambda config, *args, **options: made(replace(config, **changes), *args, **options),
        )

    return mutate


def less_decay(patch):
    made = lightning_impl.optimizers.OPTIMIZERS["adamw"]

    def weaker(config, members, **options):
        for group in members:
            group["weight_decay"] = 1e-4
        return made(config, members, **options)

    patch.setitem(lightning_impl.optimizers.OPTIMIZERS, "adamw", weaker)


def approximate_gelu(patch):
    activations = flax_impl.layers.ACTIVATIONS
    patch.setitem(activations, Activation.gelu, activations[Activation.gelu_tanh])


def rate_of_the_next_step(patch):
    honest = Recorder.learning_rate

    def learning_rate(self, step):
        return honest(self, step + (self.config.backend.name == "jax"))

    patch.setattr(Recorder, "learning_rate", learning_rate)


def relabelled(change):
    def mutate(patch):
        class Home(flax_impl.data.batches.ResidentSplit):
            def __init__(self, split, plan, device):
                label = change(split.fields["label"].copy())
                split = replace(split, fields=split.fields | {"label": label})
                super().__init__(split, plan, device)

        patch.setattr(flax_impl.data.batches, "ResidentSplit", Home)

    return mutate


def swap_two_samples(targets):
    other = np.flatnonzero(targets != targets[0])[0]
    targets[[0, other]] = targets[[other, 0]]
    return targets


def swap_two_classes(targets):
    return np.choose(np.isin(targets, [3, 5]), [targets, 8 - targets])


def same_padding(patch):
    made = flax_impl.models.resnet.nn.Conv

    class Linen:
        def __getattr__(self, name):
            return getattr(flax_impl.models.vit.nn, name)

        @staticmethod
        def Conv(features, kernel_size, strides=1, padding=0, **options):
            padding = "SAME" if kernel_size == (3, 3) else padding
            return made(features, kernel_size, strides, padding, **options)

    patch.setattr(flax_impl.models.resnet, "nn", Linen())


def other_momentum(patch):
    made = flax_impl.models.resnet.BatchNorm
    patch.setattr(
        flax_impl.models.resnet,
        "BatchNorm",
        lambda **options: made(**options | {"momentum": 0.01}),
    )


def transposed_kernel(patch):
    honest = flax_impl.backend.from_canonical

    def from_canonical(arrays, layout):
        tree = honest(arrays, layout)
        if "layers.1" in tree:
            tree["layers.1"]["kernel"] = tree["layers.1"]["kernel"].T
        return tree

    patch.setattr(flax_impl.backend, "from_canonical", from_canonical)


def other_groups(chosen, **changes):
    def mutate(patch):
        honest = lightning_impl.training.step.param_groups

        def groups(*args):
            return {
                name: replace(group, **changes) if chosen(name) else group
                for name, group in honest(*args).items()
            }

        patch.setattr(lightning_impl.training.step, "param_groups", groups)

    return mutate


def other_dropout(patch):
    made = flax_impl.models.vit.Dropout
    patch.setattr(
        flax_impl.models.vit, "Dropout", lambda rate, **options: made(rate / 2, **options)
    )


@dataclass(frozen=True)
class Slip:
    """A mistake on one side, and what the check must report.

    Args:
        mutate: makes the mistake by patching one backend.
        overrides: overrides of the experiment.
        part: the part of a step in which the backends first differ.
        place: the module, parameter or array that differs.
        step: the step at which they differ; None for any.
    """

    mutate: Callable[[pytest.MonkeyPatch], None]
    overrides: str
    part: str
    place: str
    step: int | None = 1


SLIPS = {
    # The table of planted mistakes.
    "clip without 1e-6": Slip(
        clip_without_epsilon, f"{MLP} train.clip_norm=0.01", CLIPPED, "layers.0.weight"
    ),
    "another LayerNorm epsilon": Slip(other_norm_epsilon, VIT, FORWARD, "blocks.0.norm1"),
    "another Adam epsilon": Slip(other_optimizer_setting(eps=1e-7), MLP, UPDATE, "layers.0.weight"),
    "the other GELU": Slip(approximate_gelu, MLP, FORWARD, "between layers.0 and layers.1"),
    "another weight decay": Slip(less_decay, MLP, UPDATE, "layers.0.weight"),
    "a learning rate off by one": Slip(rate_of_the_next_step, MLP, RATE, "learning rate"),
    "two labels swapped in the data set": Slip(
        relabelled(swap_two_samples), MLP, BATCH, "label", None
    ),
    "SAME padding at stride 2": Slip(same_padding, RESNET, FORWARD, "layer2.0.conv1"),
    "another BatchNorm momentum": Slip(other_momentum, RESNET, BUFFERS, "bn1.running_mean"),
    # Our own.
    "two classes swapped": Slip(relabelled(swap_two_classes), MLP, BATCH, "label"),
    "a square kernel transposed": Slip(transposed_kernel, MLP, WEIGHTS, "layers.1.weight", 0),
    "no decay of biases on one side": Slip(
        other_groups(lambda name: name.endswith("bias"), decay=False), MLP, UPDATE, "layers.0.bias"
    ),
    "a frozen parameter": Slip(
        other_groups(lambda name: name == "layers.1.weight", frozen=True),
        MLP,
        GRADIENT,
        "layers.1.weight",
    ),
    "another dropout rate": Slip(other_dropout, VIT, FORWARD, "pos_drop"),
}


@pytest.mark.parametrize("overrides", [MLP, VIT, RESNET], ids=["mlp", "vit", "resnet18"])
@pytest.mark.slow
def test_equal_backends_are_reported_as_the_same_in_every_part(compared, overrides):
    comparison = compared(overrides)
    assert comparison.parting is None, verdict(comparison)
    assert verdict(comparison).startswith(f"the same: over {comparison.steps} steps")
    names = {
        part: {quantity.name for quantity in found} for part, found in comparison.parts.items()
    }
    assert {"image", "label"} == names[BATCH]
    assert len(names[FORWARD]) > 3
    assert names[GRADIENT] == names[UPDATE] == names[WEIGHTS] == names[CLIPPED]


@pytest.mark.slow
@pytest.mark.parametrize("name", SLIPS)
def test_a_mistake_on_one_side_is_found_and_located(compared, monkeypatch, configure, name):
    slip = SLIPS[name]
    slip.mutate(monkeypatch)
    comparison = compared(slip.overrides)
    assert comparison.parting is not None
    step, quantity = comparison.parting
    assert (quantity.part, place(comparison, quantity, step)) == (slip.part, slip.place)
    assert slip.step is None or step == slip.step
    told = json.loads(json.dumps(as_json(comparison, configure(slip.overrides))))
    assert told["verdict"] == "parted"
    assert (told["first"]["part"], told["first"]["place"]) == (slip.part, slip.place)
    assert f"they part at step {step}: {slip.part}: {slip.place}" in told["sentence"]


def test_variables_of_the_environment_are_set_before_a_thread_could_read_them(on_two, monkeypatch):
    monkeypatch.delenv("XLA_PYTHON_CLIENT_PREALLOCATE", raising=False)
    setting, putenv = [], os.putenv
    monkeypatch.setattr(
        os, "putenv", lambda *pair: setting.append(threading.current_thread()) or putenv(*pair)
    )
    comparison = compare(on_two(f"{SMALL} model=linear train.steps=1"), False, lambda *news: None)
    assert comparison.steps == 1
    assert set(setting) == {threading.main_thread()}


@pytest.mark.slow
def test_the_check_runs_in_two_processes_as_on_a_gpu(on_two):
    overrides = f"{SMALL} model=linear train.steps=3"
    comparison = compare(on_two(overrides), True, lambda *news: None)
    assert comparison.parting is None, verdict(comparison)
    assert comparison.steps == 3
    digests = {finished.facts["init_digest"] for finished in comparison.finished.values()}
    assert len(comparison.finished) == 2
    assert len(digests) == 1


@pytest.mark.slow
@pytest.mark.parametrize("apart", [False, True], ids=["one process", "two processes"])
def test_divergence_of_a_backend_is_reported(on_two, apart):
    overrides = f"{SMALL} model=mlp optimizer=sgd optimizer.lr=1e300"
    with pytest.raises(Diverged, match="train/loss is"):
        compare(on_two(overrides), apart, lambda *news: None)
