"""One page that holds a whole comparison: it opens from disk, without a network, on any machine."""

import json
import re
from importlib.util import find_spec
from pathlib import Path

from pipeline.compare.comparison import Comparison
from pipeline.compare.payload import payload
from pipeline.runs import write_text

PARTS = Path(__file__).parent / "report"  # what the page is made of

# In the order in which they need each other.
SCRIPTS = (
    "core", "plots", "summary", "runs", "answer", "zoom", "curves", "speed", "parallel", "mistakes",
    "settings", "main",
)  # fmt: skip

PLOTLY = Path("package_data", "plotly.min.js")  # in its package


def write_page(made: Comparison, path: Path, refresh: float | None = None) -> None:
    """Replace the page whole.

    Args:
        made: what it shows.
        path: of the file.
        refresh: seconds after which an open page reads itself again; None: it does not.

    Raises:
        OSError: the file cannot be written.
    """
    write_text(path, page(made, refresh))


def page(made: Comparison, refresh: float | None = None) -> str:
    """The page as text."""
    scripts = [(PARTS / f"{name}.js").read_text(encoding="utf-8") for name in SCRIPTS]
    content = {
        "style": f"<style>{(PARTS / 'report.css').read_text(encoding='utf-8')}</style>",
        "data": f'<script type="application/json" id="data">{as_json(made, refresh)}</script>',
        "plotly": f"<script>{plotly().read_text(encoding='utf-8')}</script>",
        "scripts": "\n".join(f"<script>{script}</script>" for script in scripts),
    }
    template = (PARTS / "report.html").read_text(encoding="utf-8")
    return re.sub(r"<!--(\w+)-->", lambda match: content[match[1]], template)


def as_json(made: Comparison, refresh: float | None) -> str:
    """What the page shows, such that nothing in it can end the script that it stands in."""
    content = payload(made) | {"refresh": refresh}
    text = json.dumps(content, allow_nan=False, separators=(",", ":"), ensure_ascii=False)
    return text.replace("<", "\\u003c")


def plotly() -> Path:
    """The plotly.js that the package plotly brings along, found without importing it."""
    return Path(find_spec("plotly").submodule_search_locations[0]) / PLOTLY
