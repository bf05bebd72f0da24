"""One line in a test: two models are the same."""

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from pipeline.config.models import AUTO_NAMES
from pipeline.errors import BadArgument
from pipeline.verify.verdict import Answer, Part, Verdict

Options = Mapping[str, object]
Model = str | Callable[..., object]  # import path, class or function


def assert_same(
    left: Model,
    right: Model,
    *,
    inputs: str | Sequence[str] | Callable[[int], object] = (),
    options: Options | None = None,
    left_options: Options | None = None,
    right_options: Options | None = None,
    call: Options | None = None,
    left_call: Options | None = None,
    right_call: Options | None = None,
    loss: str | Callable[..., object] = "",
    left_loss: str | Callable[..., object] = "",
    right_loss: str | Callable[..., object] = "",
    weights: str | Path | None = None,
    names: str | Path = AUTO_NAMES,
    optimizer: str = "adam",
    steps: int = 3,
    seeds: int = 2,
    allow_abstain: bool = False,
) -> Verdict:
    """Raise an AssertionError with the verdict unless two models are the same; return it if they are.

    Args:
        left: import path, `module:attribute`, or the class or function itself; each model lives in a process
            of its own, which imports it.
        right: the other one.
        inputs: description of the inputs, such as `x=float32[8,3,32,32] NCHW`, or several; or a function
            of a seed that draws them.
        options: keyword arguments of the class or function, on both sides.
        left_options: those on the left alone.
        right_options: those on the right alone.
        call: keyword arguments of each call of the model, on both sides.
        left_call: those on the left alone.
        right_call: those on the right alone.
        loss: function of the output and of inputs by name, or its import path, on both sides.
        left_loss: loss of the left side, where the two sides take different ones.
        right_loss: loss of the right side, likewise.
        weights: file of either side's weights, from which the first seed starts.
        names: file of names that hold, as `model.names` takes it; auto: all are found.
        optimizer: name of the optimizer of the steps.
        steps: number of optimizer steps.
        seeds: number of weights and inputs that are drawn.
        allow_abstain: accept that there is no verdict.

    Raises:
        AssertionError: they part, or there is no verdict.
        UserError: an argument is bad, or a side does not take its inputs.
    """
    __tracebackhide__ = True  # pytest shows the line of the test
    # Here, since it imports SciPy; whoever records a training loop needs NumPy alone.
    from pipeline.verify.arguments import Arguments
    from pipeline.verify.command import verify

    def merged(both: Options | None, own: Options | None) -> Options:
        return {**(both or {}), **(own or {})}

    given = [inputs] if isinstance(inputs, str) or callable(inputs) else list(inputs)
    verdict = verify(
        Arguments(
            import_path("left", left),
            import_path("right", right),
            tuple(one if isinstance(one, str) else import_path("inputs", one) for one in given),
            merged(options, left_options),
            merged(options, right_options),
            merged(call, left_call),
            merged(call, right_call),
            optimizer,
            steps,
            seeds,
            folders=tuple(sys.path),
            left_loss=import_path("left_loss", left_loss or loss),
            right_loss=import_path("right_loss", right_loss or loss),
            weights=Path(weights) if weights else None,
            names=None if names == AUTO_NAMES else Path(names),
        )
    )
    accepted = (Answer.same, Answer.abstain) if allow_abstain else (Answer.same,)
    if verdict.verdict not in accepted:
        raise AssertionError(describe(verdict))
    return verdict


def import_path(key: str, given: object) -> str:
    """Return the import path of a class or a function; one that is given stays.

    Raises:
        BadArgument: it is an instance, or cannot be imported elsewhere.
    """
    if isinstance(given, str):
        return given
    name, module = getattr(given, "__qualname__", None), getattr(given, "__module__", None)
    hint = "Give a class or a function of a module, or its import path, module:attribute."
    if not isinstance(name, str) or not isinstance(module, str):
        problem = "an instance cannot be handed to another process"
        hint = "Give its class and its options, or a function that returns it, or the import path of either."
        raise BadArgument(f"{key} {type(given).__name__}", problem=problem, hint=hint)
    if "<" in name:  # a lambda, or what a function has defined
        problem = "what is defined inside a function cannot be imported by another process"
        raise BadArgument(f"{key} {name}", problem=problem, hint=hint)
    if module == "__main__":
        problem = "what is defined in the script that runs cannot be imported by another process"
        raise BadArgument(f"{key} {name}", problem=problem, hint=hint)
    if find_spec(module) is None:
        problem = f"its module {module} is not on the import path"
        hint = "Add its folder to pytest's option pythonpath, or give an import path, module:attribute."
        raise BadArgument(f"{key} {name}", problem=problem, hint=hint)
    return f"{module}:{name}"


def describe(verdict: Verdict) -> str:
    """Return a verdict as plain text: the sentence, the cause, the differences, what is left over."""
    lines = [verdict.sentence]
    if verdict.cause:
        lines.append(verdict.cause.remedy)
    if verdict.first and verdict.first.source:
        lines.append(verdict.first.source)
    if verdict.differences:
        lines.append("largest relative differences:")
        width = max(map(len, verdict.differences))
        lines += [
            f"  {part:{width}}  {verdict.differences[part]:.1e}"
            for part in Part
            if part in verdict.differences
        ]
    for side, leftovers in verdict.unmatched.items():
        if leftovers:
            lines.append(f"without a counterpart on the {side}:")
        for one in leftovers:
            nearest = f", most like {one.nearest}" if one.nearest else ""
            unused = "" if one.is_used else ", unused"
            lines.append(f"  {one.name} {list(one.shape)}{nearest}{unused}")
    return "\n".join([*lines, *(f"note: {note}" for note in verdict.notes)])
