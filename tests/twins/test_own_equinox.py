"""A user's own model in Equinox trains, resumes and crosses like one in linen."""

from asserts import assert_rows_close
from short_runs import FP64

OWN = "model=own model.jax=tests.own_equinox:EquinoxNet"
PAIR = f"{FP64} {OWN} model.torch=tests.own_models:TorchNorm"


def test_it_trains_as_its_torch_twin(run):
    torch, jax = run(
        f"{PAIR} model.options={{norm:false}} train.accumulate=2 optimizer.weight_decay=0.1"
    )
    assert_rows_close(jax.rows, torch.rows)
    assert len(torch.rows) > 10
