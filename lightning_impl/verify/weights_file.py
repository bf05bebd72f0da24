"""Read a file of weights as torch writes it: a state dict, alone or inside a checkpoint.

python -m lightning_impl.verify.weights_file FILE TARGET.npz
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

HOLDERS = ("state_dict", "model_state_dict", "model")  # names under which checkpoints have it


def read(path: Path) -> dict[str, np.ndarray]:
    """Return the floats of a file by name; without running code that it may hold.

    Raises:
        ValueError: it holds no tensors by name.
    """
    if path.suffix == ".safetensors":
        content: Any = load_file(path)
    else:
        content = torch.load(path, map_location="cpu", weights_only=True)
    for name in HOLDERS:
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
    tensors = (
        {name: value for name, value in content.items() if isinstance(value, torch.Tensor)}
        if isinstance(content, Mapping)
        else {}
    )
    if not tensors:
        raise ValueError("it holds no tensors by name: save model.state_dict()")
    return {n: t.double().numpy() for n, t in tensors.items() if t.is_floating_point()}


if __name__ == "__main__":
    np.savez(sys.argv[2], **read(Path(sys.argv[1])))  # pyrefly: ignore[bad-argument-type]
