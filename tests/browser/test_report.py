"""The HTML report in a real browser: opened from disk, with mouse, keyboard and touch, and in print."""

import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from end_to_end.conftest import Workspace
from made_runs import change_result, write_predictions, write_run, write_sweep

from pipeline.compare.comparison import comparison
from pipeline.compare.report.page import write_page

SECTIONS = ["runs", "answer", "curves", "speed", "sweep", "mistakes", "settings"]

POINTS = """() => panels.map((panel) => panel.element.data
    .filter((trace) => trace.meta !== "gap" && trace.meta !== "lit")
    .map((trace) => ({dash: trace.line.dash, color: trace.line.color,
                      points: trace.x.filter((x) => x !== null).length,
                      last: Math.max(...trace.x.filter((x) => x !== null))})))"""

LIT = """() => panels.every((panel) => panel.element.data.at(-1).x?.length
                                     && panel.element.classList.contains("dimmed"))"""


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """Path of the report of a small sweep with one failed run."""
    folder = tmp_path_factory.mktemp("report")
    sweep = write_sweep(folder / "sweep")
    failed = write_run(sweep / "8_failed", steps=20, optimizer__lr=9.0, seed=7)
    change_result(failed, status="failed", error="loss is <b>NaN</b>", test=None, best=None)
    write_page(comparison([sweep]), folder / "report.html")
    return folder / "report.html"


USUAL = {"viewport": {"width": 1280, "height": 900}, "reduced_motion": "reduce"}


@pytest.fixture(scope="module")
def window(browser, report):
    """A browser context that keeps one page open, which makes opening others four times as fast."""
    with browser.new_context(**USUAL) as window:
        window.new_page().goto(report.as_uri())
        yield window


def watch(page, troubles: list[str], tolerated: Sequence[str] = ()) -> None:
    """Let a page add what it logs, its errors, and what it asks the network for to `troubles`."""

    local = ("file:", "data:", "blob:")
    page.on(
        "console",
        lambda line: any(part in line.text for part in tolerated) or troubles.append(line.text),
    )
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("request", lambda one: one.url.startswith(local) or troubles.append(one.url))


@pytest.fixture(scope="module")
def drawn(window, report):
    """The report with all of its plots, for tests that leave it as they find it."""
    page = window.new_page()
    watch(page, troubles := [])
    page.goto(report.as_uri())
    page.evaluate("redrawAll()")
    yield page
    page.close()
    assert troubles == []


@pytest.fixture
def open_page(browser, window, report):
    """A function that opens a page, which must log no errors and make no network requests."""
    pages, troubles = [], []

    def opened(path: Path = report, tolerated: Sequence[str] = (), **how):
        own = how.keys() - {"viewport"}  # what a window has for all of its pages
        page = (browser.new_context(**USUAL | how) if own else window).new_page()
        pages.append(page)
        page.set_viewport_size((USUAL | how)["viewport"])
        watch(page, troubles, tolerated)
        page.goto(path.as_uri())
        return page

    yield opened
    for page in pages:
        page.close() if page.context is window else page.context.close()
    assert troubles == []


def scroll_to(page, section: str) -> None:
    """Scroll to a section, and wait until its plots are drawn: those out of sight are not."""
    page.locator(f"#{section} .plot").last.scroll_into_view_if_needed()
    page.wait_for_function(
        """(id) => plots.filter((plot) => byId(id).contains(plot.element))
                        .every((plot) => plot.near && !plot.stale)""",
        arg=section,
    )


def names(page) -> list[str]:
    """Names of the visible runs in the table."""
    return page.locator("#runs tbody tr:visible th").all_inner_texts()


def test_report_shows_every_section_and_starts_with_the_summary(drawn):
    page = drawn
    assert page.title() == "sweep · comparison"
    shown = page.locator("main section:visible").evaluate_all("all => all.map((one) => one.id)")
    assert shown == SECTIONS
    assert page.locator(".card strong").first.inner_text() == "8 of 9"
    assert page.locator("#summary p").first.inner_text() == "9 runs: 8 completed, 1 failed."
    assert "loss is <b>NaN</b>" in page.locator(".notes .error").inner_text()
    assert len(names(page)) == 9


