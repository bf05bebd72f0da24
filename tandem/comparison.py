"""Runs side by side, as a frame, as text, and in a notebook."""

from base64 import b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.compare import Files, write
from pipeline.compare.columns import columns
from pipeline.compare.comparison import Comparison as Compared
from pipeline.compare.comparison import comparison
from pipeline.compare.table import findings, markdown
from pipeline.errors import BadArgument
from tandem.finished import Run
from tandem.frames import frame

if TYPE_CHECKING:
    from pandas import DataFrame

DPI = 90


@dataclass(frozen=True)
class Comparison:
    """Runs side by side; `compared` is what `tandem compare` makes its page of."""

    compared: Compared

    @property
    def frame(self) -> "DataFrame":
        """A row for each run: status, test metrics, speed, memory; it needs pandas."""
        shown = columns(self.compared)
        return frame([{c.title: c.of(record) for c in shown} for record in self.compared.records])

    @property
    def findings(self) -> dict[str, list[str]]:
        """Sentences by title: which runs are the same, differences over seeds, warnings."""
        return findings(self.compared)

    def write(self, folder: str | Path) -> Path:
        """Write the page and the tables into a folder; return the page, report.html."""
        return write(self.compared, Files(Path(folder)))[0]

    def __str__(self) -> str:
        return markdown(self.compared)

    def _repr_html_(self) -> str:
        return "".join(html(self.compared))


def compare(runs: Sequence[Run | str | Path]) -> Comparison:
    """Compare runs, and sweeps by their folders.

    Raises:
        UserError: there is no run.
    """
    folders = [one.folder if isinstance(one, Run) else Path(one) for one in runs]
    try:
        return Comparison(comparison(folders))
    except BadArgument as error:  # named as it was called
        call = f"tandem.compare({[str(folder) for folder in folders]})"
        raise BadArgument(call, error.allowed, error.hint, problem=error.problem) from error


def html(compared: Compared) -> Iterator[str]:
    """Yield the table, the findings, and the curves of the loss and of the monitored metric."""
    shown = [c for c in columns(compared) if any(c.of(r) is not None for r in compared.records)]
    yield "<table><tr>" + "".join(f"<th>{escape(c.title)}</th>" for c in shown) + "</tr>"
    for record in compared.records:
        yield "<tr>" + "".join(f"<td>{escape(c.text(record))}</td>" for c in shown) + "</tr>"
    yield "</table>"
    for title, sentences in findings(compared).items():
        lines = "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences)
        yield f"<p>{escape(title)}</p><ul>{lines}</ul>"
    known = dict.fromkeys(key for record in compared.records for key in record.reading.curves)
    monitored = dict.fromkeys(record.best.metric for record in compared.records)
    for key in ("train/loss", *monitored):
        if key in known:
            yield picture(compared, key)


def picture(compared: Compared, key: str) -> str:
    """Return the curves of a key as an image that the page holds itself."""
    from pipeline.compare.figures import curves  # late: matplotlib takes half a second

    file = BytesIO()
    curves(compared, key).savefig(file, format="png", dpi=DPI)
    content = b64encode(file.getvalue()).decode()
    return f'<img alt="{escape(key)}" src="data:image/png;base64,{content}">'
