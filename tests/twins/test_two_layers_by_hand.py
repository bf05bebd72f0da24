"""docs/by_hand.md: its code runs, and both backends match it."""

import re
from functools import partial
from itertools import pairwise
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from losses import losses

from flax_impl import models as flax_models
from flax_impl.layout import layout_of
from flax_impl.state import from_canonical, to_canonical
from lightning_impl import models as torch_models
from lightning_impl.state import from_portable
from pipeline.config.models import Activation, MLPConfig
from pipeline.storage.portable_state import PortableState

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "by_hand.md").read_text()
NAMES = [f"layers.{layer}.{role}" for layer in (0, 1) for role in ("weight", "bias")]
# Of samples: how many, and how wide inputs, hidden layer and outputs are. The first is `dataset=line`.
SIZES = [(5, (1, 3, 1)), (7, (4, 6, 2)), (1, (2, 1, 3))]


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def page():
    """Names that the code of the page defines."""
    names = {}
    exec("\n".join(blocks("python")), names)
    return names


def problem(samples, widths):
    """Inputs, targets and the four parameters."""
    random = np.random.default_rng(0)
    parameters = []
    for inside, out in pairwise(widths):
        parameters += [random.normal(size=(out, inside)), random.normal(size=out)]
    sides = random.normal(size=(samples, widths[0])), random.normal(size=(samples, widths[-1]))
    return *sides, dict(zip(NAMES, parameters, strict=True))


def with_torch(x, y, parameters):
    """Mean loss and its gradients, by torch."""
    model = torch_models.build_model(mlp(parameters), x.shape[1:], y.shape[1]).double()
    from_portable(PortableState(0, parameters), model)
    rule, _ = losses("regression", features=x, target=y)
    batch = {"features": torch.tensor(x), "target": torch.tensor(y)}
    loss = rule.sums(rule.outputs(model, batch), batch)[0] / len(y)
    loss.backward()
    return loss.item(), [parameter.grad.numpy() for parameter in model.parameters()]


def with_jax(x, y, parameters):
    """Mean loss and its gradients, by JAX."""
    build = partial(flax_models.build_model, dtype=float, param_dtype=float)
    model = build(mlp(parameters), x.shape[1:], y.shape[1])
    layout = layout_of(model, jax.ShapeDtypeStruct(x.shape, float))

    _, rule = losses("regression", features=x, target=y)
    batch = {"features": jnp.asarray(x), "target": jnp.asarray(y)}

    def loss(params):
        outputs = rule.outputs(model.apply, {"params": params}, batch)
        return rule.sums(outputs, batch)[0] / len(y)

    value, gradients = jax.value_and_grad(loss)(from_canonical(parameters, layout))
    gradients = to_canonical(gradients, layout)
    return float(value), [gradients[name] for name in NAMES]


def mlp(parameters):
    hidden = len(parameters["layers.0.bias"])
    return MLPConfig(hidden=[hidden], activation=Activation.sigmoid)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("backend", [with_torch, with_jax], ids=["torch", "jax"])
@pytest.mark.parametrize(("samples", "widths"), SIZES)
def test_gradients_by_hand_match_both_backends(page, backend, samples, widths):
    x, y, parameters = problem(samples, widths)
    loss, gradients = backend(x, y, parameters)
    expected, by_hand = page["loss_and_gradients"](x, y, *parameters.values())
    assert loss == pytest.approx(expected, rel=1e-12)
    for gradient, other in zip(gradients, by_hand, strict=True):
        np.testing.assert_allclose(gradient, other, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(("samples", "widths"), SIZES)
def test_gradients_by_hand_match_finite_differences(page, samples, widths):
    x, y, parameters = problem(samples, widths)
    arrays = list(parameters.values())
    _, gradients = page["loss_and_gradients"](x, y, *arrays)
    for which, gradient in enumerate(gradients):
        slopes = [
            page["finite_difference"](x, y, arrays, which, index)
            for index in np.ndindex(gradient.shape)
        ]
        np.testing.assert_allclose(slopes, gradient.ravel(), rtol=1e-7, atol=1e-8)


def test_the_page_shows_the_output_of_its_code(capsys):
    exec("\n".join(blocks("python")), {})
    assert [capsys.readouterr().out] == blocks("text")


def test_a_run_logs_the_numbers_of_the_page(page, run):
    command, parity = (line.split() for block in blocks("sh") for line in block.splitlines())
    assert command[:5] == ["python", "run.py", "-m", "name=by-hand", "backend=torch,jax"]
    assert parity[:3] == ["python", "-m", "pipeline.parity"]
    assert set(parity[3:]) <= set(command)
    expected = {
        "train/loss": page["loss"],
        "optim/grad_norm": page["norm"],
        "val/loss": page["after"],
    }
    for finished in run(" ".join(command[5:])):
        logged = {key: value for row in finished.rows for key, value in row.items()}
        assert {key: logged[key] for key in expected} == pytest.approx(expected, rel=1e-12)
