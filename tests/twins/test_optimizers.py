"""Optimizers and gradient clipping of the Flax side against those of the torch side, in float64."""

from dataclasses import replace
from functools import partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

from flax_impl import optimizers as flax_optimizers
from flax_impl.optimizers.adam import _average_length
from flax_impl.training.gradients import clip_gradients as clip
from lightning_impl import optimizers as torch_optimizers
from pipeline.config.experiment import Config
from pipeline.config.optimizers import OPTIMIZERS as CONFIGS
from pipeline.config.optimizers import (
    AdadeltaConfig,
    AdagradConfig,
    AdamaxConfig,
    AdamConfig,
    AdamWConfig,
    AdjustLR,
    AMSGradConfig,
    LambConfig,
    LionConfig,
    MuonConfig,
    NAdamConfig,
    RAdamConfig,
    RMSpropConfig,
    SGDConfig,
)
from pipeline.config.schedules import WarmupCosineConfig as WarmupConfig
from pipeline.config.train import TrainConfig
from pipeline.training.lr_schedules import make_schedule
from pipeline.training.param_groups import param_groups
from pipeline.verify.names.parsing import parse_transform

SHAPES = {
    "a.weight": (4, 3), "a.bias": (4,), "b.weight": (2, 3, 2, 2), "b.bias": (2,),
    "bn.weight": (3,), "bn.bias": (3,), "scale": (),
}  # fmt: skip
KINDS = {"a": "linear", "b": "conv", "bn": "norm"}
STEPS = 60
FACTOR = make_schedule(WarmupConfig(warmup=20, final=0.1), STEPS)

OPTIMIZERS = {
    "sgd": SGDConfig(lr=0.1),
    "sgd without momentum": SGDConfig(lr=0.3, momentum=0, weight_decay=0.01),
    "sgd with nesterov": SGDConfig(lr=0.1, nesterov=True, weight_decay=0.01),
    "adam": AdamConfig(lr=0.01),
    "adam with decay": AdamConfig(lr=0.01, weight_decay=0.01, betas=[0.8, 0.95], eps=1e-6),
    "adam without a first moment": AdamConfig(lr=0.01, betas=[0.0, 0.99]),
    "adamw": AdamWConfig(lr=0.01),
    "adamw with more decay": AdamWConfig(lr=0.01, weight_decay=0.3, eps=1e-4, betas=[0.8, 0.95]),
    "amsgrad": AMSGradConfig(lr=0.01, weight_decay=0.01, betas=[0.9, 0.9], eps=1e-4),
    "amsgrad decoupled": AMSGradConfig(lr=0.01, weight_decay=0.1, decoupled_weight_decay=True),
    "rmsprop": RMSpropConfig(lr=0.02, weight_decay=0.01),
    "rmsprop with momentum": RMSpropConfig(lr=0.01, momentum=0.9, alpha=0.9, eps=1e-3),
    "rmsprop centered": RMSpropConfig(lr=0.01, centered=True, momentum=0.5),
    "adagrad": AdagradConfig(lr=0.1, weight_decay=0.01),
    "adagrad slowing down": AdagradConfig(
        lr=0.1, lr_decay=0.05, initial_accumulator_value=0.3, eps=1e-2
    ),
    "adadelta": AdadeltaConfig(weight_decay=0.01),
    "adadelta with a long memory": AdadeltaConfig(lr=0.5, rho=0.99, eps=1e-4),
    "adamax": AdamaxConfig(weight_decay=0.01),
    "adamax with a short memory": AdamaxConfig(lr=0.01, betas=[0.5, 0.6], eps=1e-2),
    "nadam": NAdamConfig(weight_decay=0.01),
    "nadam decoupled": NAdamConfig(
        lr=0.01, weight_decay=0.1, decoupled_weight_decay=True, momentum_decay=0.3, eps=1e-4
    ),
    "nadam with a still momentum": NAdamConfig(momentum_decay=0, betas=[0.99, 0.9]),
    "nadam without a first moment": NAdamConfig(betas=[0.0, 0.99]),
    "radam": RAdamConfig(lr=0.01, weight_decay=0.01),
    "radam decoupled": RAdamConfig(
        lr=0.01, weight_decay=0.1, decoupled_weight_decay=True, betas=[0.8, 0.95], eps=1e-3
    ),
    "lion": LionConfig(lr=0.01),
    "lion with decay": LionConfig(lr=0.01, weight_decay=0.5, betas=[0.8, 0.95]),
    "lamb": LambConfig(lr=0.01),
    "lamb with more decay": LambConfig(lr=0.01, weight_decay=0.5, betas=[0.8, 0.95], eps=1e-2),
    "muon": MuonConfig(lr=0.02),
    "muon as large as adamw": MuonConfig(
        lr=0.02, adjust_lr_fn=AdjustLR.match_rms_adamw, nesterov=False, momentum=0.8
    ),
    "muon as told by the spectrum": MuonConfig(
        lr=0.02, adjust_lr_fn=AdjustLR.spectral_unclamped, ns_steps=3, weight_decay=0, eps=1e-3,
        betas=[0.8, 0.95], adamw=["b.weight"],
    ),
}  # fmt: skip

