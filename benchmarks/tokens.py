"""Tokens per second of training on `dataset=tokens`, beside a bare loop over the same memory-mapped file.

Same model (`gpt`, width 128, length 128), batch and optimizer. The bare loop is by hand: it cuts random
windows out of the file, as nanoGPT does, and takes the step in plain torch, or in plain JAX, compiled. The
two take turns in one process for each backend; ratios are of each pair.

    python benchmarks/tokens.py [--rounds 5] [--steps 64] [--backend torch,jax]
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
BATCH, LENGTH, VOCABULARY, TOKENS = 16, 128, 512, 20_000_000
MODEL = {"width": 128, "depth": 2, "heads": 4}
ROW = "row: "  # how the line begins that a worker leaves for the table

Step = Callable[
    [np.ndarray], object
]  # takes tokens int64 [batch, length + 1]; its result can be waited for


def torch_step() -> tuple[Step, Callable[[object], None]]:
    """Return a training step of the model by hand in torch, and what waits for its result."""
    import torch
    import torch.nn.functional as F

    from lightning_impl.models.gpt import GPT
    from pipeline.config.models import GPTConfig

    model = GPT(GPTConfig(**MODEL), (LENGTH,), VOCABULARY)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)

    def step(windows: np.ndarray) -> torch.Tensor:
        tokens = torch.from_numpy(windows)
        logits = model(tokens[:, :-1])
        optimizer.zero_grad(set_to_none=True)
        loss = F.cross_entropy(logits.flatten(end_dim=1), tokens[:, 1:].flatten())
        loss.backward()
        optimizer.step()
        return loss

    return step, lambda loss: loss.item()


def jax_step() -> tuple[Step, Callable[[object], None]]:
    """Return a compiled training step of the model by hand in JAX, and what waits for its result."""
    from functools import partial

    import jax
    import jax.numpy as jnp
    import optax

    from flax_impl.models.gpt import GPT
    from pipeline.config.models import GPTConfig

    model = GPT(GPTConfig(**MODEL), (LENGTH,), VOCABULARY)
    optimizer = optax.adamw(1e-3)
    params = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, LENGTH), jnp.int32))
    state = [params, optimizer.init(params)]

    @partial(jax.jit, donate_argnums=(0, 1))
    def update(params: dict, opt_state: tuple, tokens: jax.Array) -> tuple:
        def loss(params: dict) -> jax.Array:
            logits = model.apply(params, tokens[:, :-1])
            return optax.softmax_cross_entropy_with_integer_labels(logits, tokens[:, 1:]).mean()

        value, grads = jax.value_and_grad(loss)(params)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, value

    def step(windows: np.ndarray) -> jax.Array:
        *state[:], value = update(*state, windows.astype(np.int32))
        return value

    return step, jax.block_until_ready


def bare(backend: str, file: Path, steps: int, warmup: int) -> float:
    """Tokens per second of the loop by hand."""
    step, wait = {"torch": torch_step, "jax": jax_step}[backend]()
    tokens, random = np.memmap(file, np.uint16, "r"), np.random.default_rng(0)

    def windows() -> np.ndarray:
        starts = random.integers(len(tokens) - LENGTH, size=BATCH)
        return np.stack([tokens[start : start + LENGTH + 1] for start in starts]).astype(np.int64)

    for _ in range(warmup):
        result = step(windows())
    wait(result)
    started = time.perf_counter()
    for _ in range(steps):
        result = step(windows())
    wait(result)
    return steps * BATCH * LENGTH / (time.perf_counter() - started)


def measure(backend: str, folder: Path, rounds: int, steps: int) -> dict[str, float]:
    """Tokens per second of both loops, taking turns, and their ratio pair by pair."""
    from overhead import WARMUP, ours

    file = folder / "tokens.bin"
    overrides = [
        "model=gpt", "dataset=tokens", f"dataset.path={file}", "dataset.dtype=uint16",
        f"dataset.length={LENGTH}", f"train.batch_size={BATCH}",
        "accelerator=cpu", *(f"model.{key}={value}" for key, value in MODEL.items()),
    ]  # fmt: skip
    pairs = []
    for turn in range(rounds + 1):
        hand = bare(backend, file, steps, WARMUP)
        own = ours(backend, steps, 1, overrides, folder / f"{backend}-{turn}") * LENGTH
        if turn:  # the first pair warms the machine up
            pairs.append((hand, own))
    ratios = sorted(own / hand for hand, own in pairs)
    hand, own = (median(values) for values in zip(*pairs, strict=True))
    return {"bare": hand, "tandem": own, "ratio": median(ratios), "lowest": ratios[0],
            "highest": ratios[-1]}  # fmt: skip


def main() -> None:
    """Measure each backend in its own process, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--backend", default="torch,jax", help="which, with commas between")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=64, help="timed steps in a round")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)  # where the tokens lie
    options = parser.parse_args()
    if options.worker:
        row = measure(options.backend, options.worker, options.rounds, options.steps)
        print(f"\n{ROW}{json.dumps(row)}")
        return
    print("| backend | by hand, tokens/s | tandem, tokens/s | ratio |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        random = np.random.default_rng(0)
        random.integers(VOCABULARY, size=TOKENS, dtype=np.uint16).tofile(Path(folder, "tokens.bin"))
        for backend in options.backend.split(","):
            own = ["--worker", folder, "--backend", backend]
            done = subprocess.run(
                [sys.executable, __file__, *sys.argv[1:], *own],
                check=True, stdout=subprocess.PIPE, text=True,
            )  # fmt: skip
            [line] = [line for line in done.stdout.splitlines() if line.startswith(ROW)]
            row = json.loads(line.removeprefix(ROW))
            ratio = f"{row['ratio']:.2f} ({row['lowest']:.2f} … {row['highest']:.2f})"
            print(f"| {backend} | {row['bare']:,.0f} | {row['tandem']:,.0f} | {ratio} |")


if __name__ == "__main__":
    main()
