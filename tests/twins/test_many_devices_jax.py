"""Sharding of a run over the devices of one JAX process, here four virtual ones of a CPU."""

import re
from operator import itemgetter

import jax
import numpy as np
import pytest
from asserts import assert_rows_close
from hypothesis import given
from hypothesis import strategies as st
from short_runs import lines

import flax_impl.data.samples
from flax_impl.backend import build
from flax_impl.checkpoints import CHECKSUMS
from flax_impl.data.batches import EvalBatches, TrainBatches
from flax_impl.data.gather import gather_batch
from flax_impl.data.samples import _LazyRows
from flax_impl.device import _mesh_of, prepare
from flax_impl.sharding import SMALL, _spec_of, shard, whole
from flax_impl.training.step import StepContext, make_train_step
from pipeline.data import sources
from pipeline.data.batch_plan import AUGMENT, make_batch_plan
from pipeline.devices.world import ALONE
from pipeline.errors import UserError
from pipeline.run.experiment import Experiment
from pipeline.run.recording.recorder import Recorder

MLP = "accelerator=cpu model=mlp model.hidden=[64,48] optimizer=adamw train.ema=0.9"
FSDP = "accelerator.devices=4 accelerator.strategy=fsdp"
AUGMENTED = "dataset.limit=112 train.batch_size=16 dataset.augment=true dataset.crop_padding=1"


@pytest.fixture
def laid_out(configure):
    """A function of overrides that returns the experiment, its devices and the sharded state."""

    def made(overrides):
        config = configure(overrides)
        plan = make_batch_plan(config, sources.load(config.dataset))
        experiment = Experiment(config, plan, Recorder(config, plan.data), None)
        device = prepare(config)
        return experiment, device, build(experiment, device)[0]

    return made


def stepped(experiment, device, state):
    """The compiled training step, and the state after it."""
    config, plan = experiment.config, experiment.plan
    batches = TrainBatches(plan, device, config.train.accumulate)
    rate = shard(np.full(1, 0.01, device.dtype), device)
    arguments = (state, *batches(0, 1), rate)
    program = make_train_step(StepContext(config, plan, device)).lower(*arguments).compile()
    return program, program(*arguments)[0]


def on_device(state, index):
    """Bytes of a state on one device."""
    return sum(leaf.addressable_shards[index].data.nbytes for leaf in jax.tree.leaves(state))


@given(st.lists(st.integers(1, 4096), max_size=4), st.integers(1, 16))
def test_arrays_are_sharded_along_the_longest_axis_that_the_devices_divide(shape, devices):
    axes = [axis for axis, name in enumerate(_spec_of(tuple(shape), devices)) if name is not None]
    fitting = [length for length in shape if length % devices == 0]
    if np.prod(shape) < SMALL or not fitting:
        assert axes == []
    else:
        (axis,) = axes
        assert shape[axis] == max(fitting)


