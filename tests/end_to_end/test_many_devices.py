"""Runs on several devices log the numbers of one device; checkpoints load on any number of devices."""

import os
from pathlib import Path

import pytest
from asserts import assert_predictions_close, assert_rows_close
from made_runs import OTHER

TESTS = Path(__file__).parents[1]
BACKENDS = ["torch", "jax"]

PLAIN = (
    "accelerator=cpu", "logger=none", "train.precision=fp64", "train.log_every=1",
    "train.steps=6", "train.eval_every=3steps",
)  # fmt: skip

# Batches of an evaluation do not divide by the number of devices, and the last has one sample for four.
RESNET = (
    "model=resnet18", "model.width=4", "dataset=digits", "train.batch_size=16",
    "train.accumulate=2", "train.clip_norm=1", "train.ema=0.9", "train.label_smoothing=0.1",
    "train.eval_batch_size=179",
)  # fmt: skip

CASES = {
    "resnet18": RESNET,
    "cnn": ("model=cnn", "dataset=digits", "dataset.augment=true", "dataset.crop_padding=1",
            "train.batch_size=24", "train.clip_value=0.01", "train.frozen=[conv1.*]"),
    "vit": ("model=vit", "model.patch=2", "model.width=16", "model.heads=2", "model.depth=2",
            "model.dropout=0.2", "model.drop_path=0.5", "train.randomness=shared",
            "dataset=digits", "train.batch_size=16", "train.accumulate=2", "optimizer=muon"),
    "gpt": ("model=gpt", "model.width=16", "model.heads=2", "model.depth=2", "model.dropout=0.2",
            "train.randomness=shared", "dataset=text", "dataset.max_bytes=20_000",
            "dataset.length=16", "train.batch_size=16", "optimizer=lamb"),
    "encoder_decoder": ("model=encoder_decoder", "model.width=16", "model.heads=2", "model.depth=1",
                        "model.dropout=0.2", "train.randomness=shared", "dataset=reverse",
                        "dataset.samples=100", "dataset.length=6", "train.batch_size=16",
                        "train.accumulate=2"),
    "unet": ("model=unet", "model.width=8", "model.groups=2", "model.dropout=0.1",
             "train.randomness=shared", "dataset=digits", "task=denoising", "task.levels=20",
             "train.batch_size=16"),
    "views": ("model=resnet18", "model.width=4", "dataset=digits", "dataset.augment=true",
              "dataset.crop_padding=1", "task=contrastive", "task.group=50", "train.batch_size=16",
              "train.accumulate=2"),
}  # fmt: skip

HOW = {
    "ddp": ("accelerator.devices=4", "accelerator.strategy=ddp"),
    "fsdp": ("accelerator.devices=2", "accelerator.strategy=fsdp"),
}


def run(workspace, backend, name, *arguments, cold=False):
    """Run or resume an experiment; return its rows of metrics."""
    workspace.run(f"backend={backend}", *arguments, f"name={name}", cold=cold, code=0)
    return workspace.rows(f"outputs/{name}")


@pytest.fixture(scope="module")
def on_one(workspace):
    """A function that returns the rows of a case on one device, run once per case."""
    known = {}

    def lines(backend, case):
        if (backend, case) not in known:
            known[backend, case] = run(
                workspace, backend, f"{backend}-{case}", *PLAIN, *CASES[case]
            )
        return known[backend, case]

    return lines


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_two_devices_match_one_in_metrics_predictions_and_digests(workspace, on_one, backend):
    two = "accelerator.devices=2"
    rows = run(workspace, backend, f"{backend}-two", *PLAIN, *CASES["cnn"], two, cold=True)
    assert_rows_close(rows, on_one(backend, "cnn"), atol=1e-10)
    assert rows[-1]["test/loss"] > 0
    assert_predictions_close(
        workspace.predictions(f"outputs/{backend}-two"),
        workspace.predictions(f"outputs/{backend}-cnn"),
    )
    result = workspace.result(f"outputs/{backend}-two")
    one = workspace.result(f"outputs/{backend}-cnn")
    assert "2 × cpu" in result["devices"]
    for key in ("parameters", "init_digest", "data_digest", "steps"):
        assert result[key] == one[key], key


