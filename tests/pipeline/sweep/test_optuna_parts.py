"""Parts of a search: its objective, its sampler, its study and its space."""

import json
import math
import re
import sqlite3

import pytest

pytest.importorskip("optuna", "4.9")

from pipeline.config.experiment import register
from pipeline.data import sources
from pipeline.errors import UserError
from pipeline.sweep.objective import monitored, objective

register()  # which makes our plugins known

from hydra_plugins.tandem_optuna._space import split_overrides  # noqa: E402
from hydra_plugins.tandem_optuna._study import (  # noqa: E402
    KeyedSampler,
    digest,
    enqueue_failed,
    lock_folder,
    open_study,
    trials_in,
)
from hydra_plugins.tandem_optuna.config import SAMPLERS  # noqa: E402
from omegaconf import OmegaConf  # noqa: E402
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution  # noqa: E402
from optuna.trial import TrialState  # noqa: E402

SPACE = {
    "optimizer.lr": FloatDistribution(1e-4, 1e-1, log=True),
    "model.hidden": CategoricalDistribution(["[64]", "[256]"]),
}
TPE = OmegaConf.create({"_target_": "optuna.samplers.TPESampler", "seed": None})


def draw(study, trials):
    """Ask for trials and report a value for each, larger for a larger learning rate."""
    for _ in range(trials):
        trial = study.ask(SPACE)
        study.tell(trial, trial.params["optimizer.lr"])
    return [trial.params for trial in study.trials]


def opened(folder, config, seed=0, name="mine", space=SPACE):
    """Open a study on disk, as a search does."""
    sampler = KeyedSampler(TPE, seed)
    storage = f"sqlite:///{folder}/study.db"
    return open_study(name, storage, sampler, "maximize", config, space)


@pytest.mark.parametrize(
    ("result", "value"),
    [
        ({"status": "completed", "best": {"metric": "val/loss", "value": 0.25}}, 0.25),
        ({"status": "completed", "best": {"metric": None, "value": None}}, math.nan),
        ({"status": "failed", "best": {"metric": "val/loss", "value": 0.25}}, math.nan),
        ({"status": "interrupted", "best": {"metric": "val/loss", "value": 0.25}}, None),
        (None, None),
    ],
)
def test_the_objective_is_the_best_value_of_a_completed_run(tmp_path, result, value):
    if result:
        (tmp_path / "result.json").write_text(json.dumps(result))
    found = objective(tmp_path)
    assert found is None if value is None else found == pytest.approx(value, nan_ok=True)


def test_the_direction_is_that_of_the_metric_that_selects_checkpoints(configure):
    assert monitored(configure("dataset=digits")) == ("val/accuracy", "maximize")
    assert monitored(configure("dataset=line")) == ("val/loss", "minimize")
    assert monitored(configure("dataset=text")) == ("val/loss", "minimize")
    assert monitored(configure("train.monitor=val/loss")) == ("val/loss", "minimize")
    own = "task=own task.maximized=[f1] train.monitor=val/f1"
    assert monitored(configure(own)) == ("val/f1", "maximize")


@pytest.mark.parametrize(
    "overrides", ["dataset=digits", "dataset=line", "dataset=synthetic", "dataset=text"]
)
def test_the_task_of_a_data_set_is_known_before_it_is_loaded(configure, overrides):
    small = " dataset.max_bytes=5000" if overrides == "dataset=text" else ""
    config = configure(overrides + small)
    known = sources.task_of(config.dataset, config.task)
    assert known.name == sources.load(config.dataset).task.name


def test_an_interrupted_search_draws_the_values_of_an_uninterrupted_one(tmp_path, configure):
    config, whole, parts = configure(""), tmp_path / "whole", tmp_path / "parts"
    whole.mkdir()
    parts.mkdir()
    for trials in (3, 6, 4):  # the first ten are random; then TPE goes by what they came to
        continued = draw(opened(parts, config), trials)
    assert continued == draw(opened(whole, config), 13)
    assert len({params["optimizer.lr"] for params in continued}) == 13
    assert draw(opened(tmp_path, config, seed=1), 1) != continued[:1]


def test_a_study_of_other_settings_or_choices_is_refused(tmp_path, configure):
    draw(opened(tmp_path, configure("model=mlp")), 1)
    assert len(opened(tmp_path, configure("model=mlp tags=[another]")).trials) == 1
    wider = SPACE | {"optimizer.lr": FloatDistribution(1e-5, 1, log=True)}
    assert len(opened(tmp_path, configure("model=mlp"), space=wider).trials) == 1
    message = r"name=.*: the study mine .* has other settings.*Choose another name\."
    with pytest.raises(UserError, match=message):
        opened(tmp_path, configure("model=mlp train.epochs=3"))
    more = SPACE | {"model.hidden": CategoricalDistribution(["[64]", "[128]"])}
    with pytest.raises(UserError, match=message):
        opened(tmp_path, configure("model=mlp"), space=more)


