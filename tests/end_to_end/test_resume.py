"""However it was stopped, a resumed run logs the numbers of an uninterrupted one."""

import shutil
import signal

import pytest

# Everything that a checkpoint must hold is in use: momenta, schedule, averages, augmentation, and
# lines of metrics that span the interruption. The best checkpoint is older than the last two.
LONG = (
    "model=mlp", "model.hidden=[32]", "logger=none", "dataset.augment=true", "dataset.crop_padding=1",
    "train.steps=420", "optimizer.lr=0.02", "train.ema=0.9", "train.log_every=7", "train.eval_every=60steps",
    "accelerator=cpu",
)  # fmt: skip


@pytest.fixture(scope="module", params=["torch", "jax"])
def backend(request, workspace):
    """A backend with an uninterrupted run, <backend>-whole, and a stopped one in outputs/."""
    name = request.param
    if (workspace.path / f"outputs/{name}-whole").exists():  # pytest may return to a parameter
        return name
    whole, part = (
        workspace.start(f"backend={name}", *LONG, *more)
        for more in (
            [f"name={name}-whole"],
            [f"name={name}-stopped", "train.stop_after=73"],
        )
    )
    for process, code in ((whole, 0), (part, 130)):
        output, _ = process.communicate(timeout=300)
        assert process.returncode == code, output
    assert "interrupted at step 73" in output
    return name


def rows(workspace, run):
    """Rows that a run has logged."""
    return workspace.rows(f"outputs/{run}")


def checkpoints(workspace, run):
    """Paths of a run's checkpoints by step; of a best and a last one of the same step, the last."""
    folder = workspace.path / "outputs" / run / "checkpoints"
    found = {}
    for path in sorted(folder.iterdir()):
        found[int(path.stem.split("-")[-1])] = path
    return found


@pytest.fixture(scope="module")
def stopped(workspace, backend):
    """A run stopped between two evaluations, at step 73, with checkpoints at 60 and 73."""
    name = f"{backend}-stopped"
    assert workspace.result(f"outputs/{name}")["status"] == "interrupted"
    assert set(checkpoints(workspace, name)) == {60, 73}
    return name


def copied(workspace, run, name):
    """Copy a run under another name; return the name."""
    shutil.copytree(workspace.path / "outputs" / run, workspace.path / "outputs" / name)
    return name


@pytest.mark.slow
def test_a_run_stopped_between_evaluations_resumes_bit_for_bit(workspace, backend, stopped):
    name = copied(workspace, stopped, f"{backend}-resumed")
    workspace.run(f"resume=outputs/{name}", code=0)
    assert rows(workspace, name) == rows(workspace, f"{backend}-whole")
    whole, again = (workspace.result(f"outputs/{run}") for run in (f"{backend}-whole", name))
    for key in ("test", "steps", "init_digest", "data_digest", "parameters"):
        assert again[key] == whole[key], key


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backend", "step"), [("jax", 20), ("torch", 60), ("jax", 419)], indirect=["backend"]
)
def test_a_run_stopped_at_an_epoch_or_evaluation_or_the_end_resumes_bit_for_bit(
    workspace, backend, step
):
    name = f"{backend}-stop{step}"
    workspace.run(f"backend={backend}", *LONG, f"name={name}", f"train.stop_after={step}")
    workspace.run(f"resume=outputs/{name}", code=0)
    assert rows(workspace, name) == rows(workspace, f"{backend}-whole")


@pytest.mark.slow
def test_after_sigterm_resume_auto_finds_the_run_and_resumes_bit_for_bit(workspace, backend):
    name = f"{backend}-term"
    arguments = (f"backend={backend}", *LONG, "seed=0")
    ended = workspace.run_until(
        lambda: workspace.step(f"outputs/{name}") >= 100, signal.SIGTERM, *arguments, f"name={name}"
    )
    assert ended.code == 143, ended.output
    assert f"interrupted at step {max(checkpoints(workspace, name))}" in ended.output
    workspace.run("resume=auto", *arguments, code=0)
    assert rows(workspace, name) == rows(workspace, f"{backend}-whole")


@pytest.mark.slow
def test_after_sigkill_a_run_resumes_from_its_last_checkpoint_bit_for_bit(workspace, backend):
    name = f"{backend}-kill"
    killed = workspace.run_until(
        lambda: workspace.step(f"outputs/{name}") >= 150,
        signal.SIGKILL,
        f"backend={backend}",
        *LONG,
        f"name={name}",
    )
    assert killed.code == -signal.SIGKILL
    workspace.run(f"resume=outputs/{name}", code=0)
    assert rows(workspace, name) == rows(workspace, f"{backend}-whole")


