"""Collective operations of torch ranks, in three real processes over gloo."""

from datetime import timedelta
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.multiprocessing import spawn

from lightning_impl.data.batches import COUNTED, EvalBatches, TrainBatches
from lightning_impl.device import Device
from lightning_impl.layer_keys import LayerKeys
from lightning_impl.norms import SyncBatchNorm, convert_sync_batchnorm
from lightning_impl.randomness import Dropout, DropPath, step_key
from lightning_impl.sharding import blocks, shard
from lightning_impl.strategies import own_shards
from pipeline.config.experiment import Config
from pipeline.config.train import Precision, Randomness, TrainConfig
from pipeline.data import sources
from pipeline.data.batch_plan import make_batch_plan
from pipeline.devices.launch_ranks import free_port
from pipeline.devices.world import World

SIZE = 3
SHAPES = {"1d": (6, 4), "1d of lines": (6, 4, 5), "2d": (6, 4, 3, 5)}
NORMS = {"1d": nn.BatchNorm1d, "1d of lines": nn.BatchNorm1d, "2d": nn.BatchNorm2d}
OPTIONS = {
    "as it comes": {},
    "averaging all": {"momentum": None},
    "without weights": {"affine": False},
    "remembering nothing": {"track_running_stats": False},
}


def device_of(rank, size=SIZE):
    return Device("cpu", Precision.fp64, "", World(rank, size, rank, size))


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """Results of three processes, each for its own rows."""
    folder = tmp_path_factory.mktemp("ranks")
    spawn(run_rank, (free_port(), folder), nprocs=SIZE)
    return [torch.load(folder / str(rank)) for rank in range(SIZE)]


def run_rank(rank, port, folder):
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"tcp://127.0.0.1:{port}",
        rank=rank,
        world_size=SIZE,
        timeout=timedelta(minutes=2),
    )
    device = device_of(rank)
    found = collective_results(device) | normalise_shares(device) | {"slots": own_slots()}
    torch.save(found, folder / str(rank))
    dist.destroy_process_group()


def normalise(layer, x):
    """Outputs, gradients and statistics of two batches in training and one in evaluation."""
    found = {}
    for step in range(2):
        x = x.detach().requires_grad_()
        y = layer(x + step)
        (
            y * torch.linspace(-1, 2, y.shape[1]).view(1, -1, *[1] * (y.ndim - 2))
        ).tanh().sum().backward()
        found |= {f"output {step}": y.detach(), f"gradient {step}": x.grad}
    layer.eval()
    found |= {"evaluated": layer(x.detach()).detach()}
    sums = {name: parameter.grad for name, parameter in layer.named_parameters()}
    return found, sums, layer.state_dict()


def layer_of(case, option):
    model = nn.Sequential(NORMS[case](4, **OPTIONS[option])).double()
    for parameter in model.parameters():
        nn.init.uniform_(parameter, generator=torch.Generator().manual_seed(1))
    return model


def batch_of(case):
    random = torch.Generator().manual_seed(0)
    return 3 + 2 * torch.randn(SHAPES[case], dtype=torch.float64, generator=random)


def normalise_shares(device):
    found = {}
    for case in SHAPES:
        for option in OPTIONS:
            model = layer_of(case, option)
            convert_sync_batchnorm(model)
            assert type(model[0]) is SyncBatchNorm
            found[case, option] = normalise(model, batch_of(case)[device.share(6)])
    return found


def collective_results(device):
    """Results of `lagged_max` and `read`."""
    # Rank 1 is told to stop after its third step.
    asked = [
        device.lagged_max(143 if device.world.rank == 1 and step > 2 else 0) for step in range(6)
    ]
    device.wait_for_all()
    values = [torch.tensor([1.0, 10.0]) * (step + device.world.rank) for step in range(2)]
    return {"asked": asked, "read": device.read(values).tolist()}


def whole_slots():
    """State of Adam for a matrix and a bias of six rows."""
    slots = {"step": torch.tensor(7.0), "exp_avg": torch.arange(24.0).view(6, 4)}
    bias = {"step": torch.tensor(7.0), "exp_avg": torch.arange(6.0)}
    state = torch.optim.Adam(nn.Linear(4, 6).parameters()).state_dict()
    return state | {"state": {0: slots, 1: bias}}


def own_slots():
    """Return the part of the whole state of an optimizer that this rank keeps under fsdp."""
    layer = nn.Linear(4, 6)
    shard(layer, init_device_mesh("cpu", (SIZE,)))
    optimizer = torch.optim.Adam(layer.parameters())
    cut = own_shards(optimizer, whole_slots())
    optimizer.load_state_dict(cut)
    return [
        (given["exp_avg"].to_local(), loaded["exp_avg"].to_local(), loaded["step"])
        for given, loaded in zip(cut["state"].values(), optimizer.state.values(), strict=True)
    ]


@pytest.mark.slow
def test_a_device_is_given_only_its_shards_of_an_optimizer_s_state(ranks):
    for place, slots in enumerate(whole_slots()["state"].values()):
        for rank, found in enumerate(ranks):
            given, loaded, step = found["slots"][place]
            assert torch.equal(given, slots["exp_avg"].chunk(SIZE)[rank])
            assert given.untyped_storage().nbytes() == slots["exp_avg"].nbytes // SIZE
            assert torch.equal(given, loaded)
            assert step == 7


