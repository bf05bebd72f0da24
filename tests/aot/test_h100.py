"""The programs that JAX would run on H100s, compiled on a machine without one.

Needs JAX's CUDA plugin: `make aot` installs it aside, `pip install -e '.[aot]'` into the environment.
"""

import jax
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

pytest.importorskip("jax_cuda13_plugin", reason="needs the extra aot: make aot")

from compile_ahead import Program, compile_step, h100s

from flax_impl.checkpoints import _sum_words
from flax_impl.device import DATA

# Small batches of data that are made: shapes decide which kernels there are, not their sizes.
IMAGES = "dataset=digits train.batch_size=16"
TOKENS = "dataset=text dataset.max_bytes=20_000 dataset.length=32 train.batch_size=16"
SMALL = "model.depth=1 model.width=64"
MODELS = {
    "linear": IMAGES,
    "mlp": IMAGES,
    "cnn": IMAGES,
    "simple_cnn": IMAGES,
    "resnet18": f"{IMAGES} model.width=8",
    "resnet50": f"{IMAGES} model.width=8",
    "unet": f"{IMAGES} task=denoising task.levels=20 model.depth=1 model.width=16",
    "vit": f"{IMAGES} {SMALL}",
    "gpt": f"{TOKENS} {SMALL}",
    "bert": f"{TOKENS} task=masked_language {SMALL}",
    "encoder_decoder": f"dataset=reverse train.batch_size=16 {SMALL}",
}


@pytest.fixture
def compiled(configure, monkeypatch, tmp_path):
    """A function that compiles the training step of overrides for one or more H100s."""
    monkeypatch.setenv("TANDEM_PROGRESS", "none")

    def made(overrides, devices=1, **options):
        config = configure(f"accelerator=cpu accelerator.devices={devices} {overrides}")
        return compile_step(config, devices, **options)

    return made


def every_model():
    """Each model in each precision; only one of them is compiled every day."""
    for number, model in enumerate(MODELS):
        for turn, precision in enumerate(("bf16", "fp32", "fp64")):
            daily = number % 3 == turn and model != "resnet50"
            yield pytest.param(model, precision, marks=() if daily else pytest.mark.slow)


@pytest.mark.parametrize(("model", "precision"), [*every_model()])
def test_every_model_compiles_in_every_precision(compiled, model, precision):
    program = compiled(f"model={model} {MODELS[model]} train.precision={precision}")
    assert program.count("while") >= 1  # steps of a call are a loop, not repeated
    donated = program.memory.alias_size_in_bytes
    assert donated > 0.9 * program.memory.output_size_in_bytes  # the state is written in place


OPTIMIZERS = (
    "sgd", "adam", "adamw", "amsgrad", "rmsprop", "adagrad", "adadelta", "adamax", "nadam", "radam",
    "lion", "lamb", "muon",
)  # fmt: skip


@pytest.mark.parametrize(
    "optimizer",
    [o if o in ("adamw", "muon") else pytest.param(o, marks=pytest.mark.slow) for o in OPTIMIZERS],
)
def test_every_optimizer_updates_its_slots_in_place(compiled, optimizer):
    case = f"model=mlp {IMAGES} optimizer={optimizer} train.clip_norm=1"
    program = compiled(f"{case} train.ema=0.9")
    assert program.memory.alias_size_in_bytes > 0.9 * program.memory.output_size_in_bytes
    assert program.count("sort") == program.count("scatter") == 0
    # Nothing is copied to the host and back, as the number of steps.
    assert program.count("send") == program.count("recv") == program.calls("xla_python") == 0


BIG_IMAGES = "dataset=synthetic dataset.shape=[224,224,3] dataset.samples=256"
LONG_TOKENS = "dataset=text dataset.max_bytes=200_000 dataset.length=1024"
# Each with its batch and the layers of its blocks: all of one, and as many as show what another takes.
PRESETS = {
    "vit_tiny": (f"{BIG_IMAGES} train.batch_size=64", 2),
    "vit_small": (f"{BIG_IMAGES} train.batch_size=64", 12),
    "vit_base": (f"{BIG_IMAGES} train.batch_size=64", 2),
    "resnet50": (f"{BIG_IMAGES} train.batch_size=64 model.stem=imagenet", None),
    "gpt2": (f"{LONG_TOKENS} train.batch_size=16", 12),
    "gpt2_medium": (f"{LONG_TOKENS} train.batch_size=8", 2),
    "gpt2_large": (f"{LONG_TOKENS} train.batch_size=4", 2),
    "gpt2_xl": (f"{LONG_TOKENS} train.batch_size=4", 2),
}


@pytest.mark.slow
@pytest.mark.parametrize("model", PRESETS)
def test_models_of_the_sizes_of_their_papers_fit_an_h100(compiled, model):
    overrides, depth = PRESETS[model]
    layers = "" if depth is None else f"model.depth={depth} model.dropout=0"
    program = compiled(f"model={model} {overrides} {layers} train.precision=bf16")
    assert program.argument_mb + program.temporary_mb < 40_000
    assert program.count("sort") <= 1  # of equal tokens
    if depth is not None:
        assert program.calls("__cudnn$fmhaSoftmaxBackward") == depth


@pytest.mark.parametrize(
    ("overrides", "sorts"),
    [
        (f"model=cnn {IMAGES}", 0),
        (f"model=resnet18 {IMAGES} model.width=8 model.stem=imagenet", 0),
        (f"model=gpt {TOKENS} {SMALL}", 1),  # of equal tokens, whose gradients are added
    ],
    ids=["cnn", "resnet18", "gpt"],
)
def test_deterministic_kernels_sort_only_where_rows_of_a_table_are_added(
    compiled, overrides, sorts
):
    program = compiled(overrides)
    assert program.count("sort") == program.count("scatter") == sorts
    assert program.calls("__triton") == 0 < program.calls("__cublas")


