"""Take the pictures of the report for the README with Chromium: `python docs/screenshots.py`.

The first call runs the sweep that they show, which takes some minutes; later calls take the pictures only.
"""

import shutil
import subprocess
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from pipeline.compare.comparison import comparison  # noqa: E402
from pipeline.compare.report.page import write_page  # noqa: E402

SWEEP = ROOT / "outputs" / "precision"
IMAGES = ROOT / "docs" / "images"

COMMAND = (
    "run.py -m name=precision backend=torch,jax train.precision=fp32,fp64 seed=0,1 model=cnn logger=none "
    "optimizer.lr=0.003 schedule=warmup_cosine train.log_every=5 train.eval_every=20steps "
    "train.batch_size=32"
)

SHOWN = ("runs", "curves")  # sections of the page; all of them would make a very long picture
WIDTH = 1200  # pixels
COLOURS = 256  # a palette makes the files small

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def main() -> None:
    """Run what is missing of the sweep, write its page, and take the pictures."""
    subprocess.run([sys.executable, *COMMAND.split()], cwd=ROOT)
    page = SWEEP / "report.html"
    write_page(comparison([SWEEP]), page)
    IMAGES.mkdir(exist_ok=True)
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        sys.exit("no Chromium on this machine: `make chromium` installs it")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        for scheme, name in (("light", "report.png"), ("dark", "report-dark.png")):
            take(chromium, page, scheme, IMAGES / name)


def take(browser: Browser, page: Path, scheme: str, path: Path) -> None:
    """Take a picture of the page in the colour scheme `light` or `dark`, and save it as `path`."""
    context = browser.new_context(
        color_scheme=scheme,
        viewport={"width": WIDTH, "height": 900},
        bypass_csp=True,  # for the style below
    )
    tab = context.new_page()
    tab.goto(page.as_uri())
    shown = ", ".join(f"#{section}" for section in SHOWN)
    tab.add_style_tag(content=f"section:not({shown}), #bar {{ display: none }}")
    tab.evaluate("redrawAll()")
    # Leave out the folder of this machine.
    tab.evaluate(
        "byId('when').textContent = byId('when').textContent.replace(/^.*?outputs/, 'outputs')"
    )
    tab.screenshot(path=path, full_page=True)
    context.close()
    Image.open(path).convert("RGB").quantize(COLOURS).save(path, optimize=True)
    print(f"{path.relative_to(ROOT)}  {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
