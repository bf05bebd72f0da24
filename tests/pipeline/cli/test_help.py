"""Help, composed config and completion: what `run.py` prints without running anything."""

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import warm_start

from pipeline.cli.help import EXAMPLES, GROUPS
from pipeline.config.checks.keys import config_groups, every_key

ROOT = Path(__file__).resolve().parents[3]
HEAVY = ("torch", "jax", "lightning", "flax", "optax", "orbax", "sklearn", "wandb", "tensorflow")

# Runs run.py as a command, then tells which heavy modules it has loaded.
PROBE = f"""
import atexit, runpy, sys
atexit.register(lambda: print("loaded:", [name for name in {HEAVY} if name in sys.modules]))
sys.argv[0] = "run.py"
sys.path.insert(0, ".")
runpy.run_path("run.py", run_name="__main__")
"""

# Scripts and W&B sweeps are written against these: none is ever renamed or dropped.
MAIN_KEYS = """
name seed mode resume checkpoint tags
train.epochs train.steps train.batch_size train.accumulate train.clip_norm train.precision
train.log_every train.eval_every train.eval_batch_size train.label_smoothing train.ema
train.early_stopping train.stop_after train.profile
optimizer.lr optimizer.weight_decay optimizer.momentum optimizer.nesterov optimizer.betas
optimizer.eps
accelerator.kind accelerator.devices accelerator.nodes accelerator.strategy
accelerator.matmul_precision accelerator.deterministic
dataset.source dataset.root dataset.download dataset.augment
sweep.retry_failed sweep.dry_run sweep.vectorize
"""
# Free to grow; what is here is written in README and --help.
OTHER_KEYS = """
backend.name backend.compile backend.mode backend.inductor backend.fused backend.channels_last
backend.xla_flags
model.name model.init model.name model.init model.hidden model.activation model.name model.init
model.channels model.kernel_size model.padding model.hidden model.activation model.input_size
model.name model.init model.channels model.name model.init model.stem model.width model.name
model.init model.depth model.heads model.width model.dropout model.norm_epsilon model.patch
model.pool model.drop_path model.groups model.time
model.name model.init model.depth model.heads model.width model.dropout
model.norm_epsilon model.max_length model.bias model.name model.init model.torch model.jax
model.options model.names
dataset.name dataset.val_fraction dataset.limit dataset.crop_padding dataset.flip dataset.name
dataset.folds dataset.fold dataset.sizes dataset.normalize dataset.allow_nan dataset.load
dataset.options dataset.targets dataset.columns dataset.drop dataset.categorical dataset.missing
dataset.split dataset.dtype dataset.vocabulary dataset.tokenizer dataset.end
dataset.cache dataset.labels dataset.separator dataset.crop_pct dataset.store dataset.scale
dataset.ratio dataset.jitter dataset.mean dataset.std dataset.skip_corrupt dataset.workers
dataset.val_fraction dataset.limit dataset.crop_padding dataset.flip dataset.name
dataset.val_fraction dataset.limit dataset.crop_padding dataset.flip dataset.samples dataset.shape
dataset.classes dataset.name dataset.val_fraction dataset.limit dataset.crop_padding dataset.flip
dataset.name dataset.val_fraction dataset.limit dataset.crop_padding dataset.flip dataset.path
dataset.pattern dataset.length dataset.max_bytes dataset.test_fraction dataset.vocabulary
optimizer.name optimizer.no_decay optimizer.lr_factors optimizer.name optimizer.no_decay
optimizer.lr_factors optimizer.name optimizer.no_decay optimizer.lr_factors optimizer.name
optimizer.no_decay optimizer.lr_factors optimizer.decoupled_weight_decay optimizer.name
optimizer.no_decay optimizer.lr_factors optimizer.alpha optimizer.centered optimizer.name
optimizer.no_decay optimizer.lr_factors optimizer.lr_decay optimizer.initial_accumulator_value
optimizer.name optimizer.no_decay optimizer.lr_factors optimizer.rho optimizer.name
optimizer.no_decay optimizer.lr_factors optimizer.name optimizer.no_decay optimizer.lr_factors
optimizer.momentum_decay optimizer.decoupled_weight_decay optimizer.name optimizer.no_decay
optimizer.lr_factors optimizer.decoupled_weight_decay optimizer.name optimizer.no_decay
optimizer.lr_factors optimizer.name optimizer.no_decay optimizer.lr_factors optimizer.name
optimizer.no_decay optimizer.lr_factors optimizer.ns_steps optimizer.adjust_lr_fn optimizer.adamw
optimizer.torch optimizer.jax optimizer.options optimizer.torch_options optimizer.jax_options
schedule.function schedule.options callbacks
schedule.name schedule.warmup schedule.start schedule.name schedule.warmup schedule.start
schedule.final schedule.initial schedule.name schedule.warmup schedule.start schedule.every
schedule.gamma schedule.name schedule.warmup schedule.start schedule.milestones schedule.gamma
schedule.name schedule.warmup schedule.start schedule.every schedule.gamma schedule.name
schedule.warmup schedule.start schedule.final schedule.power schedule.name schedule.warmup
schedule.start schedule.final schedule.cycles schedule.cycle_factor schedule.name schedule.warmup
schedule.start schedule.final schedule.cycles schedule.cycle_factor schedule.name schedule.warmup
schedule.start schedule.pct_start schedule.div_factor schedule.final_div_factor schedule.anneal
schedule.name schedule.warmup schedule.start schedule.factor schedule.patience schedule.threshold
schedule.threshold_mode schedule.cooldown schedule.min_factor
accelerator.threads accelerator.sync_batchnorm accelerator.steps_per_call
logger.wandb.project logger.wandb.entity logger.wandb.artifacts logger.wandb.checkpoint_mb
logger.wandb.predictions logger.csv.file logger.tensorboard.folder
train.clip_value train.randomness train.remat model.attention train.frozen train.monitor
task.name task.inputs task.ignored task.chosen task.masked task.replaced task.levels task.first_beta
task.last_beta task.torch task.jax task.targets task.outputs task.metrics task.maximized task.summary
task.options task.noise task.whole_batch task.views task.temperature task.width task.group task.samples
task.samples_at_evaluations
model.weights model.weights_skip dataset.size dataset.cell dataset.most dataset.reversed
dataset.masks dataset.splits dataset.padding dataset.configuration dataset.revision model.output
"""


