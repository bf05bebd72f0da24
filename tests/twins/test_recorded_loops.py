"""Training loops of a user, one in torch and one in JAX with optax, each in its own process, recorded."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pipeline.verify.recordings.comparison import compare_recordings

ROOT = Path(__file__).resolve().parents[2]

TORCH = """
import sys, numpy, torch
from pipeline.verify import record

torch.set_num_threads(1)
start = numpy.load("start.npz")
model = torch.nn.Sequential(
    torch.nn.Conv2d(2, 4, 3, padding=1), torch.nn.GELU(approximate="tanh"), torch.nn.Flatten(),
    torch.nn.LayerNorm(64), torch.nn.Linear(64, 5),
)
model.load_state_dict({name: torch.from_numpy(start[name]) for name in start.files})
optimizer = torch.optim.AdamW(model.parameters(), 1e-2, weight_decay=1e-2)

with record("left.npz") as log:
    log.start(model)
    for step in range(4):
        random = numpy.random.default_rng(step)
        x = torch.from_numpy(random.standard_normal((8, 2, 4, 4)).astype("float32"))
        y = torch.from_numpy(random.integers(0, 5, 8))
        output = model(x)
        loss = torch.nn.functional.cross_entropy(output, y)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        log.step(model, loss=loss, batch=(x, y), outputs=output)
"""

JAX = """
import sys, jax, numpy, optax
import jax.numpy as jnp
from pipeline.verify import record

start = numpy.load("start.npz")

def apply(params, x):
    x = jax.lax.conv_general_dilated(
        x, params["conv"]["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    x = jax.nn.gelu(x + params["conv"]["bias"]).reshape(len(x), -1)
    x = (x - x.mean(1, keepdims=True)) / jnp.sqrt(x.var(1, keepdims=True) + 1e-5)
    x = x * params["norm"]["scale"] + params["norm"]["bias"]
    return x @ params["head"]["kernel"] + params["head"]["bias"]

def loss_of(params, x, y):
    output = apply(params, x)
    return optax.softmax_cross_entropy_with_integer_labels(output, y).mean(), output

def main(file, decay):
    head = start["4.weight"].reshape(5, 4, 4, 4).transpose(2, 3, 1, 0).reshape(64, 5)
    flat = lambda name: start[name].reshape(4, 4, 4).transpose(1, 2, 0).ravel()
    params = jax.tree.map(jnp.asarray, {
        "conv": {"kernel": start["0.weight"].transpose(2, 3, 1, 0), "bias": start["0.bias"]},
        "norm": {"scale": flat("3.weight"), "bias": flat("3.bias")},
        "head": {"kernel": head, "bias": start["4.bias"]},
    })
    optimizer = optax.chain(optax.clip_by_global_norm(0.5), optax.adamw(1e-2, weight_decay=decay))
    state = optimizer.init(params)

    @jax.jit
    def train_step(params, state, x, y):
        (loss, output), gradients = jax.value_and_grad(loss_of, has_aux=True)(params, x, y)
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state, loss, output, gradients

    with record(file) as log:
        log.start(params)
        for step in range(4):
            random = numpy.random.default_rng(step)
            x = random.standard_normal((8, 2, 4, 4)).astype("float32").transpose(0, 2, 3, 1)
            y = random.integers(0, 5, 8)
            params, state, loss, output, gradients = train_step(params, state, x, y)
            log.step(params, loss=loss, batch={"x": x, "y": y}, outputs=output, gradients=gradients)

main("right.npz", 1e-2)
main("no_decay.npz", 1e-4)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the recordings of both scripts, which run at the same time."""
    folder = tmp_path_factory.mktemp("loops")
    random = np.random.default_rng(0)
    shapes = {"0.weight": (4, 2, 3, 3), "0.bias": (4,), "3.weight": (64,), "3.bias": (64,),
              "4.weight": (5, 64), "4.bias": (5,)}  # fmt: skip
    start = {name: 0.3 * random.standard_normal(shape) for name, shape in shapes.items()}
    start["3.weight"] = np.ones(64)
    start["3.bias"] = np.zeros(64)
    np.savez(
        folder / "start.npz", **{name: array.astype(np.float32) for name, array in start.items()}
    )
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "JAX_PLATFORMS": "cpu",
        "OMP_NUM_THREADS": "1",
    }
    scripts = []
    for name, script in (("torch", TORCH), ("jax", JAX)):
        (folder / f"{name}_loop.py").write_text(script)
        command = [sys.executable, f"{name}_loop.py"]
        scripts.append(
            subprocess.Popen(
                command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True
            )
        )
    for script in scripts:
        _, errors = script.communicate(timeout=300)
        assert script.returncode == 0, errors
    return folder


@pytest.mark.slow
def test_a_loop_in_torch_and_one_in_optax_are_the_same(folder):
    verdict = compare_recordings(folder / "left.npz", folder / "right.npz")
    assert verdict.exit_code == 0, verdict.sentence
    assert verdict.checked["precision"] == "float32"
    assert verdict.checked["steps"] == 4
    assert {"batch", "forward in training", "loss", "update"} <= set(verdict.differences)
    assert max(verdict.differences.values()) < 1e-4
    # torch clips in place, optax inside the update.
    assert "recorded at different places" in verdict.notes[-1]


@pytest.mark.slow
def test_the_weight_decay_of_optax_is_found_to_be_another_default(folder):
    verdict = compare_recordings(folder / "left.npz", folder / "no_decay.npz")
    assert (verdict.first.part, verdict.first.step) == ("update", 1)
    assert verdict.cause.name == "weight decay"
    # 1e-2 · (1e-2 - 1e-4)
    assert "the left side takes away 9.9e-05 of the weights" in verdict.cause.remedy


@pytest.mark.parametrize("script", [TORCH, JAX], ids=["torch", "jax"])
def test_recording_takes_at_most_ten_lines_of_a_script(script):
    assert sum("record" in line or "log." in line for line in script.splitlines()) <= 10
