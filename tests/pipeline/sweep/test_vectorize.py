"""Which jobs of a sweep train at once, and why the others do not."""

from dataclasses import replace
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from pipeline.run.together.run_inputs import (
    described,
    differing_keys,
    numbers_of,
    obstacle,
    shape_of,
)
from pipeline.sweep import vectorize
from pipeline.sweep.job_status import JobState, JobStatus
from pipeline.sweep.planned_job import PlannedJob
from pipeline.sweep.run_job import WHY_ALONE

JAX = "backend=jax accelerator=cpu"

REASONS = {
    "mode=test checkpoint=outputs/none": "mode=test trains nothing",
    "resume=outputs/none": "resume=PATH is of one run",
    "accelerator.devices=2": "only runs on one device",
    "train.profile=3": "train.profile is of one run",
}


OF_TORCH = {
    "model=vit model.dropout=0.1": "model.dropout=0.1 draws native random numbers",
    "model=vit model.drop_path=0.1": "set train.randomness=shared",
    "optimizer=lamb": "optimizer=lamb: it takes the norm of each weight",
    "optimizer=muon": "optimizer=muon: it takes each weight as a matrix",
    "train.precision=bf16": "train.precision=bf16: torch.func maps no model under autocast",
    "backend=torch_compiled": "backend.compile=true: a compiled model is of one run",
    "train.remat=true model=vit": "train.remat=true: torch.func maps nothing",
}


@pytest.mark.parametrize("overrides", OF_TORCH)
def test_a_job_that_torch_trains_alone_says_why(configure, overrides):
    assert OF_TORCH[overrides] in obstacle(configure(f"accelerator=cpu {overrides}"))


@pytest.mark.parametrize("overrides", REASONS)
def test_a_job_that_cannot_train_with_others_says_why(configure, overrides):
    assert REASONS[overrides] in obstacle(configure(f"{JAX} {overrides}"))


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_every_built_in_model_can_train_with_others(configure, backend):
    for model in ("mlp", "resnet18", "vit"):
        assert obstacle(configure(f"{JAX} backend={backend} model={model}")) is None


SAME = ("seed=1", "optimizer.lr=0.1", "optimizer.weight_decay=0.3", "optimizer.weight_decay=0", 
        "schedule=step", "tags=[a]", "train.early_stopping=3", "optimizer.eps=1e-3")  # fmt: skip
OTHER = ("model=mlp", "train.batch_size=16", "optimizer=sgd", "train.ema=0.9",
         "train.clip_norm=1", "optimizer.betas=[0.8,0.9]", "train.precision=fp64")  # fmt: skip


def test_jobs_of_one_shape_differ_only_in_what_is_an_input_of_a_step(configure):
    shape = shape_of(configure(JAX))
    for overrides in SAME:
        assert shape_of(configure(f"{JAX} {overrides}")) == shape, overrides
    for overrides in OTHER:
        assert shape_of(configure(f"{JAX} {overrides}")) != shape, overrides


BESIDE_ZERO = {
    "train.ema=": ("0.9", "0.99", "null"),
    "train.label_smoothing=": ("0.1", "0.2", "0"),
    "model=vit model.dropout=": ("0.1", "0.2", "0"),
    "model=vit model.drop_path=": ("0.1", "0.2", "0"),
}


@pytest.mark.parametrize("key", BESIDE_ZERO)
def test_a_number_is_an_input_of_a_step_that_computes_with_it(configure, key):
    one, other, none = (shape_of(configure(f"{JAX} {key}{value}")) for value in BESIDE_ZERO[key])
    assert one == other != none
    name = key.rpartition(" ")[2].rstrip("=")
    assert described(name, one) == f"{name} (0 or null is another program)"


def test_betas_are_inputs_on_torch_alone(configure):
    pairs = {
        backend: [
            shape_of(configure(f"accelerator=cpu backend={backend} optimizer.betas={betas}"))
            for betas in ("[0.9,0.99]", "[0.8,0.9]")
        ]
        for backend in ("torch", "jax")
    }
    assert pairs["torch"][0] == pairs["torch"][1]
    assert differing_keys(pairs["jax"][0], pairs["jax"][1:]) == ["optimizer.betas"]
    told = described("optimizer.betas", pairs["jax"][0])
    assert told.startswith("optimizer.betas (a constant of the update")


def test_a_momentum_is_an_input_only_where_the_arithmetic_stays_the_same(configure):
    assert "optimizer.momentum" in numbers_of(configure(f"{JAX} optimizer=sgd"))
    assert "optimizer.momentum" not in numbers_of(configure(f"{JAX} optimizer=muon"))


def test_a_sweep_groups_its_jobs_and_prints_why_the_others_run_alone(
    configure, monkeypatch, capsys
):
    groups = []
    monkeypatch.setattr(vectorize, "run_group", lambda group, sweep, apart: groups.append(group))
    asked = [
        "backend=jax seed=0", "optimizer=muon seed=0", "backend=jax seed=1", "backend=jax model=mlp",
        "optimizer=muon seed=1",
    ]  # fmt: skip
    new = JobStatus(JobState.new)
    jobs = [
        PlannedJob(number, overrides.split(), Path("x"), new, None, configure(overrides))
        for number, overrides in enumerate(asked)
    ]
    launcher = {"_target_": "hydra._internal.core_plugins.basic_launcher.BasicLauncher"}
    sweep = OmegaConf.create({"hydra": {"launcher": launcher}})
    left = vectorize.run_vectorized_jobs(jobs, sweep)
    assert [[job.number for job in group] for group in groups] == [[0, 2]]
    assert [job.number for job in left] == [1, 3, 4]
    output = capsys.readouterr().out
    folder = Path("x").absolute()  # of all jobs here
    assert WHY_ALONE.pop(folder) == "optimizer=muon: it takes each weight as a matrix"
    assert "by itself: job 1, 4: optimizer=muon: it takes each weight as a matrix" in output
    assert (
        "by itself: job 3: every other job differs in what one program shares, such as model."
        in output
    )

    running = [replace(job, status=JobStatus(JobState.running)) for job in jobs[:1]]
    assert vectorize.run_vectorized_jobs(running, sweep) == running
    joblib = {
        "launcher": {"_target_": "…JoblibLauncher"},
        "runtime": {"choices": {"hydra/launcher": "joblib"}},
    }
    assert vectorize.run_vectorized_jobs(jobs, OmegaConf.create({"hydra": joblib})) == jobs
    assert "hydra/launcher=joblib starts each job by itself" in capsys.readouterr().out
