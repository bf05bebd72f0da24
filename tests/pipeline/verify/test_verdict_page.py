"""The verdict's page is one self-contained file; the picture beside it marks the same place."""

import re
from base64 import b64encode
from dataclasses import replace
from hashlib import sha256
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from pipeline.verify.checks.layer_table import find_parting
from pipeline.verify.verdict import (
    Answer,
    Cause,
    First,
    LaneEdge,
    LayerDifference,
    Leftover,
    Part,
    Verdict,
)
from pipeline.verify.verdict_page.page import page, write_page

BAD = "<script>alert('$x$')</script>"


class Reader(HTMLParser):
    """Elements of a page: their tags with attributes, and the texts of the rows of tables."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.rows: list[list[str]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th") and self.rows:
            self.rows[-1].append("")

    def handle_data(self, data):
        if self.rows and self.rows[-1]:
            self.rows[-1][-1] += data.strip()


def parted(**changes) -> Verdict:
    """Three layers; the second one gives another result."""
    layers = [
        LayerDifference("conv", "c1", 0.0, 4e-16, 1e-3),
        LayerDifference("norm", "bn", None, 2e-4, None),
        LayerDifference("head", "out", 3e-4, 5e-3, float("inf")),
    ]
    first = First("forward", "norm", "bn", 2e-4, left_source="net.py:7", right_source="port.py:9")
    made = Verdict(Answer.part, "the forward pass parts here", first, layers=layers)
    return replace(made, **changes)


def test_page_makes_no_requests_and_allows_only_its_own_script_and_style():
    text = page(parted())
    tags = Reader(text).tags
    links = [a for _, attributes in tags for k, a in attributes.items() if k in ("src", "href")]
    assert [link for link in links if not link.startswith("#")] == ["data:,"]
    assert re.findall(r"@import|url\(", text) == []
    assert [attributes for _, attributes in tags if "style" in attributes] == []
    [policy] = [a["content"] for _, a in tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    for kind in ("script", "style"):
        [inline] = re.findall(f"<{kind}>(.*?)</{kind}>", text, re.DOTALL)
        digest = b64encode(sha256(inline.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy


def test_whatever_the_models_are_called_is_escaped():
    bad = parted(
        first=First("forward", BAD, BAD, 1.0, left_source=BAD, right_source=BAD),
        cause=Cause(BAD, BAD, True),
        layers=[LayerDifference(BAD, BAD, 1.0, 1.0, 1.0)],
        alignment=[{"left": BAD, "right": BAD, "transform": BAD}],
        unmatched={"left": [Leftover(BAD, (2,), BAD)], "right": []},
        checked={"seeds": [0], "steps": 1, "optimizer": BAD},
        lanes=[LaneEdge("the port", "fp64", BAD, BAD, reason=BAD)],
        blame=BAD,
        notes=[BAD],
        reason=BAD,
    )
    text = page(bad)
    assert len(re.findall("<script", text)) == 1
    assert text.count("&lt;script&gt;alert(&#x27;$x$&#x27;)&lt;/script&gt;") >= 18


def test_rows_are_the_layers_in_order_with_the_place_where_they_part():
    reader = Reader(page(parted()))
    start = reader.rows.index(
        ["left", "right", "data", "forward", "backward", "1e-151e-101e-051e+00"]
    )
    rows = [row[:5] for row in reader.rows[start + 1 : start + 4]]
    assert rows == [
        ["conv", "c1", "0.0e+00", "4.0e-16", "1.0e-03"],
        ["normthey part here", "bn", "–", "2.0e-04", "–"],
        ["head", "out", "3.0e-04", "5.0e-03", "inf"],
    ]
    marked = [attributes for tag, attributes in reader.tags if attributes.get("id") == "parts"]
    assert marked == [{"id": "parts", "class": "parts", "data-differs": "yes"}]
    skips = [a["href"] for tag, a in reader.tags if a.get("class") == "skip"]
    assert skips == ["#parts"]
    boxes = [a for tag, a in reader.tags if a.get("role") == "region"]
    assert all(box["tabindex"] == "0" and box["aria-label"] for box in boxes)


def test_a_difference_between_two_layers_is_marked_at_the_second_one():
    between = parted(first=First("forward", "between norm and head", "between bn and out", 1e-3))
    between.layers[1] = LayerDifference("norm", "bn", None, 1e-16, None)
    assert find_parting(between) == 2
    assert '<span class="here">they part before it</span>' in page(between)


def test_a_gradient_parts_at_its_own_layer_or_at_the_last_that_differs():
    rows = [LayerDifference(name, name, 0.0, 0.0, 1e-2) for name in ("a", "a.b", "c")]
    rows.append(LayerDifference("d", "d", 0.0, 0.0, 1e-16))
    for name, row in (("a.b.weight", 1), ("c.bias", 2), ("elsewhere", 2)):
        first = First(Part.gradient, name, name, 1e-2)
        assert find_parting(parted(first=first, layers=rows)) == row
    assert find_parting(parted(first=First(Part.buffers, "x", "x", 1.0), layers=rows)) is None


def test_the_same_has_no_place_and_no_mark():
    same = Verdict(Answer.same, "the same", layers=[LayerDifference("a", "b", 0.0, 2e-9, 1e-8)])
    text = page(same)
    assert find_parting(same) is None
    assert '<h1 class="same">The same</h1>' in text
    assert 'class="number bad"' not in text
    assert 'id="place"' not in text
    assert 'href="#layers">Skip to the layers' in text


@pytest.mark.parametrize("layers", [0, 3])
def test_page_and_picture_are_written_side_by_side(tmp_path, layers):
    made = parted(layers=parted().layers[:layers])
    html, picture = write_page(made, tmp_path / "new")
    assert (html.name, picture.name) == ("verdict.html", "verdict.png")
    named = write_page(made, tmp_path / "mine.html")
    assert [path.name for path in named] == ["mine.html", "mine.png"]
    assert named[0].read_text() == html.read_text()
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [
        "verdict.html",
        "verdict.png",
    ]
    pixels = np.asarray(Image.open(picture).convert("RGB")).astype(int)
    red = (pixels[..., 0] > 230) & (pixels[..., 1] < 230) & (pixels[..., 1] > 200)
    rows = np.flatnonzero(red.sum(axis=1) > 300)
    if layers:  # the second of three rows is marked: in the middle of the axes
        assert 0.3 < rows.mean() / len(pixels) < 0.5
        assert rows[-1] - rows[0] < 0.3 * len(pixels)
    else:
        assert len(rows) == 0


def test_names_with_formulas_do_not_break_the_picture(tmp_path):
    layers = [LayerDifference(r"a$\frac{$", "b" * 300, float("inf"), 0.0, float("nan"))]
    _, picture = write_page(parted(layers=layers), tmp_path)
    assert picture.stat().st_size > 1000


def test_a_verdict_on_recordings_counts_their_steps(tmp_path):
    checked = {"seeds": [], "steps": 3, "precision": "float32"}
    text = page(Verdict(Answer.same, "the same", checked=checked))
    assert "<strong>3</strong><span>recorded steps, in float32</span>" in text
    assert "None" not in text
    assert "layers with parameters" not in text
