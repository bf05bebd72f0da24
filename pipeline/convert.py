"""A checkpoint of one backend for the other, or for safetensors, and back.

python -m pipeline.convert outputs/first outputs/first-jax          # torch to jax, or jax to torch
python -m pipeline.convert outputs/first weights.safetensors        # weights alone, for anybody
python -m pipeline.convert outputs/first run.safetensors --whole    # optimizer state included
python -m pipeline.convert run.safetensors outputs/back --backend torch
python -m pipeline.convert theirs.safetensors outputs/new --backend jax model=resnet18
"""

import argparse
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.backends import BACKENDS
from pipeline.checkpoints import (
    BrokenCheckpoint,
    broken,
    candidates,
    checkpoint_at,
    checkpoint_of_step,
    run_of,
    tested_checkpoint,
)
from pipeline.command import EXPECTED_ERRORS
from pipeline.config import Config, plain, register, typed
from pipeline.crossing import adopted, carry_history, exported
from pipeline.errors import UserError
from pipeline.explain import in_our_words
from pipeline.parcels import SUFFIX, Parcel, read_parcel, write_parcel, write_weights
from pipeline.portable import digest
from pipeline.runs import RunFolder, signature
from pipeline.saved import composed_of, given, identity_of, overlaid, structured

EXAMPLES = __doc__.partition("\n")[2]


def convert(
    source: Path,
    target: Path,
    backend: str | None = None,
    whole: bool = False,
    config: Path | None = None,
    overrides: Sequence[str] = (),
) -> None:
    """Convert a checkpoint.

    Args:
        source: a run, one of its checkpoints, or a safetensors file.
        target: a safetensors file, or the folder of a run to make.
        backend: of the run to make; None: the one that is not the source's.
        whole: put all of the run into a safetensors file, not the weights alone.
        config: a run whose config the run to make has; None: the source's.
        overrides: of that config, as for `run.py`.

    Raises:
        UserError: the source is not there, is broken or does not fit, or the target is there already.
    """
    if target.is_file() or (target.is_dir() and any(target.iterdir())):
        raise UserError("DST", target, "a new file or folder: it is there already")
    to_file = target.suffix == SUFFIX
    print(f"reading {source}", flush=True)
    parcels = parcels_of(source, to_file and not whole)
    parcel = parcels[-1]
    if not to_file:
        make_run(source, target, parcels, backend, config, overrides)
    elif whole and parcel.memory:
        write_parcel(target, parcel)
        print(f"all of the run at step {parcel.state.step}  →  {target}")
    else:
        write_weights(target, parcel)
        which = "averaged weights" if parcel.state.averages else "weights"
        print(f"{which} of step {parcel.state.step}  →  {target}")


def parcels_of(source: Path, weights: bool) -> list[Parcel]:
    """What a run, a checkpoint or a file holds, in the order of steps; the last is what was asked for.

    Args:
        source: its path.
        weights: whether only weights are wanted: of a run that is named whole then those that were
            tested, the best, as with `mode=test`; else those of the newest checkpoint.

    Raises:
        UserError: nothing is there, or it is broken.
    """
    if source.suffix == SUFFIX:
        if not source.is_file():
            raise UserError("SRC", source, "an existing file")
        try:
            parcel = read_parcel(source)
        except BrokenCheckpoint as error:
            raise broken("SRC", source, error) from error
        return [replace(parcel, run=parcel.run | {"source": str(source)})]
    found = candidates(source, "SRC")
    if weights or checkpoint_at(source):
        found = [tested_checkpoint(source, "SRC")]
    return exported(found, "SRC", best=not weights)


