"""Headless Chromium for the tests of the report."""

import shutil

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome")

# Nothing of the browser's own may ask the network, or need a graphics card. The pages of one site are
# those of one process, which reads Plotly's five megabytes once.
QUIET = (
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    "--disable-default-apps", "--disable-sync", "--no-first-run",
    "--process-per-site",
)  # fmt: skip


@pytest.fixture(scope="module")
def browser():
    """The browser, started once per test file."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip("no Chromium on this machine: `make chromium` installs it")
    with (
        sync_api.sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=found, args=[*QUIET]) as browser,
    ):
        yield browser
