"""What a comparison comes to, in a sentence or two and in four numbers."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from pipeline.announce import number
from pipeline.compare.comparison import Comparison
from pipeline.compare.records import Record
from pipeline.compare.statistics import Effect
from pipeline.metrics import direction


def sentences(made: Comparison) -> list[str]:
    """How the runs ended, which was best, whether pairs are the same, what differs."""
    states = Counter(record.status for record in made.records)
    told = ", ".join(f"{runs} {status}" for status, runs in states.most_common())
    found = [f"{counted(len(made.records), 'run')}: {told}."]
    if best := best_runs(made):
        first = best[0]
        ties = f" and {counted(len(best) - 1, 'other')}" if len(best) > 1 else ""
        value = f"{first.best['metric']} {number(first.best['value'])}"
        found.append(f"The best is {value}, of {first.name}{ties}.")
    for words, pairs in verdicts(made).items():
        found.append(f"{counted(pairs, 'pair')}: {words}.")
    return [*found, *differences(made.effects)]


def differences(effects: Sequence[Effect]) -> list[str]:
    """In what the backends differ, as far as several seeds show it."""
    tested = [effect for effect in effects if effect.estimate.count > 1]
    found, unshown = [], []
    for key in dict.fromkeys(effect.key for effect in tested):
        settings = [effect for effect in tested if effect.key == key]
        shown = [effect for effect in settings if effect.shown]
        if len(settings) == 1 and shown:
            found.append(f"{key}: {shown[0].words}.")
        elif shown:
            found.append(
                f"{key}: a difference is shown in {len(shown)} of {len(settings)} settings."
            )
        else:
            unshown.append(key)
    if unshown:
        found.append(f"No difference between the backends is shown in {', '.join(unshown)}.")
    return found


def best_runs(made: Comparison) -> list[Record]:
    """The best of the runs that were judged by what most were judged by; several where they tie."""
    done = [record for record in made.records if record.status == "completed"]
    judged = [record for record in done if record.best_value(record.best.get("metric")) is not None]
    if not judged:
        return []
    metric = Counter(record.best["metric"] for record in judged).most_common(1)[0][0]
    judged = [record for record in judged if record.best["metric"] == metric]
    choose = max if direction(metric) == "max" else min
    value = choose(record.best["value"] for record in judged)
    return [record for record in judged if record.best["value"] == value]


def verdicts(made: Comparison) -> dict[str, int]:
    """How many pairs came to which verdict, without their numbers."""
    return dict(Counter(pair.words.partition(":")[0] for pair in made.pairs).most_common())


def cards(made: Comparison) -> list[dict[str, Any]]:
    """Up to four numbers, each with what it is: value, label, and whether it is good news."""
    completed = sum(record.status == "completed" for record in made.records)
    failed = sum(record.status in ("failed", "lost") for record in made.records)
    ended = f"runs completed{f', {failed} failed' * (failed > 0)}"
    found = [card(f"{completed} of {len(made.records)}", ended, good=not failed)]
    if best := best_runs(made):
        first = best[0]
        label = f"best {first.best['metric']}: {first.name}"
        more = f" and {len(best) - 1} more" * (len(best) > 1)
        found.append(card(number(first.best["value"]), label + more))
    if ratios := [e for e in made.effects if e.key == "throughput"]:
        means = sorted(effect.estimate.mean for effect in ratios)
        low, high = (f"{mean:.2g}" for mean in (means[0], means[-1]))
        first, second = ratios[0].backends
        label = f"{second}'s samples/s, relative to {first}'s"
        found.append(card(f"{low}×" if low == high else f"{low}–{high}×", label))
    if made.pairs:
        told = verdicts(made)
        several = [f"{pairs} × {words}" for words, pairs in told.items()]
        label = ", ".join(several if len(told) > 1 else told)
        parted = any(pair.same is False for pair in made.pairs)
        found.append(card(counted(len(made.pairs), "pair"), label, good=not parted))
    return found


def card(value: str, label: str, good: bool = True) -> dict[str, Any]:
    """A number of the headline."""
    return {"value": value, "label": label, "good": good}


def counted(count: int, noun: str) -> str:
    """How many of something: `1 run`, `2 runs`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
