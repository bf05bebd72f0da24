"""Results that are not finite, and the first of them."""

import numpy as np

from pipeline.errors import UserError
from pipeline.verify.checks.places import SOURCES
from pipeline.verify.sides.subject import Inputs, Pass, Subject
from pipeline.verify.trace.graph import Op, Role, Trace

HINT = "Give inputs on which it is finite, as NAME=TYPE[SHAPE] or by a function, module:function."


def require_finite(
    side: str, subject: Subject, trace: Trace, inputs: Inputs, training: bool
) -> None:
    """Refuse a model whose outputs are not finite.

    Raises:
        UserError: an output has an infinite or undefined number; it names the first layer that has.
    """
    for path, array in trace.outputs.items():
        if np.isfinite(array).all():
            continue
        mode = "training" if training else "evaluation"
        kind = "NaN" if np.isnan(array).any() else "infinite numbers"
        place, layer = _first(subject, trace, path, inputs, training)
        problem = f"its output {path} has {kind} in {mode} mode; the first come from {place}"
        raise UserError(
            side, subject.description.kind, problem=problem, hint=_hint(trace, layer, inputs)
        )


def require_finite_gradients(passes: dict[str, Pass]) -> None:
    """Refuse two models whose gradients are both not finite: they cannot be compared.

    Raises:
        UserError: both have gradients that are not finite.
    """
    bad = [
        next((n for n, g in one.gradients.items() if not np.isfinite(g).all()), "")
        for one in passes.values()
    ]
    if all(bad):
        names = ", ".join(f"{name} ({side})" for side, name in zip(passes, bad, strict=True))
        problem = f"on both sides they are not finite: {names}"
        raise UserError("gradients", "NaN", problem=problem, hint=HINT)


def _first(
    subject: Subject, trace: Trace, path: str, inputs: Inputs, training: bool
) -> tuple[str, str]:
    """Return where the first result comes from that makes an output not finite, and its layer."""
    chain = _chain(trace, trace.results[path])
    kept = subject.trace(inputs, training, keep=chain).kept
    is_undefined = np.isnan(trace.outputs[path]).any()
    for place in chain:
        values = kept.get(place)
        if values is None or trace.ops[place].name in SOURCES:
            continue
        if (np.isnan(values) if is_undefined else np.isinf(values)).any():
            op = trace.ops[place]
            # An operation of the model's own, such as a logarithm, is named with its line.
            place_name = op.layer or op.source
            own = op.function or op.name
            line = f" ({op.source})" if op.layer and op.source else ""
            return (f"{own} in {place_name}{line}" if place_name else own), op.layer
    return path, ""


def _chain(trace: Trace, place: int) -> list[int]:
    """Return the results that lead to another through results that are not finite, in order."""
    pending, found = [place], set()
    while pending:
        at = pending.pop()
        if at in found or _is_finite(trace.ops[at]):
            continue
        found.add(at)
        pending.extend(trace.ops[at].inputs)
    return sorted(found | {place})


def _is_finite(op: Op) -> bool:
    return op.fingerprint is None or bool(np.isfinite(op.fingerprint).all())


def _hint(trace: Trace, layer: str, inputs: Inputs) -> str:
    """Return the way out; a lookup beyond the end of a table gives NaN in JAX."""
    rows = [
        use.elements.shape[0]
        for use in trace.uses
        if use.role is Role.lookup and trace.ops[use.op].layer == layer
    ]
    for name, array in inputs.items():
        if rows and np.issubdtype(array.dtype, np.integer) and array.max(initial=0) >= min(rows):
            return (
                f"{name} goes up to {array.max()}, the table has {min(rows)} rows: "
                f"--inputs '{name}=int32[{','.join(map(str, array.shape))}] 0..{min(rows)}'."
            )
    return HINT
