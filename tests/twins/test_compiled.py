"""torch through torch.compile (`backend.compile`): the numbers of torch, in the same checkpoints."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch._inductor import config as inductor

from lightning_impl import CACHE
from pipeline.errors import UserError
from pipeline.loggers.metrics_file import read_metrics
from pipeline.run.experiment import Job
from pipeline.run.runner import run as run_experiment
from pipeline.storage.run_folder import RunFolder

RUN = (
    "model=mlp model.hidden=[8] dataset.limit=80 train.batch_size=16 train.steps=6 "
    "train.precision=fp64 train.log_every=1 logger=none accelerator=cpu"
)
OWN = """
import torch
from torch import nn

class Breaks(nn.Module):
    def __init__(self, input_shape, outputs):
        super().__init__()
        self.layer = nn.Linear(torch.Size(input_shape).numel(), outputs)

    def forward(self, x):
        x = x.flatten(1)
        if x.sum().item() > 0:  # a number of Python, which no program holds
            x = x * 0.5
        print(end="")
        return self.layer(x)

class Blocks(nn.Module):
    def __init__(self, input_shape, outputs):
        super().__init__()
        width = torch.Size(input_shape).numel()
        self.blocks = nn.ModuleList([nn.Sequential(nn.Linear(width, 8), nn.Dropout(0.1))])
        self.head = nn.Linear(8, outputs)

    def forward(self, x):
        x = x.flatten(1)
        for block in self.blocks:
            x = block(x).tanh()
        return self.head(x)

class Cannot(Breaks):
    def forward(self, x):
        return torch.compile(super().forward, fullgraph=True)(x)
"""


@pytest.fixture
def train_on(configure, tmp_path, one_process):
    """A function that runs an experiment on one option of `backend`, in a folder of that name."""

    def trained(backend: str, overrides: str = RUN, name: str = "") -> Path:
        folder = tmp_path / (name or backend)
        config = configure(f"{overrides} backend={backend}")
        expected = 130 if config.train.stop_after else 0
        assert run_experiment(config, Job(folder, folder.name)) == expected
        return folder

    return trained


def losses(folder: Path) -> np.ndarray:
    rows = read_metrics(folder / "metrics.jsonl")
    return np.array([row[k] for row in rows for k in ("train/loss", "val/loss") if k in row])


@pytest.mark.slow
def test_compiled_torch_has_the_curve_of_torch_and_its_compilation_is_timed_apart(
    train_on, tmp_path
):
    eager, compiled = train_on("torch"), train_on("torch_compiled")
    assert losses(compiled).size == 8
    np.testing.assert_allclose(losses(compiled), losses(eager), rtol=1e-10)
    eager, result = RunFolder(eager).result, RunFolder(compiled).result
    assert result.seconds["compile"] > result.seconds["train"] > 0
    assert eager.seconds["compile"] == 0
    assert result.test["test/loss"] == pytest.approx(eager.test["test/loss"], rel=1e-10)
    last = "checkpoints/last-000006.ckpt"
    stored, wanted = (
        torch.load(tmp_path / name / last, weights_only=False)["state_dict"]
        for name in ("torch_compiled", "torch")
    )
    assert list(stored) == list(wanted)
    assert any(CACHE.iterdir()), "compiled programs are kept for the next run"


def test_without_a_compiler_one_message_tells_the_way_out(train_on, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "empty"))
    # Not by monkeypatch, which takes an option of Inductor away at the end.
    no_compiler = inductor.patch({"cpp.cxx": ("no_such_compiler",)})
    with no_compiler, pytest.raises(UserError) as caught:
        train_on("torch_compiled", RUN.replace("[8]", "[7]"))
    assert str(caught.value) == (
        "backend.compile=true: torch.compile fails: it finds no C++ compiler. Install one, such as g++, "
        "or set backend.compile=false (or backend=torch), which runs the model uncompiled."
    )


def own(name: str) -> str:
    return RUN.replace(
        "model=mlp model.hidden=[8]", f"model=own model.torch=models_to_compile:{name}"
    )


@pytest.fixture
def own_models(tmp_path, monkeypatch):
    """The module of a user's own models."""
    (tmp_path / "models_to_compile.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.slow
def test_a_model_that_breaks_the_graph_is_compiled_in_parts(train_on, own_models):
    eager, compiled = (train_on(name, own("Breaks")) for name in ("torch", "torch_compiled"))
    np.testing.assert_allclose(losses(compiled), losses(eager), rtol=1e-10)
    assert RunFolder(compiled).result.seconds["compile"] > 0


@pytest.mark.slow
def test_compiled_torch_computes_blocks_again_with_the_same_numbers(train_on, own_models):
    overrides = f"{own('Blocks')} train.randomness=shared"
    eager = train_on("torch", overrides)
    compiled = train_on("torch_compiled", f"{overrides} train.remat=true")
    np.testing.assert_allclose(losses(compiled), losses(eager), rtol=1e-10)


def test_compiled_torch_computes_no_running_statistics_again(train_on):
    overrides = RUN.replace("mlp model.hidden=[8]", "resnet18 model.width=4")
    with pytest.raises(UserError, match=r"train.remat=true: .*\(running statistics\) twice"):
        train_on("torch_compiled", f"{overrides} train.remat=true")


@pytest.mark.slow
def test_a_model_that_torch_cannot_compile_is_named_with_the_way_out(train_on, own_models):
    with pytest.raises(UserError) as caught:
        train_on("torch_compiled", own("Cannot"))
    assert str(caught.value).startswith("backend.compile=true: torch.compile fails: ")
    assert "Set backend.compile=false (or backend=torch)" in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["torch_compiled", "torch", "jax"])
