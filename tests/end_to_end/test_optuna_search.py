"""Optuna searches as a user starts them: failing, interrupted and resumed trials."""

import signal

import pytest
import yaml

from pipeline.config.checks.keys import CONF

optuna = pytest.importorskip("optuna", "4.9")

BACKENDS = ("torch", "jax")
SEARCH = ("-m", "hydra/sweeper=optuna", "logger=none", "accelerator=cpu", "model=linear")
RATES = "optimizer.lr=tag(log,interval(1e-3,1e-1))"
PRESETS = sorted(file.stem for file in (CONF / "hydra/sweeper").glob("optuna_*.yaml"))


def trials_of(workspace, name):
    """(state, parameters, value) of each trial of a study."""
    study = optuna.load_study(
        study_name=name, storage=f"sqlite:///{workspace.path}/outputs/{name}/study.db"
    )
    return [(trial.state.name, trial.params, trial.value) for trial in study.trials]


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["torch"])
def test_a_diverging_trial_counts_as_failed_and_the_best_is_reported(workspace, backend):
    name = f"diverging_{backend}"
    command = (
        *SEARCH, f"backend={backend}", "dataset=line", "optimizer=sgd", "train.batch_size=5",
        "optimizer.lr=choice(0.01,100)", "schedule=constant", "train.steps=60", f"name={name}",
        "hydra.sweeper.n_trials=5",
    )  # fmt: skip
    done = workspace.run(*command, code=0)
    trials = trials_of(workspace, name)
    assert {(state, params["optimizer.lr"]) for state, params, _ in trials} == {
        ("COMPLETE", 0.01), ("FAIL", 100),
    }  # fmt: skip
    assert len(workspace.jobs(name)) == 2, "the same values are the same run"
    [good] = [job for job in workspace.jobs(name) if job.endswith("0.01")]
    best = workspace.result(f"outputs/{name}/{good}")["best"]
    assert best["metric"] == "val/loss"
    assert {value for state, _, value in trials if state == "COMPLETE"} == {best["value"]}
    found = yaml.safe_load(
        (workspace.path / f"outputs/{name}/optimization_results.yaml").read_text()
    )
    assert (found["best_params"], found["best_value"]) == ({"optimizer.lr": 0.01}, best["value"])
    assert "train/loss is inf at step 7" in done.output[done.output.index("comparison") :]
    assert done.output.splitlines()[-1].startswith("best: val/loss ")
    assert done.output.splitlines()[-1].endswith(": optimizer.lr=0.01")

    again = workspace.run(*command, code=0)
    assert "experiment" not in again.output, "a search that is done runs nothing"
    assert again.output.splitlines()[-1] == done.output.splitlines()[-1]
    assert trials_of(workspace, name) == trials


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax"])
def test_a_killed_search_ends_like_an_uninterrupted_one(workspace, backend):
    command = (
        *SEARCH, f"backend={backend}", RATES, "train.steps=400", "train.log_every=10",
        "hydra.sweeper.n_trials=2",
    )  # fmt: skip
    killed, whole = f"killed_{backend}", f"whole_{backend}"

    def training():
        second = [job for job in workspace.jobs(killed) if job.startswith("1_")]
        return second and workspace.step(f"outputs/{killed}/{second[0]}") >= 40

    workspace.run_until(training, signal.SIGKILL, *command, f"name={killed}")
    assert [state for state, *_ in trials_of(workspace, killed)] == ["COMPLETE", "RUNNING"]
    done = workspace.run(*command, f"name={killed}", code=0)
    assert "1 of 2 trials completed, 1 to resume" in done.output
    reference = workspace.run(*command, f"name={whole}", code=0)
    assert trials_of(workspace, killed) == trials_of(workspace, whole)
    assert workspace.jobs(killed) == workspace.jobs(whole)
    for job in workspace.jobs(whole):
        rows = workspace.rows(f"outputs/{killed}/{job}")
        assert rows == workspace.rows(f"outputs/{whole}/{job}")
    assert done.output.splitlines()[-1] == reference.output.splitlines()[-1]


