"""Agreement of the pairs of transformers after alignment: a line for each.

    python -m benchmarks.verify_pairs.measure [--cases Bert,GPT2] [--without-names] [--verdicts] [--json FILE]

Both models run in one process, from the same weights, in float64. Columns: layers matched (confirmed by
values), runs that the alignment took, seconds, and the largest relative difference of outputs in evaluation
mode, outputs in training mode, gradients, and changed buffers.
"""

import argparse
import json
import time
import traceback
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.verify_pairs.cases import CASES, Case
from benchmarks.verify_pairs.huggingface import make_flax, make_inputs, make_torch
from benchmarks.verify_pairs.page import is_right, read, table
from pipeline.verify.alignment.align import Aligner, Alignment
from pipeline.verify.alignment.layers import Owners
from pipeline.verify.inputs import Drawn
from pipeline.verify.judge import Request, judge
from pipeline.verify.sides.subject import Inputs, Pass, Subject
from pipeline.verify.verdict import Verdict


def measure(case: Case, named: bool = True) -> dict[str, object]:
    """Align the pair of a case and compare its halves."""
    started = time.perf_counter()
    inputs = make_inputs(case.key)
    left, right = open_pair(case, inputs, named)
    opened = time.perf_counter()
    alignment = Aligner(left, right, (inputs, inputs), 0).align()
    aligned = time.perf_counter()
    matches = alignment.matching.matches
    row: dict[str, object] = {
        "case": case.key,
        "layers": len(matches),
        "confirmed": sum(match.is_confirmed for match in matches),
        "trials": alignment.trials,
        "open_s": opened - started,
        "align_s": aligned - opened,
        "left": _unmapped(alignment.mapping.left, alignment.mapping.is_used),
        "right": _unmapped(alignment.mapping.right, alignment.mapping.source >= 0),
    }
    right.load(alignment.mapping.to_right(alignment.values, right.values()))
    for mode in (False, True):
        row |= compare(left, right, inputs, alignment, mode)
    row["check_s"] = time.perf_counter() - aligned
    return row


def judge_case(case: Case, named: bool = True) -> tuple[Verdict, bool]:
    """Judge the pair of a case as the command does, both models in this process.

    The second value tells if each parameter on which an output depends has found a counterpart.
    """
    left, right = open_pair(case, make_inputs(case.key), named)
    verdict = judge(left, right, Request(Drawn(partial(make_inputs, case.key), {})))
    trained = {a.name for side in (left, right) for a in side.description.arrays if a.is_trained}
    loose = {one.name for side in verdict.unmatched.values() for one in side if one.is_used}
    return verdict, bool(verdict.alignment) and not loose & trained


def give_verdict(case: Case, named: bool = True) -> dict[str, object]:
    """Judge the pair of a case; return a row of the table."""
    started = time.perf_counter()
    verdict, is_aligned = judge_case(case, named)
    row: dict[str, object] = {
        "case": case.key,
        "expected": case.expected,
        "where": case.where,
        "known_cause": case.cause,
        "verdict": verdict.verdict,
        "part": verdict.first.part if verdict.first else "",
        "left": verdict.first.left if verdict.first else "",
        "right": verdict.first.right if verdict.first else "",
        "difference": verdict.first.difference if verdict.first else 0.0,
        "cause": verdict.cause.name if verdict.cause else "",
        "is_aligned": is_aligned,
        "is_named": named,
        "sentence": verdict.sentence,
        "notes": verdict.notes,
        "seconds": time.perf_counter() - started,
    }
    return row | {"is_right": is_right(case, row)}


def _unmapped(owners: Owners, known: np.ndarray) -> list[str]:
    """Names of the arrays some of whose elements have no counterpart."""
    return [
        f"{array.name} {list(array.shape)}"
        for index, array in enumerate(owners.arrays)
        if not known[owners.elements(index)].all()
    ]


def open_pair(case: Case, inputs: Inputs, named: bool = True) -> tuple[Subject, Subject]:
    """Make both models of a case, with the names of their parameters or without."""
    from benchmarks.verify_pairs.anonymous import Anonymous, without_names
    from flax_impl.verify.adapters import linen
    from flax_impl.verify.subject import FunctionSubject
    from lightning_impl.verify.subject import ModuleSubject

    module, function = make_torch(case.key), linen.adapt(make_flax(case.key), inputs, {})
    if not named:
        module, function = Anonymous(module), without_names(function)
    return ModuleSubject(module, {}), FunctionSubject(function)


