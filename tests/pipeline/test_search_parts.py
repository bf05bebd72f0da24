"""The parts of a search: its objective, its draws, and the study that it goes on with."""

import json
import math

import pytest

from pipeline import datasets
from pipeline.config import register
from pipeline.errors import UserError
from pipeline.objective import monitored, objective

register()  # which makes our plugins known

from hydra_plugins.tandem_optuna._sampler import KeyedSampler  # noqa: E402
from hydra_plugins.tandem_optuna._space import searched  # noqa: E402
from hydra_plugins.tandem_optuna._study import (  # noqa: E402
    alone,
    digest,
    of_state,
    open_study,
    queue_failed,
)
from omegaconf import OmegaConf  # noqa: E402
from optuna.distributions import CategoricalDistribution, LogUniformDistribution  # noqa: E402
from optuna.trial import TrialState  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")

SPACE = {
    "optimizer.lr": LogUniformDistribution(1e-4, 1e-1),
    "model.hidden": CategoricalDistribution(["[64]", "[256]"]),
}
TPE = OmegaConf.create({"_target_": "optuna.samplers.TPESampler", "seed": None})


def draw(study, trials):
    """Ask for trials and tell a value of each, larger for a larger rate."""
    for _ in range(trials):
        trial = study.ask(SPACE)
        study.tell(trial, trial.params["optimizer.lr"])
    return [trial.params for trial in study.trials]


def opened(folder, config, seed=0, name="mine", space=SPACE):
    """A study on disk, as a search opens it."""
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
def test_the_objective_is_the_best_value_of_a_run_that_came_to_its_end(tmp_path, result, value):
    if result:
        (tmp_path / "result.json").write_text(json.dumps(result))
    found = objective(tmp_path)
    assert found is None if value is None else found == pytest.approx(value, nan_ok=True)


def test_the_direction_is_that_of_the_metric_by_which_checkpoints_are_judged(configure):
    assert monitored(configure("dataset=digits").dataset) == ("val/accuracy", "maximize")
    assert monitored(configure("dataset=line").dataset) == ("val/loss", "minimize")
    assert monitored(configure("dataset=text").dataset) == ("val/loss", "minimize")


@pytest.mark.parametrize(
    "overrides", ["dataset=digits", "dataset=line", "dataset=synthetic", "dataset=text"]
)
def test_what_is_learned_from_a_data_set_is_known_before_it_is_loaded(configure, overrides):
    small = " dataset.max_bytes=5000" if overrides == "dataset=text" else ""
    config = configure(overrides + small).dataset
    assert datasets.task(config) is datasets.load(config).task


def test_a_search_that_is_stopped_draws_the_values_of_one_that_is_not(tmp_path, configure):
    config, whole, parts = configure(""), tmp_path / "whole", tmp_path / "parts"
    whole.mkdir()
    parts.mkdir()
    for trials in (3, 6, 4):  # the first ten are random; then TPE goes by what they came to
        continued = draw(opened(parts, config), trials)
    assert continued == draw(opened(whole, config), 13)
    assert len({params["optimizer.lr"] for params in continued}) == 13
    assert draw(opened(tmp_path, config, seed=1), 1) != continued[:1]


def test_a_study_of_other_settings_or_of_another_space_is_not_gone_on_with(tmp_path, configure):
    draw(opened(tmp_path, configure("model=mlp")), 1)
    assert len(opened(tmp_path, configure("model=mlp tags=[another]")).trials) == 1
    wider = SPACE | {"optimizer.lr": LogUniformDistribution(1e-5, 1)}
    assert len(opened(tmp_path, configure("model=mlp"), space=wider).trials) == 1
    message = "name=.*: must be another one: the study mine .* is of other settings"
    with pytest.raises(UserError, match=message):
        opened(tmp_path, configure("model=mlp train.epochs=3"))
    more = SPACE | {"model.hidden": CategoricalDistribution(["[64]", "[128]"])}
    with pytest.raises(UserError, match=message):
        opened(tmp_path, configure("model=mlp"), space=more)


def test_what_is_searched_and_what_changes_no_result_is_no_part_of_an_experiment(configure):
    one = digest(configure("model=mlp optimizer.lr=0.1 name=one"), ["optimizer.lr", "model"])
    assert one == digest(configure("model=cnn optimizer.lr=0.2"), ["optimizer.lr", "model"])
    assert one != digest(configure("model=cnn optimizer.lr=0.2"), ["model"])
    assert one != digest(configure("seed=1"), ["optimizer.lr", "model"])


def test_a_database_that_is_none_is_told_with_its_key(configure):
    with pytest.raises(UserError, match=r"hydra\.sweeper\.storage=foo://bar: must be the URL"):
        open_study("mine", "foo://bar", None, "maximize", configure(""), SPACE)


def test_values_that_failed_come_again_before_new_ones_and_once_only(tmp_path, configure):
    study = opened(tmp_path, configure(""))
    failed = study.ask(SPACE)
    study.tell(failed, state=TrialState.FAIL)
    draw(study, 1)
    for _ in range(2):
        queue_failed(study)
        assert len(of_state(study, TrialState.WAITING)) == 1
    again = study.ask(SPACE)
    assert (again.number, again.params) == (2, failed.params)
    study.tell(again, 1.0)
    queue_failed(study)
    assert not of_state(study, TrialState.WAITING)


def test_of_two_searches_in_one_folder_the_second_is_refused(tmp_path):
    with (
        alone(tmp_path),
        pytest.raises(UserError, match=f"name={tmp_path.name}: must be another one: a search"),
        alone(tmp_path),
    ):
        pass
    with alone(tmp_path):
        pass


def test_of_two_settings_of_a_key_the_last_counts_so_that_the_command_line_wins():
    preset = ["model=mlp", "optimizer.lr=interval(0.1,0.2)", "model.hidden=choice([64],[64,32])"]
    space, fixed = searched({}, [*preset, "optimizer.lr=0.3", "model=cnn", "seed=choice(0,1)"])
    assert space == {
        "model.hidden": CategoricalDistribution(["[64]", "[64,32]"]),
        "seed": CategoricalDistribution([0, 1]),
    }
    assert fixed == ["optimizer.lr=0.3", "model=cnn"]
    with pytest.raises(UserError, match=r"hydra\.sweeper\.params=null: must be a space to search"):
        searched({}, ["model=cnn"])