def test_curves_of_a_pair_share_a_colour_and_differ_in_dash(drawn):
    page = drawn
    left, right = page.evaluate(POINTS)
    assert {trace["dash"] for trace in right} == {"solid", "6px,4px"}
    by_colour = {}
    for trace in right:
        by_colour.setdefault(trace["color"], set()).add(trace["dash"])
    assert sorted(map(len, by_colour.values())) == [1, 2, 2, 2, 2]  # the failed run is alone
    assert sum(trace["points"] for trace in right) == 8 * 100 + 20
    assert sum(trace["points"] for trace in left) == 8 * 10 + 2
    assert page.locator("#curves .scatterlayer .trace path.js-line").count() >= 18
    gaps = page.evaluate("panels[1].element.data.filter((trace) => trace.meta === 'gap').length")
    assert gaps == 4
    assert page.evaluate("panels[1].element.layout.yaxis2.type") == "log"
    same = "In every pair the backends are the same to the last digit"
    scroll_to(page, "curves")
    metric = page.get_by_label("metric", exact=True).first
    former = metric.input_value()
    metric.select_option("optim/lr")
    shown = page.locator("#curves .panel").first.inner_text()
    metric.select_option(former)
    assert same in shown


def test_three_backends_have_three_lines_and_the_page_says_what_each_used(open_page, tmp_path):
    for name in ("jax", "torch_compiled", "torch"):
        compiled = {"backend__compile": True} if name == "torch_compiled" else {}
        write_run(tmp_path / name, name.removesuffix("_compiled"), **compiled)
    write_page(comparison([tmp_path]), tmp_path / "report.html")
    page = open_page(tmp_path / "report.html")
    scroll_to(page, "curves")
    lines = page.evaluate(
        "panels[1].element.data.filter((one) => !['gap', 'lit'].includes(one.meta))"
        ".map((one) => [one.line.dash, one.line.width, one.opacity ?? 1, one.line.color])"
    )
    assert [dash for dash, *_ in lines] == ["solid", "6px,4px", "2px,3px"]
    [broad] = [(width, opacity) for dash, width, opacity, _ in lines if dash == "solid"]
    assert all(width < broad[0] for dash, width, *_ in lines if dash != "solid")
    keys = page.locator("#curves .key").filter(has_text=re.compile("torch|jax"))
    assert keys.all_inner_texts()[:3] == ["torch", "torch_compiled", "jax"]
    table = page.get_by_role("region", name="What each run used")
    cells = [row.split("\t") for row in table.locator("tbody tr").all_inner_texts()]
    assert [one[:3] for one in cells] == [
        ["jax", "compiled", "float32"],
        ["torch", "eager", "float32"],
        ["torch_compiled", "compiled", "float32"],
    ]
    assert page.locator(".unlike").count() == 0
    assert "torch and torch_compiled" in page.locator("#answer").inner_text()


def test_the_page_says_that_eager_torch_beside_jax_is_not_like_with_like(drawn):
    told = "not like with like: torch ran in eager mode, jax ran compiled; backend=torch_compiled compiles"
    assert drawn.locator(".unlike").inner_text().startswith(told)
    assert "relative to torch's, not like with like" in drawn.locator("#cards").inner_text()


def test_hovering_over_a_curve_shows_value_step_and_run(open_page):
    page = open_page()
    page.locator("#filter").fill("torch optimizer.lr=0.003 seed=1")
    scroll_to(page, "curves")
    page.evaluate("refresh(panels)")
    point = page.evaluate(
        """() => {
        const {element} = panels[0], box = element.getBoundingClientRect(), full = element._fullLayout;
        const [trace] = element.data;
        return [box.x + full.xaxis._offset + full.xaxis.l2p(trace.x[4]),
                box.y + full.yaxis._offset + full.yaxis.l2p(trace.y[4])];
    }"""
    )
    page.mouse.move(point[0] - 2, point[1])
    page.mouse.move(*point)
    told = page.locator("#curves .hoverlayer .hovertext")
    told.first.wait_for()
    text = told.first.text_content()
    value = page.evaluate("data.runs[3].curves['val/accuracy'].v[4]")
    assert text == f"{value:.4g} at step 50backend=torch optimizer.lr=0.003 seed=1"


