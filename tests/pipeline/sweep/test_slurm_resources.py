"""The resources that a sweep job requests from Slurm."""

import pytest
from omegaconf import OmegaConf

from pipeline.config.checks.keys import CONF
from pipeline.config.experiment import register
from pipeline.errors import UserError
from pipeline.sweep.run_job import SweepJob

pytest.importorskip("submitit")
register()  # makes our plugins importable

from hydra_plugins.tandem_slurm._submission import Resources, Submission  # noqa: E402

SETTINGS = OmegaConf.to_container(OmegaConf.load(CONF / "hydra/launcher/slurm.yaml"))


def resources(config, folder, **settings):
    """Resources that a job of this config requests."""
    submission = Submission(SETTINGS | settings, None, None)
    return submission.resources(SweepJob(config, folder, "job", None))


@pytest.mark.parametrize(
    ("overrides", "settings", "expected"),
    [
        ("accelerator=gpu", {}, Resources(1, 1, 1)),
        ("accelerator=gpu accelerator.devices=4 accelerator.nodes=2", {}, Resources(2, 4, 4)),
        ("accelerator=cpu accelerator.devices=2", {}, Resources(1, 2, None)),
        ("accelerator=auto", {"gpus_per_node": 2, "tasks_per_node": 2}, Resources(1, 2, 2)),
        ("accelerator=auto", {"gpus_per_node": 0}, Resources(1, 1, None)),
    ],
)
def test_a_job_requests_nodes_tasks_and_gpus(configure, tmp_path, overrides, settings, expected):
    assert resources(configure(overrides), tmp_path, **settings) == expected


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ("", "accelerator.kind=auto: must be gpu or cpu .* Add accelerator=gpu"),
        ("accelerator=gpu accelerator.devices=auto", "accelerator.devices=auto: must be a number"),
        ("accelerator=gpu accelerator.nodes=auto", "accelerator.nodes=auto: must be a number"),
    ],
)
def test_settings_that_only_a_machine_can_resolve_are_refused(
    configure, tmp_path, overrides, message
):
    with pytest.raises(UserError, match=message):
        resources(configure(overrides), tmp_path)
