"""A user's own optimizer and schedule on both backends: agreement, resume, transfer and refusals."""

import pytest
from asserts import assert_predictions_close, assert_rows_close, assert_states_identical
from short_runs import EPOCH, FP64, lines

RUN = f"{FP64} model=mlp model.hidden=[8] train.accumulate=2 train.clip_norm=0.5"
OWN = (
    "optimizer=own optimizer.torch=tests.own_training:Momentum "
    "optimizer.jax=tests.own_training:momentum optimizer.lr=0.05 optimizer.options={momentum:0.8} "
    "schedule=own schedule.function=tests.own_training:sawtooth schedule.options={teeth:4}"
)


def test_both_backends_agree_with_the_schedule_groups_and_accumulation(run):
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