GROUPED = {"no_decay": ["bias", "norm"], "lr_factors": {"*": 0.5, "b.*": 3.0}}
FROZEN = ["a.bias", "bn.weight"]


def groups_of(config, frozen=()):
    whole = Config(optimizer=config, train=TrainConfig(frozen=list(frozen)))
    return param_groups(SHAPES, KINDS, whole)


def trees(count, seed=0, scale=1.0, shapes=SHAPES):
    random = np.random.default_rng(seed)
    return [
        {name: scale * random.normal(size=shape) for name, shape in shapes.items()}
        for _ in range(count)
    ]


def stacked(trees):
    return {name: np.stack([tree[name] for tree in trees]) for name in trees[0]}


def variants(optimizer):
    """Settings of each implementation that torch has of an optimizer: fused, foreach and plain."""
    settings = [{"fused": True}, {"foreach": True}, {}]
    known = [each for each in settings if set(each) <= set(optimizer.defaults)]
    return [{"fused": False, "foreach": False} | each for each in known]


class Torch:
    """Parameters that a torch optimizer updates under a schedule."""

    def __init__(self, config, treated=None, start=None, **options):
        self.config, self.treated = config, treated or groups_of(config)
        self.parameters = {
            name: torch.tensor(array, dtype=torch.float64, requires_grad=True)
            for name, array in (start or trees(1)[0]).items()
        }
        self.optimizer = torch_optimizers.build_optimizer(
            config, self.parameters.items(), self.treated
        )
        for group in self.optimizer.param_groups:
            group |= {name: value for name, value in options.items() if name in group}

    def step(self, step, gradients):
        trained = [name for name in self.parameters if not self.treated[name].frozen]
        for name in trained:
            self.parameters[name].grad = torch.tensor(gradients[name])
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.lr * FACTOR(step) * group["lr_factor"]
        self.optimizer.step()
        return {n: parameter.detach().numpy().copy() for n, parameter in self.parameters.items()}

    def slots(self):
        found = {}
        for name, parameter in self.parameters.items():
            for slot, value in self.optimizer.state.get(parameter, {}).items():
                if slot != "step" and value is not None:
                    found[slot, name] = value.numpy()
        return found


class Flax:
    """Flax twin of `Torch`, with all steps in one compiled loop."""

    def __init__(self, config, treated=None, start=None, layouts=None):
        self.config, treated = config, treated or groups_of(config)
        self.transform = flax_optimizers.build_optimizer(config, treated, layouts)
        self.params = jax.tree.map(jnp.asarray, start or trees(1)[0])
        self.state = self.transform.init(self.params)

    @partial(jax.jit, static_argnums=0)
    def loop(self, params, state, inputs):
        """Parameters and state after the last step, and parameters after each."""

        def body(carry, inputs):
            (params, state), (gradients, rate) = carry, inputs
            updates, state = self.transform.update(gradients, state, params)
            params = jax.tree.map(lambda p, u: p - rate * u, params, updates)
            return (params, state), params

        return jax.lax.scan(body, (params, state), inputs)

    def steps(self, first, gradients):
        """Parameters after each step, stacked."""
        rates = [self.config.lr * FACTOR(first + index) for index in range(len(gradients))]
        together = jax.tree.map(lambda *leaves: np.stack(leaves), *gradients)
        (self.params, self.state), after = self.loop(
            self.params, self.state, (together, np.array(rates))
        )
        return jax.device_get(after)

    def states(self):
        known = lambda node: type(node) in flax_optimizers.SLOTS  # noqa: E731
        return [node for node in jax.tree.leaves(self.state, is_leaf=known) if known(node)]

    def slots(self):
        return {
            (slot, name): np.asarray(value)
            for state in self.states()
            for slot, field in flax_optimizers.SLOTS[type(state)].items()
            for name, value in getattr(state, field).items()
            if not isinstance(value, optax.MaskedNode)
        }


