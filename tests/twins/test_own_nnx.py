"""A user's own model in Flax NNX trains, resumes and crosses like one in linen."""

import numpy as np
import pytest
from asserts import assert_rows_close
from short_runs import SELDOM, lines

from pipeline.config.models import OwnConfig
from pipeline.errors import UserError
from pipeline.storage.checkpoints import checkpoints_of
from pipeline.storage.run_folder import RunFolder

OWN = "model=own model.jax=tests.own_nnx:NNXNet"
PAIR = f"{SELDOM} {OWN} model.torch=tests.own_models:TorchNorm"


def test_it_trains_as_its_torch_twin_with_masks_that_are_shared(run):
    options = "model.options={norm:false,rate:0.3} train.randomness=shared"
    torch, jax = run(f"{PAIR} {options} train.accumulate=2 optimizer.weight_decay=0.1")
    assert_rows_close(jax.rows, torch.rows)
    assert len(torch.rows) > 7


@pytest.mark.parametrize("precision", ["fp64", pytest.param("bf16", marks=pytest.mark.slow)])
def test_with_dropout_and_statistics_a_resumed_run_repeats_the_uninterrupted_one(
    train, tmp_path, precision
):
    overrides = f"{SELDOM} {OWN} model.options={{rate:0.3}} train.precision={precision}"
    overrides = overrides.replace("train.precision=fp64 ", "", 1)
    assert train("whole", "jax", overrides) == 0
    assert train("halves", "jax", f"{overrides} train.stop_after=13") == 130
    assert train("halves", "jax", f"{overrides} resume={tmp_path / 'halves'}") == 0
    assert lines(tmp_path / "halves") == lines(tmp_path / "whole")
    still = overrides.replace("rate:0.3", "rate:0")
    assert train("still", "jax", still) == 0
    assert lines(tmp_path / "still") != lines(tmp_path / "whole")


def test_torch_evaluates_its_weights_and_statistics(train, tmp_path):
    assert train("made", "jax", PAIR) == 0
    assert checkpoints_of(tmp_path / "made")
    tested = f"{PAIR} mode=test checkpoint={tmp_path / 'made'}"
    assert train("there", "torch", tested) == 0
    found, expected = (RunFolder(tmp_path / name).result.test for name in ("there", "made"))
    assert found == pytest.approx(expected, rel=1e-10)


def test_a_module_of_the_other_backend_is_refused_with_the_key_that_takes_it():
    from flax_impl.models import custom as in_flax
    from lightning_impl.models import custom as in_torch

    both = OwnConfig(torch="tests.own_models:FlaxNet", jax="tests.own_models:TorchNet")
    with pytest.raises(
        UserError, match=r"jax=.*Net: it is a torch.nn.Module\. Set model.torch=tests"
    ):
        in_flax.import_model(both, (4, 4, 1), 2, dtype=np.float32)
    with pytest.raises(
        UserError, match=r"torch=.*Net: it is a module of flax\. Set model.jax=tests"
    ):
        in_torch.import_model(both, (1, 4, 4), 2)


def test_dropout_draws_anew_at_every_step_and_in_every_layer():
    import jax
    from flax import nnx

    from flax_impl.adapters.from_nnx import FromNNX

    class Twice(nnx.Module):
        def __init__(self, rngs):
            self.layers = nnx.List([nnx.Dropout(0.5, rngs=rngs) for _ in range(2)])

        def __call__(self, x):
            return x * np.float32(1), *(layer(x) for layer in self.layers)

    model, x = FromNNX(np.float32, lambda key: Twice(nnx.Rngs(key))), np.ones((64, 4), np.float32)
    masks = [
        model.apply({}, x, train=True, rngs={"dropout": jax.random.key(step)})[1:]
        for step in (0, 0, 1)
    ]
    assert (masks[0][0] == masks[1][0]).all()
    assert not (masks[0][0] == masks[0][1]).all()
    assert not (masks[0][0] == masks[2][0]).all()
    assert (model.apply({}, x)[1] == x).all()


@pytest.mark.slow
def test_python_gets_the_nnx_module_with_its_weights(train, tmp_path):
    import tandem

    assert train("made", "jax", f"{SELDOM} {OWN}") == 0
    run = tandem.load(tmp_path / "made")
    images = run.data.test.arrays["image"][:5]
    moments = run.data.moments["image"]
    module = run.model
    with_module = module((images - moments.mean) / moments.std)
    np.testing.assert_allclose(with_module, run.predict(images), rtol=1e-5)
    assert type(module).__name__ == "NNXNet"


def test_containers_stacked_and_shared_layers_and_variables_of_other_types_are_where_they_belong():
    import jax
    from flax import nnx

    from flax_impl.adapters.from_nnx import FromNNX
    from flax_impl.layers import layer_kinds
    from flax_impl.layout import initial_variables, layout_of
    from pipeline.errors import UserError

    class Order(nnx.Variable):
        pass

    class Parts(nnx.Module):
        def __init__(self, rngs, key=None):
            @nnx.split_rngs(splits=3)
            @nnx.vmap(in_axes=0, out_axes=0)
            def stack(rngs):
                return nnx.Linear(4, 4, rngs=rngs)

            self.blocks = nnx.Dict(a=nnx.List([nnx.Linear(4, 4, rngs=rngs)]))
            self.lora = nnx.LoRALinear(4, 4, lora_rank=2, rngs=rngs)
            self.one = self.two = nnx.Linear(4, 4, use_bias=False, rngs=rngs)
            self.order = Order(jax.numpy.array([3, 2, 1, 0]))
            self.shift = nnx.data(jax.numpy.full(4, 2.0))
            self.activation = jax.nn.relu
            self.stack = stack(rngs)
            if key is not None:
                self.key = nnx.data(key)

        def __call__(self, x):
            x = self.two(self.one(self.lora(self.blocks["a"][0](x[:, self.order[...]]))))
            scan = nnx.scan(lambda x, layer: layer(x), in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
            return self.activation(scan(x + self.shift, self.stack))

    model = FromNNX(np.float32, lambda key: Parts(nnx.Rngs(key)))
    x = jax.ShapeDtypeStruct((2, 4), np.float32)
    layout = layout_of(model, x)
    shapes = {place.name: place.shape for place in layout.values() if place.collection == "params"}
    assert shapes == {
        "blocks.a.0.weight": (4, 4), "blocks.a.0.bias": (4,), "lora.kernel": (4, 4), "lora.bias": (4,),
        "lora.lora.lora_a": (4, 2), "lora.lora.lora_b": (2, 4), "one.weight": (4, 4),
        "stack.kernel": (3, 4, 4), "stack.bias": (3, 4),
    }  # fmt: skip
    assert {place.name for place in layout.values()} - shapes.keys() == {"order", "shift"}
    kinds = layer_kinds(layout)
    assert (kinds["one"], kinds["stack"], kinds["lora"]) == ("linear", "own", "own")
    variables = initial_variables(model, [x], 0)
    values = np.random.default_rng(0).standard_normal((2, 4)).astype(np.float32)
    found, after = model.apply(variables, values, train=True, mutable=["batch_stats"])
    np.testing.assert_allclose(found, model.filled(variables)(values), rtol=1e-6)
    assert after["batch_stats"]["order"].dtype == np.int32
    with pytest.raises(UserError, match="key is a random key, which no checkpoint keeps"):
        layout_of(FromNNX(np.float32, lambda key: Parts(nnx.Rngs(key), key)), x)