def test_table_sorts_by_mouse_and_keyboard(open_page):
    page = open_page()
    button = page.locator("#runs th button", has_text="test/loss")
    head = page.locator("#runs th[data-title='test/loss']")
    button.click()
    assert head.get_attribute("aria-sort") == "ascending"
    values = [float(text) for text in losses(page)[:-1]]
    assert values == sorted(values)
    assert losses(page)[-1] == "–"
    button.focus()
    page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "descending"
    assert [float(text) for text in losses(page)[:-1]] == sorted(values, reverse=True)
    assert losses(page)[-1] == "–"
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    assert page.locator("#runs th[aria-sort=ascending]").count() == 1
    assert head.get_attribute("aria-sort") == "none"


def losses(page) -> list[str]:
    """Values of the column test/loss from top to bottom."""
    return page.locator("#runs tbody tr td:nth-child(3)").all_inner_texts()


def test_filter_selects_the_same_runs_in_every_section(open_page):
    page = open_page()
    page.locator("#filter").press_sequentially("jax seed=1")
    assert len(names(page)) == 2
    assert all("backend=jax" in name and "seed=1" in name for name in names(page))
    assert page.locator("#count").inner_text() == "2 of 9 runs"
    page.evaluate("redrawAll()")
    _, right = page.evaluate(POINTS)
    assert {trace["dash"] for trace in right} == {"6px,4px"}
    assert sum(trace["points"] for trace in right) == 2 * 100
    assert page.locator("#speed .bars tbody tr:visible").count() == 2
    assert page.locator("#answer tr.pair:visible").count() == 2
    axes = len(page.evaluate("data.axes"))
    drawn = page.evaluate(
        "document.querySelector('#sweep .plot').data.map((trace) => trace.x.filter((x) => x !== null).length)"
    )
    assert sum(drawn) == 2 * axes
    page.locator("#filter").fill("no such run")
    assert page.locator("#none").is_visible()
    page.locator("#filter").fill("failed")
    assert len(names(page)) == 1
    page.locator("#filter").fill("")
    page.locator("#curves .chips button").nth(1).click()
    assert len(names(page)) == 2
    assert page.locator("#filter").input_value() == "optimizer.lr=0.003 seed=0"
    page.locator("#curves .chips button").nth(1).click()
    assert len(names(page)) == 9


def test_axes_switch_between_steps_samples_and_time_and_to_log_scale(open_page):
    page = open_page()
    last = lambda: max(trace["last"] for trace in page.evaluate(POINTS)[1])  # noqa: E731
    scroll_to(page, "curves")
    assert last() == 100
    page.get_by_label("over", exact=True).select_option("samples")
    assert last() == 100 * 32
    page.get_by_label("over", exact=True).select_option("time")
    assert last() == 0.2
    assert page.evaluate("panels[1].element.layout.xaxis.title.text") == "seconds"
    assert page.evaluate("panels[1].element._fullLayout.yaxis.type") == "linear"
    page.get_by_label("logarithmic").focus()
    page.keyboard.press("Space")
    assert page.evaluate("panels.map((panel) => panel.element._fullLayout.yaxis.type)") == [
        "log",
        "log",
    ]
    page.get_by_label("metric", exact=True).first.select_option("optim/grad_norm")
    assert page.evaluate("panels[0].element.layout.yaxis.title.text") == "optim/grad_norm"


