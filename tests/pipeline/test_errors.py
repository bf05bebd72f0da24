"""Bad input of every kind: one message with the key, the value, what is allowed and what to do."""

import json
import os
import pickle
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from made_runs import write_run

from pipeline.errors import BadArgument, UserError
from pipeline.runs import read_json

ROOT = Path(__file__).resolve().parent.parent.parent
LIGHT = {"OMP_NUM_THREADS": "1", "WANDB_MODE": "offline"}
SMALL = "accelerator=cpu accelerator.threads=1 model=linear train.steps=2 train.batch_size=16"


# Runs run.py again and again, each time in a process of its own, forked when Hydra is imported and has
# composed once, which is most of a case's time. One order a line on stdin; its exit code on stdout.
FORKS = """
import gc, json, os, runpy, sys
sys.path.insert(0, ".")
import pipeline.answer, pipeline.command, pipeline.experiment
from hydra import compose, initialize_config_dir
from pipeline.config import register
register()
with initialize_config_dir(os.path.abspath("conf"), version_base="1.3"):
    compose("config")
gc.freeze()  # what is there already is nobody's garbage
for line in sys.stdin:
    order = json.loads(line)
    child = os.fork()
    if child == 0:
        for number, path in enumerate(order["outputs"], start=1):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
        os.environ |= order["environment"]
        sys.argv = ["run.py", *order["arguments"]]
        runpy.run_path("run.py", run_name="__main__")
        break
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@dataclass(frozen=True)
class Case:
    """One mistake.

    Args:
        name: of the test.
        command: after `run.py`; `{tmp}` is an empty folder, `{file}` a file, `{run}` a torch run of
            the linear model, `{made}` what is known of one without its checkpoints.
        words: that the message holds.
        loads: whether a framework is loaded before the mistake can be seen.
    """

    name: str
    command: str
    words: str
    loads: bool = False


CASES = [
    # groups and their options
    Case(
        "an unknown option",
        "model=cnm",
        "model=cnm|one of cnn, gpt, gpt2|Did you mean model=cnn?",
    ),
    Case(
        "an option in another case", "optimizer=Adam", "optimizer=Adam|Did you mean optimizer=adam?"
    ),
    Case("no option", "backend=", "backend=|one of jax, torch"),
    Case("null for a group", "model=null", "model=null|one of cnn, gpt"),
    Case("null for a preset", "experiment=null", "experiment=null|Leave experiment out."),
    Case("a group left out", "~model", "model=???|one of cnn, gpt"),
    Case(
        "a misspelt group", "optimizr=sgd", "optimizr=sgd|the group optimizer|adam, adamax, adamw"
    ),
    Case("an unknown group", "flavour=sweet", "flavour=sweet|a key or a group"),
    Case("a group of a group", "model/size=big", "model/size=big|a key or a group"),
    Case("several options", "optimizer=[sgd,adam]", "optimizer=[sgd,adam]|-m optimizer=sgd,adam"),
    Case("an unknown logger in a list", "logger=[wand,csv]", "logger=wand|csv, none|logger=wandb?"),
    Case(
        "an unknown launcher", "-m hydra/launcher=foo seed=0,1", "hydra/launcher=foo|one of basic"
    ),
    Case("an unknown config file", "--config-name=foo", "--config-name=foo|config folder"),
    Case("a group's name set by hand", "model.name=mlp", "model.name=mlp|Choose with model=mlp"),
    # keys
    Case("an unknown key", "foo=1", "foo=1|a key or a group|--help"),
    Case("a key without its group", "lr=0.1", "lr=0.1|Did you mean optimizer.lr?"),
    Case(
        "a misspelt key",
        "train.epoch=3",
        "train.epoch=3|a key of train (epochs, steps|train.epochs?",
    ),
    Case(
        "a misspelt key of another option",
        "optimizer.momentun=0.9",
        "optimizer=adamw (lr, weight_decay, no_decay, lr_factors, betas, eps)"
        "|optimizer.momentum, a key of optimizer=sgd",
    ),
    Case(
        "a key of another option",
        "optimizer.nesterov=true",
        "It is a key of optimizer=sgd or optimizer=muon.",
    ),
    Case(
        "a pattern of no parameter",
        "train.frozen=[conv9]",
        "train.frozen=conv9|Closest names: conv",
        True,
    ),
    Case("two clippings", "train.clip_norm=1 train.clip_value=1", "null when train.clip_norm=1"),
    Case("an added key", "+foo=1", "foo=1|a key or a group"),
    Case("an added key in a group", "++train.foo=1", "train.foo=1|a key of train"),
    Case("an added key that is there", "+train.epochs=3", "+train.epochs|Write train.epochs=VALUE"),
    Case("an added group that is there", "+model=mlp", "+model|Write model=OPTION"),
    Case("a group elsewhere", "model@twin=mlp", "model@twin|Write model=OPTION"),
    Case("a deleted key", "~train.epochs", "~train.epochs|Set train.epochs=VALUE"),
    Case("a deleted key that is not there", "~trian", "~trian|a group or key"),
    Case("an unknown key of Hydra", "hydra.foo=1", "hydra.foo=1|a key of hydra"),
    # types
    Case("text for a number", "train.batch_size=abc", "train.batch_size=abc|a whole number"),
    Case("nothing for a number", "train.epochs=", "train.epochs=|a whole number"),
    Case("a fraction", "seed=1.5", "seed=1.5|a whole number"),
    Case("a list for a number", "seed=[1]", "seed=[1]|a whole number"),
    Case("null for a number", "train.epochs=null", "train.epochs=null|a whole number"),
    Case("text for a limit", "train.clip_norm=a", "train.clip_norm=a|a number or null"),
    Case(
        "neither true nor false", "dataset.download=maybe", "dataset.download=maybe|true or false"
    ),
    Case("a number for a list", "model.channels=3", "model.channels=3|a list, like [1,2]"),
    Case("text in a list", "model.channels=[a,b]", "model.channels=[a,b]|a list, like [1,2]"),
    Case("a mapping for a list", "tags={a:1}", "tags={a:1}|a list, like [a,b]"),
    Case("a number for a group of keys", "train=3", "train=3|set key by key: epochs, steps"),
    Case("an unknown precision", "train.precision=fp16x", "train.precision=fp16x|fp32, bf16, fp64"),
    Case("an unknown mode", "mode=tset", "mode=tset|one of train, test"),
    Case("no value", "train.epochs=???", "train.epochs=???|Set train.epochs=VALUE"),
    Case("an interpolation to nowhere", "optimizer.lr=${lr}", "optimizer.lr=${lr}|'lr' not found"),
    Case(
        "an unset variable", "dataset.root=${oc.env:NOPE}", "dataset.root=${oc.env:NOPE}|'NOPE' not"
    ),
    # the grammar
    Case("two equals signs", "lr==3", "lr==3|KEY=VALUE|lr=3"),
    Case("a missing quote", "name='a", "name='a|quote has no partner"),
    Case("a missing bracket", "name=[a", "name=[a|Quote a value"),
    Case("a missing brace", "optimizer.lr=${", "optimizer.lr=${|Quote a value"),
    Case("a word", "train.epoch", "train.epoch|Did you mean train.epochs=VALUE?"),
    Case("no key", "=3", "=3|KEY=VALUE"),
    Case("an unknown flag", "--mutlirun", "--mutlirun|Did you mean --multirun?"),
    Case("a bad flag", "--cfg foo", "'foo'|'job', 'hydra', 'all'"),
    Case("a sweep without -m", "backend=torch,jax", "backend=torch,jax|Add -m"),
    # ranges and combinations
    Case("an empty batch", "train.batch_size=0", "train.batch_size=0|at least 1"),
    Case("a negative learning rate", "optimizer.lr=-1", "optimizer.lr=-1|above 0"),
    Case("an odd interval", "train.eval_every=often", "train.eval_every=often|100steps"),
    Case(
        "nesterov without momentum",
        "optimizer=sgd optimizer.nesterov=true optimizer.momentum=0",
        "optimizer.nesterov|Set optimizer.momentum=0.9",
    ),
    Case("a batch that does not divide", "train.accumulate=7", "train.accumulate=7|a divisor of"),
    Case(
        "a batch that devices cannot share",
        "accelerator.devices=3",
        "train.batch_size=32|a multiple of 3|3 devices|Set train.batch_size=30 or 33",
    ),
    Case("no device", "accelerator.devices=0", "accelerator.devices=0|auto or a whole number"),
    Case(
        "two machines from one",
        "accelerator.nodes=2",
        "accelerator.nodes=2|started alone|use srun, torchrun or hydra/launcher=slurm",
    ),
    # data and model
    Case(
        "a batch above the data",
        "dataset=synthetic dataset.samples=64 train.batch_size=65",
        "train.batch_size=65|at most 64",
    ),
    Case("a cnn on vectors", "dataset=line", "model=cnn|dataset=line|Set model=linear"),
    Case(
        "smoothing without classes",
        "dataset=line model=linear train.batch_size=5 train.label_smoothing=0.1",
        "train.label_smoothing=0.1|dataset=line",
    ),
    Case(
        "a small input size",
        "dataset=synthetic dataset.shape=[8,8,1] model.input_size=4",
        "model.input_size=4|at least 8",
    ),
    Case(
        "no pixel left",
        "dataset=synthetic dataset.shape=[8,8,1] model.padding=0",
        "model=cnn|8×8|Raise model.padding",
    ),
    Case(
        "no such root",
        "dataset=mnist dataset.root={tmp}/nowhere",
        "dataset.root={tmp}/nowhere|no such folder|dataset.download=true",
    ),
    Case(
        "no data",
        "dataset=mnist dataset.root={tmp}",
        "dataset.root={tmp}|dataset.download=true",
        True,
    ),
    Case(
        "a file for a root", "dataset=mnist dataset.root={file}", "dataset.root={file}|it is a file"
    ),
    # runs and checkpoints
    Case("a test of nothing", "mode=test", "checkpoint|Set checkpoint=PATH"),
    Case("a checkpoint in training", "checkpoint={tmp}", "checkpoint={tmp}"),
    Case(
        "a checkpoint that is none", "mode=test checkpoint={file}", "checkpoint={file}|Name a run"
    ),
    Case(
        "a missing checkpoint", "mode=test checkpoint={tmp}/no", "checkpoint={tmp}/no|existing run"
    ),
    Case("a resume of nothing", "resume={tmp}/no", "resume={tmp}/no|an existing run"),
    Case("a resume of what is no run", "resume={tmp}", "resume={tmp}|Name a run's folder"),
    Case(
        "another optimizer",
        "resume={made} optimizer=sgd",
        "optimizer=sgd|adamw, whose|convert {made}",
    ),
    Case(
        "an average", "resume={made} train.ema=0.9", "train.ema=0.9|null, as {made} was made with"
    ),
    Case("another model", "mode=test checkpoint={run} model=mlp", "model=|is missing", True),
    Case("a folder in use", "hydra.run.dir={run} model=mlp", "{run}|holds a run already", True),
    Case("a file for a folder", "hydra.run.dir={file}/run", "hydra.run.dir={file}|can be written"),
    Case("a file for a sweep", "-m seed=0,1 hydra.sweep.dir={file}", "{file}|can be written"),
    # sweeps
    Case("all options of a sweep", "-m model=cnm,vti", "model=cnm|Did you mean model=cnn?"),
    Case(
        "a bad value in all jobs", "-m seed=0,1 train.batch_size=0", "train.batch_size=0|at least 1"
    ),
    Case(
        "a bad type in all jobs",
        "-m seed=0,1 train.batch_size=a",
        "train.batch_size=a|a whole number",
    ),
    Case("only bad values", "-m train.batch_size=0,-1", "train.batch_size=0|at least 1"),
    Case("a dry run of one job", "sweep.dry_run=true", "sweep.dry_run=true|without -m"),
    Case(
        "a launcher that is not there",
        "-m seed=0,1 hydra.launcher._target_=hydra_plugins.none.Launcher",
        "hydra/launcher=basic|installed",
    ),
    # devices
    Case(
        "no GPU for torch",
        "accelerator=gpu",
        "accelerator=gpu|torch sees no GPU|Set accelerator=cpu",
        True,
    ),
    Case(
        "no GPU for jax",
        "accelerator=gpu backend=jax",
        "accelerator=gpu|JAX sees no GPU|Set accelerator=cpu",
        True,
    ),
]


@dataclass(frozen=True)
class Answer:
    """How a command ended, and what it wrote."""

    returncode: int
    stdout: str
    stderr: str


def placed_below(folder: Path, arguments: list[str]) -> list[str]:
    """The arguments, with the output below `folder` and no logger unless they say otherwise."""
    places = ["logger=none", f"hydra.run.dir='{folder}/run'", f"hydra.sweep.dir='{folder}/sweep'"]
    given = {argument.partition("=")[0] for argument in arguments}
    return [*arguments, *(place for place in places if place.partition("=")[0] not in given)]


def command(arguments: list[str], folder: Path, **environment: str) -> Answer:
    """`python run.py ARGUMENTS` with its output below `folder`."""
    done = subprocess.run(
        [sys.executable, "run.py", *placed_below(folder, arguments)],
        cwd=ROOT,
        env=os.environ | LIGHT | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    return Answer(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="session")
def forked():
    """A function like `command`, faster: for what ends before a framework is loaded."""
    server = subprocess.Popen(
        [sys.executable, "-c", FORKS],
        cwd=ROOT,
        env=os.environ | LIGHT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def answer(arguments: list[str], folder: Path, **environment: str) -> Answer:
        outputs = [folder / "stdout", folder / "stderr"]
        order = {
            "arguments": placed_below(folder, arguments),
            "environment": environment,
            "outputs": list(map(str, outputs)),
        }
        print(json.dumps(order), file=server.stdin, flush=True)
        code = int(server.stdout.readline())
        return Answer(code, *(output.read_text() for output in outputs))

    with server:
        yield answer
        server.stdin.close()


@pytest.fixture(scope="session")
def linear_run(tmp_path_factory) -> Path:
    """A torch run of the linear model, with checkpoints."""
    folder = tmp_path_factory.mktemp("linear")
    done = command(SMALL.split(), folder)
    assert done.returncode == 0, done.stderr
    return folder / "run"


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, id=case.name, marks=[pytest.mark.slow] * case.loads) for case in CASES],
)
def test_bad_input_gets_one_message(case, tmp_path, forked, request):
    places = {name: tmp_path / name for name in ("tmp", "file", "made")}
    if "{run}" in case.command:
        places["run"] = request.getfixturevalue("linear_run")
    if "{made}" in case.command:
        write_run(places["made"])
    places["tmp"].mkdir()
    places["file"].touch()

    def placed(text: str) -> str:
        for name, path in places.items():
            text = text.replace(f"{{{name}}}", str(path))
        return text

    done = (command if case.loads else forked)(placed(case.command).split(), tmp_path)

    assert done.returncode == 1, done.stdout + done.stderr
    for words in placed(case.words).split("|"):
        assert words in done.stderr
    assert done.stderr.count("error: ") == 1
    assert done.stderr.startswith("error: ")
    assert done.stderr.splitlines()[-1].startswith("HYDRA_FULL_ERROR=1")
    assert len(done.stderr.splitlines()) == 2, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert "failed:" not in done.stdout  # no job of a sweep was started


@pytest.mark.parametrize("mistake", ["model=cnm", "train.batch_size=0", "-m train.batch_size=0,-1"])
def test_the_full_error_is_shown_when_asked_for(mistake, tmp_path, forked):
    done = forked(mistake.split(), tmp_path, HYDRA_FULL_ERROR="1")
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_a_mistake_loads_no_framework(tmp_path):
    done = command(["train.batch_size=0"], tmp_path, PYTHONPROFILEIMPORTTIME="1")
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "pipeline.config" in loaded
    assert not {"torch", "jax", "lightning", "flax", "sklearn", "wandb"} & loaded


@pytest.mark.slow
def test_a_bad_job_of_a_sweep_is_told_and_the_others_go_on(tmp_path):
    overrides = SMALL.replace("train.batch_size=16", "train.batch_size=0,16").split()
    done = command(["-m", *overrides], tmp_path)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "(train.batch_size=0) failed: train.batch_size=0: must be a whole number" in done.stderr
    statuses = [
        read_json(folder / "result.json")["status"] for folder in sorted(tmp_path.glob("sweep/*=*"))
    ]
    assert statuses == ["failed", "completed"]
    assert done.stdout.count("failed") >= 1  # in the table


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_a_full_disk_is_told_with_the_way_out(backend, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    own = ["unshare", "--user", "--map-root-user", "--mount"]
    mount = f"mount -t tmpfs -o size=256k tmpfs '{disk}'"
    if not shutil.which("unshare") or subprocess.run([*own, "sh", "-c", mount]).returncode:
        pytest.skip("this machine lets no test mount a small disk of its own")
    overrides = SMALL.replace("model=linear", "model=mlp").split()
    run = [sys.executable, "run.py", *overrides, f"backend={backend}", "logger=none"]
    done = subprocess.run(
        [*own, "sh", "-c", f'{mount} && exec "$@"', "sh", *run, f"hydra.run.dir='{disk}/run'"],
        cwd=ROOT,
        env=os.environ | LIGHT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1, done.stderr
    assert "hydra.run.dir=" in done.stderr
    assert "space" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            UserError("seed", -1, "0 or more", "Set seed=0."),
            "seed=-1: must be 0 or more. Set seed=0.",
        ),
        (BadArgument("lr==3", "KEY=VALUE", "Write lr=3."), "lr==3: must be KEY=VALUE. Write lr=3."),
    ],
)
def test_an_error_is_the_same_on_the_other_side_of_a_process(error, told):
    assert str(error) == str(pickle.loads(pickle.dumps(error))) == told