def test_a_compiled_run_resumes_compiled_bit_for_bit_and_on_the_others_within_rounding(
    train_on, backend
):
    whole = train_on("torch_compiled", name="whole")
    half = train_on("torch_compiled", f"{RUN} train.stop_after=3", "half")
    rest = train_on(backend, f"{RUN} resume={half}", "jax" if backend == "jax" else "half")
    exact = backend == "torch_compiled"
    np.testing.assert_allclose(losses(rest), losses(whole), rtol=0 if exact else 1e-10)
    if backend == "jax":
        back = train_on("torch_compiled", f"{RUN} train.steps=8 resume={rest}", "back")
        assert RunFolder(back).result.steps == 8


@pytest.mark.slow
def test_compiled_torch_draws_shared_masks_and_averages_weights_as_torch_does(train_on):
    model = (
        "model=vit model.depth=1 model.width=8 model.heads=2 model.dropout=0.1 model.drop_path=0.2"
    )
    shared = f"{model} train.randomness=shared train.ema=0.9 train.accumulate=2"
    overrides = RUN.replace("model=mlp model.hidden=[8]", shared)
    eager, compiled = (train_on(name, overrides) for name in ("torch", "torch_compiled"))
    np.testing.assert_allclose(losses(compiled), losses(eager), rtol=1e-10)
    for result in (RunFolder(folder).result for folder in (eager, compiled)):
        assert [result.attention, result.steps_per_call] == ["flash", 1]


def test_jax_is_not_compiled_once_more(configure):
    with pytest.raises(
        UserError, match=r"jax compiles every step by itself\. .*torch_compiled,jax"
    ):
        configure("backend=jax backend.compile=true")
    with pytest.raises(
        UserError, match=r"backend\.mode=fast: must be default, reduce-overhead or "
    ):
        configure("backend=torch_compiled backend.mode=fast")


@pytest.mark.parametrize("overrides", ["backend.fused=false", "backend.channels_last=true"])
def test_an_expert_s_keys_of_torch_change_rounding_alone(train_on, overrides):
    cnn = RUN.replace("model=mlp model.hidden=[8]", "model=cnn model.channels=[4,4]")
    usual, other = train_on("torch", cnn, "usual"), train_on("torch", f"{cnn} {overrides}", "other")
    np.testing.assert_allclose(losses(other), losses(usual), rtol=1e-10)
    stored = [
        torch.load(folder / "checkpoints/last-000006.ckpt", weights_only=False)
        for folder in (usual, other)
    ]
    if "fused" in overrides:
        fused = [one["optimizer_states"][0]["param_groups"][0]["fused"] for one in stored]
        assert fused == [True, None]
    else:
        weights = [one["state_dict"]["model.conv2.weight"] for one in stored]
        assert [weight.is_contiguous() for weight in weights] == [True, False]
        assert weights[1].is_contiguous(memory_format=torch.channels_last)


def test_flags_of_xla_reach_the_programs_of_training_and_evaluation(train_on, tmp_path):
    dump = tmp_path / "dump"
    folder = train_on("jax", f"{RUN} backend.xla_flags.xla_dump_to={dump}")
    programs = {file.name.split(".")[1] for file in dump.glob("*.txt")}
    assert {"jit_steps", "jit_step"} <= programs
    assert RunFolder(folder).result.config["backend"]["xla_flags"] == {"xla_dump_to": str(dump)}


@pytest.mark.parametrize(
    ("backend", "overrides", "told"),
    [
        (
            "jax",
            "backend.xla_flags={xla_nonsense:true}",
            "backend.xla_flags={'xla_nonsense': True}: XLA refuses it: No such compile option: "
            "'xla_nonsense'. Write it without --, as backend.xla_flags={xla_cpu_enable_fast_math:true}.",
        ),
        (
            "torch_compiled",
            "backend.inductor={nonsense:1}",
            "backend.inductor={'nonsense': 1}: Inductor refuses it: Unexpected optimization option "
            "nonsense. torch._inductor.list_options() names all of them.",
        ),
        (
            "torch_compiled",
            "backend.inductor={max_autotune:much} backend.mode=reduce-overhead",
            "Inductor refuses it: Unexpected type of attr max_autotune, got str should be bool",
        ),
        (
            "torch",
            "backend.channels_last=true accelerator.strategy=fsdp",
            "backend.channels_last=true: must be false under fsdp, which shards contiguous weights alone",
        ),
    ],
)
def test_flags_that_a_compiler_does_not_take_are_named(train_on, backend, overrides, told):
    with pytest.raises(UserError) as caught:
        train_on(backend, f"{RUN} {overrides}")
    assert told in str(caught.value)