@cache
def probe(*arguments: str, **environment: str) -> str:
    """Run `run.py ARGUMENTS` in a new process; return its output and the heavy modules it has loaded."""
    answer = subprocess.run(
        [sys.executable, "-c", PROBE, *arguments],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    return answer.stdout


def ask(*command: str, **environment: str) -> str:
    """Run a command in a forked process; return its output."""
    answer = warm_start.run(
        [sys.executable, *command],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        core=True,
    )
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


def typed(line: str) -> dict[str, str]:
    """Environment in which a shell asks for completions of a partial command line."""
    command = f"python run.py {line}"
    return {"COMP_LINE": command, "COMP_POINT": str(len(command))}


@pytest.fixture(scope="module")
def help_text() -> str:
    return probe("--help")


def test_the_set_of_keys_is_frozen():
    assert {key.path for key in every_key()} == set(f"{MAIN_KEYS} {OTHER_KEYS}".split())


def test_every_key_has_a_line_of_help():
    assert [
        key.path for key in every_key() if not key.help and not key.path.endswith(".name")
    ] == []


def test_help_shows_six_examples_then_groups_then_keys(help_text):
    assert len(EXAMPLES) == 6
    commands = [f"  python run.py {arguments}".rstrip() for arguments in EXAMPLES]
    places = [help_text.index(f"{command}\n") for command in commands]
    places += [help_text.index("groups: GROUP=OPTION"), help_text.index("keys: KEY=VALUE")]
    assert places == sorted(places)


def test_help_lists_every_group_with_its_options_and_marks_the_chosen_one(help_text):
    assert set(GROUPS) == set(config_groups())
    text = " ".join(help_text.split())
    assert "model bert, cnn*, encoder_decoder, gpt, gpt2, " in text
    assert "backend jax, torch*, torch_compiled (" in text
    assert "logger csv, none, tensorboard, wandb* (" in text
    for group in config_groups():
        assert f"\n  {group} " in help_text


def test_help_has_a_line_for_every_key_of_the_chosen_options(help_text):
    for key in set(MAIN_KEYS.split()) - {
        "optimizer.momentum",
        "optimizer.nesterov",
        "dataset.source",
    }:
        assert f"\n  {key} " in help_text, key
    assert "optimizer.momentum" not in help_text


def test_help_follows_the_options_on_the_command_line():
    text = ask("run.py", "optimizer=sgd", "dataset=cifar10", "logger=none", "--help")
    assert "optimizer.nesterov " in text
    assert "dataset.source " in text
    assert "logger.wandb" not in text


def test_help_fits_a_terminal_of_80_columns(help_text):
    body = help_text[: help_text.index("A key that holds a list")]
    assert max(map(len, body.splitlines())) <= 80


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["--hydra-help"], ["--cfg", "job"], ["-sc", "install=bash"]],
    ids=" ".join,
)
def test_help_config_and_completion_load_no_framework(arguments):
    """Importing a framework takes seconds."""
    assert "loaded: []" in probe(*arguments)


def test_completion_offers_groups_options_and_keys():
    query = "-sc", "query=bash"
    assert "optimizer=" in ask("run.py", *query, **typed("opti"))
    assert {"model=cnn", "model=mlp"} <= set(ask("run.py", *query, **typed("model=")).split())
    keys = probe(*query, **typed("train.ep"))
    assert "train.epochs=" in keys
    assert "loaded: []" in keys


def test_compare_has_its_own_help():
    answer = ask("-m", "pipeline.compare", "--help")
    assert "a run, a sweep, or a folder of them" in answer
