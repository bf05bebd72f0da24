"""Bad input of every kind: one message with the key, the value, what is allowed and the remedy."""

import os
import pickle
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import warm_start
from made_runs import write_run

from pipeline.atomic_files import read_json, write_json
from pipeline.errors import BadArgument, UserError
from pipeline.job_context import JobContext
from pipeline.run.banner import to_run_error
from pipeline.storage.signature import signature_of
from pipeline.user_code import is_out_of_memory

ROOT = Path(__file__).resolve().parents[3]
LIGHT = {"OMP_NUM_THREADS": "1", "WANDB_MODE": "offline"}
SMALL = "accelerator=cpu accelerator.threads=1 model=linear train.steps=2 train.batch_size=16"


@dataclass(frozen=True)
class Case:
    """One mistake.

    Args:
        name: the id of the test.
        command: arguments of `run.py`; `{tmp}` is an empty folder, `{file}` a file, `{run}` a torch run of
            the linear model, `{made}` such a run without checkpoints.
        words: parts of the message, separated by `|`.
        loads: whether a framework is loaded before the mistake is found.
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
        "model=cnm|one of bert, cnn, encoder_decoder, gpt, gpt2|Did you mean model=cnn?",
    ),
    Case(
        "an option in another case", "optimizer=Adam", "optimizer=Adam|Did you mean optimizer=adam?"
    ),
    Case("no option", "backend=", "backend=|one of jax, torch"),
    Case("null for a group", "model=null", "model=null|one of bert, cnn, encoder_decoder, gpt"),
    Case("null for a preset", "experiment=null", "experiment=null|Leave experiment out."),
    Case("a group left out", "~model", "model=???|one of bert, cnn, encoder_decoder, gpt"),
    Case(
        "a misspelt group", "optimizr=sgd", "optimizr=sgd|the group optimizer|adam, adamax, adamw"
    ),
    Case("an unknown group", "flavour=sweet", "flavour=sweet|a key or a group"),
    Case("a group of a group", "model/size=big", "model/size=big|a key or a group"),
    Case("several options", "optimizer=[sgd,adam]", "optimizer=[sgd,adam]|-m optimizer=sgd,adam"),
    Case("several backends", "backend=[torch,jax]", "backend=[torch,jax]|-m backend=torch,jax"),
    Case("several models of a kind", "model=[vit,vit_base]", "model=[vit,vit_base]|one option"),
    Case(
        "several backends in a job", "-m backend=[torch,jax],jax", "backend=[torch,jax]|one option"
    ),
    Case("an unknown logger in a list", "logger=[wand,csv]", "logger=wand|csv, none|logger=wandb?"),
    Case(
        "an unknown launcher", "-m hydra/launcher=foo seed=0,1", "hydra/launcher=foo|one of basic"
    ),
    Case(
        "an unknown config folder", "--config-path=nope", "/nope|does not exist|--config-dir=FOLDER"
    ),
    Case("an unknown config file", "--config-name=foo", "--config-name=foo|config folder"),
    Case(
        "a group's name set by hand",
        "model.name=mlp",
        "model.name=mlp|model group|Choose with model=mlp",
    ),
    # keys
    Case("an unknown key", "foo=1", "foo=1|a key or a group|--help"),
    Case(
        "a key of Lightning's Trainer",
        "trainer.precision=bf16",
        "trainer.precision=bf16|a key or a group|Did you mean train.precision?",
    ),
    Case(
        "a key of another group",
        "train.compile=true",
        "train.compile=true|a key of train|Did you mean backend.compile?",
    ),
    Case(
        "a launcher without a sweep",
        "hydra/launcher=slurm",
        "hydra/launcher=slurm|it starts the jobs of a sweep, and this is no sweep. Add -m.",
    ),
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
    Case("a deleted key that is null", "~train.steps", "~train.steps|Set train.steps=VALUE"),
    Case(
        "a key of a logger that is off",
        "logger=none logger.wandb.project=x",
        "logger.wandb.project=x|wandb is not chosen|Add logger=wandb",
    ),
    Case(
        "such a key in a sweep",
        "-m seed=0,1 logger=none logger.csv.file=x",
        "logger.csv.file=x|csv is not chosen",
    ),
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
    Case(
        "a number for a list",
        "model.channels=3",
        "model.channels=3|a list of two numbers, like [6,16]",
    ),
    Case(
        "text in a list",
        "model.channels=[a,b]",
        "model.channels=[a,b]|a list of two numbers, like [6,16]",
    ),
    Case("a list in a list", "tags=[[a]]", "tags=[['a']]|a list, like [a,b]"),
    Case("a list for a map", "optimizer.lr_factors=[1]", "optimizer.lr_factors=[1]|a map, like"),
    Case("text in a map", "optimizer.lr_factors={a:b}", "optimizer.lr_factors={a:b}|a map, like"),
    Case(
        "a number for three",
        "dataset=folder dataset.jitter=0.2",
        "dataset.jitter=0.2|three numbers in [0, 10], like [0.0,0.0,0.0]",
    ),
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
    Case("too many threads", "accelerator.threads=100000", "accelerator.threads=100000|1 … 1024"),
    Case("flags after overrides", "seed=-1 -m model=mlp,cnn", "seed=-1|0 or more"),
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
        "a task that needs another field",
        "task=segmentation",
        "task=segmentation|needs mask [height, width], and the data set has image [8, 8, 1], label []",
    ),
    Case(
        "an unknown input", "task.inputs=[pixels]", "task.inputs=pixels|only image [8, 8, 1], label"
    ),
    Case(
        "own targets that are not there",
        "task=own task.targets=[y] task.torch=math:sqrt",
        "task.targets=y|no such field, only image, label",
    ),
    Case(
        "own targets misspelt",
        "task=own task.targets=[labl] task.torch=math:sqrt",
        "task.targets=labl|only image, label|Did you mean label?",
    ),
    Case(
        "an own task without outputs",
        "task=own task.torch=math:sqrt",
        "task.outputs=null|Set task.outputs=N",
        True,
    ),
    Case(
        "a task without a loss for this backend",
        "task=own task.jax=math:sqrt task.targets=[label]",
        "task.torch=null|Set task.torch=package.module:function, or another backend",
        True,
    ),
    Case(
        "a metric to monitor that the task has not",
        "train.monitor=val/f1",
        "train.monitor=val/f1|one of val/loss, val/accuracy",
    ),
    Case(
        "a metric to monitor that is not of the validation set",
        "train.monitor=accuracy",
        "train.monitor=accuracy|Set train.monitor=val/accuracy",
    ),
    Case(
        "more tokens masked than there are",
        "dataset=text model=gpt task=masked_language task.masked=95",
        "task.replaced=10|at most 5",
    ),
    Case(
        "two views that are the same",
        "task=contrastive",
        "dataset.augment=false|the same. Set dataset.augment=true",
    ),
    Case(
        "weights of a folder that is no run",
        "model.weights=docs",
        "model.weights=docs|this folder is no run, and holds no weights",
        True,
    ),
    Case(
        "no temperature",
        "task=contrastive task.temperature=0",
        "task.temperature=0.0|above 0",
    ),
    Case(
        "an image alone in a group",
        "task=contrastive task.group=1",
        "task.group=1|at least 2",
    ),
    Case(
        "views of what is no image",
        "task=contrastive dataset=line model=linear dataset.augment=true",
        "task=contrastive|each sample needs image [height, width, channels]",
    ),
    Case(
        "views of a field that is not there",
        "task=own task.torch=math:sqrt task.outputs=2 task.views={view:imag}",
        "task.views={view:imag}|no such images, only image [8, 8, 1], label []",
    ),
    Case(
        "a scale without a size",
        "dataset=huggingface dataset.path=there dataset.scale=[0.1,1]",
        "dataset.size=null|together with dataset.scale|dataset.size=224",
    ),
    Case(
        "smoothing without classes",
        "dataset=line model=linear train.batch_size=5 train.label_smoothing=0.1",
        "train.label_smoothing=0.1|task=regression",
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
    Case("no folder of images", "dataset=folder", "dataset.root=''|Set dataset.root=FOLDER"),
    Case(
        "a folder without images",
        "dataset=folder dataset.root={tmp}",
        "dataset.root={tmp}|no sub-folder of {tmp}|dataset.labels=FILE.csv",
    ),
    Case(
        "a table of no labels",
        "dataset=folder dataset.root={tmp} dataset.labels={file}",
        "dataset.labels={file}|no column file|file,label",
    ),
    Case(
        "no folder of masks",
        "dataset=folder dataset.root={tmp} dataset.masks={tmp}/masks",
        "dataset.masks=|masks: there is no such folder",
    ),
    Case(
        "no saved data set",
        "dataset=huggingface dataset.path={tmp}",
        "dataset.path={tmp}: it has no dataset|folder that save_to_disk has written",
    ),
    Case("no name on the hub", "dataset=huggingface", "dataset.path=''|a name on the hub"),
    Case("no class of a library", "dataset=torchvision", "dataset.name=''|such as KMNIST"),
    Case("no builder of a library", "dataset=tfds", "dataset.name=''|such as kmnist"),
    Case(
        "a file for a folder",
        "dataset=torchvision dataset.name=KMNIST dataset.root={file}",
        "dataset.root=|the array cache cannot be written",
    ),
    Case(
        "a class of another data set",
        "dataset=mnist dataset.name=KMNIST",
        "dataset.name=KMNIST|dataset=torchvision dataset.name=NAME",
    ),
    Case("no arrays", "dataset=arrays", "dataset.path=''|a file or folder of arrays"),
    Case(
        "a file of no array",
        "dataset=arrays dataset.path={file}",
        "dataset.path={file}|no .npy or .npz file",
    ),
    Case("no table", "dataset=table model=mlp", "dataset.path=''|a table, or a folder of them"),
    Case(
        "a table that is not there",
        "dataset=table model=mlp dataset.path={tmp}/a.csv",
        "dataset.path={tmp}/a.csv|no such file",
    ),
    Case(
        "a file of no table",
        "dataset=table model=mlp dataset.path={file} dataset.targets=[y]",
        "dataset.path={file}|no .csv, .tsv or .parquet file",
    ),
    Case("no function for data", "dataset=own", "dataset.load=null|package.module:function"),
    Case(
        "a function for data that fails",
        "dataset=own dataset.load=tests.own_data:images dataset.options={size:3}",
        "dataset.load=tests.own_data:images|unexpected keyword argument 'size'|dataset.options",
    ),
    Case(
        "a field that is not there",
        "dataset=own dataset.load=tests.own_data:images task=segmentation",
        "task=segmentation|needs mask|image [8, 8, 1], label []",
    ),
    Case("no tokens", "dataset=tokens model=gpt", "dataset.path=''|a file of token ids"),
    Case(
        "too few tokens",
        "dataset=tokens model=gpt dataset.path={file} dataset.tokenizer=gpt2",
        "dataset.tokenizer=gpt2|tiktoken:gpt2",
    ),
    Case("a fold of none", "dataset.fold=1", "dataset.fold=1|Set dataset.folds=5"),
    Case(
        "a fold too many",
        "dataset.folds=3 dataset.fold=3",
        "dataset.fold=3|0 … 2|-m dataset.fold=0,1,2",
    ),
    # own optimizers, schedules and callbacks
    Case(
        "a learning rate as an option",
        "optimizer=own optimizer.options={lr:1}",
        "optimizer.options={'lr': 1}|lr is no option: Tandem passes it. Set optimizer.lr.",
    ),
    Case("no own optimizer", "optimizer=own", "optimizer.torch=None|Set optimizer.torch=", True),
    Case(
        "an own optimizer of a module that is not there",
        "optimizer=own optimizer.torch=nowhere:Prodigy",
        "optimizer.torch=nowhere:Prodigy|no module nowhere",
        True,
    ),
    Case(
        "an own optimizer that is none",
        "backend=jax optimizer=own optimizer.jax=fractions:Fraction",
        "optimizer.jax=fractions:Fraction|it cannot be made|Fraction(learning_rate=0.001",
        True,
    ),
    Case(
        "an option that an own optimizer refuses",
        "optimizer=own optimizer.torch=torch.optim:ASGD optimizer.options={foo:1}",
        "optimizer.torch=torch.optim:ASGD|'foo'|ASGD(params, lr=0.001, foo=1, weight_decay=0.0)",
        True,
    ),
    Case("no own schedule", "schedule=own", "schedule.function=None|module:name", True),
    Case(
        "an own schedule of no finite number",
        "schedule=own schedule.function=math:log",
        "schedule.function=math:log|it fails at step 0: ValueError",
        True,
    ),
    Case(
        "a negative own schedule",
        "schedule=own schedule.function=operator:sub",
        "schedule.function=operator:sub|at step 0 it returns -|a finite number, 0 or more",
        True,
    ),
    Case(
        "a callback that is none", "callbacks=[math:pi]", "callbacks=math:pi|a float, which", True
    ),
    Case("a callback of no module", "callbacks=[pi]", "callbacks=pi|no import path", True),
    Case(
        "a callback of the other backend",
        "backend=jax callbacks=[lightning.pytorch.callbacks:Timer]",
        "lightning.pytorch.callbacks:Timer|which only backend=torch runs",
        True,
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
        "optimizer=sgd|the state of adamw|convert {made}",
    ),
    Case(
        "an average", "resume={made} train.ema=0.9", "train.ema=0.9|null, as {made} was made with"
    ),
    Case("another model", "mode=test checkpoint={run} model=mlp", "model=|is missing", True),
    Case(
        "a name above outputs/", "name=../../x", "name=../../x|below outputs/|hydra.run.dir=FOLDER"
    ),
    Case(
        "a name with a way up", "name=a/../b", "name=a/../b|with no .. in it|Did you mean name=b?"
    ),
    Case("a way up to an option", "model=a/../b", "model=a/../b|one of bert, cnn"),
    Case("a name that is outputs/", "name=a/..", "name=a/..|below outputs/"),
    Case("an absolute name", "name=/tmp/x", "name=/tmp/x|below outputs/"),
    Case("a sweep above outputs/", "-m seed=0,1 name=..", "name=..|below outputs/"),
    Case("no folder", "hydra.run.dir=", "hydra.run.dir=''|Set hydra.run.dir=FOLDER"),
    Case("no folder for a sweep", "-m seed=0,1 hydra.sweep.dir=", "Set hydra.sweep.dir=FOLDER"),
    Case(
        "a file for a folder", "hydra.run.dir={file}/run", "hydra.run.dir={file}|cannot be written"
    ),
    Case("a file for a sweep", "-m seed=0,1 hydra.sweep.dir={file}", "{file}|cannot be written"),
    # sweeps
    Case("a range of a sweep, empty", "-m seed=range(5,1)", "seed=range(5,1)|has no values"),
    Case("a range of a sweep from 0 to 0", "-m seed=range(0)", "seed=range(0)|has no values"),
    Case("a glob of no group", "-m seed=glob(*)", "seed=glob(*)|List the values: seed=A,B"),
    Case(
        "no data for a sweep",
        "-m seed=0,1 dataset=table dataset.path={file}s",
        "dataset.path={file}s|there is no such file or folder|Did you mean ",
    ),
    Case("an interval", "-m seed=interval(0,1)", "seed=interval(0,1)|hydra/sweeper=optuna"),
    Case("no run to resume in a sweep", "-m resume=nope seed=0,1", "resume=nope|run"),
    Case(
        "no jobs at a time",
        "-m hydra/launcher=joblib hydra.launcher.n_jobs=0 seed=0,1",
        "hydra.launcher.n_jobs=0|a nonzero number of parallel jobs; -1: one per core",
    ),
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
    Case("a dry run of one job", "sweep.dry_run=true", "sweep.dry_run=true|Add -m"),
    Case("one job at once", "sweep.vectorize=true", "sweep.vectorize=true|Add -m"),
    Case(
        "a launcher that is not there",
        "-m seed=0,1 hydra.launcher._target_=hydra_plugins.none.Launcher",
        "hydra/launcher=basic|installed",
    ),
    # devices
    Case(
        "no GPU for a sweep",
        "-m seed=0,1 accelerator=gpu",
        "accelerator.kind=gpu|no GPU is visible on this machine|Set accelerator=cpu",
    ),
    Case(
        "no GPU for torch",
        "accelerator=gpu",
        "accelerator.kind=gpu|torch sees no GPU|Set accelerator=cpu",
        True,
    ),
    Case(
        "no GPU for jax",
        "accelerator=gpu backend=jax",
        "accelerator.kind=gpu|JAX sees no GPU|Set accelerator=cpu",
        True,
    ),
]


def with_outputs_below(folder: Path, arguments: list[str]) -> list[str]:
    """The arguments, with output folders below `folder` and no logger unless they are given."""
    places = ["logger=none", f"hydra.run.dir='{folder}/run'", f"hydra.sweep.dir='{folder}/sweep'"]
    given = {argument.partition("=")[0] for argument in arguments}
    return [*arguments, *(place for place in places if place.partition("=")[0] not in given)]


def command(
    arguments: list[str], folder: Path, core: bool = False, **environment: str
) -> subprocess.CompletedProcess:
    """Run `python run.py ARGUMENTS` with its output below `folder`; `core` as for `warm_start.popen`."""
    return warm_start.run(
        [sys.executable, "run.py", *with_outputs_below(folder, arguments)],
        cwd=ROOT,
        env=os.environ | LIGHT | environment,
        timeout=300,
        core=core,
    )


@pytest.fixture(scope="session")
def linear_run(tmp_path_factory) -> Path:
    """A torch run of the linear model, with checkpoints."""
    folder = tmp_path_factory.mktemp("linear")
    done = command(SMALL.split(), folder)
    assert done.returncode == 0, done.stderr
    return folder / "run"


def write_resumable_run(folder: Path) -> Path:
    """Write a run by hand with a valid signature."""
    identity = read_json(write_run(folder) / "run.json")
    write_json(folder / "run.json", identity | {"signature": signature_of(identity["config"])})
    return folder


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, id=case.name, marks=[pytest.mark.slow] * case.loads) for case in CASES],
)
def test_bad_input_gets_one_message(case, tmp_path, request):
    places = {name: tmp_path / name for name in ("tmp", "file", "made")}
    if "{run}" in case.command:
        places["run"] = request.getfixturevalue("linear_run")
    if "{made}" in case.command:
        write_resumable_run(places["made"])
    places["tmp"].mkdir()
    places["file"].touch()

    def placed(text: str) -> str:
        for name, path in places.items():
            text = text.replace(f"{{{name}}}", str(path))
        return text

    done = command(placed(case.command).split(), tmp_path, core=not case.loads)

    assert done.returncode == 1, done.stdout + done.stderr
    for words in placed(case.words).split("|"):
        assert words in done.stderr
    assert done.stderr.count("error: ") == 1
    assert done.stderr.startswith("error: ")
    assert done.stderr.splitlines()[-1].startswith("HYDRA_FULL_ERROR=1")
    assert len(done.stderr.splitlines()) == 2, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert "failed:" not in done.stdout  # no job of a sweep was started
    assert not (tmp_path / "sweep").exists()
    if (tmp_path / "run").exists():  # loading data or a framework has shown the mistake
        assert read_json(tmp_path / "run" / "result.json")["status"] == "failed"


def test_a_refused_command_changes_nothing_in_the_folder_of_another_run(tmp_path):
    run = write_resumable_run(tmp_path / "run")
    (run / "checkpoints" / "000001").mkdir(parents=True)
    (run / ".hydra").mkdir()
    (run / ".hydra" / "config.yaml").write_text("its own")
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    for mistake, message in {
        "model=mlp": f"hydra.run.dir={run}: {run} holds a run already.",
        f"resume={run} train.batch_size=0": "train.batch_size=0: must be",
        f"resume={run} optimizer=sgd": f"optimizer=sgd: {run} holds the state of adamw",
    }.items():
        done = command(mistake.split(), tmp_path, core=True)
        assert (done.returncode, message in done.stderr) == (1, True), done.stderr
        assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


def test_a_closed_or_full_output_does_not_fail_a_command(tmp_path):
    command = f"{sys.executable} run.py sweep.dry_run=true -m seed=0,1"
    for output in (">&-", ">/dev/full", "| head -c 1"):
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", f"{command} hydra.sweep.dir={tmp_path} {output}"],
            cwd=ROOT,
            env=os.environ | LIGHT | {"PYTHONIOENCODING": "ascii"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("mistake", ["model=cnm", "train.batch_size=0", "-m train.batch_size=0,-1"])
def test_hydra_full_error_shows_the_traceback(mistake, tmp_path):
    done = command(mistake.split(), tmp_path, core=True, HYDRA_FULL_ERROR="1")
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_bad_input_is_refused_without_loading_a_framework(tmp_path):
    done = command(["train.batch_size=0"], tmp_path, core=True, PYTHONPROFILEIMPORTTIME="1")
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "pipeline.config" in loaded
    assert not {"torch", "jax", "lightning", "flax", "sklearn", "wandb"} & loaded


@pytest.mark.slow
def test_a_bad_job_of_a_sweep_is_reported_and_the_others_run(tmp_path):
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
@pytest.mark.parametrize(
    ("backend", "hidden", "size"),
    [("torch", 128, "256k"), ("jax", 128, "256k"), ("jax", 256, "490k")],
    ids=["torch", "jax", "jax, in the middle of its second save"],
)
def test_a_full_disk_is_reported_with_a_remedy(backend, hidden, size, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    own = ["unshare", "--user", "--map-root-user", "--mount"]
    mount = f"mount -t tmpfs -o size={size} tmpfs '{disk}'"
    if not shutil.which("unshare") or subprocess.run([*own, "sh", "-c", mount]).returncode:
        pytest.skip("this machine lets no test mount a small disk of its own")
    model = f"model=mlp model.hidden=[{hidden}] train.eval_every=1steps"
    overrides = SMALL.replace("model=linear", model).split()
    run = [sys.executable, "run.py", *overrides, f"backend={backend}", "logger=none"]
    done = subprocess.run(
        [*own, "sh", "-c", f'{mount} && exec "$@"', "sh", *run, f"hydra.run.dir='{disk}/run'"],
        cwd=ROOT,
        env=os.environ | LIGHT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 1, done.stderr
    assert "/run: the disk is full. Free some space" in done.stderr
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
def test_an_error_survives_pickling(error, told):
    assert str(error) == str(pickle.loads(pickle.dumps(error))) == told


OUT_OF_MEMORY = [
    MemoryError("no 256 GB"),
    MemoryError(),
    RuntimeError("CUDA out of memory."),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 9 bytes"),
    RuntimeError("RESOURCE_EXHAUSTED: Failed to allocate request for 9 bytes"),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=str)
def test_running_out_of_memory_is_one_message(error, tmp_path):
    assert is_out_of_memory(error)
    told = str(to_run_error(error, tmp_path))
    assert told.startswith(f"out of memory: {str(error) or 'MemoryError'}")
    assert "Lower train.batch_size" in told


@pytest.mark.parametrize("is_rank", [False, True])
def test_a_rank_logs_its_traceback_as_info_instead_of_error(is_rank, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("TANDEM_JOB", JobContext(is_rank=is_rank).to_json())
    caplog.set_level("INFO")
    to_run_error(RuntimeError("connection closed by peer"), tmp_path)
    assert [record.levelname for record in caplog.records] == ["INFO" if is_rank else "ERROR"]
