"""Cases of benchmarks: models with their data and batch sizes; see `overhead.py` and `gpu/checks.py`."""

from dataclasses import dataclass

LENGTH = 128  # tokens of a sample


@dataclass(frozen=True)
class Case:
    """A model and its data; `dataset.path=TOKENS` stands for a file that is made for it."""

    overrides: tuple[str, ...]
    batch: int
    steps: int  # timed in a round
    says: str


CASES = {
    "cnn": Case(("model=cnn", "dataset=synthetic"), 128, 128, "of 32×32×3"),
    "digits": Case(("model=cnn", "dataset=digits"), 32, 1024, "of 8×8, the step of `make run`"),
    "resnet18": Case(("model=resnet18", "dataset=synthetic"), 16, 16, "of 32×32×3"),
    "vit_tiny": Case(
        ("model=vit_tiny", "model.patch=4", "dataset=synthetic"), 16, 16, "of 32×32×3, 64 patches"
    ),
    "gpt": Case(
        ("model=gpt", "model.width=128", "model.depth=2", "model.heads=4", "dataset=tokens",
         "dataset.path=TOKENS", "dataset.dtype=uint16", f"dataset.length={LENGTH}"),
        16, 32, f"of {LENGTH} tokens out of a memory-mapped file, width 128",
    ),
}  # fmt: skip
# Those that fill a GPU, of the sizes of their papers, the most valuable first.
LARGE = {
    "gpt2": Case(
        ("model=gpt2", "dataset=text", "dataset.length=1024"), 16, 32, "of 1,024 bytes of text"
    ),
    "vit_small": Case(
        ("model=vit_small", "dataset=synthetic", "dataset.shape=[224,224,3]",
         "dataset.samples=2048"),
        128, 64, "of 224×224×3",
    ),
    "resnet18_large": Case(
        ("model=resnet18", "dataset=synthetic", "dataset.samples=2048"), 512, 128, "of 32×32×3"
    ),
}  # fmt: skip
