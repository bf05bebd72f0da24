"""Compilation of a model and its loss with torch.compile, which `backend.compile` asks for."""

import logging
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

import torch
from torch import nn
from torch.utils._pytree import tree_map_only

from lightning_impl.tasks.task_loss import TaskLoss
from pipeline.config.experiment import BackendConfig, Config
from pipeline.errors import UserError
from pipeline.run.recording.kernels import note_kernel
from pipeline.run.recording.recorder import Recorder
from pipeline.user_code import shortened

P = ParamSpec("P")
T = TypeVar("T")

PROGRAMS = 64  # of one function: beyond that many torch runs it uncompiled


def compile_parts(modules: Sequence[nn.Module], loss: TaskLoss, config: BackendConfig) -> None:
    """Compile the forward passes of some modules and the sums of a loss, in place; names stay.

    Hooks of the modules, such as those of FSDP, stay outside of what is compiled.

    Raises:
        UserError: Inductor has no such option.
    """
    import torch._dynamo  # loads what an uncompiled run does not need

    torch._dynamo.config.recompile_limit = PROGRAMS
    torch.compiler.assume_constant_result(note_kernel)  # it is called as a program is made
    # Inductor warns that it does not find CUDA, on every machine without a GPU.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    for module in modules:
        module.forward = _compiled(module.forward, config)  # pyrefly: ignore[missing-attribute]
    loss.sum_terms = _compiled(loss.sum_terms, config)  # pyrefly: ignore[missing-attribute]


def _compiled(function: Callable[P, T], config: BackendConfig) -> Callable[P, T]:
    """Compile a function for the shapes that it is called with.

    An evaluation's last batch, which is smaller than the others, is computed uncompiled: to compile a program
    for it takes longer.
    """
    how: dict[str, Any] = {"mode": config.mode}
    if config.inductor:  # torch takes a mode or options
        from torch._inductor import list_mode_options

        how = {"options": list_mode_options(config.mode) | config.inductor}
    try:
        program = torch.compile(function, dynamic=False, **how)
    except RuntimeError as error:
        problem = f"Inductor refuses it: {str(error).partition(', known options')[0]}"
        hint = "torch._inductor.list_options() names all of them."
        raise UserError("backend.inductor", config.inductor, problem=problem, hint=hint) from error
    evaluated: set[tuple[torch.Size, ...]] = set()  # shapes of the first batch of an evaluation

    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        if not torch.is_grad_enabled():
            shapes = tuple(value.shape for value in args if isinstance(value, torch.Tensor))
            if shapes not in evaluated and evaluated:
                return function(*args, **kwargs)
            evaluated.add(shapes)
        with _reporting_errors():
            found = program(*args, **kwargs)
        # Other modes may write the next batch's result, by a CUDA graph, where this one's is.
        is_kept = how != {"mode": "default"} and not torch.is_grad_enabled()
        return tree_map_only(torch.Tensor, torch.clone, found) if is_kept else found

    return call


@contextmanager
def _reporting_errors() -> Generator[None]:
    """Report an error in the compilation as one message.

    Raises:
        UserError: torch cannot compile the model.
    """
    from torch._dynamo.exc import TorchDynamoException

    try:
        yield
    except TorchDynamoException as error:
        cause = getattr(error, "inner_exception", error)
        is_missing = type(cause).__name__ == "InvalidCxxCompiler"
        reason = "it finds no C++ compiler" if is_missing else shortened(cause)
        way = "Install one, such as g++, or set" if is_missing else "Set"
        hint = f"{way} backend.compile=false (or backend=torch), which runs the model uncompiled."
        problem = f"torch.compile fails: {reason}"
        raise UserError("backend.compile", "true", hint=hint, problem=problem) from error


@contextmanager
def compiling(config: Config, model: nn.Module, recorder: Recorder) -> Generator[None]:
    """Count the time of compilations in training as such, not as training; report their errors.

    Only here: the Flax loop compiles a step where it calls it. That of an evaluation counts as evaluation on
    both.
    """
    if not config.backend.compile:
        yield
        return
    from torch._dynamo.callback import callback_handler  # loads what other runs do not need

    counts: list[bool] = []

    def started(*args: object) -> None:
        counts.append(model.training)
        if model.training:
            recorder.pause()

    def ended(*args: object) -> None:
        if counts.pop():
            recorder.resume("compile")

    callback_handler.register_start_callback(started)
    callback_handler.register_end_callback(ended)
    try:
        with _reporting_errors():  # the backward pass is compiled when it is first run
            yield
    finally:
        callback_handler.remove_start_callback(started)
        callback_handler.remove_end_callback(ended)
