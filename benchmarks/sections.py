"""Sections of a page that are written by commands: each command replaces its own, and leaves the others."""

import re
from pathlib import Path

TITLE = "How well `python -m pipeline.verify` judges"  # of benchmarks/verify.md
FENCE = re.compile(r"^(```|~~~)")


def replace_section(text: str, heading: str, body: str) -> str:
    """Return a page with another text under a heading, which is appended if the page has none.

    A section ends before the next heading of the same level, or a higher one.

    Args:
        text: The page, in Markdown.
        heading: With its number signs: `## Mutants`.
        body: What the section holds, without its heading.
    """
    level = heading.index(" ")
    lines = text.splitlines()
    headings = _headings(lines)
    section = [heading, "", *body.strip("\n").splitlines(), ""]
    start = next((at for at, _ in headings if lines[at].rstrip() == heading), None)
    if start is None:
        before = [*_trimmed(lines), ""] if lines else []
        return "\n".join([*before, *section])
    end = next((at for at, depth in headings if at > start and depth <= level), len(lines))
    after = lines[end:]
    return "\n".join([*lines[:start], *section, *after]).rstrip("\n") + "\n"


def write_section(file: Path, title: str, heading: str, body: str) -> None:
    """Replace a section of a file; a file that does not exist is made, with a title."""
    text = file.read_text() if file.exists() else f"# {title}\n"
    file.write_text(replace_section(text, heading, body))


def _headings(lines: list[str]) -> list[tuple[int, int]]:
    """Return the places of headings and their levels; what a code block holds is none."""
    found, is_code = [], False
    for at, line in enumerate(lines):
        is_code ^= bool(FENCE.match(line))
        if not is_code and (match := re.match(r"(#+) ", line)):
            found.append((at, len(match[1])))
    return found


def _trimmed(lines: list[str]) -> list[str]:
    while lines and not lines[-1].strip():
        lines = lines[:-1]
    return lines