def compare(
    left: Subject, right: Subject, inputs: Inputs, alignment: Alignment, training: bool
) -> dict[str, object]:
    """Return the largest differences of both models in a mode."""
    traces = left.trace(inputs, training), right.trace(inputs, training)
    names = pair_outputs(traces[0].outputs, traces[1].outputs)
    draw = np.random.default_rng(1)
    weights = {a: draw.standard_normal(traces[0].outputs[a].shape) for a, _ in names}
    ours = left.run(inputs, training, weights)
    theirs = right.run(
        inputs, training, {b: weights[a].reshape(traces[1].outputs[b].shape) for a, b in names}
    )
    mode = "train" if training else "eval"
    only = [
        set(traces[0].outputs) - {a for a, _ in names},
        set(traces[1].outputs) - {b for _, b in names},
    ]
    return {
        f"{mode} outputs": max(
            (difference(ours.outputs[a], theirs.outputs[b]), a) for a, b in names
        ),
        f"{mode} only": [sorted(side) for side in only],
        f"{mode} gradients": _gradients(ours, theirs, alignment),
        f"{mode} buffers": _buffers(ours, theirs, alignment),
        f"{mode} draws": [
            sorted({(d.kind, round(d.number, 4)) for d in trace.draws}) for trace in traces
        ],
    }


def pair_outputs(
    left: Mapping[str, np.ndarray], right: Mapping[str, np.ndarray]
) -> list[tuple[str, str]]:
    """Pair the outputs of two models by name; if none has the name of another, in order."""
    shared = [(name, name) for name in left if name in right]
    pairs = shared or list(zip(left, right, strict=False))
    return [(a, b) for a, b in pairs if left[a].size == right[b].size]


def difference(left: np.ndarray, right: np.ndarray) -> float:
    """Return the largest difference, relative to the rms of the larger side."""
    if left.size != right.size:
        return np.inf
    scale = max(np.sqrt(np.mean(np.square(side))) for side in (left, right)) or 1.0
    return float(np.abs(left.ravel() - right.ravel()).max() / scale)


def _gradients(ours: Pass, theirs: Pass, alignment: Alignment) -> tuple[float, str]:
    """Compare all gradients by left parameter, relative to the rms of all of them."""
    summed = alignment.mapping.sums_to_left(theirs.gradients)
    used = alignment.mapping.is_used
    owners = alignment.mapping.left
    scale = np.sqrt(
        np.mean(np.concatenate([np.square(g.ravel()) for g in ours.gradients.values()]))
    )
    worst = (0.0, "")
    for index, array in enumerate(owners.arrays):
        known = used[owners.elements(index)]
        if array.name in ours.gradients and known.any():
            apart = np.abs(ours.gradients[array.name] - summed[array.name])[known].max() / scale
            worst = max(worst, (float(apart), array.name))
    return worst


def _buffers(ours: Pass, theirs: Pass, alignment: Alignment) -> tuple[float, str]:
    moved = alignment.mapping.to_left(theirs.buffers, ours.buffers)
    worst = (0.0, "")
    for name, array in ours.buffers.items():
        worst = max(worst, (difference(array, moved[name]), name))
    return worst


def _verdict_line(row: Mapping[str, object]) -> str:
    mark = "right" if row["is_right"] else "WRONG"
    return f"{row['case']:45} {mark} {row['verdict']:8} {row['seconds']:5.1f}  {row['sentence']}"


def _line(row: Mapping[str, object]) -> str:
    if "error" in row:
        return f"{row['case']:45} {row['error']}"
    if "verdict" in row:
        return _verdict_line(row)
    parts = [
        f"{row['case']:45} {row['layers']:3} {row['confirmed']:3} {row['trials']:3} "
        f"{row['open_s']:5.1f} {row['align_s']:5.1f} {row['check_s']:5.1f}"
    ]
    for part in (
        "eval outputs",
        "eval gradients",
        "train outputs",
        "train gradients",
        "train buffers",
    ):
        apart, name = row[part]
        parts.append(f"{apart:8.1e}" + (f" {name}" if apart > 1e-10 else ""))
    left = f"\n      left over: {row['left']} {row['right']}" if row["left"] or row["right"] else ""
    return " ".join(parts) + left


def main() -> None:
    """Measure the cases that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", default="", help="beginnings of names, separated by commas")
    parser.add_argument("--verdicts", action="store_true", help="judge, instead of measuring")
    parser.add_argument("--without-names", action="store_true", help="rename all parameters")
    parser.add_argument(
        "--json", default="", help="file that gets a line for each case that it lacks"
    )
    args = parser.parse_args()
    import flax_impl.verify
    import lightning_impl.verify

    flax_impl.verify.prepare(1)
    lightning_impl.verify.prepare(1)
    file = Path(args.json) if args.json else None
    done = {str(row["case"]) for row in read(file)} if file and file.exists() else set()
    for case in CASES:
        is_asked = not args.cases or case.key.startswith(tuple(args.cases.split(",")))
        if not is_asked or case.key in done:
            continue
        try:
            row = (give_verdict if args.verdicts else measure)(case, not args.without_names)
        except Exception as error:
            print(*traceback.format_exc().splitlines()[-4:], sep="\n")
            row = {"case": case.key, "error": f"{type(error).__name__}: {str(error)[:200]}"}
        print(_line(row), flush=True)
        if file:
            with file.open("a") as stream:
                stream.write(json.dumps(row) + "\n")
    if file and args.verdicts:
        print(table(read(file)))


if __name__ == "__main__":
    main()
