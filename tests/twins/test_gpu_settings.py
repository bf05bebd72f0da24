"""Settings and transfers of a GPU, as far as a machine without one shows them."""

import os
from dataclasses import replace
from types import SimpleNamespace

import jax
import pytest
import torch
from shapes_only import ShapesOnly

import flax_impl.checkpoints
import flax_impl.data.samples
import flax_impl.device
import flax_impl.gpu
import lightning_impl.data.samples
import lightning_impl.device
import lightning_impl.gpu
from flax_impl.data.batches import TrainBatches as FlaxBatches
from lightning_impl.training.average import Average
from pipeline.compare.columns import columns
from pipeline.compare.comparison import comparison
from pipeline.compare.report.page_data import page_data
from pipeline.config.accelerator import Kind
from pipeline.config.train import Precision
from pipeline.data.batch_plan import make_batch_plan
from pipeline.data.sources import load
from pipeline.errors import UserError
from pipeline.storage.run_folder import RunFolder

HIDDEN = "GPU-of-another-machine"  # a name of CUDA_VISIBLE_DEVICES: neither framework sees a GPU
DATA = "dataset.limit=96 train.batch_size=16 dataset.augment=true dataset.crop_padding=1"


@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_a_run_says_that_it_is_on_the_cpu_of_a_machine_with_a_gpu(
    train, tmp_path, monkeypatch, capsys, backend
):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", HIDDEN)
    keys = "accelerator=auto model=linear dataset.limit=64 train.steps=1"
    assert train("auto", backend, keys) == 0
    reason = RunFolder(tmp_path / "auto").result.fallback
    name = {"torch": "torch", "jax": "JAX"}[backend]
    assert reason.startswith((f"{name} sees none", f"{name} is installed without CUDA"))
    said = " ".join(capsys.readouterr().out.split())
    assert f"WARNING: this machine has a GPU, but the run is on the CPU: {reason}." in said
    assert "set accelerator=cpu" in said

    assert train("cpu", backend, keys.replace("auto", "cpu")) == 0
    assert RunFolder(tmp_path / "cpu").result.fallback is None
    assert "WARNING" not in capsys.readouterr().out

    made = comparison([tmp_path])
    [shown] = [column for column in columns(made) if column.title == "on"]
    assert shown.text(made.records[0]) == "CPU, not the GPU"
    assert f"{name.lower()} on cpu" in shown.text(made.records[1])
    assert [run["fallback"] for run in page_data(made)["runs"]] == [reason, None]
    assert [any(reason in note for note in record.notes) for record in made.records] == [
        True,
        False,
    ]


def test_jax_does_not_look_for_a_gpu_where_there_is_none():
    jax.config.update("jax_platforms", None)
    with pytest.raises(UserError, match=r"accelerator.kind=gpu: JAX sees no GPU.*\[cuda\]"):
        flax_impl.gpu.select_platform(Kind.gpu)
    assert jax.config.jax_platforms is None  # and it has not looked
    flax_impl.gpu.select_platform(Kind.auto)
    assert jax.config.jax_platforms == "cpu"


