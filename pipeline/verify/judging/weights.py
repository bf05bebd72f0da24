"""Values of a user's file, from which the check starts."""

from pipeline.verify.judging.case import Case


def read_weights(case: Case) -> None:
    """Put the values of the user's file in place of those that were drawn for the alignment."""
    if case.request.weights is None:
        return
    descriptions = case.left.description, case.right.description
    side, given = case.request.weights.fit(descriptions)
    if side == 0:
        case.alignment.values = {**case.alignment.values, **given}
    else:
        case.checker.own = {**case.checker.own, **given}
        case.alignment.values = case.alignment.mapping.to_left(
            case.checker.own, case.alignment.values
        )
    case.verdict.checked["weights"] = str(case.request.weights.path)
    zero = [name for name, array in given.items() if not array.any()]
    words = f"; zero in it: {', '.join(zero)}" if zero else ""
    case.verdict.notes.append(
        f"the first seed has the values of {case.request.weights.path} ({case.sides[side][0]}), "
        f"the others drawn ones{words}"
    )
