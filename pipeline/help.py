"""`python run.py --help`: examples, then the groups, then the keys of the chosen options."""

import shutil
from dataclasses import fields
from textwrap import wrap

from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from pipeline.config import SCHEMAS, Config
from pipeline.keys import Key, keys_of

EXAMPLES = {
    "python run.py": "train a small CNN on handwritten digits, then test it",
    "python run.py -m backend=torch,jax model=cnn": "the same experiment on both, compared",
    "python run.py experiment=cifar10_cnn backend=jax dataset.download=true": "a preset, in JAX",
    "python run.py -m optimizer=sgd,adamw seed=0,1,2": "a sweep; ends in a table of its six runs",
    "python run.py resume=auto": "go on where the newest unfinished run of this stopped",
    "python run.py mode=test checkpoint=outputs/RUN": "evaluate the best checkpoint of a run",
}

GROUPS = {
    "backend": "the framework that computes: PyTorch Lightning or Flax",
    "model": "the network",
    "dataset": "what it learns from",
    "optimizer": "how a gradient becomes an update, as torch.optim defines it",
    "schedule": "how the learning rate changes over the run",
    "accelerator": "where it computes",
    "logger": "where metrics go besides the run's folder; several as [csv,tensorboard]",
    "experiment": "a preset worth seeing",
    "debug": "a preset to find a fault with, of any experiment",
}

ENDING = """\
A key that holds a list: model.hidden=[64,32]. Text with spaces or signs: "name='a b'".
--cfg job shows the config without running it, --hydra-help the flags of Hydra.
Tab completion in bash: eval "$(python run.py -sc install=bash)"
Comparing runs: python -m pipeline.compare outputs/RUN…
The same on both? python -m pipeline.parity OVERRIDES
Checkpoints for the other backend, or for anybody: python -m pipeline.convert SRC DST
"""


def help_text(*, _root_: DictConfig) -> str:
    """The whole help, for Hydra's template: a `$` is doubled there."""
    width = min(100, shutil.get_terminal_size((80, 24)).columns)
    lines = ["One experiment, run on PyTorch Lightning or on JAX/Flax, provably the same.", ""]
    for command, effect in EXAMPLES.items():
        lines += [f"  {command}", f"      {effect}"]
    lines += ["", "groups: GROUP=OPTION (* is chosen)"]
    for group, purpose in GROUPS.items():
        lines += entry(group, f"{options(group, _root_)} ({purpose})", 14, width)
    lines += ["", "keys: KEY=VALUE (now)"]
    for key in keys(_root_):
        lines += entry(key.path, f"{key.help} ({now(_root_, key.path)})", 31, width)
    lines += ["", ENDING]
    return "\n".join(lines).replace("$", "$$")


def entry(name: str, text: str, indent: int, width: int) -> list[str]:
    """A name and its text beside it, wrapped under itself."""
    first, *rest = wrap(text, width - indent, break_on_hyphens=False)
    name = f"  {name} "
    return [name.ljust(indent) + first, *(" " * indent + line for line in rest)]


def options(group: str, config: DictConfig) -> str:
    """The options of a group, what is chosen marked."""
    names = GlobalHydra.instance().config_loader().get_group_options(group)
    taken = [config.hydra.runtime.choices.get(group)]
    if group == "logger":  # of several options Hydra notes none
        taken = [name for name, node in config.logger.items() if node is not None] or ["none"]
    return ", ".join(f"{name}*" if name in taken else name for name in names)


def keys(config: DictConfig) -> list[Key]:
    """The keys of a composed config, those of a group by the option that is chosen.

    The names of group options are left out: the group sets them.
    """
    found = [key for key in keys_of(Config) if not key.path.startswith("backend.")]
    for group in SCHEMAS:
        schema = OmegaConf.get_type(config, group)
        found += [key for key in keys_of(schema, group) if key.path != f"{group}.name"]
    order = ["", *(entry.name for entry in fields(Config))]
    shown = [key for key in found if is_there(config, key.path)]
    return sorted(shown, key=lambda key: order.index(key.path.rpartition(".")[0].partition(".")[0]))


def is_there(config: DictConfig, path: str) -> bool:
    """Whether the node of a key is: that of a logger that is not chosen is null."""
    return "." not in path or OmegaConf.select(config, path.rpartition(".")[0]) is not None


def now(config: DictConfig, path: str) -> str:
    """The value of a key as it would be typed."""
    value = OmegaConf.select(config, path)
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if OmegaConf.is_list(value):
        return "[" + ",".join(map(str, value)) + "]"
    return getattr(value, "name", None) or str(value)
