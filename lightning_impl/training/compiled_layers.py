"""Layers of compiled torch: a range in a trace around each kernel of Inductor, with the name of its layer.

Inductor tells which nodes of its graph a kernel computes, and each node the module that it comes from. A
kernel counts for the layer of the last of its nodes that has one, as a fusion of XLA does. Only here: in JAX
the trace and the compiled program have the names.
"""

import re
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from types import ModuleType

import torch
from torch import fx, nn
from torch.autograd.profiler import record_function

from pipeline.errors import RunFailed
from pipeline.run.backends import LAYERS_ROOT, LAYERS_UNNAMED

# In the code that Inductor writes: the comment before a kernel's call, and the call.
HANDLE = re.compile(r"# \[Provenance debug handles\] (\S+:\d+)")
CALL = re.compile(r"\b((?:cpp|triton|extern_kernels)_\w+)(?:\.run)?\(")
PART = re.compile(r"(\w+)")  # of a module's path, such as L['self'].blocks[0].attn

UNKNOWN = "this version of torch does not tell which kernel computes which layer"

Layers = Mapping[str, str]  # of the nodes of a graph, by their names


@contextmanager
def named_kernels(model: nn.Module, prefix: str) -> Generator[Callable[[], None]]:
    """Have a model compiled anew, so that its kernels can be named.

    It gives a function that, called once everything is compiled, puts each kernel of the model into a range
    of the trace: `prefix` and the name of its layer.
    """
    from torch._inductor import config
    from torch._inductor.codecache import PyCodeCache
    from torch._inductor.debug import get_kernel_information_jsons

    torch._dynamo.reset()
    graphs: list[Layers] = []
    names = {
        name for name, module in model.named_modules() if any(True for _ in module.parameters())
    }
    before = {id(module) for module in PyCodeCache.modules}

    def record(graph: fx.Graph) -> None:
        graphs.append(dict(_layers_of(graph, names)))

    def name_kernels() -> None:
        loaded = [module for module in PyCodeCache.modules if id(module) not in before]
        calls = {module: [*_calls(module)] for module in loaded}
        modules = [module for module in loaded if calls[module]]  # others are kernels of Triton
        known = list(get_kernel_information_jsons().values())
        if not len(modules) == len(known) == len(graphs) > 0:
            raise RunFailed(UNKNOWN)
        for module, kernels, layers in zip(modules, known, graphs, strict=True):
            if layers:  # those of the loss have none
                nodes = {name: found["post_grad_nodes"] for name, found in kernels.items()}
                _put_into_ranges(module, calls[module], nodes, layers, prefix)

    asked = {
        "trace.provenance_tracking_to_timeline": True,
        "post_grad_custom_post_pass": record,
    }
    get_kernel_information_jsons().clear()
    with config.patch(asked):
        yield name_kernels
    torch._dynamo.reset()


def _layers_of(graph: fx.Graph, names: set[str]) -> Iterator[tuple[str, str]]:
    """Yield the nodes of a graph that belong to a layer, in their order, each with the layer."""
    for node in graph.nodes:
        stack = node.meta.get("nn_module_stack") or node.meta.get("fwd_nn_module_stack") or {}
        for path, _ in reversed(stack.values()):
            parts = [part for part in PART.findall(path) if part != "_modules"]
            if (name := ".".join(parts[2:])) in names:  # without L['self']
                yield node.name, name
                break


def _put_into_ranges(
    module: ModuleType,
    called: Sequence[tuple[str, str]],
    nodes: Mapping[str, Sequence[str]],
    layers: Layers,
    prefix: str,
) -> None:
    """Replace the kernels of a module that Inductor has written; it calls them in one order each time."""
    order = list(layers)
    places = {name: place for place, name in enumerate(order)}
    calls = []
    for kernel, handle in called:
        if handle not in nodes:
            raise RunFailed(UNKNOWN)
        found = [places[name] for name in nodes[handle] if name in places]
        nameless = LAYERS_ROOT if nodes[handle] else LAYERS_UNNAMED
        layer = layers[order[max(found)]] if found else nameless
        calls.append((kernel, f"{prefix}{layer}"))
    turns = cycle(calls)
    for kernel in {kernel for kernel, _ in calls}:
        setattr(module, kernel, _Ranged(kernel, getattr(module, kernel), turns))


def _calls(module: ModuleType) -> Iterator[tuple[str, str]]:
    """Yield the kernels that a module calls, in their order, each with the name that Inductor tells it by.

    Raises:
        RunFailed: a call is not found.
    """
    parts = HANDLE.split(Path(str(module.__file__)).read_text())  # text, handle, text, handle, …
    for handle, text in zip(parts[1::2], parts[2::2], strict=True):
        call = CALL.search(text)
        if call is None:
            raise RunFailed(UNKNOWN)
        yield call[1], handle


class _Ranged:
    """A kernel whose calls are ranges of the trace; `turns` has the names of all calls of its module."""

    def __init__(self, name: str, kernel: object, turns: Iterator[tuple[str, str]]) -> None:
        self._name, self._kernel, self._turns = name, kernel, turns

    def __call__(self, *args: object, **kwargs: object) -> object:
        return self._call(self._kernel, args, kwargs)

    def run(self, *args: object, **kwargs: object) -> object:
        """Call a kernel of Triton."""
        return self._call(self._kernel.run, args, kwargs)  # pyrefly: ignore[missing-attribute]

    def _call(self, kernel: object, args: tuple[object, ...], kwargs: dict[str, object]) -> object:
        name, layer = next(self._turns)
        if name != self._name:
            raise RunFailed(UNKNOWN)
        with record_function(layer):
            return kernel(*args, **kwargs)  # pyrefly: ignore[not-callable]
