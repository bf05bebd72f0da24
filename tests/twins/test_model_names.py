"""`model.names`: a user's pair whose names and layouts differ, run as one experiment."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from asserts import assert_rows_close

from flax_impl.layers import layer_kinds
from flax_impl.layout import check_groups, layout_of, module_names
from flax_impl.state import from_canonical, shapes_of, to_canonical
from pipeline.errors import UserError
from pipeline.loggers.metrics_file import read_metrics
from pipeline.training.param_groups import param_groups
from pipeline.verify.names.names_file import read_names

PAIR = """\
rows:
- {left: stem.weight, right: patches.kernel, transform: "transpose(2, 3, 1, 0)"}
- {left: stem.bias, right: patches.bias}
- {left: bn.weight, right: norm.scale}
- {left: bn.bias, right: norm.bias}
- {left: bn.running_mean, right: norm.mean}
- {left: bn.running_var, right: norm.var}
- {left: "qkv.weight[0:4]", right: a.kernel, transform: "transpose(1, 0)"}
- {left: "qkv.weight[4:8]", right: b.kernel, transform: "transpose(1, 0)"}
- {left: "qkv.weight[8:12]", right: c.kernel, transform: "transpose(1, 0)"}
- {left: "qkv.bias[0:4]", right: a.bias}
- {left: "qkv.bias[4:8]", right: b.bias}
- {left: "qkv.bias[8:12]", right: c.bias}
- left: fc.weight
  right: classifier.kernel
  transform: reshape(10, 4, 4).transpose(2, 1, 0).reshape(16, 10)
- {left: fc.bias, right: classifier.bias}
left: {arrays: {qkv.weight: [12, 4], qkv.bias: [12], fc.weight: [10, 16]}}
"""
OWN = (
    "model=own model.torch=own_models:TorchFused model.jax=own_models:FlaxSeparate optimizer=adamw "
    "dataset.limit=64 train.batch_size=16 train.precision=fp64 train.clip_norm=0.5 train.ema=0.9 "
    "train.eval_every=3steps logger=none accelerator=cpu train.log_every=1 model.init=torch"
)


@pytest.fixture
def names(tmp_path):
    path = tmp_path / "names.yaml"
    path.write_text(PAIR)
    return path


def test_a_run_with_names_gives_the_same_curve_on_both_backends_and_resumes_on_the_other(
    train, names, tmp_path
):
    options = f"{OWN} model.names={names} train.steps=6"
    for backend in ("torch", "jax"):
        assert train(backend, backend, options) == 0
    ours, theirs = (
        read_metrics(tmp_path / backend / "metrics.jsonl") for backend in ("torch", "jax")
    )
    assert [row["step"] for row in ours if "train/loss" in row] == [1, 2, 3, 4, 5, 6]
    assert_rows_close(theirs, ours, 1e-10)
    assert train("half", "torch", f"{options} train.stop_after=3") == 130
    assert train("rest", "jax", f"{options} resume={tmp_path / 'half'}") == 0
    rest = read_metrics(tmp_path / "rest" / "metrics.jsonl")
    assert_rows_close(rest, ours, 1e-10)


@pytest.mark.slow
def test_a_run_with_names_starts_from_the_values_of_the_torch_model(train, names, tmp_path):
    options = OWN.replace("model.init=torch", f"model.names={names} train.steps=3")
    for backend in ("torch", "jax"):
        assert train(backend, backend, options) == 0
    ours, theirs = (
        read_metrics(tmp_path / backend / "metrics.jsonl") for backend in ("torch", "jax")
    )
    assert_rows_close(theirs, ours, 1e-10)


def test_a_run_with_a_name_that_a_model_lacks_is_refused_by_either_backend(train, names, tmp_path):
    names.write_text(PAIR.replace("left: stem.bias", "left: stem.bais"))
    with pytest.raises(
        UserError, match=r"names.yaml, line 3: stem.bais: the left model has no such"
    ):
        train("torch", "torch", f"{OWN} model.names={names} train.steps=1")
    names.write_text(PAIR.replace("right: patches.bias", "right: patch.bias"))
    with pytest.raises(
        UserError, match=r"line 3: patch.bias: the right model has no such array. Closest"
    ):
        train("jax", "jax", f"{OWN} model.names={names} train.steps=1")


class Stacked(nn.Module):
    """Two layers whose kernels are one array, and a head whose parts are interleaved."""

    @nn.compact
    def __call__(self, x):
        for kernel in self.param("layers", nn.initializers.normal(), (2, 4, 4)):
            x = jnp.tanh(x @ kernel)
        return nn.Dense(4, name="out")(x)


STACKED = """\
- {left: h.0.weight, right: "layers[0]", transform: "transpose(1, 0)"}
- {left: h.1.weight, right: "layers[1]", transform: "transpose(1, 0)"}
- {left: head.weight, right: out.kernel, transform: "transpose(1, 0)"}
"""


@pytest.fixture
def stacked(tmp_path):
    path = tmp_path / "names.yaml"
    path.write_text(STACKED)
    x = jax.ShapeDtypeStruct((1, 4), np.float32)
    return layout_of(Stacked(), x, names=read_names(path, "model.names"))


def test_layers_in_one_array_have_their_own_canonical_names(stacked):
    shapes = {"h.0.weight": (4, 4), "h.1.weight": (4, 4), "head.weight": (4, 4), "out.bias": (4,)}
    assert shapes_of(stacked) == shapes
    assert layer_kinds(stacked) == {"h.0": "own", "h.1": "own", "head": "linear", "out": "linear"}
    random = np.random.default_rng(0)
    arrays = {name: random.normal(size=shape) for name, shape in shapes.items()}
    tree = from_canonical(arrays, stacked)
    np.testing.assert_array_equal(tree["layers"][1], arrays["h.1.weight"].T)
    np.testing.assert_array_equal(tree["out"]["bias"], arrays["out.bias"])
    back = to_canonical(tree, stacked)
    assert back.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(back[name], array)
    # The head's bias is not among the rows, so the module is no canonical layer by itself.
    assert module_names(stacked) == {}


REFUSED = {
    "train.frozen=[h.0.*]": "h.0.weight and h.1.weight have different settings, but both are in layers",
    "optimizer=lamb": "it updates h.0.weight as a whole, which layers of the JAX model is not",
}


@pytest.mark.parametrize("options", REFUSED)
def test_settings_that_an_array_of_several_parameters_cannot_have_are_refused(
    configure, stacked, options
):
    for each in (options, "optimizer=adamw"):
        config = configure(f"model=own {each}")
        groups = param_groups(shapes_of(stacked), layer_kinds(stacked), config)
        if each != options:
            check_groups(stacked, groups, config)
            continue
        with pytest.raises(UserError) as caught:
            check_groups(stacked, groups, config)
        assert REFUSED[options] in str(caught.value)


def test_a_name_that_an_array_without_a_row_has_already_is_refused(tmp_path):
    path = tmp_path / "names.yaml"
    path.write_text('- {left: out.bias, right: "layers", transform: "transpose(0, 2, 1)"}\n')
    x = jax.ShapeDtypeStruct((1, 4), np.float32)
    with pytest.raises(
        UserError, match=r"out.bias is the name of out.bias already, which has no row"
    ):
        layout_of(Stacked(), x, names=read_names(path, "model.names"))