def make_run(
    source: Path,
    target: Path,
    parcels: list[Parcel],
    backend: str | None,
    config: Path | None,
    overrides: Sequence[str],
) -> None:
    """Write a run's folder: who it is, what it has logged so far, and its checkpoints.

    Raises:
        UserError: nobody says of which backend or of which model it is, or the parcels do not fit it.
    """
    about = parcels[-1].run
    if config:
        about = about | identity_of(config, "--config")
        backend = backend or about["config"]["backend"]["name"]
    chosen = config_of(about, backend, overrides)
    folder = RunFolder(target.resolve())
    print(f"writing a checkpoint of {chosen.backend.name}", flush=True)
    try:
        folder.identify(chosen)
        if "data" in about and not any(key.startswith("dataset") for key in given(overrides)):
            folder.describe(about["data"])
        adopted(folder.path, [with_memory(parcel) for parcel in parcels])
        if parcels[-1].memory and source.suffix != SUFFIX:
            step, run = parcels[-1].state.step, run_of(source, "SRC")
            carry_history(run, folder.path, step, chosen.logger)
        folder.write_result(result_of(source, folder.path, chosen, parcels))
    except BaseException:
        shutil.rmtree(folder.path, ignore_errors=True)
        raise
    print(f"a run of {chosen.backend.name} at step {parcels[-1].state.step}  →  {target}")
    print(f"go on with: python run.py resume={target}")


def config_of(about: dict[str, Any], backend: str | None, overrides: Sequence[str]) -> Config:
    """The config of the run to make.

    Args:
        about: `config` and `backend`, where they are known.
        backend: that was asked for.
        overrides: as for `run.py`.

    Raises:
        UserError: it is not known of which backend or model the run is to be.
    """
    others = [name for name in BACKENDS if name != about.get("backend")]
    if backend is None and len(others) != 1:
        raise UserError("--backend", None, f"one of {', '.join(BACKENDS)}", "Set --backend=NAME.")
    register()
    keys, composed = given(overrides), composed_of([*overrides, f"backend={backend or others[0]}"])
    if "config" in about:
        composed = overlaid(structured(about["config"]), composed, [*keys, "backend"])
    elif "model" not in keys:
        raise UserError(
            "SRC",
            about["source"],
            "a file that says which model it is of: this one is not of our making",
            "Add what run.py needs to build the model, as in model=resnet18 dataset=cifar10.",
        )
    return replace(typed(composed), resume=None, checkpoint=None, name=None)


def with_memory(parcel: Parcel) -> Parcel:
    """A parcel as a store of checkpoints wants it: weights alone are a run that has not begun."""
    if parcel.memory is not None:
        return parcel
    weights = parcel.state.parameters
    facts = {"parameters": sum(array.size for array in weights.values())}
    memory = {"best": None, "stale": 0, "window": [], "plateau": {}}
    memory["seconds"] = dict.fromkeys(("setup", "compile", "train", "eval"), 0.0)
    return replace(parcel, memory=memory | {"facts": facts | {"init_digest": digest(weights)}})


def result_of(
    source: Path, folder: Path, config: Config, parcels: Sequence[Parcel]
) -> dict[str, Any]:
    """`result.json` of a run that has not run here: it waits to be gone on with."""
    result = {
        "status": "interrupted",
        "error": None,
        "signature": signature(config),
        "name": folder.name,
        "backend": config.backend.name,
        "config": plain(config),
        "steps": parcels[-1].state.step,
        "converted_from": str(source),
    }
    best = parcels[-1].memory and parcels[-1].memory["best"]
    checkpoint = checkpoint_of_step(folder, best["step"]) if best else None
    return result | ({"best": best | {"checkpoint": str(checkpoint.path)}} if checkpoint else {})


def main() -> int:
    """`python -m pipeline.convert SRC DST`"""
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.convert",
        description=__doc__.partition("\n")[0],
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", metavar="SRC", type=Path, help="a run, a checkpoint, or a file")
    parser.add_argument(
        "target", metavar="DST", type=Path, help=f"a new NAME{SUFFIX}, or the folder of a new run"
    )
    parser.add_argument("--backend", choices=list(BACKENDS), help="of the new run")
    parser.add_argument("--whole", action="store_true", help="all of the run, not weights alone")
    parser.add_argument("--config", metavar="RUN", type=Path, help="that has the new run's config")
    parser.add_argument("overrides", metavar="KEY=VALUE", nargs="*", help="of the new run's config")
    asked = parser.parse_intermixed_args()
    try:
        convert(**vars(asked))
    except EXPECTED_ERRORS as error:
        print(f"error: {in_our_words(error)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