@pytest.mark.slow
@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("case", SHAPES)
def test_batch_norm_of_three_processes_equals_that_of_the_whole_batch(ranks, case, option):
    outputs, gradients, state = normalise(layer_of(case, option), batch_of(case))
    ranks = [found[case, option] for found in ranks]
    for name, output in outputs.items():
        if name == "evaluated" and option == "remembering nothing":
            continue  # by the statistics of what a process evaluates, as torch's own
        rows = torch.cat([outputs[name] for outputs, _, _ in ranks])
        torch.testing.assert_close(rows, output, rtol=0, atol=1e-12, msg=name)
    for name, gradient in gradients.items():
        total = sum(gradients[name] for _, gradients, _ in ranks)
        torch.testing.assert_close(total, gradient, rtol=0, atol=1e-11, msg=name)
    for _, _, found in ranks:
        assert list(found) == list(state)
        for name, value in state.items():
            torch.testing.assert_close(found[name], value, rtol=0, atol=1e-12, msg=name)


@pytest.mark.slow
def test_lagged_max_and_read_give_the_same_on_all_ranks(ranks):
    # Each hears in its next step what all said in this one.
    assert [found["asked"] for found in ranks] == [[0, 0, 0, 0, 143, 143]] * SIZE
    assert [found["read"] for found in ranks] == [[[3, 30], [6, 60]]] * SIZE


def test_lagged_max_of_one_device_is_immediate():
    assert device_of(0, size=1).lagged_max(143) == 143


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7, 12])
def test_shares_are_blocks_whose_sizes_differ_by_at_most_one_row(count):
    shares = [device_of(rank).share(count) for rank in range(SIZE)]
    assert shares[0].start == 0
    assert shares[-1].stop == count
    assert all(first.stop == second.start for first, second in pairwise(shares))
    sizes = [share.stop - share.start for share in shares]
    assert max(sizes) - min(sizes) <= 1


@pytest.fixture
def plan(configure):
    config = configure("dataset=digits train.batch_size=24")
    return make_batch_plan(config, sources.load(config.dataset))


def test_devices_share_each_part_of_a_batch_in_blocks(plan):
    step = iter(TrainBatches(plan, device_of(0, size=1), 2, lambda: 3))
    whole = [next(step), next(step)]
    steps = [iter(TrainBatches(plan, device_of(rank), 2, lambda: 3)) for rank in range(SIZE)]
    for batch in whole:
        parts = [next(step) for step in steps]
        assert [len(part["label"]) for part in parts] == [4] * SIZE
        for name, field in batch.items():
            assert torch.equal(torch.cat([part[name] for part in parts]), field)


def test_batch_digests_are_the_same_on_all_devices(plan):
    digests = {TrainBatches(plan, device_of(rank), 2, lambda: 0).digest() for rank in range(SIZE)}
    assert digests == {TrainBatches(plan, device_of(0, size=1), 1, lambda: 0).digest()}


def counted(batch):
    """Labels of the samples that count."""
    return batch["label"][: len(batch[COUNTED])]


@pytest.mark.parametrize("batch_size", [1, 2, 50, 1000])
def test_devices_evaluate_each_sample_once_in_equally_many_batches(plan, batch_size):
    split = plan.data.val
    ranks = [list(EvalBatches(split, plan, device_of(rank), batch_size)) for rank in range(SIZE)]
    assert len({len(batches) for batches in ranks}) == 1
    assert all(len(b["image"]) >= max(1, len(b[COUNTED])) for batches in ranks for b in batches)
    found = np.concatenate([counted(b) for batch in zip(*ranks, strict=True) for b in batch])
    assert found.tolist() == split.fields["label"].tolist()


@pytest.mark.parametrize("batch_size", [1, 2, 50, 1000])
def test_predictions_of_all_devices_add_up_in_the_order_of_the_split(plan, batch_size):
    split, placed = plan.data.val, []
    for rank in range(SIZE):
        batches = EvalBatches(split, plan, device_of(rank), batch_size)
        own = torch.cat([counted(batch) + 1 for batch in batches])
        placed.append(batches.in_order(torch.stack([own, -own], dim=1)))
    wanted = torch.as_tensor(split.fields["label"] + 1)
    assert torch.equal(sum(placed), torch.stack([wanted, -wanted], dim=1))


@pytest.mark.parametrize("layer", [Dropout, DropPath])
def test_devices_draw_their_rows_of_one_shared_mask(layer):
    config = Config(train=TrainConfig(randomness=Randomness.shared))
    model, x = nn.Sequential(layer(0.4)), torch.ones(24, 5, 2)
    key = step_key(config, step=7, part=1)
    LayerKeys(model).use(key)
    whole, rows = model(x), []
    for rank in range(SIZE):
        LayerKeys(model).use(step_key(config, 7, 1, rank), rank)
        rows.append(model(x[device_of(rank).share(24)]))
    assert torch.equal(torch.cat(rows), whole)
    assert 0 < (whole == 0).sum() < whole.numel()


def test_native_masks_differ_between_devices_and_rank_0_draws_those_of_one():
    config = Config(train=TrainConfig(randomness=Randomness.native))
    drawn = []
    for ranks in ([], [0], [1], [2]):
        step_key(config, 7, 1, *ranks)
        drawn.append(torch.rand(4).tolist())
    assert drawn[0] == drawn[1]
    assert len({tuple(numbers) for numbers in drawn}) == SIZE


def test_fsdp_blocks_are_the_members_of_the_outermost_module_lists():
    model = nn.Module()
    model.stem = nn.Linear(2, 2)
    model.stage = nn.Sequential(
        nn.Sequential(nn.Linear(2, 2), nn.Tanh()), nn.ReLU(), nn.Linear(2, 2)
    )
    model.inner = nn.Module()
    model.inner.layers = nn.ModuleList([nn.Linear(2, 2)])
    assert list(blocks(model)) == [model.stage[0], model.stage[2], model.inner.layers[0]]
