"""Which W&B run stands where: no group ever mixes torch with JAX, seeds are together."""

import pytest

from pipeline.job_names import SWEPT, setting_of
from pipeline.loggers import Identity
from pipeline.loggers.wandb.identity import group_of, labels, run_config, shortened, who
from pipeline.runs import RunFolder


@pytest.fixture(autouse=True)
def no_agent(monkeypatch):
    for name in ("WANDB_SWEEP_ID", "WANDB_RUN_ID"):
        monkeypatch.delenv(name, raising=False)


def identity(backend="torch", group="both", setting="", job="job", seed=0):
    config = {"backend": {"name": backend}, "seed": seed, "sweep": {"dry_run": False}}
    return Identity(group, job, "id1", ("mine",), config, setting)


def test_the_two_backends_of_a_sweep_are_two_groups():
    assert group_of(identity("torch")) == "both backend=torch"
    assert group_of(identity("jax")) == "both backend=jax"


def test_runs_that_differ_by_the_seed_alone_are_one_group(monkeypatch):
    monkeypatch.setenv(SWEPT, "backend,seed,optimizer.lr")
    groups = [
        group_of(identity(backend, setting=setting_of(overrides)))
        for backend in ("torch", "jax")
        for seed in (0, 1)
        for lr in (0.1, 0.2)
        for overrides in [[f"backend={backend}", f"seed={seed}", f"optimizer.lr={lr}", "model=cnn"]]
    ]
    assert groups.count("both backend=torch optimizer.lr=0.1") == 2
    assert groups.count("both backend=jax optimizer.lr=0.2") == 2
    assert len(set(groups)) == 4


def test_runs_of_no_sweep_are_groups_of_their_own():
    assert group_of(identity(group=None, job="first")) == "first"
    assert run_config(identity(group=None))["sweep_name"] is None


def test_the_job_type_is_the_backend_and_the_sweep_is_a_tag_and_a_config_key():
    told = who(identity("jax"))
    assert told["job_type"] == "jax"
    assert told["tags"] == ["jax", "both", "mine"]
    assert told["config"] == {"backend": "jax", "seed": 0, "sweep_name": "both"}


def test_under_a_wandb_agent_the_sweep_is_wandbs_and_runs_are_grouped_alike(monkeypatch, tmp_path):
    monkeypatch.setenv("WANDB_SWEEP_ID", "abc123")
    monkeypatch.setenv("WANDB_RUN_ID", "agents-run")
    alone = identity("jax", group=None, setting="optimizer.lr=0.1")
    assert group_of(alone) == "abc123 backend=jax optimizer.lr=0.1"
    assert run_config(alone)["sweep_name"] == "abc123"
    assert RunFolder(tmp_path).wandb_id() == "agents-run"


def test_a_run_id_of_the_environment_counts_under_an_agent_only(monkeypatch, tmp_path):
    monkeypatch.setenv("WANDB_RUN_ID", "somebody")
    assert RunFolder(tmp_path).wandb_id() != "somebody"


def test_what_is_too_long_for_the_server_is_cut_and_stays_apart():
    long = identity(setting="a" * 300), identity(setting="a" * 299 + "b")
    groups = [group_of(one) for one in long]
    assert [len(group) for group in groups] == [128, 128]
    assert groups[0] != groups[1]
    assert shortened("x" * 128) == "x" * 128
    assert max(map(len, labels(identity(group="x" * 90)))) == 64