def test_under_fsdp_no_device_ever_holds_more_than_its_share(laid_out):
    experiment, device, state = laid_out(f"{MLP} {FSDP}")
    _, after = stepped(experiment, device, state)
    for found in (laid_out(f"{MLP} {FSDP}")[2], after):
        # Weights, two moments and an average: of each matrix but the last, of ten rows.
        shared = [leaf for leaf in jax.tree.leaves(found) if not leaf.is_fully_replicated]
        assert len(shared) == 4 * 2
        for leaf in shared:
            assert {part.data.size for part in leaf.addressable_shards} == {leaf.size // 4}
        total = sum(leaf.nbytes for leaf in jax.tree.leaves(found))
        assert all(on_device(found, index) < 0.4 * total for index in range(4))


def test_a_sharded_state_equals_the_state_of_one_device(laid_out):
    one, four = laid_out(MLP)[2], laid_out(f"{MLP} {FSDP}")[2]
    jax.tree.map(np.testing.assert_array_equal, jax.tree.leaves(whole(one)), jax.tree.leaves(four))
    for checksum in CHECKSUMS.values():
        assert checksum(one) == checksum(four) == checksum(whole(four))
        assert checksum(one) != checksum(one.replace(step=one.step + 1))


@pytest.mark.parametrize(
    ("strategy", "sent"), [("ddp", {"all-reduce"}), ("fsdp", {"all-reduce", "all-gather"})]
)
def test_devices_exchange_gradients_and_weights_but_no_samples(laid_out, strategy, sent):
    # Wide layers and a small batch: to send activations around would be less.
    program, _ = stepped(
        *laid_out(
            "accelerator=cpu model=mlp model.hidden=[256,256] accelerator.devices=2 "
            f"accelerator.strategy={strategy} train.accumulate=2 train.clip_norm=1 {AUGMENTED}"
        )
    )
    kinds = "all-reduce|all-gather|all-to-all|reduce-scatter|collective-[a-z]+"
    lines = [line for line in program.as_text().splitlines() if re.search(rf" ({kinds})\(", line)]
    assert {re.search(rf" ({kinds})\(", line)[1] for line in lines} == sent
    assert not [line for line in lines if "u8[" in line or "s32[" in line]


@pytest.mark.parametrize("resident", [True, False], ids=["on the devices", "memory-mapped"])
def test_devices_share_each_part_of_a_batch_in_blocks(laid_out, monkeypatch, resident):
    if not resident:
        monkeypatch.setattr(flax_impl.data.samples, "RESIDENT_BYTES", 0)
    experiment, device, _ = laid_out(f"{MLP} {AUGMENTED} train.accumulate=2 accelerator.devices=4")
    plan = experiment.plan
    samples, chosen, draws, terms = TrainBatches(plan, device, 2)(3, 2)
    assert terms.tolist() == [16, 16]
    assert (samples.fields is None) is not resident
    for step, part, place in np.ndindex(2, 2, 4):
        rows = slice(8 * part + 2 * place, 8 * part + 2 * place + 2)
        wanted = plan.indices(3 + step)[rows]
        parts = jax.tree.map(
            lambda array, place=place: array.addressable_shards[place].data, chosen
        )
        if resident:
            assert parts.shape == (2, 2, 2)
            np.testing.assert_array_equal(parts[step, part], wanted)
        else:
            batch = jax.tree.map(itemgetter((step, part)), parts)
            for name, array in batch.items():
                np.testing.assert_array_equal(array, plan.data.train.fields[name][wanted])
        drawn = draws[AUGMENT].addressable_shards[place].data[step, part]
        np.testing.assert_array_equal(drawn, plan.draws(3 + step)[AUGMENT][rows])


def test_only_the_requested_rows_of_a_memory_mapped_array_are_read():
    class Mapped:
        shape, read = (50, 3), []

        def __getitem__(self, indices):
            self.read += indices.ravel().tolist()
            return np.zeros((*indices.shape, 3), np.uint8)

    mapped, indices = Mapped(), np.arange(24).reshape(2, 3, 4)
    rows = _LazyRows(mapped, indices, np.uint8)
    assert rows.shape == (2, 3, 4, 3)
    assert rows[:, 1:2, 2:, :].shape == (2, 1, 2, 3)
    assert mapped.read == [6, 7, 18, 19]


@pytest.mark.parametrize("batch_size", [1, 6, 1000])
def test_devices_evaluate_each_sample_once(laid_out, batch_size):
    experiment, device, _ = laid_out(f"{MLP} accelerator.devices=4")
    split = experiment.plan.data.val
    batches = EvalBatches(split, experiment.plan, device, batch_size)
    found, rows = [], []
    for samples, chosen, draws, counted in batches:
        assert len(chosen) % 4 == 0
        rows.append(np.asarray(gather_batch(samples, chosen, draws)["label"]))
        found += rows[-1][np.asarray(counted) == 1].tolist()
    assert found == split.fields["label"].tolist()
    assert batches.in_order(np.concatenate(rows)).tolist() == found


@pytest.mark.parametrize(
    "how",
    [
        "mapped",
        pytest.param("accelerator.steps_per_call=3", marks=pytest.mark.slow),
        pytest.param("train.accumulate=2", marks=pytest.mark.slow),
    ],
)
def test_two_devices_log_the_numbers_of_one_however_batches_reach_them(
    train, tmp_path, monkeypatch, how
):
    if how == "mapped":
        monkeypatch.setattr(flax_impl.data.samples, "RESIDENT_BYTES", 0)
    options = "" if how == "mapped" else how
    case = (
        f"{MLP} {AUGMENTED} train.steps=7 train.eval_every=6steps {options} logger=none "
        "train.log_every=1 train.precision=fp64"
    )
    assert train("one", "jax", case) == 0
    assert train("two", "jax", f"{case} accelerator.devices=2") == 0
    assert_rows_close(lines(tmp_path / "two"), lines(tmp_path / "one"), rtol=1e-12, atol=1e-12)


def test_batch_statistics_per_device_are_refused(laid_out):
    resnet = "accelerator=cpu model=resnet18 model.width=4 accelerator.sync_batchnorm=false"
    with pytest.raises(UserError, match="a compiled step sees the global batch") as refused:
        laid_out(f"{resnet} accelerator.devices=2")
    assert refused.value.key == "accelerator.sync_batchnorm"
    assert "backend=torch" in str(refused.value)
    laid_out(resnet)  # on one device there are no others
    laid_out(
        f"{MLP} accelerator.devices=2 accelerator.sync_batchnorm=false"
    )  # and here none at all


def test_more_devices_than_available_are_refused_with_their_number():
    with pytest.raises(UserError, match="at most 4: JAX sees 4 cpu devices") as refused:
        _mesh_of(5, ALONE)
    assert refused.value.key == "accelerator.devices"
    assert "accelerator.devices=auto" in str(refused.value)


def test_several_devices_have_one_description(configure):
    describe = [prepare(configure(f"{MLP} accelerator.devices={n}")).description for n in (1, 4)]
    assert re.fullmatch(r"jax on cpu, \d+ threads?", describe[0])
    assert describe[1] == describe[0].replace("jax on ", "jax on 4 × ")


def test_a_device_draws_only_its_own_part_of_a_dropout_s_mask(laid_out):
    case = "model=vit model.depth=1 model.width=16 model.dropout=0.1 train.batch_size=16"
    program, _ = stepped(*laid_out(f"accelerator=cpu {case} accelerator.devices=4"))
    drawn = [np.prod([*map(int, found.split(","))]) for found in
             re.findall(r"u32\[([\d,]+)\]", program.as_text())]  # fmt: skip
    hidden = 16 * 5 * 64  # of the whole batch: four patches and a class token, four times the width
    assert hidden // 4 in drawn
    assert max(drawn) < hidden
