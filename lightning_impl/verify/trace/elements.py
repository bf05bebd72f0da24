"""Elements of parameters, followed through the operations that move them."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch.utils.weak import WeakIdKeyDictionary

from lightning_impl.verify.primitives.neutral import RANDOM
from lightning_impl.verify.trace.replay import tensors
from pipeline.verify.tags import tags, untag

# Operations that only show the elements of a tensor in another order or shape.
VIEWS = {
    "t", "transpose", "permute", "view", "_unsafe_view", "reshape", "_reshape_alias", "expand", "unsqueeze",
    "squeeze", "select", "slice", "split", "split_with_sizes", "chunk", "unbind", "narrow", "detach", "clone",
    "alias", "contiguous", "cat", "stack", "flip", "movedim", "swapaxes", "lift_fresh", "_to_copy", "flatten",
}  # fmt: skip
PRODUCTS = {
    "mm": 0,
    "bmm": 0,
    "mv": 0,
    "dot": 0,
    "addmm": 1,
    "baddbmm": 1,
    "addmv": 1,
}  # first factor
LOOKUPS = {"embedding", "index", "index_select", "gather"}
MATRICES = {*PRODUCTS, *LOOKUPS, "convolution", "_convolution"}
# Operations whose result may have the shape of an operand, but not its elements one by one.
UNORDERED = {*PRODUCTS, "convolution", "_convolution", "sort", "cumsum", "cumprod"} | {
    "linalg_qr", "linalg_householder_product", "_linalg_svd", "_linalg_eigh", "linalg_inv_ex",
    "linalg_matrix_exp", "linalg_solve_triangular", "linalg_lu", "cholesky", "linalg_cholesky_ex",
    "_linalg_solve_ex",
}  # fmt: skip


class Elements:
    """Numbers of the elements that tensors show."""

    def __init__(self) -> None:
        self.views = WeakIdKeyDictionary()  # of a view of parameters
        self.computed = WeakIdKeyDictionary()  # of a matrix made of parameters: one value from each

    def __contains__(self, tensor: torch.Tensor) -> bool:
        """Tell if a tensor shows elements, or is made of them."""
        return tensor in self.views or tensor in self.computed

    def add_view(
        self, name: str, func: Any, args: tuple, kwargs: Mapping[str, Any], out: object
    ) -> None:
        """Follow elements through a view of parameters."""
        if name in ("_to_copy", "clone", "contiguous", "lift_fresh"):
            numbers: object = self.views[args[0]]
        else:
            numbers = func(*_replaced(args, self.views), **kwargs)
        for tensor, elements in zip(tensors(out), tensors(numbers), strict=True):
            self.views[tensor] = elements

    def follow(
        self, name: str, func: Any, args: tuple, kwargs: Mapping[str, Any], out: object
    ) -> torch.Tensor | None:
        """Follow elements through an operation on parameters alone; return these if it only moves them.

        Otherwise it may compute one value from each, as weight norm does: a matrix that is made so is
        taken for the parameter where it is used.
        """
        operands, results = list(tensors(args)), list(tensors(out))
        known = [tensor for tensor in operands if tensor in self.views]
        computed = [tensor for tensor in operands if tensor in self.computed]
        if name.endswith("_") or name in LOOKUPS | RANDOM.keys() or not (known or computed):
            return None
        if known and not computed and name not in UNORDERED and len(results) == 1:
            tagged = func(*_replaced(args, self.views, _tags), **kwargs)
            numbers = np.concatenate([self.views[tensor].numpy().ravel() for tensor in known])
            moved = untag(next(tensors(tagged)).numpy(), numbers)
            if moved is not None:
                self.views[results[0]] = torch.from_numpy(moved)
                return known[0]
        if name in VIEWS and len(computed) == len(operands):
            moved = func(*_replaced(args, self.computed), **kwargs)
            for tensor, numbers in zip(results, tensors(moved), strict=True):
                self.computed[tensor] = numbers
        elif name not in UNORDERED and results:
            for tensor in (*computed, *known):
                numbers = self.computed.get(tensor, self.views.get(tensor))
                if tensor.shape == results[0].shape and _is_unique(numbers):
                    self.computed[results[0]] = numbers
                    break
        return None


def _replaced(args: Any, elements: Any, change: Callable[..., Any] | None = None) -> Any:
    """Return the arguments with the elements' numbers, or what is made of them, in place of parameters."""
    if isinstance(args, torch.Tensor):
        if args not in elements:
            return args
        return elements[args] if change is None else change(elements[args])
    if isinstance(args, list | tuple):
        return type(args)(_replaced(a, elements, change) for a in args)
    return args


def _tags(elements: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(tags(elements.numpy()))


def _is_unique(elements: torch.Tensor) -> bool:
    return bool((elements >= 0).all()) and len(elements.unique()) == elements.numel()
