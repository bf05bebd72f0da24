"""Uses of parameters in an operation of torch."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from lightning_impl.verify.trace.elements import LOOKUPS, MATRICES, PRODUCTS, Elements
from lightning_impl.verify.trace.replay import tensors
from pipeline.verify.trace.graph import Role, Use

SCALES, SHIFTS = {"mul", "mul_", "div", "div_"}, {"add", "add_", "sub", "sub_", "rsub"}


def find_uses(
    elements: Elements,
    name: str,
    args: tuple,
    kwargs: Mapping[str, Any],
    before: Mapping[int, int],
    op: int,
) -> Iterator[Use]:
    """Return the uses of parameters in an operation; `before` has the places of its tensors, by id."""

    def use(role: Role, numbers: torch.Tensor, data: object, *axes: int) -> Use:
        at = before.get(id(data)) if isinstance(data, torch.Tensor) else None
        return Use(role, numbers.numpy(), op, at, axes)

    known = {
        at: elements.views[a]
        for at, a in enumerate(args)
        if isinstance(a, torch.Tensor) and a in elements.views
    }
    if name in MATRICES:  # a matrix may be computed from parameters
        known |= {
            at: elements.computed[a]
            for at, a in enumerate(args)
            if isinstance(a, torch.Tensor) and a in elements.computed
        }
    if name in PRODUCTS:
        left = PRODUCTS[name]
        if left in known:  # [out, in] × [in, columns]
            yield use(Role.dot, _matrix(known.pop(left)), args[left + 1], -2)
        if left + 1 in known:  # [rows, in] × [in, out]
            factor = known.pop(left + 1)
            matrix = factor[:, None] if factor.ndim == 1 else factor.transpose(-1, -2)
            yield use(Role.dot, _matrix(matrix), args[left], -1)
    elif name in ("convolution", "_convolution") and 1 in known:
        kernel = known.pop(1)
        if args[6]:  # transposed: a convolution with the kernel mirrored
            kernel = kernel.transpose(0, 1).flip(tuple(range(2, kernel.ndim)))
        yield use(Role.conv, kernel, args[0], 1)
    elif name in LOOKUPS and 0 in known:
        table = known.pop(0)
        yield use(Role.lookup, table.reshape(table.shape[0], -1), None)
    data = next((a for at, a in enumerate(args[:2]) if at not in known), None)
    role = (
        Role.scale
        if name in SCALES
        else Role.shift
        if name in SHIFTS or name in PRODUCTS or "convolution" in name
        else Role.other
    )
    if role is Role.shift and not isinstance(data, torch.Tensor):
        role = Role.other  # a number is added, such as a norm's epsilon
    for numbers in known.values():
        yield use(role, _once(numbers), data)
    for value in (args, tuple(kwargs.values())):  # inside lists, such as those of cat
        for tensor in tensors([a for a in value if isinstance(a, list | tuple)]):
            if tensor in elements.views:
                yield use(Role.other, _once(elements.views[tensor]), None)


def _matrix(elements: torch.Tensor) -> torch.Tensor:
    """`[…, out, in]` as `[out, in]`: once if a batch repeats it."""
    while elements.ndim > 2 and elements.stride(0) == 0:
        elements = elements[0]
    return elements.reshape(-1, elements.shape[-1]) if elements.ndim != 2 else elements


def _once(elements: torch.Tensor) -> torch.Tensor:
    """Return each element once, in order of appearance, flattened."""
    flat = elements.reshape(-1).numpy()
    _, first = np.unique(flat, return_index=True)
    return torch.from_numpy(flat[np.sort(first)])
