"""The page of a benchmark in a real browser, opened from disk."""

from pipeline.bench.report.page import page
from pipeline.bench.report.sentence import sentences
from pipeline.bench.results import Bench, Measured
from pipeline.compare.conditions import PHRASES


def measured(backend, batch, seconds):
    """A measurement of six equal rounds."""
    rounds = [seconds] * 6
    return Measured(
        backend=backend, precision="fp32", batch=batch, train=rounds, infer=rounds,
        beside=("torch", "jax"), memory_mb=100.0, first_seconds=1.0, compile_seconds=0.5,
        layers={"conv1": (seconds, seconds)} if batch == 32 else {},
        conditions={"backend": backend, "mode": "eager" if backend == "torch" else "compiled"}
        | dict.fromkeys([*PHRASES][1:], "the same"),
    )  # fmt: skip


def test_the_page_of_a_benchmark_draws_its_curves_and_tables_without_an_error(browser, tmp_path):
    made = Bench(
        title="cnn <on> digits", batch=32, backends=("torch", "jax"), precisions=("fp32",),
        measured=[measured(name, n, n * s) for n in (32, 64) for name, s in (("torch", 2.0), ("jax", 1.0))],
        notes=["the machine was busy"],
    )  # fmt: skip
    path, troubles, asked = tmp_path / "bench.html", [], []
    path.write_text(page(made))
    opened = browser.new_page()
    opened.on("pageerror", lambda error: troubles.append(str(error)))
    opened.on("console", lambda message: troubles.append(message.text))
    opened.on("request", lambda request: asked.append(request.url))
    opened.goto(path.as_uri())
    assert troubles == []
    # Also those that are out of view, which a picture of the whole page shows.
    opened.wait_for_function("() => plots.every((plot) => plot.element.querySelector('.trace'))")
    assert opened.evaluate("plots.filter((plot) => !plot.near).length") > 0
    assert opened.evaluate("plots.map((plot) => plot.element.data.length)") == [2] * 5
    lines = opened.evaluate(
        "plots[0].element.data.map(({ line, opacity }) => [line.dash, line.width, opacity])"
    )
    assert lines == [["solid", 4, 0.5], ["6px,4px", 1.7, 1]]  # as in the report
    strokes = opened.locator(".swatch line").evaluate_all(
        "all => all.map((one) => one.style.stroke)"
    )
    assert len({*strokes}) == len(strokes) == 2
    assert opened.locator(".swatch line[stroke-dasharray='6,4']").count() == 1
    assert opened.locator("h1").inner_text() == "cnn <on> digits"
    assert opened.locator("#summary p").all_inner_texts() == sentences(made)
    assert opened.locator("#notes li").all_inner_texts() == ["the machine was busy"]
    [unlike] = opened.locator("#fairness .unlike").all_inner_texts()
    assert unlike.startswith("not like with like: torch ran in eager mode, jax ran compiled;")
    rows = {
        name: opened.locator(f"#{name} tbody tr").count()
        for name in ("measurements", "growth", "used", "layers")
    }
    assert rows == {"measurements": 4, "growth": 2, "used": 2, "layers": 1}
    assert troubles == []
    assert asked == [path.as_uri()]
