"""Groups, job types and tags of W&B runs: a group never mixes torch with JAX, and holds all seeds."""

import pytest

from pipeline.job_context import VARIABLE, JobContext
from pipeline.loggers import RunLabels
from pipeline.loggers.wandb.identity import init_arguments, shorten
from pipeline.storage.run_folder import RunFolder
from pipeline.sweep.job_names import setting_of


@pytest.fixture(autouse=True)
def no_agent(monkeypatch):
    for name in ("WANDB_SWEEP_ID", "WANDB_RUN_ID"):
        monkeypatch.delenv(name, raising=False)


def identity(backend="torch", group="both", setting="", job="job", seed=0):
    config = {"backend": {"name": backend}, "seed": seed, "sweep": {"dry_run": False}}
    return RunLabels(group, job, "id1", ("mine",), config, setting)


def test_the_backends_of_a_sweep_are_two_groups():
    assert init_arguments(identity("torch"))["group"] == "both backend=torch"
    assert init_arguments(identity("jax"))["group"] == "both backend=jax"


def test_runs_that_differ_only_in_the_seed_share_a_group(monkeypatch):
    monkeypatch.setenv(VARIABLE, JobContext(swept=["backend", "seed", "optimizer.lr"]).to_json())
    groups = [
        init_arguments(identity(backend, setting=setting_of(overrides)))["group"]
        for backend in ("torch", "jax")
        for seed in (0, 1)
        for lr in (0.1, 0.2)
        for overrides in [[f"backend={backend}", f"seed={seed}", f"optimizer.lr={lr}", "model=cnn"]]
    ]
    assert groups.count("both backend=torch optimizer.lr=0.1") == 2
    assert groups.count("both backend=jax optimizer.lr=0.2") == 2
    assert len(set(groups)) == 4


def test_each_run_outside_a_sweep_is_its_own_group():
    assert init_arguments(identity(group=None, job="first"))["group"] == "first"
    assert init_arguments(identity(group=None))["config"]["sweep_name"] is None


def test_the_job_type_is_the_backend_and_the_sweep_is_a_tag_and_a_config_key():
    told = init_arguments(identity("jax"))
    assert told["job_type"] == "jax"
    assert told["tags"] == ["jax", "both", "mine"]
    assert told["config"] == {"backend": "jax", "seed": 0, "sweep_name": "both"}


def test_under_a_wandb_agent_groups_and_config_use_the_id_of_the_wandb_sweep(monkeypatch, tmp_path):
    monkeypatch.setenv("WANDB_SWEEP_ID", "abc123")
    monkeypatch.setenv("WANDB_RUN_ID", "agents-run")
    alone = identity("jax", group=None, setting="optimizer.lr=0.1")
    assert init_arguments(alone)["group"] == "abc123 backend=jax optimizer.lr=0.1"
    assert init_arguments(alone)["config"]["sweep_name"] == "abc123"
    assert RunFolder(tmp_path).wandb_id() == "agents-run"


def test_wandb_run_id_is_used_only_under_an_agent(monkeypatch, tmp_path):
    monkeypatch.setenv("WANDB_RUN_ID", "somebody")
    assert RunFolder(tmp_path).wandb_id() != "somebody"


def test_long_groups_and_tags_are_shortened_and_stay_distinct():
    long = identity(setting="a" * 300), identity(setting="a" * 299 + "b")
    groups = [init_arguments(one)["group"] for one in long]
    assert [len(group) for group in groups] == [128, 128]
    assert groups[0] != groups[1]
    assert shorten("x" * 128) == "x" * 128
    assert max(map(len, init_arguments(identity(group="x" * 90))["tags"])) == 64
