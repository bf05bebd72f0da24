"""The programs that JAX would run on H100s, compiled on a machine without one.

Needs JAX's CUDA plugin: `make aot` installs it aside, `pip install -e '.[aot]'` into the environment.
"""

import pytest

pytest.importorskip("jax_cuda13_plugin", reason="needs the extra aot: make aot")

from compile_ahead import compile_step

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
def test_cudnn_s_attention_takes_the_padding_of_a_source(compiled):
    case = f"model=encoder_decoder {MODELS['encoder_decoder']} train.precision=bf16"
    program = compiled(f"{case} dataset.length=8 model.attention=fused")
    assert program.calls("__cudnn$fmha") == 2 * 3
