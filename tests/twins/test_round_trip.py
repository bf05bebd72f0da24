"""The state of every model and optimizer moves between backends and through files bit for bit."""

from dataclasses import replace

import numpy as np
import pytest
from asserts import parts_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import flax_impl.backend as flax_backend
import lightning_impl.backend as torch_backend
from flax_impl import state as flax_state
from flax_impl.optimizers import OPTIMIZERS
from lightning_impl import state as torch_state
from lightning_impl.models import MODELS
from pipeline.data.batch_plan import make_batch_plan
from pipeline.data.data_spec import placeholder_data
from pipeline.digest import digest
from pipeline.run.experiment import Experiment
from pipeline.run.recording.recorder import Recorder
from pipeline.storage.portable_file import PortableCheckpoint, read_portable, write_portable
from pipeline.storage.recorder_state import RecorderState

SMALL = {
    "linear": "",
    "mlp": "model.hidden=[3]",
    "cnn": "model.channels=[2,3] model.hidden=[4]",
    "simple_cnn": "model.channels=2",
    "resnet18": "model.width=2",
    "resnet50": "model.width=1",
    "vit": "model.width=8 model.heads=2 model.depth=1 model.patch=4",
    "gpt": "model.width=8 model.heads=2 model.depth=2",
    "bert": "model.width=8 model.heads=2 model.depth=1",
    "unet": "model.width=2 model.groups=2 model.depth=1",
    "encoder_decoder": "model.width=8 model.heads=2 model.depth=1",
    "own": "model.torch=own_models:TorchNet model.jax=own_models:FlaxNet",
}
IMAGES = {
    "name": "made", "task": "classification", "sizes": {"label": 5}, "channels": {"image": 3},
    "fields": {"image": ([8, 8, 3], "uint8"), "label": ([], "int64")},
    "samples": {"train": 32, "val": 8, "test": 8},
}  # fmt: skip
TOKENS = IMAGES | {
    "task": "language", "sizes": {"tokens": 11}, "channels": {},
    "fields": {"tokens": ([6], "uint8"), "next": ([6], "uint8")},
}  # fmt: skip
SAMPLES = {
    "gpt": TOKENS,
    "bert": TOKENS | {"task": "masked_language"},
    "unet": IMAGES | {"task": "denoising"},
    "encoder_decoder": TOKENS | {
        "task": "seq2seq", "sizes": {"source": 11, "target": 9},
        "fields": {"source": ([6], "uint8"), "target": ([7], "uint8")},
    },
}  # fmt: skip
ODD = [np.nan, np.inf, -np.inf, -0.0, 5e-324, 1e-45]  # nothing is computed with them, so they stay


def test_every_model_has_a_small_config_here():
    assert SMALL.keys() == MODELS.keys()


class Pair:
    """An experiment on both backends at step 0, into which states can be loaded."""

    def __init__(self, configure, overrides):
        config = configure(f"accelerator=cpu logger=none train.batch_size=8 {overrides}")
        outline = SAMPLES.get(config.model.name, IMAGES)
        plan = make_batch_plan(config, placeholder_data(outline, config.task))
        self.config = config
        self.experiment = Experiment(config, plan, Recorder(config, plan.data), None)

    def through_torch(self, portable):
        """A state after loading it into torch and exporting it."""
        module = torch_backend.build(self.experiment, torch_backend.prepare(self.config))
        optimizer = module.configure_optimizers()
        average = module.average and module.average.module
        torch_state.from_portable(portable, module.model, optimizer, average)
        averages = {} if average is None else dict(average.named_parameters())
        return torch_state.to_portable(portable.step, module.model, optimizer, averages)

    def through_jax(self, portable=None):
        """A state after loading it into JAX and exporting it; the initial state if none is given."""
        state, layout = flax_backend.build(self.experiment, flax_backend.prepare(self.config))
        if portable is not None:
            state = flax_state.from_portable(portable, state, layout)
        return flax_state.to_portable(state, layout)


def filled(portable, seed, step, odd):
    """A state of the same names and shapes with random numbers, and `odd` ones among them."""
    random = np.random.default_rng(seed)

    def numbers(arrays):
        return {name: draw(array) for name, array in arrays.items()}

    def draw(array):
        drawn = random.normal(size=array.shape).astype(array.dtype)
        drawn.flat[: len(odd)] = np.array(odd, array.dtype)[: drawn.size]
        return drawn

    return replace(
        portable,
        step=step,
        parameters=numbers(portable.parameters),
        buffers=numbers(portable.buffers),
        averages=numbers(portable.averages),
        slots={slot: numbers(arrays) for slot, arrays in portable.slots.items()},
    )


def fingerprint(portable):
    """Step and digests of all parts of a state."""
    groups = parts_of(portable).items()
    return portable.step, {name: digest(arrays) for name, arrays in groups if arrays}


@pytest.fixture
def journeys(configure, tmp_path):
    """A function that moves a state through both backends and a file, and checks that it stays the same."""
    pairs = {}

    def sent(overrides, seed, step, odd):
        if overrides not in pairs:
            pairs[overrides] = Pair(configure, overrides)
        pair = pairs[overrides]
        start = filled(pair.through_jax(), seed, step, odd)
        wanted = fingerprint(start)
        torch = pair.through_torch(start)
        assert fingerprint(torch) == wanted
        path = tmp_path / "portable.safetensors"
        write_portable(path, PortableCheckpoint(torch, RecorderState(), {"source": "made"}))
        jax = pair.through_jax(read_portable(path).state)
        assert fingerprint(jax) == wanted
        assert fingerprint(pair.through_torch(jax)) == wanted
        return start

    return sent


# What decides whether there is a slot.
VARIANTS = [
    "sgd optimizer.momentum=0",
    "rmsprop optimizer.centered=true optimizer.momentum=0.9",
]


@pytest.mark.parametrize("optimizer", [*sorted({*OPTIMIZERS} - {"own"}), *VARIANTS])
def test_the_state_of_every_optimizer_moves_bit_for_bit(journeys, optimizer):
    treated = "train.frozen=[conv1.*] +optimizer.lr_factors={conv2.weight:0.5} train.ema=0.9"
    model = f"model=cnn {SMALL['cnn']} train.precision=fp64"
    state = journeys(f"{model} {treated} optimizer={optimizer}", 1, 7, ODD)
    assert len(state.averages) == len(state.parameters) == 8
    for arrays in state.slots.values():
        assert 0 < len(arrays) <= 6, "frozen parameters have none"
        assert {array.dtype for array in arrays.values()} == {np.dtype(float)}


@pytest.mark.slow
# The fixture only remembers what was built.
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    model=st.sampled_from(sorted(SMALL)),
    optimizer=st.sampled_from(sorted(OPTIMIZERS)),
    ema=st.sampled_from(["null", "0.9"]),
    precision=st.sampled_from(["fp32", "bf16", "fp64"]),
    seed=st.integers(0, 99),
    step=st.integers(1, 10**6),
    odd=st.lists(st.sampled_from(ODD), max_size=4),
)
def test_the_state_of_every_model_moves_bit_for_bit_with_any_optimizer(
    journeys, model, optimizer, ema, precision, seed, step, odd
):
    chosen = f"model={model} {SMALL[model]} optimizer={optimizer}"
    journeys(f"{chosen} train.ema={ema} train.precision={precision}", seed, step, odd)