def test_searched_and_irrelevant_keys_do_not_change_the_digest(configure):
    one = digest(configure("model=mlp optimizer.lr=0.1 name=one"), ["optimizer.lr", "model"])
    assert one == digest(configure("model=cnn optimizer.lr=0.2"), ["optimizer.lr", "model"])
    assert one != digest(configure("model=cnn optimizer.lr=0.2"), ["model"])
    assert one != digest(configure("seed=1"), ["optimizer.lr", "model"])


def test_an_invalid_database_is_reported_with_its_key(configure):
    with pytest.raises(UserError, match=r"hydra\.sweeper\.storage=foo://bar: must be the URL"):
        open_study("mine", "foo://bar", None, "maximize", configure(""), SPACE)


def test_failed_values_are_tried_again_once_before_new_ones(tmp_path, configure):
    study = opened(tmp_path, configure(""))
    failed = study.ask(SPACE)
    study.tell(failed, state=TrialState.FAIL)
    draw(study, 1)
    for _ in range(2):
        enqueue_failed(study)
        assert len(trials_in(study, TrialState.WAITING)) == 1
    again = study.ask(SPACE)
    assert (again.number, again.params) == (2, failed.params)
    study.tell(again, 1.0)
    enqueue_failed(study)
    assert not trials_in(study, TrialState.WAITING)


def test_a_second_search_in_one_folder_is_refused(tmp_path):
    with (
        lock_folder(tmp_path),
        pytest.raises(UserError, match=f"name={tmp_path.name}: another search is running"),
        lock_folder(tmp_path),
    ):
        pass
    with lock_folder(tmp_path):
        pass


def test_a_study_of_an_older_optuna_is_refused_with_the_upgrade_command(tmp_path, configure):
    opened(tmp_path, configure(""))
    with sqlite3.connect(tmp_path / "study.db") as database:
        database.execute("UPDATE alembic_version SET version_num = 'v2.6.0.a'")
        database.execute("UPDATE version_info SET library_version = '2.10.1'")
    message = r"storage=sqlite.*study\.db: the study was written by another version of Optuna.*"
    with pytest.raises(UserError, match=message + "Upgrade it: optuna storage upgrade --storage"):
        opened(tmp_path, configure(""))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("interval(0.1,0.2)", FloatDistribution(0.1, 0.2)),
        ("int(interval(1,5))", IntDistribution(1, 5)),
        ("tag(log,interval(1e-4,1e-1))", FloatDistribution(1e-4, 1e-1, log=True)),
        ("int(tag(log,interval(1,100)))", IntDistribution(1, 100, log=True)),
        ("range(1,10,3)", IntDistribution(1, 7, step=3)),
        ("range(5,1,-2)", IntDistribution(3, 5, step=2)),
        ("range(0.5,2,0.5)", FloatDistribution(0.5, 1.5, step=0.5)),
        ("choice(true,0.5,[8])", CategoricalDistribution([True, 0.5, "[8]"])),
        ("0,1", CategoricalDistribution([0, 1])),
    ],
)
def test_a_sweep_in_hydras_grammar_becomes_a_distribution_of_the_same_values(text, expected):
    assert split_overrides([f"key={text}"]) == ({"key": expected}, [])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tag(log,interval(1,0))", "no space to search: .*low"),
        ("interval(0.2,0.1)", "no space to search: .*low"),
        ("tag(log,interval(0,1))", "no space to search: .*low"),
        ("range(5,1)", "it has no values"),
        ("range(0)", "it has no values"),
        ("range(0,5,0)", "it has no values"),
    ],
)
def test_an_empty_space_is_reported_with_its_key(text, message):
    with pytest.raises(UserError, match=rf"^optimizer\.lr={re.escape(text)}: {message}"):
        split_overrides([f"optimizer.lr={text}"])


@pytest.mark.parametrize("name", sorted(SAMPLERS))
def test_a_named_sampler_takes_its_options_and_is_reproducible(name, tmp_path, configure):
    schema = OmegaConf.structured(SAMPLERS[name])
    space = {"optimizer.lr": SPACE["optimizer.lr"], "train.steps": IntDistribution(1, 90)}
    studies = [
        open_study(
            f"{seed}", "sqlite://", KeyedSampler(schema, seed), "minimize", configure(""), space
        )
        for seed in (0, 0, 1)
    ]
    for study in studies:
        for _ in range(3):
            trial = study.ask(space)
            study.tell(trial, trial.params["optimizer.lr"])
    first, again, other = ([trial.params for trial in study.trials] for study in studies)
    assert first == again
    assert first != other


def test_the_last_setting_of_a_key_wins_so_the_command_line_overrides_presets():
    preset = ["model=mlp", "optimizer.lr=interval(0.1,0.2)", "model.hidden=choice([64],[64,32])"]
    space, fixed = split_overrides([*preset, "optimizer.lr=0.3", "model=cnn", "seed=choice(0,1)"])
    assert space == {
        "model.hidden": CategoricalDistribution(["[64]", "[64,32]"]),
        "seed": CategoricalDistribution([0, 1]),
    }
    assert fixed == ["optimizer.lr=0.3", "model=cnn"]
    with pytest.raises(UserError, match=r"hydra\.sweeper\.params=null: must be a space to search"):
        split_overrides(["model=cnn"])