def zoom_in(page, plot: int = 0, down: int = 1) -> dict:
    """Zoom in on about steps 30 to 60 of the right panel; return the bounding box of the plot.

    Args:
        page: the page, scrolled to its curves.
        plot: 0 for the curves of the panel, 1 for the differences.
        down: pixels that the pointer moves down; a few zoom the steps only.
    """
    area = page.locator("#curves .plot").nth(1).locator(".nsewdrag").nth(plot).bounding_box()
    page.mouse.move(area["x"] + area["width"] * 0.3, area["y"] + 20)
    page.mouse.down()
    page.mouse.move(area["x"] + area["width"] * 0.6, area["y"] + 20 + down, steps=5)
    page.mouse.up()
    return area


RANGES = """() => panels.map(({element: {_fullLayout: drawn}}) =>
    [drawn.xaxis, drawn.yaxis, drawn.yaxis2].map((axis) => axis?.range.map((end) => end.toFixed(6))))"""


@pytest.mark.slow
def test_zoom_survives_reloads_until_it_is_reset(open_page):
    page = open_page()
    scroll_to(page, "curves")
    whole = page.evaluate(RANGES)
    area = zoom_in(page)
    zoomed = page.evaluate(RANGES)
    assert zoomed[0] == whole[0]
    low, high = map(float, zoomed[1][0])
    assert 20 < low < 40
    assert 50 < high < 70
    assert page.evaluate("panels[1].element.data.at(-2).xaxis ?? 'x'") == "x", "differences, too"
    page.reload()
    scroll_to(page, "curves")
    assert page.evaluate(RANGES) == zoomed
    page.evaluate("filter('jax'), refresh(panels), filter(''), refresh(panels)")
    assert page.evaluate(RANGES)[1][0] == zoomed[1][0]
    metric = page.get_by_label("metric", exact=True).last
    former = metric.input_value()
    metric.select_option("optim/grad_norm")
    assert page.evaluate(RANGES)[1][0] == whole[1][0], "other curves are seen whole"
    metric.select_option(former)
    assert page.evaluate(RANGES) == whole

    leave = {
        "twice on the plot": lambda: page.mouse.dblclick(area["x"] + 50, area["y"] + 50),
        "the button": lambda: page.locator("#curves .plot").last.locator(
            "[data-title='Autoscale']"
        ).click(),
    }  # fmt: skip
    for way, out in leave.items():
        area = zoom_in(page)
        page.reload()
        scroll_to(page, "curves")
        page.evaluate("refresh(panels)")
        assert page.evaluate(RANGES) != whole
        zoom_in(page)  # further
        out()
        page.wait_for_function(f"(whole) => String(({RANGES})()) === String(whole)", arg=whole)
        page.reload()
        scroll_to(page, "curves")
        assert page.evaluate(RANGES) == whole, way


def test_zoom_of_differences_is_reset_when_the_axis_type_changes(open_page, tmp_path):
    def write(steps: int) -> None:
        runs = [write_run(tmp_path / name, name, 0, steps, 1, 1e-6) for name in ("torch", "jax")]
        write_page(comparison(runs), tmp_path / "report.html")

    write(steps=100)
    page = open_page(tmp_path / "report.html")
    scroll_to(page, "curves")
    assert page.evaluate("panels[1].element._fullLayout.yaxis2.type") == "log"
    zoom_in(page, plot=1, down=50)
    assert page.evaluate("panels[1].element.layout.yaxis2.autorange") is False
    write(steps=3)  # whose differences are of one size
    page.reload()
    scroll_to(page, "curves")
    assert page.evaluate("panels[1].element._fullLayout.yaxis2.type") == "linear"
    assert page.evaluate("panels[1].element.layout.yaxis2.autorange") is True
    assert page.evaluate("panels[1].element.layout.xaxis.autorange") is False


