"""Read a file of weights as torch writes it: a state dict, alone or inside a checkpoint.

python -m lightning_impl.verify.weights_file FILE TARGET.npz
"""

import pickle
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

HOLDERS = ("state_dict", "model_state_dict", "model")  # names under which checkpoints have it
GLOBAL = re.compile(r"GLOBAL (\S+)")  # in a refusal to run code


def read(path: Path) -> dict[str, np.ndarray]:
    """Return the floats of a file by name; without running code that it may hold.

    Raises:
        ValueError: it holds no tensors by name.
    """
    content: Any = load_file(path) if path.suffix == ".safetensors" else _load(path)
    tensors = _tensors(content)
    if not tensors:
        raise ValueError("it holds no tensors by name: save model.state_dict()")
    return {n: t.double().numpy() for n, t in tensors.items() if t.is_floating_point()}


def _load(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = GLOBAL.search(str(error))
        kind = f" ({found[1]})" if found else ""
        raise ValueError(f"it holds more than tensors{kind}, and could run any code") from error
    except Exception as error:  # of the unpickler, for bytes of any other kind: of any type
        raise ValueError("it is damaged, cut off, or no file of torch.save") from error


def _tensors(content: Any) -> dict[str, torch.Tensor]:
    """Return the tensors of a state dict, alone or inside a checkpoint, by name.

    Raises:
        ValueError: there are several state dicts.
    """
    if not isinstance(content, Mapping):
        return {}
    for name in HOLDERS:
        if isinstance(content.get(name), Mapping):
            return _tensors(content[name])
    found = {name: value for name, value in content.items() if isinstance(value, torch.Tensor)}
    if found:
        return found if all(isinstance(name, str) for name in found) else {}
    inner = {name: tensors for name, each in content.items() if (tensors := _tensors(each))}
    if len(inner) > 1:
        names = ", ".join(map(str, inner))
        raise ValueError(f"it holds several state dicts: {names}; save the one that is meant")
    return next(iter(inner.values()), {})


if __name__ == "__main__":
    np.savez(sys.argv[2], **read(Path(sys.argv[1])))  # pyrefly: ignore[bad-argument-type]
