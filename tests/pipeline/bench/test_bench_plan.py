"""The plan of a benchmark: its keys, its batch sizes, and what it refuses."""

from itertools import islice

import pytest

from pipeline.bench.machine import cpu_has_bf16, free_memory_mb
from pipeline.bench.plan import IGNORED, make_plan
from pipeline.bench.timing.side import BATCHES, repeated
from pipeline.config.train import Precision
from pipeline.data import sources
from pipeline.errors import UserError


def test_keys_of_a_benchmark_are_parsed_and_the_others_compose_the_experiment():
    arguments = [
        "model=mlp",
        "backends=torch,jax",
        "batch_sizes=[64,32]",
        "name='mine'",
        "seconds=0.5",
    ]
    plan = make_plan([*arguments, "precisions=fp32,bf16"])
    assert (plan.backends, plan.precisions) == (["torch", "jax"], ["fp32", "bf16"])
    assert list(plan.sizes(1)) == [32, 64]
    assert (plan.name, plan.seconds) == ("mine", 0.5)
    config = plan.config("jax", "bf16")
    assert (config.model.name, config.backend.name) == ("mlp", "jax")
    assert config.train.precision is Precision.bf16
    assert config.train.steps > 10**6
    assert config.train.eval_every == f"{config.train.steps}steps"


def test_by_default_all_backends_are_measured_torch_first_at_powers_of_two():
    plan = make_plan([])
    assert plan.chosen_backends()[0] == "torch"
    assert {"torch", "jax"} <= set(plan.chosen_backends())
    assert list(islice(plan.sizes(1), 4)) == [1, 2, 4, 8]
    assert next(plan.sizes(4)) == 4  # micro-batches
    assert "fp32" in plan.chosen_precisions(plan.config("torch"))


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("backends=torhc", "backends=torhc: must be one or more of "),
        ("precisions=fp16", "precisions=fp16: must be one or more of fp32, tf32, bf16, fp64."),
        ("batch_sizes=32,0", "batch_sizes=32,0: must be whole numbers, at least 1, like 32,64."),
        ("batch_sizes=many", "batch_sizes=many: must be whole numbers"),
        ("seconds=-1", "seconds=-1: must be a number above 0."),
        ("backend=jax", "backend=…: has no effect on a benchmark. Set backends=torch,jax."),
        ("train.batch_size=64", "Set batch_sizes=32,64."),
        ("train.precision=bf16", "Set precisions=fp32,bf16."),
        ("train.steps=9", "Set seconds=NUMBER, of each measurement."),
        ("logger=csv", "Leave it out: a benchmark logs nothing."),
        ("precision=fp32", "must be a key of a benchmark or of run.py. Did you mean precisions?"),
        ("batch_size=32", "Did you mean batch_sizes?"),
        ("layers=true", "Add --layers."),
        ("resume=auto", "Leave it out: a benchmark trains."),
        ("seed=0,1", "seed=0,1: must be one value. A benchmark is of one experiment; a list is [A,B]."),
        ("accelerator.devices=2", "accelerator.devices=2: must be 1: a benchmark measures one device"),
    ],
)  # fmt: skip
def test_bad_arguments_are_refused_with_the_way_out(argument, message):
    with pytest.raises(UserError) as refused:
        make_plan([argument]).config("torch")
    assert message in str(refused.value)


def test_a_preset_that_leaves_a_key_open_is_refused_until_the_key_is_set(tmp_path):
    preset = tmp_path / "model" / "open.yaml"
    preset.parent.mkdir()
    preset.write_text("defaults: [/schema/model/mlp@_here_]\nname: mlp\nhidden: ???\n")
    with pytest.raises(UserError, match=r"model.hidden=\?\?\?: .*leaves it open"):
        make_plan(["model=open"], str(tmp_path)).config("torch")
    config = make_plan(["model=open", "model.hidden=[8]"], str(tmp_path)).config("torch")
    assert config.model.hidden == [8]


def test_every_refused_key_names_a_way_out():
    assert all(hint.endswith(".") for hint in IGNORED.values())


@pytest.mark.parametrize(
    ("flags", "has"),
    [
        ("flags\t\t: fpu avx512f avx512_bf16", True),
        ("flags\t\t: fpu amx_bf16", True),
        ("Features\t: fp asimd bf16", True),
        ("flags\t\t: fpu avx2 avx512f", False),
        ("", False),
    ],
)
def test_the_processor_tells_if_it_multiplies_bfloat16(tmp_path, flags, has):
    file = tmp_path / "cpuinfo"
    file.write_text(f"processor : 0\n{flags}\n")
    assert cpu_has_bf16(file) is has
    assert not cpu_has_bf16(tmp_path / "absent")


def test_free_memory_is_what_the_kernel_says_is_available(tmp_path):
    file = tmp_path / "meminfo"
    file.write_text("MemTotal: 4194304 kB\nMemAvailable:     1024 kB\n")
    assert free_memory_mb(file) <= 1
    assert free_memory_mb() > 1


def test_samples_are_repeated_until_they_are_several_batches(configure):
    config = configure("model=mlp")
    data = sources.load(config.dataset, config.task)
    samples = len(data.train)
    larger = repeated(data, samples)
    assert len(larger.train) == BATCHES * samples
    for name, field in larger.train.arrays.items():
        assert (field[samples : 2 * samples] == data.train.fields[name]).all()
    assert repeated(data, samples // BATCHES) is data
    assert larger.moments is data.moments
