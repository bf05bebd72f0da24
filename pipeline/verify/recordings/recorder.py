"""Recorder of a training loop: a few lines in anybody's script, of any framework."""

import json
from collections.abc import Mapping
from contextlib import ExitStack
from hashlib import blake2b
from pathlib import Path
from typing import Self
from zipfile import ZIP_STORED, ZipFile

import numpy as np

from pipeline.atomic_files import replacing
from pipeline.config.fields import require
from pipeline.errors import UserError
from pipeline.verify.recordings.arrays import (
    Recorded,
    arrays_of,
    gradients_of,
    is_module,
    name_gradients,
    weights_of,
)

FORMAT = 1  # of the file: raised when what is written changes its meaning
SUFFIX = ".npz"
MANIFEST = "manifest"


class Recorder:
    """Writes the steps of a training loop to a file; see `pipeline.verify.record`.

    Arrays go to the disk at once, so that one step at a time is held. The file appears under its name at
    the end, also after an exception: then it has the steps before it.
    """

    def __init__(self, path: str | Path, every: int = 1, most: int = 10) -> None:
        self.path, self.every, self.most = Path(path), every, most
        require(self.path.suffix == SUFFIX, "record", path, f"a file that ends with {SUFFIX}")
        require(every >= 1, "every", every, "at least 1")
        require(most >= 1, "most", most, "at least 1")
        self.steps_seen = 0
        self.manifest: dict[str, object] = {"format": FORMAT, "every": every, "is_ordered": False}
        self.start_arrays: dict[str, dict[str, str]] | None = None
        self.steps: list[dict[str, object]] = []
        self._written: dict[str, tuple[bytes, dict[str, str]]] = {}  # last weights, by name

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._files = ExitStack()
        aside = self._files.enter_context(replacing(self.path))
        # The archive is closed before it gets its name.
        self._archive = self._files.enter_context(ZipFile(aside, "w", ZIP_STORED))
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if self.start_arrays is None:
            self._archive.close()
            hint = "Call log.start(model) before the first step and log.step(model, …) after each."
            nothing = self._refusal("nothing was recorded", hint)
            self._files.__exit__(UserError, nothing, None)  # leaves no file
            if error is None:
                raise nothing
            return
        self.manifest |= {"start": self.start_arrays, "steps": self.steps}
        self.manifest["error"] = "" if error is None else f"{type(error).__name__}: {error}"[:300]
        self._write(MANIFEST, np.array(json.dumps(self.manifest)))
        self._files.close()

    def start(self, model: object) -> None:
        """Record the weights before the first step.

        `model` is a torch module, or the state of one: nested dictionaries, lists and dataclasses of arrays.
        """
        if self.start_arrays is not None:
            raise self._refusal("log.start was called twice", "Call it once, before the loop.")
        self.manifest["is_ordered"] = is_module(model)
        self.start_arrays = self._write_weights("start", weights_of(model))

    def step(
        self,
        model: object,
        *,
        loss: object = None,
        batch: object = None,
        outputs: object = None,
        gradients: object = None,
        learning_rate: object = None,
    ) -> None:
        """Record a step, after the optimizer's update and before the gradients are set to zero.

        `model` has the new weights. The gradients of a torch module are read from its parameters. What is
        left out is not compared.
        """
        if self.start_arrays is None:
            hint = "Call log.start(model) first: it records the weights before the first step."
            raise self._refusal("log.step was called before log.start", hint)
        self.steps_seen += 1
        is_due = self.steps_seen == 1 or self.steps_seen % self.every == 0
        if not is_due or len(self.steps) == self.most:
            return
        weights = weights_of(model)
        given = {"batch": batch, "outputs": outputs, "loss": loss, "learning_rate": learning_rate}
        parts = {part: arrays_of(value, part) for part, value in given.items()}
        if gradients is not None:
            parts["gradients"] = name_gradients(gradients, weights)
        elif is_module(model):
            parts["gradients"] = gradients_of(model)
        at = f"step{self.steps_seen}"
        step: dict[str, object] = {"step": self.steps_seen}
        for part, arrays in parts.items():
            if arrays:
                step[part] = {n: self._entry(f"{at}/{part}/{n}", one) for n, one in arrays.items()}
        step["weights"] = self._write_weights(at, weights)
        self.steps.append(step)

    def _write_weights(self, at: str, weights: Mapping[str, Recorded]) -> dict[str, dict[str, str]]:
        """Write weights; of those that have not changed, the name of what was written before."""
        for name, recorded in weights.items():
            digest = blake2b(np.ascontiguousarray(recorded.array).data, digest_size=16).digest()
            if name not in self._written or self._written[name][0] != digest:
                self._written[name] = digest, self._entry(f"{at}/weights/{name}", recorded)
        return {name: self._written[name][1] for name in weights}

    def _entry(self, member: str, recorded: Recorded) -> dict[str, str]:
        self._write(member, recorded.array)
        return {"member": member, "dtype": recorded.dtype}

    def _write(self, member: str, array: np.ndarray) -> None:
        with self._archive.open(f"{member}.npy", "w", force_zip64=True) as file:
            np.lib.format.write_array(file, array, allow_pickle=False)  # type: ignore[arg-type]

    def _refusal(self, problem: str, hint: str) -> UserError:
        return UserError("record", self.path, problem=problem, hint=hint)