@pytest.mark.slow
def test_as_many_devices_as_cores_do_not_deadlock(workspace):
    cores = len(os.sched_getaffinity(0))
    run(
        workspace, "jax", "crowded", "accelerator=cpu", f"accelerator.devices={cores}",
        "model=cnn", "dataset=synthetic", f"train.batch_size={64 * cores}", "logger=none",
        "train.steps=30", "train.log_every=30", "train.eval_every=30steps",
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backend", "case", "how"),
    [
        ("torch", "resnet18", "ddp"),
        ("torch", "gpt", "fsdp"),
        ("torch", "encoder_decoder", "ddp"),
        ("torch", "unet", "fsdp"),
        ("torch", "views", "ddp"),
        ("torch", "views", "fsdp"),
        ("torch_compiled", "vit", "fsdp"),
        ("jax", "cnn", "fsdp"),
        ("jax", "vit", "ddp"),
    ],
)
def test_several_devices_log_the_numbers_of_one(workspace, on_one, backend, case, how):
    name, one = f"{backend}-{case}-{how}", backend.removesuffix("_compiled")
    rows = run(workspace, backend, name, *PLAIN, *CASES[case], *HOW[how])
    assert_rows_close(rows, on_one(one, case), atol=1e-10)
    shown, of_one = (
        sorted((workspace.path / "outputs" / folder / "media").glob("samples-*"))
        for folder in (name, f"{one}-{case}")
    )
    assert [path.read_bytes() for path in shown] == [path.read_bytes() for path in of_one]
    assert len(shown) == (case in ("gpt", "encoder_decoder", "unet"))
    if case not in ("gpt", "encoder_decoder", "unet", "views"):  # a classification
        assert_predictions_close(
            workspace.predictions(f"outputs/{name}"),
            workspace.predictions(f"outputs/{one}-{case}"),
        )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backend", "case", "first", "then"),
    [
        ("torch", "resnet18", (), ("accelerator.devices=2",)),
        ("jax", "vit", ("accelerator.devices=2",), ("accelerator.devices=1",)),
        ("torch", "vit", (), HOW["fsdp"]),
        ("jax", "resnet18", HOW["fsdp"], ("accelerator.devices=1", "accelerator.strategy=auto")),
        ("torch", "vit", HOW["fsdp"], ("accelerator.devices=4", "accelerator.strategy=ddp")),
    ],
    ids=["1 to 2", "2 to 1", "1 to 2 fsdp", "2 fsdp to 1", "2 fsdp to 4"],
)
def test_a_run_resumes_on_another_number_of_devices(
    workspace, on_one, request, backend, case, first, then
):
    name = request.node.callspec.id.replace(" ", "-")
    workspace.run(
        f"backend={backend}",
        *PLAIN,
        *CASES[case],
        *first,
        "train.stop_after=4",
        f"name={name}",
        code=130,
    )
    workspace.run(f"resume=outputs/{name}", "train.stop_after=null", *then, code=0)
    assert_rows_close(workspace.rows(f"outputs/{name}"), on_one(backend, case), atol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_resumed_run_on_three_devices_equals_the_uninterrupted_one_bit_for_bit(
    workspace, backend
):
    three = (
        *PLAIN, *CASES["vit"], "train.batch_size=24", "train.precision=fp32",
        "train.randomness=native", "accelerator.devices=3",
        "train.log_every=3",
    )  # fmt: skip
    name = f"{backend}-three"
    whole = run(workspace, backend, f"{name}-whole", *three)
    workspace.run(f"backend={backend}", *three, "train.stop_after=4", f"name={name}", code=130)
    workspace.run(f"resume=outputs/{name}", "train.stop_after=null", code=0)
    assert workspace.rows(f"outputs/{name}") == whole
    digests = {
        workspace.result(f"outputs/{found}")["init_digest"] for found in (name, f"{name}-whole")
    }
    assert len(digests) == 1


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_run_on_two_devices_resumes_on_two_of_the_other_backend(workspace, on_one, backend):
    name, other = f"{backend}-crossing", OTHER[backend]
    two = "accelerator.devices=2"
    workspace.run(
        f"backend={backend}",
        *PLAIN,
        *CASES["vit"],
        two,
        "train.stop_after=4",
        f"name={name}",
        code=130,
    )
    workspace.run(
        f"resume=outputs/{name}",
        f"backend={other}",
        "train.stop_after=null",
        f"name={name}-on",
        code=0,
    )
    assert_rows_close(workspace.rows(f"outputs/{name}-on"), on_one(backend, "vit"), atol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_several_devices_evaluate_a_checkpoint_of_one(workspace, on_one, backend):
    tested = on_one(backend, "resnet18")[-1]
    workspace.run(
        "mode=test",
        f"checkpoint=outputs/{backend}-resnet18",
        f"name={backend}-tested",
        *HOW["fsdp"],
        code=0,
    )
    [row] = workspace.rows(f"outputs/{backend}-tested")
    assert_rows_close([row], [tested], atol=1e-10)


OWN = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, input_shape, outputs, unused):
        super().__init__()
        self.register_buffer("seen", torch.zeros(()))
        self.unused = nn.Linear(3, 3) if unused else None
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, outputs)
        )

    def forward(self, x):
        return self.layers(x)
