"""The two laws of CONTRIBUTING.md: the core imports no framework, and the backends are twins."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("lightning_impl", "flax_impl")
TORCH = {"torch", "torchvision", "lightning"}
JAX = {"jax", "flax", "optax", "orbax"}
LOGGERS = ("wandb", "tensorboard")  # each in its own place below pipeline/loggers alone
FRAMEWORKS = TORCH | JAX | {"tensorflow", "tensorflow_datasets", *LOGGERS}

# What a twin has alone, and why. Short by intent: a name that both sides could have is renamed.
ONE_SIDED = {
    "flax_impl/data/samples.py": {
        "ResidentSplit": "a compiled step takes a pytree, which cannot read a memory map",
        "shapes_of_sample": "a torch module needs no inputs to be made",
    },
    "flax_impl/data/gather.py": {
        "gather_batch_per_device": "a process of JAX fills several devices, one of torch its own",
    },
    "flax_impl/gpu.py": {
        "set_memory_limits": "torch has no limit on the memory that it takes",
        "set_deterministic_flags": "torch has functions for it",
        "select_platform": "torch looks for a GPU without a crash where there is no driver",
        "no_gpu": "torch looks for a GPU in one place",
        "check_flags": "torch refuses Inductor's options itself",
    },
    "flax_impl/tasks/classification.py": {"likeliest": "torch's own argmax is fast on a CPU"},
    "lightning_impl/remat.py": {"recomputed": "JAX has it as jax.checkpoint"},
    "flax_impl/backend.py": {
        "starting_state": "a torch module is made with its arrays",
    },
    "flax_impl/sharding.py": {
        "axis_spec": "arrays of JAX know where they lie, torch's parameters change their kind",
        "shardings": "the same",
        "put_on_devices": "the same",
    },
    "flax_impl/models/attention.py": {"choose_kernel": "torch's function chooses by itself"},
    "lightning_impl/sharding.py": {
        "is_sharded": "all arrays of JAX have a sharding",
        "blocks": "XLA compiles one program for all devices",
        "gather_rows": "to XLA the batch of all devices is one array",
        "part": "JAX cuts an array by its sharding",
    },
    "flax_impl/layers.py": {
        "Leaf": "canonical names and layouts are torch's own",
        "Place": "the same",
        "TypedModule": "torch converts a built model",
        "computed_once": "eager torch fuses nothing",
        "flatten": "torch's own flatten has the canonical order",
        "max_pool": "the gradient of XLA's own is a scatter",
        "PositionEmbed": "the same",
    },
    "lightning_impl/transfer.py": {
        "fill_module": "TrainState is replaced as a whole",
        "content_of": "a state of Flax is a checkpoint's content",
    },
    "lightning_impl/checkpoints.py": {
        "CheckpointFiles": "Orbax writes whole or not at all by itself",
        "remove_outdated": "Orbax removes them itself",
    },
    "lightning_impl/training/loop.py": {
        "trainer_on": "Lightning's Trainer is the loop",
    },
    "lightning_impl/norms.py": {
        "SyncBatchNorm": "to XLA the batch of all devices is one array",
        "convert_sync_batchnorm": "the same",
    },
    "lightning_impl/optimizers/__init__.py": {
        "settings_of": "torch keeps settings beside the state; a compiled step of JAX has them as constants",
    },
    "flax_impl/optimizers/__init__.py": {
        "build_descent": "torch's optimizers have a learning rate",
    },
    "lightning_impl/optimizers/custom.py": {"check_storable": "a state of optax is arrays"},
    "flax_impl/optimizers/custom.py": {"OwnState": "torch's state is a dictionary"},
    "lightning_impl/optimizers/base.py": {
        "BaseOptimizer": "torch's optimizers are objects that update in place, optax's pairs of functions",
        "settings": "optax's parts have other names for them",
    },
    "flax_impl/optimizers/base.py": {"make_optimizer": "twin of BaseOptimizer", "lerp": "torch has it"},
    "flax_impl/optimizers/adam.py": {"scale_by_adam": "optax's loses digits; torch's is exact"},
    "flax_impl/state.py": {
        "to_canonical": "canonical layouts are torch's own",
        "from_canonical": "its inverse",
        "by_path": "torch asks by name",
        "place_like": "torch copies into the tensors that are there",
    },
    "flax_impl/models/trained.py": {"settings_of": "torch has no global settings of types"},
    "flax_impl/training/step_trace.py": {"observe_step": "Lightning's steps are methods of Watched"},
    "flax_impl/training/evaluation.py": {"make_evaluation": "Lightning's Trainer evaluates"},
    "lightning_impl/training/gradients.py": {"check_gradients": "JAX differentiates by all parameters"},
    "lightning_impl/training/step.py": {
        "TrainingModule": "Lightning's steps are methods of a module, Flax's functions of a state",
    },
    "flax_impl/training/step.py": {
        "StepContext": "the attributes of TrainingModule that do not change",
        "make_apply_fn": "torch's parameters know whether they are frozen, its modules whether they train",
        "forward": "twin of TrainingModule.outputs",
        "accumulate_gradients": "Lightning's Trainer accumulates",
        "update": "twin of TrainingModule.optimizer_step",
        "make_train_step": "torch compiles the model's forward pass in place",
    },
    "lightning_impl/training/eval_step.py": {
        "EvaluationModule": "a base of TrainingModule, whose steps are methods",
    },
    "flax_impl/training/eval_step.py": {
        "make_eval_step": "twin of EvaluationModule.validation_step, compiled",
        "stacked": "twin of EvaluationModule.stacked",
    },
    "flax_impl/verify/primitives/draws.py": {
        "lifted_call": "torch's operations are replaced while they are called",
    },
    "flax_impl/verify/trace/recorder.py": {"record_call": "torch records while a model is called"},
    "lightning_impl/verify/subject.py": {"ModuleSubject": "twin of FunctionSubject"},
    "flax_impl/verify/subject.py": {"FunctionSubject": "twin of ModuleSubject"},
}  # fmt: skip

# Files that a twin has alone, and why.
KINDS = "the kinds of models of JAX: torch has one"
PRIMITIVES = "operations of JAX that NumPy evaluates without a compiler: torch needs none"
PROGRAM = (
    "a function of JAX is a program with names and values of its own: torch runs the user's code"
)
ONE_SIDED_FILES = {
    "lightning_impl/training/compiling.py": "torch compiles if it is asked to, JAX always",
    "lightning_impl/training/compiled_layers.py": "XLA's instructions have the names of their layers",
    "lightning_impl/threefry.py": "jax.random has it",
    "lightning_impl/layer_keys.py": "Flax hands keys to its layers itself",
    "lightning_impl/strategies.py": "Lightning's Trainer is told of the devices; arrays of JAX know them",
    "flax_impl/training/train_state.py": "twin of TrainingModule, which is state and steps in one",
    "lightning_impl/training/average.py": "an average of Flax is a part of its state",
    "lightning_impl/training/epoch_loop.py": "Lightning's loop; that of Flax is our own",
    "flax_impl/layout.py": "canonical names and layouts are torch's own",
    "flax_impl/starting_values.py": "a torch model is made with its values, under the canonical names",
    "flax_impl/training/descent.py": "torch's optimizers take named parameters as they are",
    "lightning_impl/vectorized/stack.py": "a state of Flax is a tree that jax.vmap maps by itself",
    "lightning_impl/vectorized/memory.py": "a compiled program of JAX knows what it takes",
    "flax_impl/vectorized/number.py": "torch computes with such numbers on the device",
    "flax_impl/models/long_attention.py": "torch has such kernels for each device",
    "flax_impl/adapters/__init__.py": KINDS,
    "flax_impl/adapters/adapted.py": KINDS,
    "flax_impl/adapters/keywords.py": KINDS,
    "flax_impl/adapters/calls.py": KINDS,
    "flax_impl/adapters/recompute.py": KINDS,
    "flax_impl/adapters/dropout.py": KINDS,
    "flax_impl/adapters/from_nnx.py": KINDS,
    "flax_impl/adapters/from_equinox.py": KINDS,
    "flax_impl/adapters/equinox_module.py": KINDS,
    "flax_impl/adapters/equinox_layers.py": KINDS,
    "flax_impl/verify/adapters/function.py": KINDS,
    "flax_impl/verify/adapters/linen.py": KINDS,
    "flax_impl/verify/adapters/nnx.py": KINDS,
    "flax_impl/verify/adapters/equinox.py": KINDS,
    "flax_impl/verify/adapters/functions.py": KINDS,
    "flax_impl/adapters/tree.py": "torch names parameters, JAX has trees",
    "flax_impl/adapters/scopes.py": "torch has hooks for the call of a module",
    "flax_impl/verify/primitives/convolution.py": PRIMITIVES,
    "flax_impl/verify/primitives/indexing.py": PRIMITIVES,
    "flax_impl/verify/primitives/loops.py": PRIMITIVES,
    "flax_impl/verify/primitives/precision.py": PRIMITIVES,
    "flax_impl/verify/primitives/value.py": PROGRAM,
    "flax_impl/verify/primitives/evaluation.py": PROGRAM,
    "flax_impl/verify/primitives/origin.py": PROGRAM,
    "lightning_impl/verify/adapters/module.py": "a model of JAX is a function: it has no modes",
}
# Twin files below the layers, where nothing goes by the same name, and why.
UNLIKE = {
    "verify/trace/replay.py": "torch dispatches operations, JAX has a program that is evaluated",
    "verify/primitives/neutral.py": "the same",
    "verify/trace/elements.py": "the same",
}
# Twin files of which the two share less than half of all public names, and why. Short by intent, too.
UNEVEN = {
    "gpu.py": "XLA is set up by flags before it starts, torch by functions",
    "layers.py": "canonical names and layouts are torch's own",
    "optimizers/__init__.py": "torch's optimizers have settings and a learning rate",
    "optimizers/base.py": "torch's optimizers are classes, optax's pairs of functions",
    "optimizers/custom.py": "a state of torch is a dictionary, one of optax a tree of arrays",
    "sharding.py": "arrays of JAX know where they lie, and XLA compiles one program for all devices",
    "training/eval_step.py": "the same as of training/step.py",
    "training/step.py": "a LightningModule has methods, a step of Flax is made of pure functions",
    "verify/subject.py": "a model of torch is a module, one of JAX a function",
}


def files(package):
    return sorted(str(path.relative_to(ROOT / package)) for path in (ROOT / package).rglob("*.py"))


def modules(package):
    names = (f"{package}.{name[:-3].replace('/', '.')}" for name in files(package))
    # Hydra's plugins go by the name of the namespace package that they are part of.
    return [
        name.removesuffix(".__init__").removeprefix("pipeline.sweep.plugins.") for name in names
    ]


def loaded_by(*names):
    """Top-level modules in a new process that has imported `names`."""
    code = (
        "import sys; from pipeline.config.experiment import register; register()\n"
        f"for name in {names!r}: __import__(name)\nprint(*sys.modules, sep='\\n')"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return {name.partition(".")[0] for name in run.stdout.split()}


def imports(path):
    """Top-level names of all modules that a file imports, also inside functions."""
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
    loaded = loaded_by(*modules("pipeline"), *modules("tandem"))
    assert {"pipeline", "tandem"} <= loaded
    assert loaded & (FRAMEWORKS | {"lightning_impl", "flax_impl"}) == set()


def test_no_file_of_the_core_imports_a_framework_not_even_inside_a_function():
    both = [(package, name) for package in ("pipeline", "tandem") for name in files(package)]
    for package, name in both:
        allowed = {kind for kind in LOGGERS if name.startswith(f"loggers/{kind}")}
        found = set(imports(ROOT / package / name)) & (FRAMEWORKS | {"lightning_impl", "flax_impl"})
        assert found <= allowed, name


OTHERS = [("lightning_impl", {"flax_impl", *JAX}), ("flax_impl", {"lightning_impl", *TORCH})]


@pytest.mark.slow  # the imports of both frameworks
@pytest.mark.parametrize(("package", "others"), OTHERS)
def test_a_backend_loads_neither_its_twin_nor_the_other_framework(package, others):
    loaded = loaded_by(f"{package}.backend", *modules(package))
    assert {"pipeline", package} <= loaded
    assert loaded & others == set()


@pytest.mark.parametrize(("package", "others"), OTHERS)
def test_no_file_of_a_backend_imports_the_other_not_even_inside_a_function(package, others):
    for name in files(package):
        assert set(imports(ROOT / package / name)) & others == set(), name


def test_the_twins_have_the_same_files():
    alone = {package: set() for package in PACKAGES}
    for file in ONE_SIDED_FILES:
        package, _, name = file.partition("/")
        alone[package].add(name)
    found = {package: set(files(package)) for package in PACKAGES}
    for package, names in alone.items():
        assert names <= found[package], f"{package}: the table of exceptions is out of date"
    assert (
        found["lightning_impl"] - alone["lightning_impl"] == found["flax_impl"] - alone["flax_impl"]
    )
    assert "models/cnn.py" in files("flax_impl")


ALIKE = [name for name in files("lightning_impl")
         if name not in UNLIKE and f"lightning_impl/{name}" not in ONE_SIDED_FILES]  # fmt: skip


@pytest.mark.parametrize("name", ALIKE)
def test_twin_files_have_the_same_public_names_in_the_same_order(name):
    shared = []
    for package in PACKAGES:
        found = public_names(ROOT / package / name)
        alone = ONE_SIDED.get(f"{package}/{name}", {})
        assert set(alone) <= set(found), f"{package}/{name}: the table of exceptions is out of date"
        shared.append([public for public in found if public not in alone])
    assert shared[0] == shared[1]


def test_twin_files_share_half_of_their_public_names_or_are_listed_with_a_reason():
    uneven = set()
    for name in ALIKE:
        torch, jax = (set(public_names(ROOT / package / name)) for package in PACKAGES)
        if 2 * len(torch & jax) < len(torch | jax):
            uneven.add(name)
    assert uneven == set(UNEVEN)


@pytest.mark.parametrize("package", PACKAGES)
def test_a_backend_has_the_functions_that_the_core_calls(package):
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
    asked = ("prepare", "train", "test", "export", "adopt", "trained_model", "versions")
    assert {name: offered[name] for name in asked} == {
        "prepare": ["config", "world"],
        "train": ["experiment", "device"],
        "test": ["experiment", "device", "checkpoint"],
        "export": ["experiment", "device", "checkpoint"],
        "adopt": ["experiment", "device", "portables"],
        "trained_model": ["experiment", "portable", "device"],
        "versions": [],
    }
