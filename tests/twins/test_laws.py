"""The two laws of the house: the core is neutral, and the twins look alike."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TORCH = {"torch", "torchvision", "lightning"}
JAX = {"jax", "flax", "optax", "orbax"}
LOGGERS = ("wandb", "tensorboard")  # each in its own place below pipeline/loggers alone
FRAMEWORKS = TORCH | JAX | {"tensorflow", "tensorflow_datasets", *LOGGERS}

# What a twin has alone, and why. Short by intent: a name that both sides could have is renamed.
ONE_SIDED = {
    "flax_impl/data.py": {
        "Home": "a compiled step takes samples as a pytree, so that where they live is apart",
        "Rows": "a process of JAX fills several devices, one of torch its own",
        "raw_on_each": "the same",
    },
    "flax_impl/backend.py": {
        "check_statistics": "to XLA the batch of all devices is one array",
    },
    "flax_impl/device.py": {
        "choose": "a process of torch has one device",
        "make_room": "the same",
        "mesh_of": "the same",
    },
    "flax_impl/sharding.py": {
        "Readable": "ranks of torch slice for themselves",
        "spec_of": "arrays of JAX know where they lie, torch's parameters change their kind",
        "along": "the same",
        "shardings": "the same",
        "made_in_place": "the same",
        "gathered": "the same",
        "place": "the same",
        "share": "the same",
    },
    "flax_impl/layers.py": {
        "Leaf": "canonical names and layouts are torch's own",
        "LayerKind": "the same",
        "Place": "the same",
        "layout_of": "the same",
        "flatten": "torch's own flatten has the canonical order",
    },
    "lightning_impl/crossing.py": {
        "progress_at": "Lightning's loops keep counters, the Flax loop nothing but the step",
    },
    "lightning_impl/loop.py": {
        "Recording": "Lightning calls back; the Flax loop calls",
        "trainer_on": "Lightning's Trainer is the loop",
    },
    "flax_impl/loop.py": {
        "Compiled": "torch compiles nothing",
        "Evaluation": "a compiled function and its data, kept between evaluations",
    },
    "lightning_impl/device.py": {"gpu_of": "a process of JAX has several"},
    "lightning_impl/norms.py": {
        "SyncBatchNorm": "to XLA the batch of all devices is one array",
        "OverAll": "the same",
        "synchronise": "the same",
    },
    "lightning_impl/sharding.py": {
        "sharing": "Lightning's Trainer is told of the devices; arrays of JAX know them",
        "strategy": "the same",
        "Processes": "the same",
        "Replicated": "to XLA the devices are one program",
        "Sharded": "Orbax writes and reads shares by itself",
        "shard": "torch's parameters change their kind, JAX's arrays where they lie",
        "blocks": "a part of it",
        "part": "the same",
        "loose_buffers": "XLA has one array for all devices",
    },
    "lightning_impl/optimizers/own.py": {
        "Own": "torch's optimizers are objects that update in place, optax's pairs of functions",
        "pieces": "Flax has the weights of an attention apart",
    },
    "flax_impl/optimizers/own.py": {
        "own": "twin of Own",
        "lerp": "torch has it",
        "correction": "torch's is a Python number, with all digits",
    },
    "flax_impl/optimizers/__init__.py": {
        "scale_by_factors": "torch's groups have rates of their own",
    },
    "flax_impl/optimizers/descent.py": {
        "AdagradState": "a state of optax's is a type, torch's a dictionary",
        "scale_by_adagrad": "optax's differs from torch's",
        "momentum": "torch's optimizers have it",
    },
    "lightning_impl/optimizers/adam.py": {
        "NAdam": "torch's own loses digits; twin of scale_by_nadam",
        "common": "optax's parts take fewer settings",
    },
    "flax_impl/optimizers/adam.py": {
        "AdamState": "a state of optax's is a type, torch's a dictionary",
        "AMSGradState": "the same",
        "AdamaxState": "the same",
        "scale_by_adam": "optax's loses digits",
        "scale_by_amsgrad": "optax's differs from torch's",
        "scale_by_adamax": "optax's loses digits",
        "scale_by_nadam": "optax's differs from torch's",
        "scale_by_radam": "optax's differs from torch's",
        "average_length": "torch has doubles for it",
        "with_decay": "torch's optimizers have it",
    },
    "lightning_impl/optimizers/lion.py": {"Lion": "torch has none; optax has its parts"},
    "lightning_impl/optimizers/lamb.py": {"Lamb": "torch has none; optax has its parts"},
    "lightning_impl/optimizers/muon.py": {"Muon": "twin of the chain in flax_impl's muon"},
    "flax_impl/optimizers/muon.py": {
        "MuonState": "a state of optax's is a type, torch's a dictionary",
        "average_gradients": "a part of torch's Muon",
        "orthogonalise": "a part of torch's Muon",
    },
    "flax_impl/state.py": {
        "to_canonical": "canonical layouts are torch's own",
        "from_canonical": "its inverse",
        "by_path": "torch asks by name",
    },
    "lightning_impl/observing.py": {
        "WatchedModule": "Lightning's steps are methods of a module; Flax's return what was watched",
    },
    "flax_impl/observing.py": {
        "watching": "torch's modules keep their hooks",
    },
    "lightning_impl/randomness.py": {
        "use_key": "Flax hands keys down itself",
        "threefry": "torch has no counter-based generator",
        "fold_in": "a part of it",
        "bits": "a part of it",
    },
    "lightning_impl/step.py": {
        "TrainingModule": "Lightning's steps are methods of a module, Flax's functions of a state",
        "check_gradients": "XLA has a gradient for every parameter",
    },
    "flax_impl/step.py": {
        "TrainState": "twin of TrainingModule",
        "apply_of": "torch's parameters know whether they are frozen, its modules whether they train",
        "clip": "Lightning's module clips by torch's own functions",
        "make_train_step": "twin of TrainingModule.training_step, compiled",
        "make_eval_step": "twin of TrainingModule.validation_step, compiled",
    },
}  # fmt: skip


def files(package):
    return sorted(str(path.relative_to(ROOT / package)) for path in (ROOT / package).rglob("*.py"))


def modules(package):
    names = (f"{package}.{name[:-3].replace('/', '.')}" for name in files(package))
    # Hydra's plugins go by the name of the namespace package that they are part of.
    return [name.removesuffix(".__init__").removeprefix("pipeline.plugins.") for name in names]


def loaded_by(*names):
    """The top-level modules that a fresh process holds after importing `names`."""
    code = (
        "import sys; from pipeline.config import register; register()\n"
        f"for name in {names!r}: __import__(name)\nprint(*sys.modules, sep='\\n')"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return {name.partition(".")[0] for name in run.stdout.split()}


def imports(path):
    """Top-level names of all modules that a file imports, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module.partition(".")[0]


