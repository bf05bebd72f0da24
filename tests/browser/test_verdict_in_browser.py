"""The page of a verdict in a real browser: its theme, its keyboard, its filter, and a small screen."""

import pytest

from pipeline.verify.verdict import Answer, First, LayerDifference, Verdict
from pipeline.verify.verdict_page.page import write_page

AT_END = """() => {
    const box = document.querySelector("#layers .box");
    return box.scrollTop + box.clientHeight > box.scrollHeight - 5;
}"""
NAME = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """Address of the page of two models that part in the thirtieth of forty layers."""
    layers = [
        LayerDifference(f"block.{n}.{NAME}", f"layers_{n}", 0.0, 1e-15 if n < 30 else 1e-3, None)
        for n in range(40)
    ]
    first = First("forward", layers[30].left, layers[30].right, 1e-3)
    made = Verdict(Answer.part, "the forward pass parts here", first, layers=layers)
    html, _ = write_page(made, tmp_path_factory.mktemp("page"))
    return html.as_uri()


def opened(browser, address, **settings):
    """An open page, and what it has asked for or complained about."""
    page, seen = browser.new_page(**settings), []
    page.on("request", lambda request: seen.append(request.url))
    page.on("console", lambda message: seen.append(message.text))
    page.on("pageerror", lambda error: seen.append(str(error)))
    page.goto(address)
    return page, seen


def test_page_asks_for_nothing_and_its_policy_forbids_nothing_that_it_does(browser, address):
    page, seen = opened(browser, address)
    assert seen == [address]
    assert page.locator("img").count() == 0
    assert page.locator("tr.parts th").inner_text().startswith(f"block.30.{NAME}")


@pytest.mark.parametrize(
    ("theme", "background"), [("light", "251, 251, 250"), ("dark", "20, 23, 27")]
)
def test_theme_follows_the_system(browser, address, theme, background):
    page, _ = opened(browser, address, color_scheme=theme)
    colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert colour == f"rgb({background})"


def test_keyboard_leads_to_the_place_and_scrolls_the_table(browser, address):
    page, _ = opened(browser, address)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to where they part"
    page.keyboard.press("Enter")
    page.wait_for_function("document.querySelector('#layers .box').scrollTop > 100")
    assert page.evaluate("location.hash") == "#parts"
    page.locator("#layers .box").focus()
    page.keyboard.press("End")
    page.wait_for_function(AT_END)


def test_the_filter_leaves_the_layers_that_differ(browser, address):
    page, _ = opened(browser, address)
    rows = page.locator("#layers tbody tr:visible")
    assert rows.count() == 40
    page.get_by_label("only layers that differ").press("Space")
    assert rows.count() == 10
    assert rows.first.get_attribute("id") == "parts"


def test_a_small_screen_does_not_scroll_sideways(browser, address):
    page, _ = opened(browser, address, viewport={"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") == 390
