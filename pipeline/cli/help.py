"""Text of `python run.py --help`: examples, groups, and the keys of the chosen options."""

import shutil
from dataclasses import fields
from textwrap import wrap

from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from pipeline.commands import command
from pipeline.config.checks.keys import Key, keys_of, type_of
from pipeline.config.experiment import SCHEMAS, Config
from pipeline.formatting import format_value
from pipeline.job_context import job_context

EXAMPLES = {  # by arguments
    "": "train a small CNN on handwritten digits, then test it",
    "-m backend=torch,jax model=cnn": "the same experiment on both, compared",
    "experiment=cifar10_cnn backend=jax dataset.download=true": "a preset, in JAX",
    "-m optimizer=sgd,adamw seed=0,1,2": "a sweep; ends in a table of its six runs",
    "resume=auto": "resume the newest unfinished run of this experiment",
    "mode=test checkpoint=outputs/RUN": "evaluate the best checkpoint of a run",
}

GROUPS = {
    "backend": "the framework that computes: PyTorch Lightning or Flax",
    "model": "the network",
    "dataset": "the data set",
    "task": "what is learned from it; auto: what the data set is made for",
    "optimizer": "the update rule, as torch.optim or its paper defines it",
    "schedule": "the learning rate over the run",
    "accelerator": "the devices",
    "logger": "where metrics go besides the run's folder; several as [csv,tensorboard]",
    "experiment": "a preset",
    "debug": "a preset that helps to find a fault in any experiment",
}

ENDING = """\
A key that holds a list: model.hidden=[64,32]. Text with spaces or signs: "name='a b'".
--cfg job shows the config without running it, --hydra-help the flags of Hydra.
Tab completion in bash: eval "$({completing} -sc install=bash)"
Comparing runs: {compare} outputs/RUN…
The same on both? {parity} OVERRIDES
Which is faster? {bench} OVERRIDES
Are two models the same? {verify} LEFT RIGHT
Checkpoints for the other backend, or as safetensors: {convert} SRC DST
"""


def help_text(*, _root_: DictConfig) -> str:
    """Return the help for Hydra's template, with each `$` doubled."""
    width = max(60, min(100, shutil.get_terminal_size((80, 24)).columns))
    lines = ["One experiment, run on PyTorch Lightning or on JAX/Flax, provably the same.", ""]
    for arguments, effect in EXAMPLES.items():
        lines += [f"  {command('run')} {arguments}".rstrip(), f"      {effect}"]
    lines += ["", "groups: GROUP=OPTION (* is chosen)"]
    for group, purpose in GROUPS.items():
        lines += entry(group, f"{options(group, _root_)} ({purpose})", 14, width)
    lines += ["", "keys: KEY=VALUE (now)"]
    for key in keys(_root_):
        value = OmegaConf.select(_root_, key.path)
        now = format_value(list(value) if OmegaConf.is_list(value) else value)
        lines += entry(key.path, f"{key.help} ({now})", 31, width)
    completing = "tandem" if job_context().by_tandem else command("run")
    others = {name: command(name) for name in ("bench", "compare", "convert", "parity", "verify")}
    lines += ["", ENDING.format(completing=completing, **others)]
    return "\n".join(lines).replace("$", "$$")


def entry(name: str, text: str, indent: int, width: int) -> list[str]:
    """Return lines with a name and its wrapped text."""
    first, *rest = wrap(text, width - indent, break_on_hyphens=False)
    name = f"  {name} "
    return [name.ljust(indent) + first, *(" " * indent + line for line in rest)]


def options(group: str, config: DictConfig) -> str:
    """Return the options of a group; a star marks the chosen ones."""
    names = GlobalHydra.instance().config_loader().get_group_options(group)
    taken = [config.hydra.runtime.choices.get(group)]
    if group == "logger":  # Hydra records no choice for a group with several
        taken = [name for name, node in config.logger.items() if node is not None] or ["none"]
    return ", ".join(f"{name}*" if name in taken else name for name in names)


def keys(config: DictConfig) -> list[Key]:
    """Return the keys of a composed config; for a group those of its chosen option, except its name."""
    found = [key for key in keys_of(Config) if key.path != "backend.name"]
    for group in SCHEMAS:
        inner = keys_of(type_of(config[group]), group)
        found += [key for key in inner if key.path != f"{group}.name"]
    order = ["", *(entry.name for entry in fields(Config))]
    shown = []
    for key in found:
        parent = key.path.rpartition(".")[0]
        # A logger that is off is null.
        if not parent or OmegaConf.select(config, parent) is not None:
            shown.append((order.index(parent.partition(".")[0]), key))
    return [key for _, key in sorted(shown, key=lambda entry: entry[0])]