def test_jax_looks_for_a_gpu_where_there_is_one(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    jax.config.update("jax_platforms", None)
    for kind in (Kind.auto, Kind.gpu):
        flax_impl.gpu.select_platform(kind)
        assert jax.config.jax_platforms is None
    flax_impl.gpu.select_platform(Kind.cpu)
    assert jax.config.jax_platforms == "cpu"


def test_a_gpu_without_kernels_is_refused(monkeypatch):
    built = ["sm_75", "sm_80", "sm_120", "compute_120"]
    for fitting in [(7, 5), (9, 0), (12, 0)]:
        lightning_impl.gpu.check_architecture(fitting, built)
    lightning_impl.gpu.check_architecture((7, 0), [])  # a build without CUDA tells none
    with pytest.raises(UserError, match=r"compute capability 7\.0, and this torch .* 7\.5.*cu126"):
        lightning_impl.gpu.check_architecture((7, 0), built)

    monkeypatch.setattr(flax_impl.gpu, "find_spec", "jax_cuda13_plugin".__eq__)
    for fitting in ("7.5", "10.0", "gfx942"):
        flax_impl.gpu.check_architecture(SimpleNamespace(compute_capability=fitting))
    with pytest.raises(UserError, match=r"compute capability 7\.0, and this JAX .* 7\.5.*cuda12"):
        flax_impl.gpu.check_architecture(SimpleNamespace(compute_capability="7.0"))


@pytest.mark.parametrize(
    "given", [None, "XLA_CLIENT_MEM_FRACTION", "XLA_PYTHON_CLIENT_MEM_FRACTION"]
)
def test_jax_may_take_nearly_all_memory_unless_the_user_has_set_a_part(monkeypatch, given):
    names = ("XLA_CLIENT_MEM_FRACTION", "XLA_PYTHON_CLIENT_MEM_FRACTION")
    for name in names:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    if given:
        monkeypatch.setenv(given, "0.5")
    flax_impl.gpu.set_memory_limits()
    found = {name: os.environ[name] for name in names if name in os.environ}
    assert found == ({given: "0.5"} if given else {"XLA_CLIENT_MEM_FRACTION": "0.95"})
    monkeypatch.setenv("XLA_CLIENT_MEM_FRACTION", "")  # so that it is restored after the test


def test_deterministic_products_on_a_gpu_are_those_of_cublas(monkeypatch):
    deterministic, products = "--xla_gpu_deterministic_ops=true", "--xla_gpu_enable_triton_gemm="
    monkeypatch.setenv("XLA_FLAGS", "--xla_dump_to=x")
    flax_impl.gpu.set_deterministic_flags(gpu=False)
    assert os.environ["XLA_FLAGS"] == f"--xla_dump_to=x {deterministic}"
    for _ in range(2):
        flax_impl.gpu.set_deterministic_flags(gpu=True)
        assert os.environ["XLA_FLAGS"] == f"--xla_dump_to=x {deterministic} {products}false"
    monkeypatch.setenv("XLA_FLAGS", f"{products}true")
    flax_impl.gpu.set_deterministic_flags(gpu=True)
    assert os.environ["XLA_FLAGS"] == f"{products}true {deterministic}"


def test_bf16_products_of_torch_are_summed_in_float32(configure):
    lightning_impl.device.prepare(configure("accelerator=cpu"))
    assert not torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction


def test_data_are_resident_if_all_splits_fit_into_a_quarter_of_the_memory(configure):
    config = configure(f"accelerator=cpu {DATA}")
    data = load(config.dataset, config.task)
    plan = make_batch_plan(config, data)
    splits = {"train": data.train, "val": data.val, "test": data.test}
    total = sum(split.nbytes for split in splits.values())
    assert total == sum(f.nbytes for split in splits.values() for f in split.fields.values())
    by_torch = ShapesOnly("gpu", Precision.fp32, "shapes")
    for free, fits in [(4 * total, True), (4 * total - 4, False)]:
        by_torch.free = free
        by_jax = SimpleNamespace(free_bytes=lambda free=free: free)
        for split in splits.values():
            assert lightning_impl.data.samples.is_resident(split, plan, by_torch) is fits
            assert flax_impl.data.samples.is_resident(split, plan, by_jax) is fits


def test_a_call_sends_few_batches_of_data_that_are_not_resident(configure, monkeypatch):
    config = configure(f"accelerator=cpu {DATA}")
    plan = make_batch_plan(config, load(config.dataset, config.task))
    device = replace(flax_impl.device.prepare(config), steps_per_call=32)
    assert FlaxBatches(plan, device, 1).steps_per_call == 32
    monkeypatch.setattr(flax_impl.data.samples, "RESIDENT_BYTES", 0)
    assert FlaxBatches(plan, device, 1).steps_per_call == 32
    sample = plan.data.train.nbytes // len(plan.data.train)
    monkeypatch.setattr(flax_impl.data.batches, "CALL_BYTES", 5 * 16 * sample)
    assert FlaxBatches(plan, device, 1).steps_per_call == 5


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "int32", "uint8", "bool"])
def test_the_checksum_of_a_gpu_finds_every_flipped_bit_and_any_other_order(dtype):
    with jax.enable_x64(True):
        array = jax.numpy.arange(30).reshape(5, 6).astype(dtype)
        checksum = flax_impl.checkpoints.CHECKSUMS["device_checksum"]
        on_host = jax.device_get(array)
        expected = checksum([array])
    assert checksum([on_host]) == expected  # without float64, too
    for byte in range(0, on_host.nbytes, 7):
        flipped = on_host.copy()
        flipped.view("uint8").reshape(-1)[byte] ^= 1 if dtype == "bool" else 64
        assert checksum([flipped]) != expected
    assert checksum([on_host.T.copy()]) != expected
    assert checksum([on_host[::-1].copy()]) != expected


def test_a_run_with_the_checksum_of_a_gpu_resumes_and_finds_damage(train, tmp_path, monkeypatch):
    kinds = flax_impl.checkpoints.CHECKSUMS
    by_device = {"device_checksum": kinds["device_checksum"]}
    monkeypatch.setattr(
        flax_impl.checkpoints,
        "_checksums",
        lambda state: {name: checksum(state) for name, checksum in by_device.items()},
    )
    keys = "model=linear dataset.limit=64 train.steps=4 train.precision=fp64"
    assert train("first", "jax", f"{keys} train.stop_after=2") == 130
    assert train("first", "jax", f"{keys} resume={tmp_path / 'first'}") == 0
    monkeypatch.setitem(kinds, "device_checksum", lambda state: 0)
    with pytest.raises(UserError, match="its arrays are not those that were saved"):
        train("tested", "jax", f"{keys} mode=test checkpoint={tmp_path / 'first'}")


def test_the_average_of_the_weights_is_torchs_and_reads_nothing_from_the_gpu():
    from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    own = Average(model, 0.9)
    expected = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    for step in range(3):
        for value in (*model.parameters(), model[1].running_mean):
            value.data.add_(torch.randn_like(value))
        own.follow(model, step == 0)
        expected.update_parameters(model)
        for (name, value), (_, other) in zip(
            own.state_dict().items(), expected.state_dict().items(), strict=True
        ):
            assert torch.equal(value, other), name
    without_values = own.to("meta")
    without_values.follow(model.to("meta"), False)