def gap(found, expected):
    """Largest difference of stacked arrays `[steps, …]`, relative to the largest value of the step."""
    assert found.keys() == expected.keys()

    def largest(array):
        return np.abs(array).reshape(len(array), -1).max(axis=1)

    gaps = [
        (largest(found[name] - expected[name]) / largest(expected[name])).max() for name in expected
    ]
    return max(gaps, default=0.0)


def worst_gap(config, frozen=()):
    """Largest relative difference of parameters after any step, and of slots after the last.

    Also checks that frozen parameters stay and have no slots, and that all others move.
    """
    treated, gradients = groups_of(config, frozen), trees(STEPS, seed=1)
    flax = Flax(config, treated)
    after, worst = flax.steps(0, gradients), 0.0
    stays = {name for name, array in trees(1)[0].items() if (after[name][-1] == array).any()}
    assert stays == set(frozen)
    assert not {name for _, name in flax.slots()} & set(frozen)
    for options in variants(Torch(config).optimizer):
        reference = Torch(config, treated, **options)
        expected = [reference.step(index, each) for index, each in enumerate(gradients)]
        worst = max(worst, gap(after, stacked(expected)))
        worst = max(worst, gap(stacked([flax.slots()]), stacked([reference.slots()])))
    return worst


def one_of_each():
    return {config.name: config for config in OPTIMIZERS.values()}


def test_the_table_has_every_optimizer_and_varies_every_setting():
    # A user's own is held in test_own_optimizers.py.
    assert {*one_of_each(), "own"} == set(CONFIGS) == set(torch_optimizers.OPTIMIZERS)
    assert set(CONFIGS) == set(flax_optimizers.OPTIMIZERS)
    for name in one_of_each():
        schema = CONFIGS[name]
        cases = [config for config in OPTIMIZERS.values() if config.name == name]
        for setting in vars(schema()).keys() - {"name", "no_decay", "lr_factors"}:
            values = {str(getattr(config, setting)) for config in (*cases, schema())}
            assert len(values) > 1, f"{name}: no case changes {setting}"


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    "name",
    # One of each is held below with groups and frozen parameters; without them, not every day.
    [
        pytest.param(name, marks=[pytest.mark.slow] * (config in one_of_each().values()))
        for name, config in OPTIMIZERS.items()
    ],
)
def test_an_optimizer_matches_torch_in_steps_and_slots_under_a_schedule(name):
    assert worst_gap(OPTIMIZERS[name]) < 1e-12


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", one_of_each())
def test_parameter_groups_match_torch_in_decay_learning_rate_and_freezing(name):
    config = replace(one_of_each()[name], weight_decay=0.1, **GROUPED)
    assert worst_gap(config, FROZEN) < 1e-12


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", one_of_each())
def test_the_state_of_a_flax_optimizer_is_its_slots_and_the_step(name):
    """Restored into a new optimizer after ten steps, they continue bit for bit."""
    config = replace(one_of_each()[name], **GROUPED)
    treated, gradients = groups_of(config, FROZEN), trees(20, seed=1)
    flax = Flax(config, treated)
    fresh, _ = flax.state, flax.steps(0, gradients[:10])
    params, slots, states = flax.params, flax.slots(), flax.states()
    counts = ["count" in state._fields for state in states]
    assert len(jax.tree.leaves(flax.state)) == len(slots) + sum(counts)
    expected = flax.steps(10, gradients[10:])

    def filled(node):
        if type(node) not in flax_optimizers.SLOTS:
            return node
        fields = {
            field: {
                parameter: slots.get((slot, parameter), nothing)
                for parameter, nothing in getattr(node, field).items()
            }
            for slot, field in flax_optimizers.SLOTS[type(node)].items()
        }
        return node._replace(
            **fields, **({"count": jnp.int32(10)} if "count" in node._fields else {})
        )

    known = lambda node: type(node) in flax_optimizers.SLOTS  # noqa: E731
    flax.params, flax.state = params, jax.tree.map(filled, fresh, is_leaf=known)
    jax.tree.map(np.testing.assert_array_equal, flax.steps(10, gradients[10:]), expected)


