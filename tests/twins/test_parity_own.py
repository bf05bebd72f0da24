"""Parity of a user's own pair: dropout of the frameworks, own values at step 0, parameters of one side."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from pipeline.config.experiment import BackendConfig
from pipeline.data import sources
from pipeline.errors import UserError
from pipeline.parity.lockstep import Comparison, compare
from pipeline.parity.report import as_json, verdict
from pipeline.parity.workers import initial_values
from pipeline.run.transfer import make_initial

SMALL = (
    "model=own model.torch=own_models:TorchPlain model.jax=own_models:FlaxPlain accelerator=cpu logger=none "
    "train.log_every=1 train.precision=fp64 train.randomness=shared dataset.limit=64 train.batch_size=16 "
    "train.steps=2"
)


@pytest.fixture
def compared(on_two) -> Callable[..., Comparison]:
    """A function that compares a user's pair with some options."""

    def run(overrides: str = "", noise: bool = False, **options: object) -> Comparison:
        given = " ".join(f"+model.options.{name}={value}" for name, value in options.items())
        configs = on_two(f"{SMALL} {overrides} {given}")
        initial = initial_values(configs.values(), sources.load(configs["torch"].dataset), False)
        return compare(configs, False, lambda *_: None, noise, initial)

    return run


@pytest.mark.slow
def test_dropout_of_the_frameworks_is_left_out_and_the_rest_is_compared(compared):
    comparison = compared("optimizer=adamw train.accumulate=2")
    assert comparison.parting is None, verdict(comparison)
    told = verdict(comparison)
    assert told.startswith("the same with dropout left out (128 of rate 0.1): over 2 steps")
    assert max(comparison.quantities["loss", "loss"].values.values()) < 1e-12
    assert {draw.layer for draw in comparison.draws["torch"]} == {"drop"}
    assert {draw.layer for draw in comparison.draws["jax"]} == {"Dropout_0"}
    # Layers that are called by keyword alone are seen, too.
    assert ("forward", "b input") in comparison.quantities


@pytest.mark.slow
def test_another_rate_of_dropout_is_told_with_both_layers_and_rates(compared):
    told = verdict(compared(other_rate=0.5))
    assert told.startswith(
        "they part at step 1: random numbers: drop (rate 0.1) and Dropout_0 (rate 0.5), by 4.0e-01"
    )


@pytest.mark.slow
def test_a_mistake_behind_dropout_is_found_where_it_is(compared):
    told = verdict(compared(activation="tanh"))
    assert told.startswith("they part at step 1: forward: between a and b, by")


@pytest.mark.parametrize(
    "model",
    ["own_equinox:EquinoxNet", pytest.param("own_nnx:NNXNet", marks=pytest.mark.slow)],
)
def test_a_wrong_layer_inside_a_module_of_nnx_or_equinox_is_named(compared, model):
    comparison = compared(
        f"model.torch=own_models:TorchNorm model.jax={model}", wrong=True, norm=False, rate=0.3
    )
    told = verdict(comparison)
    assert told.startswith("they part at step 1: forward: between hidden.0 and hidden.1, by"), told
    drawn = {backend: {d.layer for d in draws} for backend, draws in comparison.draws.items()}
    assert drawn == {"torch": {"drop"}, "jax": {"drop"}}


@pytest.mark.slow
def test_dropout_without_effect_on_one_side_leaves_no_verdict(compared, configure):
    comparison = compared(twice=True)
    assert comparison.parting is None
    assert (
        "do not draw as many: 256 of rate 0.1 (torch), 512 of rate 0.1 (jax); a mask that is shared"
        in verdict(comparison)
    )
    assert as_json(comparison, configure(SMALL))["verdict"] == "abstain"


@pytest.mark.slow
def test_in_low_precision_there_is_no_verdict_on_dropout_under_other_names(compared):
    comparison = compared("train.precision=fp32")
    assert comparison.steps == 1
    assert "torch draws the mask of drop (256 numbers) by its name" in comparison.abstention
    assert "jax has no such layer: Dropout_0" in comparison.abstention
    assert "train.precision=fp64" in verdict(comparison)


@pytest.mark.slow
def test_float32_inside_an_fp64_run_is_told_where_a_difference_is_as_small(compared):
    comparison = compared(narrow=True)
    assert "jax" in comparison.narrow
    assert "But float32 is made by jax in the model itself, whose rounding" in verdict(comparison)
    assert not compared().narrow


@pytest.mark.slow
def test_parameters_of_one_side_alone_part_if_the_loss_depends_on_them(compared):
    told = verdict(compared(more=True))
    start = "they part at step 1: initial weights: in torch only: "
    assert told == f"{start}more.weight [16, 16], more.bias [16]"
    comparison = compared(unused=True)
    assert comparison.parting is None, verdict(comparison)
    assert comparison.alone == {"torch": {"unused.weight": (4, 4), "unused.bias": (4,)}, "jax": {}}


def test_a_pair_starts_from_the_values_that_its_torch_model_makes(configure, train, tmp_path):
    import torch
    from own_models import TorchPlain

    from pipeline.rng import key_words

    config = configure(f"{SMALL} seed=3 backend=jax")
    data = sources.load(config.dataset)
    assert (
        initial_values([replace(config, backend=BackendConfig(name="torch"))], data, False) is None
    )
    values = initial_values([config], data, False).parameters
    np.testing.assert_array_equal(values["scale"], np.ones(16))
    torch.manual_seed(key_words(3, "weights")[0])
    weights = TorchPlain(data.input_shape, data.outputs).state_dict()
    assert values.keys() == weights.keys()
    for name, array in values.items():
        np.testing.assert_array_equal(array, weights[name].numpy())


@pytest.mark.slow
def test_both_backends_train_from_the_same_bytes_of_a_process_for_torch(train, tmp_path):
    digests = set()
    for backend in ("torch", "jax"):
        assert train(backend, backend, f"{SMALL} +model.options.rate=0") == 0
        digests.add(
            (tmp_path / backend / "result.json").read_text().split('"init_digest": "')[1][:64]
        )
    assert len(digests) == 1


@pytest.mark.slow
def test_a_model_alone_starts_as_it_is_made_from_the_seed(train, tmp_path):
    alone = SMALL.replace("model.torch=own_models:TorchPlain ", "")
    for name, seed in (("one", 1), ("again", 1), ("other", 2)):
        assert train(name, "jax", f"{alone} seed={seed}") == 0
    digests = [
        (tmp_path / name / "result.json").read_text().split('"init_digest": "')[1][:64]
        for name in ("one", "again", "other")
    ]
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.slow
def test_a_run_of_a_pair_whose_parameters_differ_is_refused(train):
    with pytest.raises(UserError) as caught:
        train("jax", "jax", f"{SMALL} +model.options.more=true")
    assert "its parameters are not those of model.torch: in torch only: more.bias" in str(
        caught.value
    )
    assert "Set model.names=auto, which finds what belongs together" in str(caught.value)
    assert "python -m pipeline.parity with these overrides" in str(caught.value)


@pytest.mark.slow
def test_the_process_for_torch_makes_the_values_that_torch_makes_here(configure, tmp_path):
    config = replace(configure(SMALL), backend=BackendConfig(name="jax"))
    data = sources.load(config.dataset)
    here = initial_values([config], data, False)
    [there] = make_initial(config, data, "torch", tmp_path)
    for name, array in here.parameters.items():
        np.testing.assert_array_equal(there.state.parameters[name], array)