"""


def run_own(workspace, name, *arguments):
    """Train a user's own torch model."""
    (workspace.path / "mine.py").write_text(OWN)
    own = ("backend=torch", "model=own", "model.torch=mine:Net", "model.jax=mine:Net")
    arguments = (*own, *PLAIN, "train.batch_size=16", *arguments, f"name={name}")
    return workspace.run(*arguments, PYTHONPATH=str(workspace.path))


@pytest.mark.slow
@pytest.mark.parametrize(("how", "unused"), [("ddp", False), ("fsdp", True)])
def test_batch_norm_of_a_users_model_is_synchronised(workspace, how, unused):
    option = f"+model.options.unused={unused}"
    for name, devices in (("own", ()), ("shared", HOW[how])):
        done = run_own(workspace, f"{name}-{how}", option, *devices)
        assert done.code == 0, done.output
        assert "Warning" not in done.output
    assert_rows_close(
        workspace.rows(f"outputs/shared-{how}"), workspace.rows(f"outputs/own-{how}"), atol=1e-10
    )


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_an_own_optimizer_and_callback_do_the_same_on_several_devices(workspace, backend):
    own = "own_training:"
    arguments = (
        *PLAIN, "model=mlp", "model.hidden=[64]", "dataset.limit=200", "train.batch_size=16",
        "train.accumulate=2", "train.clip_norm=0.5", "optimizer=own", "optimizer.lr=0.05",
        f"optimizer.torch={own}Momentum", f"optimizer.jax={own}momentum", "schedule=own",
        f"schedule.function={own}sawtooth", f"callbacks=[{own}Samples]", f"backend={backend}",
    )  # fmt: skip
    for how, devices in {"one": (), **HOW}.items():
        name = f"name=own-{backend}-{how}"
        workspace.run(*arguments, *devices, name, code=0, PYTHONPATH=str(TESTS))
    one, *several = (f"outputs/own-{backend}-{how}" for how in ("one", *HOW))
    media = sorted((workspace.path / one / "media").rglob("*.png"))
    assert len(media) == 2
    for name in several:
        assert_rows_close(workspace.rows(name), workspace.rows(one), atol=1e-10)
        for path in media:
            other = workspace.path / name / path.relative_to(workspace.path / one)
            assert other.read_bytes() == path.read_bytes()


@pytest.mark.slow
def test_a_model_with_an_unused_layer_is_refused_with_a_remedy(workspace):
    option = "+model.options.unused=true"
    done = run_own(workspace, "unused", option, "accelerator.devices=2")
    assert done.code == 1
    assert "the loss does not depend on unused.weight, unused.bias" in done.output
    assert (
        "Set accelerator.strategy=fsdp or train.frozen=[unused.weight,unused.bias]" in done.output
    )
    assert "Traceback" not in done.output
    way_out = ("accelerator.devices=2", "train.frozen=[unused.weight,unused.bias]")
    done = run_own(workspace, "frozen", option, *way_out)
    assert done.code == 0, done.output


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["basic", "joblib"])
def test_a_sweep_over_backends_and_devices_runs_each_job_once(workspace, launcher):
    name = f"sweep-{launcher}"
    swept = ("backend=torch,jax", "accelerator.devices=1,2", f"hydra/launcher={launcher}")
    done = workspace.run("-m", *swept, *PLAIN, "model=mlp", f"name={name}", code=0)
    jobs = sorted((workspace.path / "outputs" / name).glob("[0-9]_*"))
    named = [f"backend={backend}_accelerator.devices={count}" for backend, count in FOUR]
    assert [job.name for job in jobs] == [f"{place}_{job}" for place, job in enumerate(named)]
    assert done.output.count("0/6") == 4, "each job begins once"
    lines = [workspace.rows(str(job)) for job in jobs]
    for job, (backend, count), rows in zip(jobs, FOUR, lines, strict=True):
        shown = workspace.result(str(job))["devices"]
        assert shown.startswith(f"{backend} on {'2 × ' if count == 2 else ''}cpu"), shown
        assert_rows_close(rows, lines[0], atol=1e-10)


FOUR = [("torch", 1), ("torch", 2), ("jax", 1), ("jax", 2)]


@pytest.mark.slow
def test_only_torch_offers_batch_statistics_per_device(workspace, on_one):
    own = (*PLAIN, *CASES["resnet18"], "accelerator.devices=2", "accelerator.sync_batchnorm=false")
    rows = run(workspace, "torch", "own-statistics", *own)
    expected = on_one("torch", "resnet18")
    assert rows[-1]["test/loss"] != pytest.approx(expected[-1]["test/loss"], rel=1e-4)
    refused = workspace.run("backend=jax", *own, "name=refused", code=1)
    assert "accelerator.sync_batchnorm=false: must be true for jax on 2 devices" in refused.output
