"""Cost over the parameters of a model: in width, in depth, and of shapes alone."""

from functools import partial
from pathlib import Path

from benchmarks.scaling_probes.case import Case, Values

BACKENDS = ("torch", "jax")
DATA = ("dataset=tokens", "dataset.dtype=uint16", "dataset.length=16", "dataset.vocabulary=256")


def gpt(folder: Path, width: int, depth: int) -> list[str]:
    """Return the overrides of a GPT on a small file of tokens."""
    file = folder / "tokens.bin"
    file.write_bytes(bytes(100_000))
    size = [f"model.width={width}", f"model.depth={depth}", "model.heads=4"]
    return ["model=gpt", *size, *DATA, f"dataset.path={file}"]


def wide(parameters: int) -> int:
    """Return the width of a GPT of two blocks with so many parameters."""
    return max(8, 8 * round((parameters / 24) ** 0.5 / 8))


def train_wide(backend: str, size: int, folder: Path) -> Values:
    """Train a GPT of two blocks."""
    from benchmarks.scaling_probes.training import train_some

    found = train_some([f"backend={backend}", *gpt(folder, wide(size), 2)], folder)
    return {key: found[key] for key in ("set-up s", "step ms")}


def train_deep(backend: str, size: int, folder: Path) -> Values:
    """Train a GPT of many blocks."""
    from benchmarks.scaling_probes.training import train_some

    found = train_some([f"backend={backend}", *gpt(folder, 32, size)], folder)
    return {key: found[key] for key in ("set-up s", "step ms")}


def shapes(backend: str, size: int, folder: Path) -> Values:
    """Make a GPT without its numbers, with the canonical names and shapes of its parameters."""
    from benchmarks.scaling_probes.shapes import make_shapes

    return make_shapes(backend, gpt(folder, wide(size), 2), folder)


CASES = [
    case
    for backend in BACKENDS
    for case in (
        Case(
            f"wide-{backend}",
            f"A wider model, {backend}",
            "parameters",
            "A GPT of two blocks and growing width, batches of 8 times 16 tokens, AdamW, fp32.",
            (100_000, 1_000_000, 3_000_000, 10_000_000, 30_000_000, 100_000_000),
            measure=partial(train_wide, backend),
        ),
        Case(
            f"deep-{backend}",
            f"A deeper model, {backend}",
            "blocks",
            "The same of width 32, and growing depth. In JAX all blocks are compiled.",
            (2, 4, 8, 16, 32),
            measure=partial(train_deep, backend),
        ),
        Case(
            f"shapes-{backend}",
            f"Shapes alone, {backend}",
            "parameters",
            "The wide model by names and shapes: torch's meta device, `jax.eval_shape`.",
            (100_000, 1_000_000, 10_000_000, 100_000_000, 1_000_000_000),
            measure=partial(shapes, backend),
        ),
    )
]