def flip_bits(content):
    """The content with every 97th byte of its middle half inverted."""
    quarter = len(content) // 4
    middle = bytearray(content[quarter:-quarter])
    middle[::97] = bytes(byte ^ 0xFF for byte in middle[::97])
    return content[:quarter] + bytes(middle) + content[-quarter:]


def tear(content):
    """The first half of the content."""
    return content[: len(content) // 2]


# Every day with one of them: in tests/twins/test_transfer.py both do the same within one process.
MOSTLY_JAX = pytest.mark.parametrize(
    "backend", [pytest.param("torch", marks=pytest.mark.slow), "jax"], indirect=True
)


@MOSTLY_JAX
@pytest.mark.parametrize("damage", [flip_bits, pytest.param(tear, marks=pytest.mark.slow)])
def test_a_damaged_newest_checkpoint_is_reported_and_skipped(workspace, backend, stopped, damage):
    name = copied(workspace, stopped, f"{backend}-{damage.__name__}")
    newest = checkpoints(workspace, name)[73]
    files = [newest] if newest.is_file() else [file for file in newest.rglob("*") if file.is_file()]
    largest = max(files, key=lambda file: file.stat().st_size)
    largest.write_bytes(damage(largest.read_bytes()))
    resumed = workspace.run(f"resume=outputs/{name}")
    assert f"{newest.name} is broken" in resumed.output
    assert resumed.code == 0, resumed.output
    assert rows(workspace, name) == rows(workspace, f"{backend}-whole")


@pytest.mark.slow
def test_a_completed_run_is_neither_trained_nor_tested_again(workspace, backend, stopped):
    name = copied(workspace, f"{backend}-whole", f"{backend}-completed")
    again = workspace.run("resume=auto", f"name={name}", f"backend={backend}", *LONG, code=0)
    assert f"{name} is completed at step 420: nothing left to train" in again.output
    result, whole = (workspace.result(f"outputs/{run}") for run in (name, f"{backend}-whole"))
    assert result == whole
    assert rows(workspace, name) == rows(workspace, f"{backend}-whole")


@pytest.mark.slow
def test_repeating_a_command_in_a_new_process_gives_the_same_numbers_bit_for_bit(
    workspace, backend
):
    workspace.run(f"backend={backend}", *LONG, f"name={backend}-again", cold=True, code=0)
    assert rows(workspace, f"{backend}-again") == rows(workspace, f"{backend}-whole")


@MOSTLY_JAX
def test_mode_test_needs_only_the_checkpoint(workspace, backend):
    workspace.run(
        "mode=test", f"checkpoint=outputs/{backend}-whole", f"name={backend}-tested", code=0
    )
    result, whole = (workspace.result(f"outputs/{backend}-{run}") for run in ("tested", "whole"))
    assert result["test"] == whole["test"]
    assert result["config"]["model"]["hidden"] == [32]
    assert result["backend"] == backend


def test_the_last_and_the_best_checkpoint_are_kept(workspace, backend):
    best = workspace.result(f"outputs/{backend}-whole")["best"]
    kept = checkpoints(workspace, f"{backend}-whole")
    assert best["step"] < 360
    assert set(kept) == {best["step"], 360, 420}
    assert best["checkpoint"].endswith((f"/{best['step']:06d}", f"/best-{best['step']:06d}.ckpt"))


@pytest.mark.parametrize("backend", ["torch"], indirect=True)
def test_a_torch_checkpoint_opens_with_torch_load_defaults(workspace, backend):
    torch = pytest.importorskip("torch")
    content = torch.load(workspace.result("outputs/torch-whole")["best"]["checkpoint"])
    assert content["state_dict"]["model.layers.0.weight"].shape == (32, 64)


def test_a_second_run_of_the_same_name_is_refused_and_the_first_is_kept(workspace, backend):
    before = rows(workspace, f"{backend}-whole")
    refused = workspace.run(f"backend={backend}", *LONG, f"name={backend}-whole", code=1)
    assert f"{backend}-whole" in refused.output
    assert "resume=auto" in refused.output
    assert rows(workspace, f"{backend}-whole") == before


@pytest.mark.slow
def test_a_diverging_run_fails_with_its_step_and_last_good_checkpoint(workspace, backend):
    name = f"{backend}-diverging"
    ended = workspace.run(
        f"backend={backend}", "model=linear", "dataset=line", "optimizer=sgd", "optimizer.lr=100",
        "schedule=constant", "train.batch_size=5", "train.steps=400", "train.eval_every=2steps",
        "logger=none", "train.log_every=50", f"name={name}", code=1,
    )  # fmt: skip
    result = workspace.result(f"outputs/{name}")
    assert result["status"] == "failed"
    # float32 ends at 3.4e38; the two frameworks get there in the same step.
    assert "train/loss is inf at step 7" in result["error"]
    assert f"The last good checkpoint is {checkpoints(workspace, name)[6]}" in result["error"]
    assert result["error"] in ended.output
