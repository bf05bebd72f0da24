"""Jobs of a sweep are composed as Hydra composes each of them, in a fraction of the time."""

import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import OmegaConf

from pipeline.config.checks.keys import CONF
from pipeline.config.checks.validate import validate_job_config
from pipeline.config.experiment import register
from pipeline.config.hydra_compat import IS_1_3, compose_from
from pipeline.errors import UserError
from pipeline.storage.signature import signature
from pipeline.sweep.compose_jobs import Composer
from pipeline.sweep.job_status import JobState
from pipeline.sweep.sweeper import plan

ONLY_1_3 = pytest.mark.skipif(not IS_1_3, reason="Hydra 1.4 does not compose to know the mode")


@pytest.fixture
def hydra():
    """Hydra, initialised."""
    register()
    with compose_from(CONF):
        yield GlobalHydra.instance().hydra


@pytest.fixture
def composer(hydra):
    """Composer of a sweep without Hydra settings of its own."""
    sweep = hydra.compose_config("config", [], RunMode.MULTIRUN)
    return Composer(hydra.config_loader, sweep)


@pytest.mark.parametrize(
    "overrides",
    [
        "",
        "seed=3 optimizer.lr=0.1 train.epochs=2 name=x",
        "backend=jax model=mlp model.hidden=[64,32] optimizer=sgd optimizer.momentum=0.9",
        "experiment=text_gpt model.depth=1",
        "debug=overfit experiment=cifar10_cnn seed=1",
        "logger=[csv,tensorboard] tags=[a,b]",
        "train.frozen=[conv1.*] optimizer.lr_factors={fc.*:0.1}",
        "model=own model.torch=a:B model.jax=a:C +model.options.width=3",
        "dataset=synthetic dataset.shape=[16,16,3] dataset.samples=${seed} seed=256",
        "optimizer={lr:0.5,weight_decay:0.1}",
    ],
)
def test_a_job_is_composed_as_by_hydra(hydra, composer, overrides):
    words = overrides.split()
    expected = validate_job_config(hydra.compose_config("config", words, RunMode.RUN))
    for _ in range(2):  # the second time from what was kept
        config = composer.config(words)
        assert config == expected
        assert signature(config) == signature(expected)


@pytest.mark.parametrize(
    ("overrides", "error"),
    [
        ("model=cnm", HydraException),
        ("modle=cnn", HydraException),
        ("optimizer.lr=fast", HydraException),
        ("model.nope=3", HydraException),
        ("~logger.wandb", HydraException),
        ("train.batch_size=0", UserError),
        ("+nope=3", UserError),
    ],
)
def test_a_job_is_refused_as_by_hydra(hydra, composer, overrides, error):
    words = overrides.split()
    with pytest.raises(error) as theirs:
        validate_job_config(hydra.compose_config("config", words, RunMode.RUN))
    with pytest.raises(error) as ours:
        composer.config(words)
    assert str(ours.value) == str(theirs.value)
    assert composer.config(["seed=1"]).seed == 1


@pytest.mark.parametrize(
    ("launcher", "states"),
    [
        ("basic", [JobState.refused, JobState.new]),
        ("joblib", [JobState.refused, JobState.new]),
        ("slurm", [JobState.new, JobState.new]),  # which has machines with GPUs
    ],
)
def test_only_jobs_that_need_a_gpu_are_refused_where_there_is_none(
    hydra, tmp_path, launcher, states
):
    settings = [f"hydra/launcher={launcher}", f"hydra.sweep.dir={tmp_path}"]
    sweep = hydra.compose_config("config", settings, RunMode.MULTIRUN)
    jobs = list(plan(hydra.config_loader, sweep, ["accelerator=gpu,cpu", "model=linear"]))
    assert [job.status.state for job in jobs] == states
    if jobs[0].error:
        message = "accelerator.kind=gpu: no GPU is visible on this machine, with "
        assert str(jobs[0].error).startswith(f"{message}CUDA_VISIBLE_DEVICES=''. Set accelerator=")


def test_hydra_loads_once_what_many_jobs_share(hydra, composer, monkeypatch):
    loaded, load = [], hydra.config_loader.load_configuration
    monkeypatch.setattr(
        hydra.config_loader,
        "load_configuration",
        lambda name, overrides, mode: loaded.append(overrides) or load(name, overrides, mode),
    )
    jobs = [
        composer.config([f"seed={seed}", f"model={model}", "train.epochs=2"])
        for seed in range(20)
        for model in ("cnn", "mlp")
    ]
    assert [(job.seed, job.model.name) for job in jobs[-2:]] == [(19, "cnn"), (19, "mlp")]
    assert loaded == [["model=cnn"], ["model=mlp"]]


@ONLY_1_3
def test_a_mode_given_as_an_override_is_known_without_composing(hydra):
    unknown = "no_such_key=1"
    assert hydra.get_mode("config", [unknown]) is None, "composing fails, which Hydra reports later"
    given = ["hydra.mode=MULTIRUN", unknown, "hydra.mode=RUN"]
    assert hydra.get_mode("config", given) is RunMode.RUN
    assert hydra.get_mode("config", ["++hydra.mode=MULTIRUN"]) is RunMode.MULTIRUN
    assert hydra.get_mode("config", ["seed=1"]) is None


@ONLY_1_3
@pytest.mark.parametrize(
    ("given", "mode"), [("seed=1", "RUN"), ("seed=1,2", "MULTIRUN"), ("model=mlp +x=1", "RUN")]
)
def test_a_config_composed_to_know_the_mode_is_the_one_that_runs(hydra, given, mode):
    overrides, mode = given.split(), RunMode[mode]
    extended = [*overrides, f"hydra.mode={mode.name}"]
    expected = hydra.compose_config("config", extended, mode)
    assert hydra.get_mode("config", overrides) is None
    repository, hydra.config_loader.repository = hydra.config_loader.repository, None
    kept = hydra.compose_config("config", extended, mode)
    # `==` would resolve the time in the folder's name, which differs.
    assert OmegaConf.to_yaml(kept) == OmegaConf.to_yaml(expected)
    hydra.config_loader.repository = repository
    assert hydra.compose_config("config", extended, mode) is not kept, "only once"
