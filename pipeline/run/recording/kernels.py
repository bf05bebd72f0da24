"""Kernels of attention that a run's training steps take, as its layers note them."""

from collections.abc import Callable, Hashable

from pipeline.config.models import AttentionKernel

# The softmax is never in memory.
FLASH, EFFICIENT, CUDNN = "flash", "efficient", "cudnn"
# It is kept for the gradient: by torch's own function, and by ours.
MATH, WRITTEN_OUT = "math", AttentionKernel.written_out.name
RECOMPUTED = AttentionKernel.recomputed.name  # it is computed again for the gradient

# A layer may be traced by a compiler, which must see no more than constants: kernels are named later.
_NOTED: set[tuple[Callable[..., str], tuple[Hashable, ...]]] = set()


def note_kernel(name: Callable[..., str], *call: Hashable) -> None:
    """Note a call of attention; `name` returns the kernel's name of what `call` has."""
    _NOTED.add((name, call))


def noted_kernels() -> str:
    """Return the names of all kernels noted since `forget_kernels`; empty if there are none."""
    return " and ".join(sorted({name(*call) for name, call in _NOTED} - {""}))


def forget_kernels() -> None:
    """Begin another run."""
    _NOTED.clear()