def test_focused_run_is_highlighted_in_the_curves(open_page):
    page = open_page()
    scroll_to(page, "curves")
    assert not page.evaluate(LIT)
    page.locator("#runs tbody button").nth(2).focus()
    scroll_to(page, "curves")
    page.wait_for_function(LIT)
    assert page.locator("#runs tr.lit").get_attribute("data-run") == "2"
    page.keyboard.press("Enter")  # keeps it
    page.locator("#filter").focus()
    assert page.locator("#runs tbody button[aria-pressed=true]").count() == 1
    page.wait_for_timeout(150)
    assert page.evaluate(LIT)
    page.set_viewport_size({"width": 1280, "height": 300})
    page.locator("#runs tbody button").nth(2).press("Enter")  # releases it
    page.locator("#runs tbody button").nth(3).focus()
    page.wait_for_function("() => lit === 3 && !panels.some((panel) => panel.near)")
    page.wait_for_timeout(150)  # the curves would be highlighted by now
    assert page.evaluate("panels.every((panel) => panel.stale)")
    scroll_to(page, "curves")
    page.wait_for_function(LIT)


def test_mistakes_are_shown_beside_those_of_the_paired_run(open_page):
    page = open_page()
    section = page.locator("#mistakes")
    scroll_to(page, "mistakes")
    assert section.locator(".panel").count() == 2
    assert re.search(r"predictions of the two backends differ for \d+ of 300", section.inner_text())
    assert section.locator("img").count() == 16
    assert section.locator("img").evaluate_all("all => all.every((one) => one.naturalWidth === 8)")
    assert re.search(r"true \d, predicted \d \(\d+.%\)", section.locator("li").first.inner_text())
    counts = page.evaluate("document.querySelector('#mistakes .plot').data[0].text.flat()")
    assert sum(count or 0 for count in counts) == 300
    section.locator("select").select_option(label="backend=jax optimizer.lr=0.003 seed=1")
    assert "backend=torch optimizer.lr=0.003 seed=1" in section.locator("h3").first.inner_text()
    assert section.locator(".panel").count() == 2


def test_classes_are_shown_by_name(open_page, tmp_path):
    names = [f"{kind} & <b>{number}</b>" for number in range(5) for kind in ("cat", "cat")]
    write_predictions(write_run(tmp_path / "run"), names=names)
    write_page(comparison([tmp_path / "run"]), tmp_path / "report.html")
    page = open_page(tmp_path / "report.html")
    section = page.locator("#mistakes")
    scroll_to(page, "mistakes")
    words = r"true cat & <b>\d</b>, predicted cat & <b>\d</b> \(\d+.%\)"
    assert re.match(words, section.locator("li").first.inner_text())
    for axis in ("x", "y"):
        ticks = section.locator(f".{axis}tick text").evaluate_all(
            "all => all.map((t) => t.textContent)"
        )
        assert ticks == names, "two classes of one name are still two"
    cell = section.locator(".nsewdrag").bounding_box()
    page.mouse.move(cell["x"] + cell["width"] / 20, cell["y"] + cell["height"] / 20)
    told = section.locator(".hoverlayer .hovertext")
    told.first.wait_for()
    assert re.match(
        r"true cat & <b>0</b>, predicted cat & <b>0</b>: \d+ samples", told.first.text_content()
    )


PHONE = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}


@pytest.mark.parametrize("how", ["mouse", "touch"])
def test_page_never_scrolls_sideways_and_touch_scrolls_over_plots(request, how):
    if how == "mouse":
        page = request.getfixturevalue("drawn")
    else:
        page = request.getfixturevalue("open_page")(**PHONE)
        page.evaluate("redrawAll()")
    width = page.viewport_size["width"]
    assert page.evaluate("panels[0].element.layout.dragmode") == (how == "mouse" and "zoom")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    boxes = page.locator(".box").evaluate_all(
        "all => all.map((one) => one.getBoundingClientRect().right)"
    )
    assert max(boxes) <= width
    plots = page.locator("#curves .main-svg").evaluate_all(
        "all => all.map((one) => one.getBoundingClientRect().right)"
    )
    assert max(plots) <= width


def colours(page) -> tuple[str, str, str]:
    """Colours of the page, of the text in a plot and of its first curve."""
    return page.evaluate(
        """[getComputedStyle(document.body).backgroundColor,
            getComputedStyle(document.querySelector('#curves .xtick text')).fill,
            getComputedStyle(document.querySelector('#curves path.js-line')).stroke]"""
    )