def public_names(path):
    kinds = ast.FunctionDef | ast.ClassDef
    nodes = ast.parse(path.read_text()).body
    return [n.name for n in nodes if isinstance(n, kinds) and not n.name.startswith("_")]


def test_importing_the_whole_core_loads_no_framework():
    loaded = loaded_by(*modules("pipeline"))
    assert "pipeline" in loaded
    assert loaded & (FRAMEWORKS | {"lightning_impl", "flax_impl"}) == set()


def test_no_file_of_the_core_imports_a_framework_even_inside_a_function():
    for name in files("pipeline"):
        allowed = {kind for kind in LOGGERS if name.startswith(f"loggers/{kind}")}
        found = set(imports(ROOT / "pipeline" / name)) & (
            FRAMEWORKS | {"lightning_impl", "flax_impl"}
        )
        assert found <= allowed, name


@pytest.mark.parametrize(
    ("package", "others"),
    [("lightning_impl", {"flax_impl", *JAX}), ("flax_impl", {"lightning_impl", *TORCH})],
)
def test_a_backend_loads_neither_its_twin_nor_the_other_framework(package, others):
    loaded = loaded_by(f"{package}.backend", *modules(package))
    assert {"pipeline", package} <= loaded
    assert loaded & others == set()


def test_the_twins_have_the_same_files():
    assert files("lightning_impl") == files("flax_impl")
    assert "models/cnn.py" in files("flax_impl")


@pytest.mark.parametrize("name", files("lightning_impl"))
def test_a_file_and_its_twin_have_the_same_public_names_in_the_same_order(name):
    shared = []
    for package in ("lightning_impl", "flax_impl"):
        found = public_names(ROOT / package / name)
        alone = ONE_SIDED.get(f"{package}/{name}", {})
        assert set(alone) <= set(found), f"{package}/{name}: the table of exceptions is out of date"
        shared.append([public for public in found if public not in alone])
    assert shared[0] == shared[1]


@pytest.mark.parametrize("package", ["lightning_impl", "flax_impl"])
def test_a_backend_offers_what_the_core_asks_for(package):
    nodes = [
        node
        for file in ("backend.py", "device.py")
        for node in ast.parse((ROOT / package / file).read_text()).body
    ]
    offered = {
        node.name: [argument.arg for argument in node.args.args]
        for node in nodes
        if isinstance(node, ast.FunctionDef)
    }
    asked = ("prepare", "train", "test", "export", "adopt", "versions")
    assert {name: offered[name] for name in asked} == {
        "prepare": ["config", "world"],
        "train": ["experiment", "device"],
        "test": ["experiment", "device", "checkpoint"],
        "export": ["experiment", "device", "checkpoint"],
        "adopt": ["experiment", "device", "parcels"],
        "versions": [],
    }
