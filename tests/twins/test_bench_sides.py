"""A benchmark's side: it trains and infers as many steps as asked, the same ones on both backends."""

from dataclasses import replace
from multiprocessing import Pipe
from threading import Thread
from time import perf_counter

import pytest
from torch import nn

from flax_impl.training import layer_times
from lightning_impl.training.compiled_layers import named_kernels
from pipeline.bench.results import INFER, TRAIN
from pipeline.bench.timing.side import END, Asked, Ready, Turn, failed, work
from pipeline.data import sources
from pipeline.data.batch_plan import make_batch_plan
from pipeline.devices.world import ALONE
from pipeline.errors import RunFailed, UserError
from pipeline.run import backends
from pipeline.run.backends import LAYERS_REST, LAYERS_ROOT, LAYERS_UNNAMED
from pipeline.run.experiment import Experiment
from pipeline.run.recording.recorder import Recorder

SMALL = (
    "model=mlp model.hidden=[32] logger=none accelerator=cpu train.steps=1000000 "
    "train.eval_every=1000000steps"
)


@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_a_side_takes_the_steps_that_are_asked_for_and_waits_in_between(
    configure, tmp_path, backend
):
    config = configure(f"{SMALL} backend={backend}")
    ours, theirs = Pipe()
    side = Thread(target=work, args=(config, theirs, perf_counter(), tmp_path), daemon=True)
    side.start()

    def answer():
        assert ours.poll(60), "no answer"
        return ours.recv()

    ready = answer()
    assert isinstance(ready, Ready)
    assert (ready.phase, ready.unit) == (TRAIN, 1)
    assert ready.device.startswith(backend)
    assert 0 < ready.compile_seconds + 1e-9 < ready.first_seconds
    assert ready.parameters == 64 * 32 + 32 + 32 * 10 + 10
    for count in (1, 7):
        ours.send(Asked(TRAIN, count))
        turn = answer()
        assert isinstance(turn, Turn)
        assert turn.count == count
        assert turn.seconds > 0
        assert not ours.poll(0.05)  # it waits
    ours.send(Asked(INFER))
    assert answer().phase == INFER
    ours.send(Asked(INFER, 3))
    assert answer().count == 3
    ours.send(Asked(END))
    side.join(60)
    assert not side.is_alive()


def test_both_backends_infer_the_same_batches_one_after_the_other(configure, tmp_path):
    found = []
    for name in ("torch", "jax"):
        config = configure(f"{SMALL} train.precision=fp64 train.batch_size=500 backend={name}")
        plan = make_batch_plan(config, sources.load(config.dataset, config.task))
        backend = backends.load(name)
        device = backend.prepare(config, ALONE)
        experiment = Experiment(config, plan, Recorder(config, plan.data), tmp_path)
        infer = backend.inference(experiment, device)
        found.append([infer() for _ in range(3)])
    for ours, theirs in zip(*found, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-10)
    first, second, third = found[0]
    assert first != second
    assert third == first  # 1,437 samples are two whole batches of 500


def test_both_backends_time_the_same_layers_by_canonical_name(configure, tmp_path):
    found = []
    for name in ("torch", "jax"):
        config = configure(f"{SMALL} train.batch_size=256 backend={name}")
        plan = make_batch_plan(config, sources.load(config.dataset, config.task))
        backend = backends.load(name)
        device = backend.prepare(config, ALONE)
        experiment = Experiment(config, plan, Recorder(config, plan.data), tmp_path)
        found.append(backend.layer_times(experiment, device))
    ours, theirs = found
    layers = {"layers.0", "layers.1"}
    assert layers <= set(ours) - {LAYERS_ROOT, LAYERS_REST}
    assert layers <= set(theirs) - {LAYERS_ROOT, LAYERS_REST, LAYERS_UNNAMED}
    for times in found:
        assert all(
            0 < forward < 1 and 0 < backward < 1
            for forward, backward in (times[one] for one in layers)
        )
        assert sum(times[LAYERS_REST]) > 0


@pytest.mark.slow  # compiles
def test_kernels_of_compiled_torch_count_for_the_layers_that_they_compute(configure, tmp_path):
    model = (
        "model=vit model.depth=2 model.width=16 model.heads=2 dataset=synthetic dataset.samples=64"
    )
    small = SMALL.replace("model=mlp model.hidden=[32] ", "")
    config = configure(f"{small} {model} train.batch_size=8 backend=torch_compiled")
    plan = make_batch_plan(config, sources.load(config.dataset, config.task))
    backend = backends.load("torch")
    device = backend.prepare(config, ALONE)
    experiment = Experiment(config, plan, Recorder(config, plan.data), tmp_path)
    found = backend.layer_times(experiment, device)
    eager = replace(config, backend=replace(config.backend, compile=False))
    whole = backend.layer_times(replace(experiment, config=eager), device)
    products = {name for name in whole if name.endswith(("qkv", "proj", "fc1", "fc2", "head"))}
    assert len(products) > 8
    assert products <= set(found) <= set(whole) | {LAYERS_UNNAMED}
    for forward, backward in (found[name] for name in products):
        assert 0 < forward < 1
        assert 0 < backward < 1


def test_compiled_torch_that_tells_no_kernels_has_no_layers_to_time():
    with (
        pytest.raises(RunFailed, match="does not tell which kernel computes which layer"),
        named_kernels(nn.Linear(2, 2), "layer:") as name_kernels,
    ):
        name_kernels()


PROGRAM = """
HloModule jit_steps
%fused.1 (p: f32[2]) -> f32[2] {
  %p = f32[2] parameter(0)
  ROOT %mul.1 = f32[2] multiply(%p, %p), metadata={op_name="jit(steps)/transpose(jvp(Net))/blocks.0/fc/mul"}
}
ENTRY %main (a: f32[2]) -> f32[2] {
  %a = f32[2] parameter(0), metadata={op_name="state"}
  %dot.2 = f32[2] dot(%a, %a), metadata={op_name="jit(steps)/jvp(Net)/blocks.0/dot_general"}
  %relu = f32[2] maximum(%dot.2, %a), metadata={op_name="jit(steps)/jvp(Net)/jit(relu)/max"}
  %copy.1 = f32[2] copy(%relu)
  ROOT %fusion = f32[2] fusion(%copy.1), kind=kLoop, calls=%fused.1
}
"""


@pytest.mark.parametrize(
    ("instruction", "layer", "is_backward"),
    [
        ("fusion", "blocks.0.fc", True),  # from the computation that it calls
        ("dot.2", "blocks.0", False),
        ("relu", LAYERS_ROOT, False),
        ("copy.1", LAYERS_UNNAMED, False),
        ("a", LAYERS_REST, False),
    ],
)
def test_an_instruction_of_xla_belongs_to_the_layer_of_its_scope(instruction, layer, is_backward):
    names = {("blocks.0",): "blocks.0", ("blocks.0", "fc"): "blocks.0.fc"}
    scope = layer_times._scopes(PROGRAM).get(instruction, "")
    assert layer_times._layer(scope, names) == (layer, is_backward)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RuntimeError("CUDA out of memory. Tried to allocate"), "out of memory"),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory"), "out of memory"),
        (MemoryError(), "out of memory"),
        (UserError("model.jax", None, problem="it is none"), "model.jax=None: it is none."),
        (ValueError("no such layer.\nmore"), "ValueError: no such layer"),
    ],
)
def test_an_error_of_a_side_is_one_line_that_tells_if_the_memory_was_short(error, reason):
    assert failed(error).reason == reason