@pytest.mark.slow
def test_ctrl_c_ends_a_search_and_leaves_its_trial_unfinished(workspace):
    def training():
        found = workspace.jobs("stopped")
        return found and workspace.step(f"outputs/stopped/{found[0]}") >= 20

    done = workspace.run_until(
        training, signal.SIGINT, *SEARCH, "backend=jax", RATES, "train.epochs=2000", "name=stopped"
    )
    assert done.code == 130, done.output
    assert [state for state, *_ in trials_of(workspace, "stopped")] == ["RUNNING"]
    assert workspace.result(f"outputs/stopped/{workspace.jobs('stopped')[0]}")["status"] == (
        "interrupted"
    )


@pytest.mark.slow
def test_trials_run_in_parallel_under_the_joblib_launcher(workspace):
    done = workspace.run(
        *SEARCH, "backend=jax", RATES, "train.steps=3", "name=side", "hydra.sweeper.n_trials=4",
        "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", code=0,
    )  # fmt: skip
    assert done.output.count("is launching 2 jobs") == 2
    trials = trials_of(workspace, "side")
    assert [state for state, *_ in trials] == ["COMPLETE"] * 4
    for job, (_, params, value) in zip(workspace.jobs("side"), trials, strict=True):
        result = workspace.result(f"outputs/side/{job}")
        assert result["config"]["optimizer"]["lr"] == params["optimizer.lr"]
        assert result["best"]["value"] == value


@pytest.mark.slow
@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_searches_learning_rate_weight_decay_and_model_size(workspace, preset):
    backend = BACKENDS[PRESETS.index(preset) % 2]  # by turns
    workspace.run(
        "-m", f"hydra/sweeper={preset}", f"backend={backend}", "logger=none", "accelerator=cpu",
        "train.steps=2", "hydra.sweeper.n_trials=1", f"name={preset}", code=0,
    )  # fmt: skip
    [(state, params, value)] = trials_of(workspace, preset)
    assert (state, 0 <= value <= 1) == ("COMPLETE", True)
    assert {"optimizer.lr", "optimizer.weight_decay"} < params.keys()
    assert any(key.startswith("model.") for key in params)
    result = workspace.result(f"outputs/{preset}/{workspace.jobs(preset)[0]}")
    assert result["config"]["model"]["name"] == preset.removeprefix("optuna_")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "hydra.sweeper.params=null: must be a space to search"),
        ((RATES, "train.btch=3"), "train.btch=3: must be a key of train"),
        ((RATES, "train.clip_norm=-1"), "train.clip_norm=-1.0: must be null or above 0"),
        (("optimizer.lrr=interval(0.1,0.2)",), "Did you mean optimizer.lr?"),
        (("optimizer.lr=0.1,abc",), "optimizer.lr=abc: must be a number"),
        (("schedule=constant,cosin",), "schedule=cosin: must be one of"),
        ((RATES, "hydra.sweeper.n_trials=many"), "n_trials=many: must be a whole number"),
        ((RATES, "hydra.sweeper.direction=up"), "direction=up: must be one of minimize"),
        (("optimizer.lr=tag(log,interval(1,0))",), "lr=tag(log,interval(1,0)): no space to search"),
        ((RATES, "hydra.sweeper.n_trials=0"), "n_trials=0: must be a whole number, 1 or more"),
        ((RATES, "hydra/sweeper/sampler=grid"), "hydra/sweeper/sampler=grid: must be tpe"),
    ],
)
def test_a_mistake_is_reported_once_before_the_first_trial(workspace, arguments, message):
    done = workspace.run(*SEARCH, *arguments, "name=slip", code=1)
    assert message in done.output
    assert done.output.count("error:") == 1
    assert "Traceback" not in done.output
    assert not (workspace.path / "outputs/slip").exists()


@pytest.mark.slow
def test_a_dry_run_reports_the_progress_of_the_search_and_starts_no_trial(workspace):
    done = workspace.run(*SEARCH, RATES, "name=dry", "sweep.dry_run=true", code=0)
    assert "search for val/accuracy: 0 of 20 trials completed" in done.output
    assert workspace.jobs("dry") == []
