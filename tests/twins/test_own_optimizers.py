"""A user's own optimizer and schedule on both backends: agreement, resume, transfer and refusals."""

import pytest
from asserts import assert_rows_close
from short_runs import SELDOM, lines

from pipeline.errors import UserError
from pipeline.storage.run_folder import RunFolder
from pipeline.storage.signature import signature

RUN = f"{SELDOM} model=mlp model.hidden=[8] train.accumulate=2 train.clip_norm=0.5"
OWN = (
    "optimizer=own optimizer.torch=tests.own_training:Momentum "
    "optimizer.jax=tests.own_training:momentum optimizer.lr=0.05 optimizer.options={momentum:0.8} "
    "schedule=own schedule.function=tests.own_training:sawtooth schedule.options={teeth:4}"
)
# Each keeps a state of its own kind.
CASES = [
    ("torch", OWN),
    ("torch", "optimizer=own optimizer.torch=tests.own_training:Slowing"),
    ("jax", OWN),
    ("jax", "optimizer=own optimizer.jax=optax.contrib:prodigy optimizer.lr=1.0"),
]


def test_both_backends_agree_with_schedule_groups_and_accumulation(run):
    groups = (
        "optimizer.weight_decay=0.1 optimizer.no_decay=[bias] optimizer.lr_factors={layers.0.*:0.3} "
        "train.frozen=[layers.1.bias] schedule.warmup=5 train.log_every=1"
    )
    torch, jax = run(f"{RUN} {OWN} {groups}")
    assert_rows_close(jax.rows, torch.rows)
    rates = [row["optim/lr"] for row in torch.rows if "optim/lr" in row]
    assert len(rates) == 30
    assert rates[5] == 0.05  # the end of the warm-up
    assert rates[5 + 3] == pytest.approx(0.05 * (1 - 0.9 * 3 / 7))


@pytest.mark.parametrize(
    ("backend", "own"), [*CASES[:3], pytest.param(*CASES[3], marks=pytest.mark.slow)]
)
def test_a_resumed_run_repeats_the_uninterrupted_one(train, tmp_path, backend, own):
    assert train("whole", backend, f"{RUN} {own}") == 0
    assert train("halves", backend, f"{RUN} {own} train.stop_after=13") == 130
    again = f"{RUN} {own} resume={tmp_path / 'halves'}"
    assert train("halves", backend, again) == 0
    assert lines(tmp_path / "halves") == lines(tmp_path / "whole")
    assert len(lines(tmp_path / "whole")) > 7


def test_the_state_stays_on_its_backend_and_the_weights_cross(train, tmp_path):
    own = f"{RUN} optimizer=own optimizer.torch=tests.own_training:Momentum"
    assert train("first", "torch", f"{own} train.stop_after=13") == 130
    crossing = f"{own} resume={tmp_path / 'first'}"
    with pytest.raises(
        UserError, match=r"is of step 13, .* cannot be converted\. .* weights alone"
    ):
        train("second", "jax", crossing)
    tested = f"{own} mode=test checkpoint={tmp_path / 'first'}"
    assert train("there", "torch", tested) == 0
    assert train("here", "jax", tested) == 0
    found, expected = (RunFolder(tmp_path / name).result.test for name in ("here", "there"))
    assert found == pytest.approx(expected, rel=1e-10)


def test_what_the_paths_name_is_part_of_the_signature(configure):
    given = (
        OWN, OWN.replace(":Momentum", ":Slowing"), OWN.replace("momentum:0.8", "momentum:0.7"),
        OWN.replace(":sawtooth", ":other"), f"{OWN} callbacks=[own_training:Samples]",
    )  # fmt: skip
    assert len({signature(configure(f"{RUN} {own}")) for own in given}) == len(given)


REFUSED = {
    "no import path": ("torch", "", r"optimizer.torch=None: .*names no optimizer of torch\. Set"),
    "one of the other backend alone": (
        "jax", "optimizer.torch=torch.optim:ASGD", r"no optimizer of jax\. .* or backend=torch",
    ),
    "no such module": ("torch", "optimizer.torch=tests.own_trainin:X", r"Did you mean|no module"),
    "no such class": ("jax", "optimizer.jax=optax:adamm", "has no adamm"),
    "no factory": ("torch", "optimizer.torch=math:pi", r"a class or a function, and it is a float"),
    "no optimizer": ("torch", "optimizer.torch=builtins:dict", r"cannot be made|makes a dict"),
    "no transformation": (
        "jax", "optimizer.jax=tests.own_training:Settings", r"makes a Settings, which is no optax",
    ),
    "an unknown option": (
        "torch", "optimizer.torch=torch.optim:ASGD optimizer.options={foo:1}",
        r"unexpected keyword argument 'foo'\. It is called as ASGD\(params, lr=0.001, foo=1,"
    ),
    "such an option in optax": (
        "jax", "optimizer.jax=optax:adan optimizer.options={foo:1}", r"'foo'\. .*adan\(learning_rate=",
    ),
    "weight decay that it does not take": (
        "jax", "optimizer.jax=optax:sgd optimizer.weight_decay=0.1",
        r"optimizer.weight_decay=0.1: optax:sgd has no parameter weight_decay",
    ),
    "a mask that it does not take": (
        "jax",
        "optimizer.jax=optax.contrib:prodigy optimizer.weight_decay=0.1 optimizer.no_decay=[bias]",
        r"optimizer.no_decay=.*no parameter mask",
    ),
    "several evaluations of the loss": (
        "torch", "optimizer.torch=torch.optim:LBFGS", r"one update from one evaluation",
    ),
    "a value of the loss": ("jax", "optimizer.jax=optax.contrib:momo", r"cannot take a step.*'value'"),
    "a state that changes its type": (
        "jax", "optimizer.jax=tests.own_training:growing",
        r"state changes in a step: inner.count from int64\[\] to float64\[\]",
    ),
    "a state that no checkpoint holds": (
        "torch", "optimizer.torch=tests.own_training:Slowing optimizer.options={keeps:object}",
        r"its group.0.object is a object, which no checkpoint holds",
    ),
    "an error in a step": (
        "torch", "optimizer.torch=tests.own_training:Slowing optimizer.options={keeps:error}",
        r"cannot take a step: ZeroDivisionError: .* \(own_training.py, line \d+\)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("backend", ["torch", "jax"])
@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ("optimizer=own optimizer.SIDE=tests.own_training:Slowly", "has no Slowly"),
        ("schedule=own schedule.function=tests.own_training:Slowly", "has no Slowly"),
        ("schedule=own schedule.function=math:gcd schedule.options={a:1}", "takes|keyword"),
        ("callbacks=[tests.own_training:Slowly]", "has no Slowly"),
    ],
)
def test_what_is_not_there_is_refused_before_the_devices_are_set_up(
    train, monkeypatch, backend, overrides, message
):
    package = {"torch": "lightning_impl", "jax": "flax_impl"}[backend]
    monkeypatch.delattr(f"{package}.backend.prepare")  # which sets up the devices
    with pytest.raises(UserError, match=message):
        train("run", backend, f"{RUN} {overrides.replace('SIDE', backend)}")


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_optimizer_is_refused_with_what_to_do(train, case):
    backend, overrides, message = REFUSED[case]
    with pytest.raises(UserError, match=message):
        train("run", backend, f"{RUN} optimizer=own {overrides}")
