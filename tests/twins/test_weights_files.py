"""Files of weights: what is read, and what is refused with one message."""

import json
import os
from collections import OrderedDict

import flax.serialization
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from flax_impl.verify import weights_file as flax_weights
from lightning_impl.verify import weights_file as torch_weights
from pipeline.errors import UserError
from pipeline.storage.signature import digest_of
from pipeline.storage.weights_file import read_weights

STATE = OrderedDict(weight=torch.tensor([[1.0, 0.5]]), steps=torch.tensor(3))
OPTIMIZER = {"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 0.1}]}
CHECKPOINTS = {
    "alone": STATE,
    "lightning": {"state_dict": STATE, "epoch": 3, "optimizer_states": [OPTIMIZER]},
    "torchvision": {"model": STATE, "optimizer": OPTIMIZER, "epoch": 3},
    "another name": {"net": STATE, "epoch": 3},
    "two levels": {"model": {"params": STATE}},
    "half precision": OrderedDict(weight=STATE["weight"].half()),
}


@pytest.mark.parametrize("content", CHECKPOINTS.values(), ids=CHECKPOINTS)
def test_a_state_dict_is_found_inside_a_checkpoint(content, tmp_path):
    torch.save(content, tmp_path / "it.pt")
    found = torch_weights.read(tmp_path / "it.pt")
    assert {name: array.tolist() for name, array in found.items()} == {"weight": [[1.0, 0.5]]}


class Code:
    """Object that runs a command when it is unpickled."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.system, (f"touch {self.folder}/was_run",)


REFUSED = {
    "code": (lambda folder: {"state_dict": STATE, "x": Code(folder)}, r"more than tensors \(posix"),
    "a whole model": (lambda folder: torch.nn.Linear(2, 1), "more than tensors .*Linear"),
    "no tensors": (lambda folder: {"epoch": 3}, "no tensors by name"),
    "two": (lambda folder: {"net": STATE, "ema": STATE}, "several state dicts: net, ema"),
}


@pytest.mark.parametrize(("make", "problem"), REFUSED.values(), ids=REFUSED)
def test_a_file_without_one_state_dict_is_refused_and_runs_no_code(make, problem, tmp_path):
    torch.save(make(tmp_path), tmp_path / "it.pt")
    with pytest.raises(ValueError, match=problem):
        torch_weights.read(tmp_path / "it.pt")
    assert not (tmp_path / "was_run").exists()


def test_damaged_files_are_refused(tmp_path):
    torch.save(STATE, tmp_path / "it.pt")
    save_file(STATE, tmp_path / "it.safetensors")
    (tmp_path / "it.msgpack").write_bytes(
        flax.serialization.to_bytes({"params": {"a": np.ones(9)}})
    )
    for file in sorted(tmp_path.iterdir()):
        file.write_bytes(file.read_bytes()[:-30])
    with pytest.raises(ValueError, match="it is damaged, cut off, or no file of torch"):
        torch_weights.read(tmp_path / "it.pt")
    with pytest.raises(ValueError, match="it is damaged, cut off, or no file of flax"):
        flax_weights.read(tmp_path / "it.msgpack")
    with pytest.raises(
        UserError, match=r"it\.safetensors: it cannot be read: .* may have been cut"
    ):
        read_weights(tmp_path / "it.safetensors", "model.weights")


def test_a_folder_of_hugging_face_is_read_with_its_parts(tmp_path):
    with pytest.raises(
        UserError, match=r"this folder is no run, and holds no weights. It needs one of model\.safe"
    ):
        read_weights(tmp_path, "model.weights")
    parts = {"a.weight": "model-1.safetensors", "b.weight": "model-2.safetensors"}
    for name, file in parts.items():
        save_file({name: torch.ones(2)}, tmp_path / file)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": parts}))
    assert set(read_weights(tmp_path, "model.weights")) == set(parts)
    before = digest_of(tmp_path)
    assert before == digest_of(index)
    save_file({"b.weight": torch.zeros(2)}, tmp_path / "model-2.safetensors")
    assert digest_of(tmp_path) not in (before, None)
    (tmp_path / "model-1.safetensors").unlink()
    with pytest.raises(UserError, match=r"of its 2 parts it lacks model-1\.safetensors"):
        read_weights(tmp_path, "model.weights")
    index.write_text("{}")
    with pytest.raises(UserError, match="it is no index of weights in parts"):
        read_weights(tmp_path, "model.weights")
