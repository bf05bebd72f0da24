"""`python -m pipeline.parity` as a user calls it; docs/porting.md is run as it stands."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "porting.md").read_text()
MODELS = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)[1]
COMMAND = re.search(r"```sh\npython (.*?)\n```", PAGE)[1]
TOLD = re.findall(r"^> (.*)$", PAGE, re.MULTILINE)

APPROXIMATE = "flax.linen.gelu(x)"
NORM = 'flax.linen.BatchNorm(use_running_average=not train, name="norm")(x)'
MENDED = [
    (APPROXIMATE, "flax.linen.gelu(x, approximate=False)"),
    (NORM, NORM.replace("not train,", "not train, momentum=0.9,")),
    (
        NORM.replace("not train,", "not train, momentum=0.9,"),
        '__import__("flax_impl.norms").norms.BatchNorm(name="norm")(x, train)',
    ),
]


def parity(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=os.environ
        | {"PYTHONPATH": f"{ROOT}:{folder}", "OMP_NUM_THREADS": "1", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.slow
def test_the_page_on_porting_leads_from_one_slip_to_the_next_until_there_is_none(tmp_path):
    source = MODELS
    for told, (old, new) in zip(TOLD, [*MENDED, (None, None)], strict=True):
        (tmp_path / "my_models.py").write_text(source)
        done = parity(tmp_path, *shlex.split(COMMAND))
        assert told in done.stdout, done.stdout + done.stderr
        assert done.returncode == ("they part" in told)
        content = json.loads((tmp_path / "outputs/port/parity.json").read_text())
        assert content["sentence"].startswith(told)
        assert (tmp_path / "outputs/port/parity.png").stat().st_size > 10_000
        if old:
            assert old in source
            source = source.replace(old, new)
    assert content["verdict"] == "same"
    assert content["same_initial_bytes"] is True
    assert content["same_batches"] is True
    assert len(content["losses"]["torch"]) == 10
    assert max(content["by_step"]["loss"]["worst"]) < 1e-10


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_in_lower_precision_the_bar_is_the_noise_of_a_run_against_itself(tmp_path, precision):
    small = "model=mlp model.hidden=[16] dataset.limit=64 train.batch_size=16 train.steps=8"
    done = parity(
        tmp_path, "-m", "pipeline.parity", f"train.precision={precision}", "name=it", *small.split()
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the same within their own noise: over 8 steps" in done.stdout
    assert "own noise" in done.stdout
    content = json.loads((tmp_path / "outputs/it/parity.json").read_text())
    assert max(content["by_step"]["loss"]["noise"]) > 0
    assert content["parts"]["loss"]["loss"]["noise"] == max(content["by_step"]["loss"]["noise"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("model=nosuch", "model=nosuch"),
        ("train.batch_size=0", "train.batch_size=0: must be a whole number, at least 1"),
        ("logger=wandb", "logger=…: must be left out"),
        ("model=own", "model.torch=None: must be a class that can be imported"),
        ("model=own model.torch=json:nothing", "model.torch=json:nothing: must be a class"),
        ("model=cnn dataset=line", "Set model=linear"),
    ],
)
def test_a_mistake_is_told_in_one_message(tmp_path, arguments, told):
    done = parity(tmp_path, "-m", "pipeline.parity", *arguments.split())
    assert done.returncode == 1
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_its_help_tells_what_it_does(tmp_path):
    done = parity(tmp_path, "-m", "pipeline.parity", "--help")
    assert done.returncode == 0
    assert "exit code 0 if they are the same, 1 if they part" in done.stdout