def test_page_and_plots_follow_the_colour_scheme(open_page):
    page = open_page()
    scroll_to(page, "curves")
    light = colours(page)
    assert light == ["rgb(251, 251, 250)", "rgb(29, 33, 38)", "rgb(0, 114, 178)"]
    page.emulate_media(color_scheme="dark")
    page.wait_for_function("() => document.documentElement.dataset.theme === 'dark'")
    dark = colours(page)
    assert dark == ["rgb(20, 23, 27)", "rgb(230, 232, 235)", "rgb(88, 174, 232)"]
    swatch = page.locator("#runs .swatch line").first
    assert swatch.evaluate("one => getComputedStyle(one).stroke") == dark[2]


def test_print_shows_everything_in_light_colours_without_controls(open_page):
    page = open_page(viewport={"width": 1000, "height": 700})
    page.emulate_media(color_scheme="dark")
    assert page.locator("#settings .plot, #sweep .js-plotly-plot").count() == 0  # not in sight yet
    page.emulate_media(media="print")
    page.wait_for_function("() => document.documentElement.dataset.theme === 'light'")
    assert page.locator("section:visible").count() == len(SECTIONS)
    assert page.locator(".plot:visible").count() == page.locator(".js-plotly-plot").count() == 5
    assert page.locator("#bar, .controls").filter(visible=True).count() == 0
    tables = page.locator(".box").evaluate_all(
        "all => all.map((one) => getComputedStyle(one).overflowX)"
    )
    assert set(tables) == {"visible"}
    assert colours(page)[1] == "rgb(29, 33, 38)"
    paper = page.pdf()
    assert paper.startswith(b"%PDF")
    page.emulate_media(media="screen")
    page.wait_for_function("() => document.documentElement.dataset.theme === 'dark'")


def test_every_control_is_reachable_by_tab_and_has_a_label(drawn):
    page = drawn
    reached = set()
    for _ in range(90):
        page.keyboard.press("Tab")
        reached.add(
            page.evaluate(
                """() => { const one = document.activeElement;
                return one.id || one.closest('section')?.id + ' ' + one.tagName; }"""
            )
        )
    assert reached >= {"filter", "axis", "log", "runs BUTTON", "curves SELECT", "mistakes SELECT"}
    nameless = page.locator("button, select, input").evaluate_all(
        "all => all.filter((one) => !(one.innerText || one.labels?.length || one.ariaLabel)).length"
    )
    assert nameless == 0
    page.locator("#axis").focus()
    outline = page.locator("#axis").evaluate("one => getComputedStyle(one).outlineStyle")
    assert outline == "solid"


@pytest.mark.slow
def test_refreshing_page_keeps_filter_sorting_selection_and_scroll_position(
    open_page, report, tmp_path
):
    path = tmp_path / "report.html"
    made = comparison([report.parent / "sweep"])
    write_page(made, path, refresh=4)
    page = open_page(path)
    page.evaluate("window.first = true")
    page.locator("#filter").fill("jax")
    page.get_by_label("over", exact=True).select_option("samples")
    page.locator("#runs th button", has_text="steps").first.click()
    kept = page.locator("#runs tbody tr[data-run='5'] button")
    kept.press("Enter")
    pinned = kept.inner_text()
    page.evaluate("scrollTo({top: 800, behavior: 'instant'})")
    # Another page in the meantime, on which the runs have other places.
    write_page(comparison([record.folder for record in made.records[1:-1]]), path)
    page.wait_for_function("() => !window.first", timeout=15_000)
    page.wait_for_load_state()
    assert page.locator("#filter").input_value() == "jax"
    assert len(names(page)) == 4
    assert page.get_by_label("over", exact=True).input_value() == "samples"
    assert page.locator("#runs th[aria-sort=ascending]").count() == 1
    assert abs(page.evaluate("scrollY") - 800) < 5
    assert page.locator("#runs tbody button[aria-pressed=true]").all_inner_texts() == [pinned]
    scroll_to(page, "curves")
    page.wait_for_function(LIT)


