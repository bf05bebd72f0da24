"""Tables of the measured verdicts, in Markdown."""

from collections.abc import Mapping, Sequence
from statistics import median

from benchmarks.verify_mutants.mistakes import Mutant
from benchmarks.verify_mutants.rewrites import Rewritten
from benchmarks.verify_mutants.score import Score, Told, score

Verdicts = Mapping[str, Told]  # by the pair's name


def mutants_table(mutants: Sequence[Mutant], verdicts: Verdicts) -> str:
    """Tell how many mutants were found, placed and explained, by mistake."""
    scored = [(one, score(one, verdicts[one.name])) for one in mutants if one.name in verdicts]
    rows = ["| mistake | mutants | parted | place | part | cause |", "|---|---|---|---|---|---|"]
    for name in dict.fromkeys(one.mistake.name for one, _ in scored):
        rows.append(_row(name, [found for one, found in scored if one.mistake.name == name]))
    rows.append(_row("**all**", [found for _, found in scored]))
    false = [one.name for one, found in scored if found.is_false_same]
    wrong = ", ".join(false) if false else "none"
    return f"False *same*: {wrong}.\n\n" + "\n".join(rows)


def _row(name: str, scores: Sequence[Score]) -> str:
    counts = (
        sum(getattr(one, field) for one in scores)
        for field in ("verdict", "place", "part", "cause")
    )
    return f"| {name} | {len(scores)} | {' | '.join(map(str, counts))} |"


def rewrites_table(rewritten: Sequence[Rewritten], verdicts: Verdicts) -> str:
    """Tell how many harmless rewrites were called the same, by rewrite."""
    told = [(one, verdicts[one.name]["verdict"]) for one in rewritten if one.name in verdicts]
    rows = ["| rewrite | pairs | same | part | abstain |", "|---|---|---|---|---|"]
    names = dict.fromkeys(one.rewrite.name for one, _ in told)
    for name, answers in [
        *((name, [answer for one, answer in told if one.rewrite.name == name]) for name in names),
        ("**all**", [answer for _, answer in told]),
    ]:
        counts = (answers.count(answer) for answer in ("same", "part", "abstain"))
        rows.append(f"| {name} | {len(answers)} | {' | '.join(map(str, counts))} |")
    false = [one.name for one, answer in told if answer == "part"]
    wrong = ", ".join(false) if false else "none"
    return f"False *part*: {wrong}.\n\n" + "\n".join(rows)


def seconds(verdicts: Verdicts) -> str:
    """Tell how long a pair took."""
    taken = [float(told["seconds"]) for told in verdicts.values() if told.get("seconds")]
    return (
        f"Seconds a pair, in a warm process: median {median(taken):.1f}, longest {max(taken):.1f}."
    )
