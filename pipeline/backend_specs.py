"""Registry of the backends: one row each, readable without importing a backend."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from zipfile import is_zipfile

COMPILED = "_compiled"  # ends the label of a backend that compiles the model


@dataclass(frozen=True)
class BackendSpec:
    package: str  # its folder, which holds `backend.py`
    checkpoint: re.Pattern[str]  # of the names of its checkpoints; the first group is the step
    checkpoint_is_folder: bool = False
    # Returns False if the save of a checkpoint was interrupted.
    checkpoint_is_whole: Callable[[Path], bool] = Path.exists
    process_per_device: bool = False  # each process computes on a single device
    # Packages whose classes are models of this backend, for `pipeline.verify`.
    frameworks: tuple[str, ...] = ()
    weights: tuple[str, ...] = ()  # suffixes of files with weights that it can read
    callback: str = ""  # base class of the callbacks that its loop calls by itself
    takes_functions: bool = False  # a pair of functions (init, apply) is a model, too
    compiles: bool = False  # compiles the model if `backend.compile` is set
    vectorizes: bool = False  # trains several runs at once: `Backend.train_together`
    # Values of a key with which a run trains by itself, even so, each with the reason.
    trains_alone: Mapping[str, Mapping[object, str]] = field(default_factory=dict)
    # More numbers in which runs that train at once may differ; see `together.run_inputs`.
    numbers: tuple[str, ...] = ()
    maps_native_draws: bool = False  # of runs that train at once each draws its own
    ignores: tuple[str, ...] = ()  # keys that it does not read, as they are another backend's


BACKENDS = {
    "torch": BackendSpec(
        "lightning_impl",
        re.compile(r"(?:best|last)-(\d+)\.ckpt"),
        checkpoint_is_whole=is_zipfile,
        process_per_device=True,
        frameworks=("torch",),
        weights=(".pt", ".pth", ".bin", ".ckpt", ".safetensors"),
        callback="lightning.pytorch.callbacks.callback.Callback",
        compiles=True,
        vectorizes=True,
        trains_alone={
            "optimizer.name": {
                "lamb": "it takes the norm of each weight, not of each number",
                "muon": "it takes each weight as a matrix",
                "own": "torch.func may not map a user's own code",
            },
            "train.remat": {True: "torch.func maps nothing that is computed again"},
            "model.attention": {"recomputed": "torch.func maps nothing that is computed again"},
            "train.precision": {"bf16": "torch.func maps no model under autocast"},
            "backend.compile": {True: "a compiled model is of one run"},
            "backend.channels_last": {True: "a stack of runs has a layout of its own"},
        },
        numbers=(
            "optimizer.betas",
            "optimizer.alpha",
            "optimizer.rho",
            "optimizer.momentum_decay",
            "optimizer.lr_decay",
        ),
        ignores=("backend.xla_flags", "accelerator.steps_per_call"),
    ),
    "jax": BackendSpec(
        "flax_impl",
        re.compile(r"(\d+)"),
        checkpoint_is_folder=True,
        frameworks=("flax", "equinox", "jax"),
        weights=(".msgpack",),
        takes_functions=True,
        vectorizes=True,
        maps_native_draws=True,
        ignores=(
            "backend.mode",
            "backend.inductor",
            "backend.fused",
            "backend.channels_last",
        ),
    ),
}


def label_of(backend: Mapping[str, object]) -> str | None:
    """Return the label of a config's `backend`: its name, and `torch_compiled` if it is compiled."""
    name = backend.get("name")
    return None if name is None else f"{name}{COMPILED if backend.get('compile') else ''}"


def in_order(found: Iterable[str]) -> list[str]:
    """Return labels without repetitions in the order of `labels`, unknown ones last."""
    known = labels()
    return sorted(
        dict.fromkeys(found), key=lambda one: known.index(one) if one in known else len(known)
    )


def labels() -> list[str]:
    """Return the labels of all backends, in their order."""
    return [
        f"{name}{ending}"
        for name, spec in BACKENDS.items()
        for ending in (("", COMPILED) if spec.compiles else ("",))
    ]