def test_page_without_curves_pairs_or_results_says_so(open_page, tmp_path):
    (tmp_path / "lone").mkdir()
    (tmp_path / "lone" / "result.json").write_text('{"status": "failed", "error": "refused"}')
    write_page(comparison([tmp_path]), tmp_path / "report.html")
    page = open_page(tmp_path / "report.html")
    assert "refused" in page.locator(".notes").inner_text()
    assert "No run has logged anything yet." in page.locator("#curves").inner_text()
    assert "nothing to compare" in page.locator("#answer").inner_text()
    assert not page.locator("#sweep, #mistakes, #speed").filter(visible=True).count()


SCRIPTS = """<img src="data:," onerror="window.ran = true"><script>window.ran = true</script>"""


def test_script_in_a_name_is_shown_as_text_and_would_be_blocked(open_page, tmp_path):
    """The content security policy is a second guard: inserted as HTML, the script does not run either."""
    run = write_run(tmp_path / "run", steps=20, backend="jax")
    change_result(run, name=SCRIPTS, error=SCRIPTS)
    write_page(comparison([run]), tmp_path / "report.html")
    page = open_page(tmp_path / "report.html", tolerated=["script-src"])
    assert names(page) == [SCRIPTS]
    assert page.evaluate("window.ran") is None
    blocked = page.evaluate(
        """async (html) => {
        const blocked = [];
        addEventListener("securitypolicyviolation", (event) => blocked.push(event.violatedDirective));
        document.body.insertAdjacentHTML("beforeend", html);
        const script = document.createElement("script");
        script.textContent = "window.ran = true";
        document.body.append(script);
        await new Promise((done) => setTimeout(done, 100));
        return blocked;
    }""",
        SCRIPTS,
    )
    assert sorted(blocked) == ["script-src-attr", "script-src-elem"]
    assert page.evaluate("window.ran") is None


@pytest.mark.slow
def test_report_of_two_hundred_runs_draws_all_of_them_and_those_that_are_filtered(
    open_page, tmp_path
):
    for number in range(200):
        backend, rate = ("torch", "jax")[number % 2], 0.001 * (1 + number // 10)
        seed = number // 2 % 5
        write_run(tmp_path / str(number), backend, seed, 400, 20, 1e-6, optimizer__lr=rate)
    write_page(comparison([tmp_path]), tmp_path / "report.html")
    page = open_page(tmp_path / "report.html")
    page.evaluate("redrawAll()")

    def points():
        _, curves = page.evaluate(POINTS)
        assert {trace["last"] for trace in curves} == {400}
        return sum(trace["points"] for trace in curves)

    assert points() > 200 * 100
    page.evaluate("filter('seed=1'), redrawAll()")
    assert len(names(page)) == 40
    assert 40 * 100 < points() <= 40 * 400
    page.evaluate("filter(''), redrawAll()")
    assert points() > 200 * 100


@pytest.mark.slow
def test_real_fp64_sweep_is_the_same_on_both_backends(open_page, tmp_path):
    overrides = "name=sweep backend=torch,jax model=linear train.precision=fp64 train.epochs=2"
    done = Workspace(tmp_path).run("-m", *overrides.split(), "logger=none")
    made = comparison([tmp_path / "outputs" / "sweep"])
    assert [record.status for record in made.records] == ["completed"] * 2, done.output
    write_page(made, tmp_path / "report.html")
    page = open_page(tmp_path / "report.html")
    verdict = page.locator("tr.pair td.good")
    assert re.match(r"the same: .* differs by at most \d\.\de-1\d", verdict.inner_text())
    assert page.locator(".card strong").last.inner_text() == "1 pair"
    scroll_to(page, "curves")
    assert {trace["dash"] for trace in page.evaluate(POINTS)[1]} == {"solid", "6px,4px"}
