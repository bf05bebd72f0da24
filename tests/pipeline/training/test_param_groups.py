"""Parameter groups: what patterns match, which weights Muon updates, and what is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.experiment import Config
from pipeline.config.optimizers import AdamWConfig, LambConfig, MuonConfig, SGDConfig
from pipeline.config.train import TrainConfig
from pipeline.errors import UserError
from pipeline.training.param_groups import ParamGroup, param_groups

SHAPES = {
    "position": (1, 16, 8), "embed.weight": (32, 8), "conv1.weight": (8, 3, 3, 3), "conv1.bias": (8,),
    "norm.weight": (8,), "norm.bias": (8,), "attn.in_proj_weight": (24, 8), "attn.in_proj_bias": (24,),
    "attn.out_proj.weight": (8, 8), "attn.out_proj.bias": (8,), "fc.0.weight": (4, 8),
    "fc.0.bias": (4,), "fc.1.weight": (2, 4), "fc.1.bias": (2,),
}  # fmt: skip
KINDS = {
    "embed": "embedding", "conv1": "conv", "norm": "norm", "attn": "attention",
    "attn.out_proj": "linear", "fc.0": "linear", "fc.1": "linear",
}  # fmt: skip
BIASES = {name for name in SHAPES if name.endswith("bias")}


def chosen(optimizer=None, frozen=(), shapes=SHAPES):
    train = TrainConfig(frozen=list(frozen))
    return param_groups(shapes, KINDS, Config(optimizer=optimizer or AdamWConfig(), train=train))


def names(found, condition):
    return {name for name, group in found.items() if condition(group)}


def test_without_patterns_all_parameters_are_in_one_group():
    assert chosen() == dict.fromkeys(SHAPES, ParamGroup())
    assert chosen(shapes={}) == {}


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["bias"], BIASES),
        (["norm"], {"norm.weight", "norm.bias"}),
        (["bias", "norm"], BIASES | {"norm.weight"}),
        (["fc.*"], {name for name in SHAPES if name.startswith("fc.")}),
        (["fc.?.weight", "position"], {"fc.0.weight", "fc.1.weight", "position"}),
        (["fc.[1].bias"], {"fc.1.bias"}),
        (["attn.*weight"], {"attn.in_proj_weight", "attn.out_proj.weight"}),
    ],
)
def test_patterns_select_parameters_without_decay_and_frozen_ones(patterns, expected):
    found = chosen(AdamWConfig(no_decay=patterns))
    assert names(found, lambda group: not group.decay) == expected
    found = chosen(frozen=patterns)
    assert names(found, lambda group: group.frozen) == expected


def test_the_last_matching_factor_wins():
    factors = {"*": 0.5, "fc.*": 2.0, "bias": 3.0, "fc.1.*": 4.0}
    found = {n: g.lr_factor for n, g in chosen(SGDConfig(lr_factors=factors)).items()}
    assert found["position"] == found["conv1.weight"] == 0.5
    assert (found["fc.0.weight"], found["fc.0.bias"], found["conv1.bias"]) == (2.0, 3.0, 3.0)
    assert (found["fc.1.weight"], found["fc.1.bias"]) == (4.0, 4.0)


def test_a_frozen_parameter_has_no_other_setting():
    config = MuonConfig(no_decay=["bias"], lr_factors={"*": 0.5})
    found = chosen(config, ["conv1.*"])
    assert found["conv1.weight"] == found["conv1.bias"] == ParamGroup(frozen=True)


def test_bias_and_norm_may_match_no_parameter():
    shapes = {"fc.0.weight": (4, 8)}
    assert chosen(AdamWConfig(no_decay=["bias", "norm"]), shapes=shapes) == {
        "fc.0.weight": ParamGroup()
    }


def test_muon_updates_weights_of_layers_with_two_or_more_dimensions():
    found = chosen(MuonConfig())
    matrices = {
        "conv1.weight", "attn.in_proj_weight", "attn.out_proj.weight", "fc.0.weight", "fc.1.weight",
    }  # fmt: skip
    assert names(found, lambda group: group.matrix) == matrices
    found = chosen(MuonConfig(adamw=["fc.1.*", "conv1.weight"]))
    assert names(found, lambda group: group.matrix) == matrices - {"fc.1.weight", "conv1.weight"}
    assert not names(chosen(AdamWConfig()), lambda group: group.matrix)


def test_query_key_and_value_are_three_matrices_for_muon_and_lamb():
    packed = {"attn.in_proj_weight", "attn.in_proj_bias"}
    for config in (MuonConfig(), LambConfig()):
        assert names(chosen(config), lambda group: group.parts == 3) == packed
        assert names(chosen(config), lambda group: group.parts == 1) == set(SHAPES) - packed
    assert names(chosen(AdamWConfig()), lambda group: group.parts == 1) == set(SHAPES)


@pytest.mark.parametrize(
    ("key", "config", "frozen"),
    [
        ("optimizer.no_decay", AdamWConfig(no_decay=["bias", "fc.2.*"]), []),
        ("optimizer.lr_factors", AdamWConfig(lr_factors={"bias": 2.0, "fc.2.*": 0.1}), []),
        ("optimizer.adamw", MuonConfig(adamw=["fc.2.*"]), []),
        ("train.frozen", AdamWConfig(), ["fc.2.*"]),
    ],
)
def test_a_pattern_that_matches_nothing_is_refused_with_the_closest_names(key, config, frozen):
    with pytest.raises(UserError) as raised:
        chosen(config, frozen)
    message = str(raised.value)
    assert message.startswith(f"{key}=fc.2.*: must be bias, norm, or a name of a parameter")
    assert "Closest names: fc." in message


def test_a_layer_name_without_a_wildcard_is_refused_with_a_suggestion():
    with pytest.raises(UserError, match=r"Did you mean 'fc\.\*'\?"):
        chosen(AdamWConfig(no_decay=["fc"]))


def test_freezing_everything_is_refused():
    with pytest.raises(UserError, match=r"train\.frozen=\['\*'\]: no parameter is left"):
        chosen(frozen=["*"])


@pytest.mark.parametrize("factor", [0.0, -1.0])
def test_a_factor_of_zero_or_less_is_refused(factor):
    with pytest.raises(UserError, match=r"optimizer\.lr_factors.*train\.frozen"):
        AdamWConfig(lr_factors={"fc.*": factor})


@given(st.permutations(sorted(SHAPES)), st.sets(st.sampled_from(sorted(SHAPES)), max_size=13))
def test_groups_follow_from_names_and_not_from_the_order(order, exact):
    """Torch orders parameters as the model does, Flax alphabetically."""
    config = MuonConfig(no_decay=sorted(exact), lr_factors={"*": 0.5, "fc.*": 2.0})
    shuffled = {name: SHAPES[name] for name in order}
    assert chosen(config, sorted(exact)[:1], shuffled) == chosen(config, sorted(exact)[:1])


def test_the_command_line_sets_every_group_option(configure):
    config = configure(
        "optimizer=muon optimizer.no_decay=[bias,norm,fc.*] train.frozen=[conv1.*] "
        "+optimizer.lr_factors={fc.*:0.1,conv?.weight:2} optimizer.adamw=['fc.[01].*'] "
        "optimizer.adjust_lr_fn=spectral_unclamped"
    )
    assert config.optimizer.no_decay == ["bias", "norm", "fc.*"]
    assert config.optimizer.lr_factors == {"fc.*": 0.1, "conv?.weight": 2.0}
    assert config.optimizer.adamw == ["fc.[01].*"]
    assert config.train.frozen == ["conv1.*"]
    assert config.optimizer.adjust_lr_fn.factor(8, 2) == 2.0
