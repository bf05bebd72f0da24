"""Summary of a comparison: a few sentences and up to four numbers."""

from collections import Counter
from collections.abc import Sequence

from pipeline.compare.comparison import Comparison
from pipeline.compare.conditions import conditions, unlike
from pipeline.compare.records import Record, direction
from pipeline.compare.statistics import Effect
from pipeline.formatting import counted, format_number


def sentences(made: Comparison) -> list[str]:
    """Summarise how the runs ended, the best run, the verdicts on pairs, and the differences."""
    states = Counter(record.status for record in made.records)
    counts = ", ".join(f"{runs} {status}" for status, runs in states.most_common())
    lines = [f"{counted(len(made.records), 'run')}: {counts}."]
    if best := best_runs(made):
        ties = f" and {counted(len(best) - 1, 'other')}" if len(best) > 1 else ""
        value = f"{best[0].best.metric} {format_number(best[0].best.value)}"
        lines.append(f"The best is {value}, of {best[0].name}{ties}.")
    for verdict, pairs in verdicts(made):
        lines.append(f"{counted(pairs, 'pair')}: {verdict}.")
    return [*lines, *differences(made.effects)]


def differences(effects: Sequence[Effect]) -> list[str]:
    """Return the differences between the backends that several seeds show."""
    tested = [effect for effect in effects if effect.estimate.count > 1]
    found, unshown = [], []
    for key in dict.fromkeys(effect.key for effect in tested):
        settings = [effect for effect in tested if effect.key == key]
        shown = [effect for effect in settings if effect.shown]
        if not shown:
            unshown.append(key)
        elif len(settings) == 1:
            found.append(f"{key}: {shown[0].words}.")
        else:
            count = f"{len(shown)} of {len(settings)} settings"
            found.append(f"{key}: a difference is shown in {count}.")
    if unshown:
        found.append(f"No difference between the backends is shown in {', '.join(unshown)}.")
    return found


def best_runs(made: Comparison) -> list[Record]:
    """Return the best completed run by the metric of most runs; several if they tie."""
    done = [
        record
        for record in made.records
        if record.status == "completed" and record.best_value(record.best.metric) is not None
    ]
    if not done:
        return []
    metric = Counter(record.best.metric for record in done).most_common(1)[0][0]
    values = {value for record in done if (value := record.best_value(metric)) is not None}
    best = max(values) if direction(made.records, metric) == "max" else min(values)
    return [record for record in done if record.best_value(metric) == best]


def verdicts(made: Comparison) -> list[tuple[str, int]]:
    """Return each verdict without its numbers, with its number of pairs, the most frequent first."""
    return Counter(pair.words.partition(":")[0] for pair in made.pairs).most_common()


def cards(made: Comparison) -> list[dict[str, str | bool]]:
    """Return up to four numbers with their labels; `good` is false if something failed."""
    completed = sum(record.status == "completed" for record in made.records)
    failed = sum(record.status in ("failed", "lost") for record in made.records)
    ended = f"runs completed{f', {failed} failed' * (failed > 0)}"
    found = [(f"{completed} of {len(made.records)}", ended, not failed)]
    if best := best_runs(made):
        label = f"best {best[0].best.metric}: {best[0].name}"
        more = f" and {len(best) - 1} more" * (len(best) > 1)
        found.append((format_number(best[0].best.value), label + more, True))
    ratios = [effect for effect in made.effects if effect.key == "throughput"]
    # Of three backends the last two: compiled torch and JAX.
    if ratios := [effect for effect in ratios if effect.backends == ratios[-1].backends]:
        means = [effect.estimate.mean for effect in ratios]
        low, high = f"{min(means):.2g}", f"{max(means):.2g}"
        first, second = ratios[0].backends
        unfair = ", not like with like" * bool(unlike(conditions(made.records)))
        label = f"{second}'s samples/s, relative to {first}'s{unfair}"
        found.append((f"{low}×" if low == high else f"{low}–{high}×", label, True))
    if made.pairs:
        counts = verdicts(made)
        several = ", ".join(f"{pairs} × {verdict}" for verdict, pairs in counts)
        label = several if len(counts) > 1 else counts[0][0]
        parted = any(pair.same is False for pair in made.pairs)
        found.append((counted(len(made.pairs), "pair"), label, not parted))
    return [{"value": value, "label": label, "good": good} for value, label, good in found]