@pytest.mark.parametrize("name", one_of_each())
def test_the_state_of_a_torch_optimizer_is_its_slots_and_the_step(name):
    config = replace(one_of_each()[name], **GROUPED)
    treated, gradients = groups_of(config, FROZEN), trees(20, seed=1)
    run = Torch(config, treated)
    for index, each in enumerate(gradients[:10]):
        after = run.step(index, each)
    again, slots = Torch(config, treated, after), run.slots()
    for parameter, leaf in again.parameters.items():
        kept = {slot: torch.tensor(array) for (slot, of), array in slots.items() if of == parameter}
        if not treated[parameter].frozen:
            again.optimizer.state[leaf] = kept | {"step": torch.tensor(10.0)}
    for index, each in enumerate(gradients[10:], start=10):
        expected, found = run.step(index, each), again.step(index, each)
        for parameter in expected:
            np.testing.assert_array_equal(found[parameter], expected[parameter])


@pytest.mark.parametrize("name", one_of_each())
def test_a_restored_torch_state_dict_continues_bit_for_bit_in_float32(name, tmp_path):
    config, gradients = one_of_each()[name], trees(14, seed=1)
    runs = [Torch(config), Torch(config)]
    for run in runs:
        for parameter in run.parameters.values():
            parameter.data = parameter.data.float()
        if name == "adagrad":  # its state is made with it
            run.optimizer = torch_optimizers.build_optimizer(
                config, run.parameters.items(), run.treated
            )
    first, second = runs
    singles = [{n: array.astype(np.float32) for n, array in each.items()} for each in gradients]
    for index, each in enumerate(singles[:10]):
        first.step(index, each)
    torch.save(first.optimizer.state_dict(), tmp_path / "state")
    second.optimizer.load_state_dict(torch.load(tmp_path / "state", weights_only=True))
    for parameter, array in first.parameters.items():
        second.parameters[parameter].data.copy_(array.data)
    for index, each in enumerate(singles[10:], start=10):
        expected, found = first.step(index, each), second.step(index, each)
        for parameter in expected:
            np.testing.assert_array_equal(found[parameter], expected[parameter])


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name.startswith("nadam")])
def test_nadam_matches_torch_where_torch_keeps_its_product_in_double(name, monkeypatch):
    config = OPTIMIZERS[name]
    ours, theirs = Torch(config), Torch(config)
    theirs.optimizer = torch.optim.NAdam(
        [{"params": list(theirs.parameters.values()), "lr_factor": 1.0}],
        betas=tuple(config.betas),
        eps=config.eps,
        weight_decay=config.weight_decay,
        momentum_decay=config.momentum_decay,
        decoupled_weight_decay=config.decoupled_weight_decay,
    )
    torch.set_default_dtype(torch.float64)
    try:
        for index, each in enumerate(trees(STEPS, seed=1)):
            found, expected = ours.step(index, each), theirs.step(index, each)
            assert gap(stacked([found]), stacked([expected])) < 1e-13
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("adjust", AdjustLR)
@pytest.mark.parametrize("shape", [(40, 20), (20, 40)])
def test_muon_matches_torch_within_the_precision_of_bfloat16(adjust, shape):
    config = MuonConfig(lr=0.1, adjust_lr_fn=adjust)
    start, *gradients = trees(11, shapes={"a.weight": shape})
    whole = Config(optimizer=config, train=TrainConfig())
    ours = Torch(config, param_groups({"a.weight": shape}, KINDS, whole), start)
    theirs = torch.nn.Parameter(torch.tensor(start["a.weight"]))
    optimizer = torch.optim.Muon([theirs], lr=0.1, adjust_lr_fn=adjust.name)
    for each in gradients:
        ours.step(20, each)
        theirs.grad = torch.tensor(each["a.weight"])
        optimizer.param_groups[0]["lr"] = 0.1 * FACTOR(20)
        optimizer.step()
    moved = np.abs(theirs.detach().numpy() - start["a.weight"]).max()
    apart = np.abs((theirs - ours.parameters["a.weight"]).detach().numpy()).max()
    assert 1e-6 < apart / moved < 2e-2


