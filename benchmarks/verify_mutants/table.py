"""Tables of the measured verdicts, in Markdown."""

from collections.abc import Mapping, Sequence
from statistics import median

from benchmarks.verify_mutants.mistakes import Mutant
from benchmarks.verify_mutants.rewrites import Rewritten
from benchmarks.verify_mutants.score import Score, Told, score

Verdicts = Mapping[str, Told]  # by the pair's name


COMMAND = "`python -m benchmarks.verify_mutants`"
WHAT = f"""Models with one mistake in one of their two sides, by {COMMAND}, which needs about an hour: every
mistake in several models, in all of a model or in its last block alone, on either side (torch against linen,
now and then NNX, Equinox or plain functions). *Parted*: the verdict is not *same*. *Place*, *part* and
*cause* are right if they are among those that `benchmarks/verify_mutants/mistakes` lists. A verdict that
was right is kept when the code has changed since: a new file judges all pairs again."""
HARMLESS = (
    f"""The same models, one side written in another way that changes nothing, by {COMMAND}."""
)


def mutants_section(mutants: Sequence[Mutant], verdicts: Verdicts) -> str:
    """Tell how many mutants were found, placed and explained: in all, and by mistake."""
    scored = [(one, score(one, verdicts[one.name])) for one in mutants if one.name in verdicts]
    if not scored:
        return "No mutant has been judged."
    found = [result for _, result in scored]
    kinds, models = {one.mistake.name for one, _ in scored}, {one.model for one, _ in scored}
    shares = ", ".join(
        f"{sum(getattr(one, field) for one in found) / len(found):.1%} {words}"
        for field, words in (
            ("verdict", "with the right verdict"),
            ("place", "with the right first place"),
            ("part", "with the right part"),
            ("cause", "with the right cause"),
        )
    )
    counts = f"{len(found)} mutants of {len(kinds)} mistakes in {len(models)} models: {shares}."
    return "\n\n".join((WHAT, counts, mutants_table(scored), seconds(verdicts)))


def rewrites_section(rewritten: Sequence[Rewritten], verdicts: Verdicts) -> str:
    """Tell how many harmless rewrites were called the same: in all, and by rewrite."""
    told = [verdicts[one.name]["verdict"] for one in rewritten if one.name in verdicts]
    counts = f"{len(told)} pairs: {told.count('same')} the same, {told.count('part')} part."
    return "\n\n".join((HARMLESS, counts, rewrites_table(rewritten, verdicts)))


def mutants_table(scored: Sequence[tuple[Mutant, Score]]) -> str:
    """Tell how many mutants were found, placed and explained, by mistake."""
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