def test_under_fsdp_a_device_holds_the_weights_of_a_few_blocks_at_a_time(compiled):
    # Blocks of real models are larger than what XLA gathers together.
    apart = {"xla_gpu_all_gather_combine_threshold_bytes": 1}
    case = "dataset=text dataset.max_bytes=20_000 dataset.length=16 train.batch_size=8 model=gpt"
    case = f"{case} model.width=512 model.heads=8 accelerator.strategy=fsdp"
    two, five = (compiled(f"{case} model.depth={depth}", 8, **apart) for depth in (2, 5))
    block = 12 * 512**2 * 4 / 2**20  # MB
    assert five.temporary_mb - two.temporary_mb < block  # three more, and gradients of as many
    assert five.argument_mb - two.argument_mb == pytest.approx(3 * 3 * block / 8, rel=0.02)
    assert five.count("reduce-scatter") >= 1
    gathered = [line for line in five.text.splitlines() if " all-gather-start(" in line]
    again = [line for line in gathered if "rematted_computation" in line]
    assert len(again) >= 5 * 4  # each weight, for the gradient
    assert compiled(case.replace("fsdp", "ddp"), 8).count("reduce-scatter|all-gather") == 0


# In float32 the softmax of a block takes 64 MB, and as much again while it is computed.
LONG = "model=gpt model.width=256 dataset=text dataset.max_bytes=20_000 dataset.length=512"


@pytest.mark.parametrize(
    ("precision", "most", "calls"),
    [("bf16", 90, 1), pytest.param("fp32", 135, 0, marks=pytest.mark.slow)],
)
def test_attention_keeps_no_softmax_and_is_cudnn_s_in_bf16(compiled, precision, most, calls):
    case = f"{LONG} train.batch_size=16 train.precision={precision}"
    one, two = (compiled(f"{case} model.depth={depth}") for depth in (1, 2))
    assert two.calls("__cudnn$fmhaSoftmaxBackward") == 2 * calls
    assert two.calls("__cudnn$fmhaSoftmax") == 2 * 2 * calls  # forward and backward
    # A block's other activations take 80 MB in bf16, 125 in float32; written out it takes 194 or 256.
    assert two.temporary_mb - one.temporary_mb < most


@pytest.mark.parametrize("precision", ["fp32", pytest.param("bf16", marks=pytest.mark.slow)])
def test_attention_of_a_long_sequence_has_no_softmax_of_a_whole_block(compiled, precision):
    data = "dataset=text dataset.max_bytes=20_000 dataset.length=4096 train.batch_size=1"
    masks = f"model.dropout=0.1 train.randomness=shared train.precision={precision}"
    case = f"model=gpt model.width=256 {data} {masks}"
    one, two = (compiled(f"{case} model.depth={depth}") for depth in (1, 2))
    assert "4096,4096]" not in one.text
    assert one.temporary_mb < 128  # a softmax takes 256
    # As much as without masks: queries, keys and values, and the layers around them.
    assert two.temporary_mb - one.temporary_mb < 80


@pytest.mark.parametrize("model", ["vit", "gpt"])
def test_cudnn_s_attention_takes_odd_lengths(compiled, model):
    data = {"vit": IMAGES, "gpt": TOKENS.replace("length=32", "length=33")}[model]
    case = f"model={model} {data} {SMALL} model.dropout=0 train.precision=bf16"
    program = compiled(f"{case} model.attention=fused")
    assert program.calls("__cudnn$fmhaSoftmaxBackward") == 1


@pytest.mark.slow
@pytest.mark.parametrize(("dropout", "calls"), [(0.0, 1), (0.1, 0)])
def test_devices_share_the_batch_of_an_attention(compiled, dropout, calls):
    case = f"{LONG} train.batch_size=16 model.depth=1 model.dropout={dropout} train.precision=bf16"
    eight = compiled(case, 8)
    assert eight.calls("__cudnn$fmhaSoftmaxBackward") == calls
    assert eight.count("all-gather") == 0
    if calls:
        assert eight.temporary_mb < 30  # 126 on one device


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_gradients_are_summed_while_others_are_computed(compiled, strategy):
    case = f"model=gpt {TOKENS} model.width=256 model.heads=4 model.depth=3"
    apart = {"xla_gpu_all_reduce_combine_threshold_bytes": 2**20}
    program = compiled(f"{case} accelerator.strategy={strategy}", 8, **apart)
    overlapped = [kernels for kernels in program.meanwhile() if kernels]
    assert len(overlapped) >= 2
    assert sum(overlapped) > 20


def test_the_checksum_of_a_checkpoint_is_computed_where_the_arrays_are():
    mesh = h100s(8)
    sharding = NamedSharding(mesh, PartitionSpec(None, DATA))
    array = jax.ShapeDtypeStruct((4096, 8192), np.float32, sharding=sharding)
    program = Program(_sum_words.lower(array).compile())
    assert program.argument_mb == pytest.approx(128 / 8, rel=0.01)
    assert program.temporary_mb < 1
    assert program.count("all-gather") == 0 < program.count("all-reduce")


@pytest.mark.slow
def test_cudnn_s_attention_takes_the_padding_of_a_source(compiled):
    case = f"model=encoder_decoder {MODELS['encoder_decoder']} train.precision=bf16"
    program = compiled(f"{case} dataset.length=8 model.attention=fused")
    assert program.calls("__cudnn$fmha") == 2 * 3