def both_ways(transform, shape):
    there = parse_transform(transform)
    return there, there.inverse(shape)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", ["lamb", "muon"])
def test_lamb_and_muon_use_the_canonical_layout_and_three_attention_matrices(name):
    shapes = {
        "fc.weight": (6, 4), "conv.weight": (5, 3, 2, 2), "attn.in_proj_weight": (12, 4),
        "attn.in_proj_bias": (12,), "attn.out_proj.weight": (4, 4),
    }  # fmt: skip
    kinds = {"fc": "linear", "conv": "conv", "attn": "attention", "attn.out_proj": "linear"}
    config = one_of_each()[name] if name == "lamb" else OPTIMIZERS["muon"]
    canonical = param_groups(shapes, kinds, Config(optimizer=config, train=TrainConfig()))

    def native(tree):
        """As Flax has it: kernels [in, out], HWIO, and [in, heads, per head] in three."""
        weights = [rows.T.reshape(4, 2, 2) for rows in np.split(tree["attn.in_proj_weight"], 3)]
        biases = [rows.reshape(2, 2) for rows in np.split(tree["attn.in_proj_bias"], 3)]
        return {
            "fc": tree["fc.weight"].T,
            "conv": tree["conv.weight"].transpose(2, 3, 1, 0),
            "out": tree["attn.out_proj.weight"].T.reshape(2, 2, 4),
            "weights": weights,
            "biases": biases,
        }

    treated = {
        "fc": canonical["fc.weight"],
        "conv": canonical["conv.weight"],
        "out": canonical["attn.out_proj.weight"],
        "weights": [canonical["attn.in_proj_weight"]] * 3,
        "biases": [canonical["attn.in_proj_bias"]] * 3,
    }
    layouts = {
        "fc": both_ways("transpose(1, 0)", (4, 6)),
        "conv": both_ways("transpose(3, 2, 0, 1)", (2, 2, 3, 5)),
        "out": both_ways("reshape(4, 4).transpose(1, 0)", (2, 2, 4)),
        "weights": [both_ways("reshape(4, 4).transpose(1, 0)", (4, 2, 2))] * 3,
        "biases": [both_ways("reshape(4)", (2, 2))] * 3,
    }
    start, *gradients = trees(STEPS + 1, shapes=shapes)
    reference = Torch(config, canonical, start)
    flax = Flax(config, treated, native(start), layouts)
    after = flax.steps(0, [native(each) for each in gradients])
    expected = [native(reference.step(index, each)) for index, each in enumerate(gradients)]
    together = jax.tree.map(lambda *leaves: np.stack(leaves), *expected)
    assert jax.tree.structure(after) == jax.tree.structure(together)
    found, wanted = (dict(enumerate(jax.tree.leaves(tree))) for tree in (after, together))
    assert gap(found, wanted) <= 1e-12
    matrices = {name for name, group in canonical.items() if group.matrix}
    assert matrices == (
        {n for n in shapes if n != "attn.in_proj_bias"} if name == "muon" else set()
    )


def test_adam_is_accurate_in_float32():
    """Under a constant gradient every step is -lr, whatever the decays: g / (√g² + ε)."""
    config = AdamConfig(lr=1.0, eps=1e-30)
    transform = flax_optimizers.build_optimizer(config)
    gradient, params = jnp.array([0.3, -2.0, 1e-4], jnp.float32), jnp.zeros(3, jnp.float32)
    state, update = transform.init(params), jax.jit(transform.update)
    for _ in range(5):
        direction, state = update(gradient, state, params)
        # optax's own bias bias_correction is off by 6e-6.
        np.testing.assert_allclose(direction, np.sign(gradient), rtol=1e-6)


