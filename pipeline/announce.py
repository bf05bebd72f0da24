"""What a person reads at the start and at the end of a run."""

import math
from typing import Any

from rich.markup import escape
from rich.tree import Tree

from pipeline.config import Config, plain
from pipeline.terminal import say

OF_THE_RUN = ("seed", "mode", "resume", "checkpoint", "tags")  # keys that are in no group


def announce(config: Config, folder: str, device: str) -> None:
    """Print the composed config as a tree, the device, and where things go."""
    tree = Tree("[bold]experiment[/]", guide_style="dim")
    values = plain(config)
    for group, node in values.items():
        if isinstance(node, dict) and group != "sweep" and (line := one_line(node)):
            tree.add(f"[bold]{group:<11}[/] {line}")
    tree.add(f"[bold]{'run':<11}[/] {one_line({key: values[key] for key in OF_THE_RUN})}")
    say(tree)
    say(f"device  {escape(device)}")
    say(f"output  {escape(folder)}", soft_wrap=True)


def one_line(node: dict[str, Any]) -> str:
    """A group's option and values on one line; what is null or empty is left out."""
    values = {key: value for key, value in node.items() if value not in (None, [], {})}
    name = values.pop("name", None)
    words = [f"[cyan]{escape(str(name))}[/]"] if name else []
    for key, value in values.items():
        if isinstance(value, dict):
            words.append(f"{key}({one_line(value)})")
        else:
            words.append(f"[dim]{key}=[/]{escape(typed_value(value))}")
    return " ".join(words)


def typed_value(value: object) -> str:
    """A value as it would be typed."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"[{','.join(map(str, value))}]" if isinstance(value, list) else str(value)


def announce_result(outcome: dict[str, Any], folder: str) -> None:
    """Print how the run ended, in two or three lines."""
    if outcome.get("test"):
        metrics = "  ".join(f"{key} {number(value)}" for key, value in outcome["test"].items())
        say(f"[bold]{metrics}[/]")
    if outcome.get("look"):
        say(f"what the model is fed  →  {escape(outcome['look'])}", soft_wrap=True)
    seconds = outcome["seconds"]["total"]
    say(f"{outcome['status']} in {seconds:.1f} s  →  {escape(folder)}", soft_wrap=True)


def number(value: object) -> str:
    """A figure with four significant digits, thousands set off; a dash for what is missing."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, float):
        return f"{value:,.0f}" if 1000 <= abs(value) < 1e9 else f"{value:.4g}"
    return str(value)
