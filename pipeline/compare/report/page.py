"""The report: one HTML file with a whole comparison, which opens from disk without a network.

Its Content-Security-Policy allows only the scripts of this folder and Plotly's, by their hashes. A script
injected through the name of a run would not run even if it were not escaped.
"""

import json
import re
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from pipeline.atomic_files import write_text
from pipeline.compare.comparison import Comparison
from pipeline.compare.report.page_data import Json, page_data
from pipeline.content_security import hashes

FOLDER = Path(__file__).parent

# In the order of their dependencies.
SCRIPTS = (
    "core", "plots", "filter", "summary", "runs", "answer", "zoom", "curves", "speed", "parallel",
    "pictures", "mistakes", "settings", "main",
)  # fmt: skip

# Plotly writes style attributes, so these are allowed; its one style element is empty, and a script inserts
# its rules.
POLICY = (
    "default-src 'none'; base-uri 'none'; form-action 'none'; img-src data: blob:; "
    "script-src {scripts}; style-src-elem {styles}; style-src-attr 'unsafe-inline'"
)

# Plotly adds a style element for maps, which are not used, unless an element with its id is there.
MAP_STYLE = re.compile(
    r'getElementById\("(\w{64})"\)\)\{var \w+=document\.createElement\("style"\)'
)


def write_page(made: Comparison, path: Path, refresh: float | None = None) -> None:
    """Replace the page atomically; an open one reloads after `refresh` seconds, if given."""
    write_text(path, page(made, refresh))


def page(made: Comparison, refresh: float | None = None) -> str:
    """Return the page as text."""
    scripts = [read_part(f"{name}.js") for name in SCRIPTS]
    return assembled(read_part("report.html"), scripts, page_data(made) | {"refresh": refresh})


def assembled(template: str, scripts: Sequence[str], data: Json) -> str:
    """Return a page in the style of the report, with its scripts, which find the data by the id `data`."""
    style, library = read_part("report.css"), plotly()
    script = "\n".join(['"use strict";', *scripts])
    map_style = MAP_STYLE.search(library)
    text = json.dumps(data, allow_nan=False, separators=(",", ":"), ensure_ascii=False).replace(
        "<", "\\u003c"
    )  # so that it cannot end its script element
    content = {
        "policy": POLICY.format(scripts=hashes(library, script), styles=hashes(style, "")),
        "map_style": f'<meta id="{map_style[1]}">' if map_style else "",
        "style": f"<style>{style}</style>",
        "data": f'<script type="application/json" id="data">{text}</script>',
        "scripts": f"<script>{library}</script>\n<script>{script}</script>",
    }
    return re.sub(r"<!--(\w+)-->", lambda match: content[match[1]], template)


def read_part(name: str) -> str:
    """Read a file of this folder."""
    return (FOLDER / name).read_text(encoding="utf-8")


def plotly() -> str:
    """Read the plotly.js of the package plotly."""
    return files("plotly").joinpath("package_data/plotly.min.js").read_text(encoding="utf-8")