@pytest.mark.parametrize("name", ["adam", "amsgrad", "adamax", "nadam", "radam", "lamb"])
def test_bias_correction_in_float32_matches_float64(name):
    config = replace(CONFIGS[name](), eps=1e-12)
    gradients = np.random.default_rng(0).normal(size=(20, 5))

    def directions(dtype):
        params = jnp.ones(5, dtype)
        transform = flax_optimizers.build_optimizer(config)
        state, update, found = transform.init(params), jax.jit(transform.update), []
        for gradient in gradients:
            direction, state = update(jnp.asarray(gradient, dtype), state, params)
            found.append(np.asarray(direction))
        return np.array(found)

    single = directions(jnp.float32)
    with jax.enable_x64(True):
        double = directions(jnp.float64)
    assert single.dtype == np.float32
    assert double.dtype == np.float64
    np.testing.assert_allclose(single, double, rtol=0, atol=4e-6 * np.abs(double).max())


@pytest.mark.parametrize("beta", [0.9, 0.99, 0.999, 0.9999])
def test_the_average_length_of_radam_is_accurate_in_float32(beta):
    for step in [*range(1, 20), 100, 1000, 10**5]:
        power = -np.expm1(np.longdouble(step) * np.log(np.longdouble(beta)))
        expected = 2 / (1 - np.longdouble(beta)) - 1 - 2 * step * (1 - power) / power
        found = _average_length(jnp.float32(step), beta)
        assert float(found) == pytest.approx(float(expected), rel=2e-6)


CLASSES = {
    "sgd": "SGD", "adam": "Adam", "adamw": "AdamW", "amsgrad": "Adam", "rmsprop": "RMSprop",
    "adagrad": "Adagrad", "adadelta": "Adadelta", "adamax": "Adamax", "radam": "RAdam",
}  # fmt: skip


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_setting_reaches_the_torch_optimizer(name):
    config = OPTIMIZERS[name]
    optimizer = Torch(config).optimizer
    if config.name in CLASSES:
        assert type(optimizer) is getattr(torch.optim, CLASSES[config.name])
    settings = vars(config).keys() - {"name", "no_decay", "lr_factors", "adamw"}
    for group in optimizer.param_groups:
        for setting in settings:
            value = getattr(config, setting)
            value = tuple(value) if isinstance(value, list) else getattr(value, "name", value)
            assert group[setting] == value, setting
        assert group.get("fused") is (True if config.name in torch_optimizers.FUSED else None)
        assert group.get("amsgrad", False) is (config.name == "amsgrad")


def test_parameters_with_equal_settings_are_one_group_with_their_names():
    (group,) = Torch(AdamWConfig()).optimizer.param_groups
    assert (group["param_names"], group["lr_factor"]) == (list(SHAPES), 1.0)
    assert len(Torch(MuonConfig()).optimizer.param_groups) == 2
    config = AdamWConfig(lr=0.4, weight_decay=0.3, no_decay=["bias"], lr_factors={"b.*": 0.5})
    found = {
        tuple(group["param_names"]): (group["weight_decay"], group["lr"], group["lr_factor"])
        for group in Torch(config).optimizer.param_groups
    }
    assert found == {
        ("a.weight", "bn.weight", "scale"): (0.3, 0.4, 1.0),
        ("a.bias", "bn.bias"): (0.0, 0.4, 1.0),
        ("b.weight",): (0.3, 0.2, 0.5),
        ("b.bias",): (0.0, 0.2, 0.5),
    }


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("scale", "limit"), list(product([0.0, 1e-3, 1.0, 1e3], [0.1, 1.0, 50.0])))
@pytest.mark.parametrize("kind", ["norm", "value"])
def test_clipping_matches_torch_including_its_epsilon(kind, scale, limit):
    (gradients,) = trees(1, scale=scale)
    parameters = {name: torch.zeros(shape).double() for name, shape in SHAPES.items()}
    for name, parameter in parameters.items():
        parameter.grad = torch.tensor(gradients[name])
    getattr(torch.nn.utils, f"clip_grad_{kind}_")(parameters.values(), limit)
    found = clip(
        jax.tree.map(jnp.asarray, gradients),
        optax.tree.norm(gradients),
        TrainConfig(**{f"clip_{kind}": limit}),
    )
    for name, parameter in parameters.items():
        np.testing.assert_allclose(found[name], parameter.grad.numpy(), rtol=1e-12, atol=0)
