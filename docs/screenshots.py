"""The pictures of docs/images that need a model of Fashion-MNIST, taken anew: local page and report.

    clusterloom fit fashion-mnist --limit 10000 -k 10 --seed 0 --out fashion-model
    python docs/screenshots.py fashion-model fashion-mnist

Page and report show all images. Cluster 1 was ankle boots, cluster 0 pullovers and coats. Needs Playwright (a test
dependency) and Debian's `chromium`. docs/tutorial.py makes the pictures of the tutorial, docs/new_images.py those
of new images.
"""

import argparse
import contextlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

IMAGES = Path(__file__).parent / "images"
# The page prefers a plain canvas to WebGL in software; the pictures show what most people see.
ANY_WEBGL = """{
  const { prototype } = WebGL2RenderingContext;
  const ask = prototype.getParameter;
  const isName = (what) => what === prototype.RENDERER || what === 0x9246;
  prototype.getParameter = function (what) { return isName(what) ? "any" : ask.call(this, what); };
}"""


@contextlib.contextmanager
def served(model, data):
    """The address of the local page."""
    command = [sys.executable, "-m", "clusterloom", "explore", model, data, "--no-browser", "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        addresses = (re.search(r"http://\S+", line) for line in process.stdout)
        address = next(filter(None, addresses), None)
        if address is None:
            raise SystemExit("explore did not start")
        yield address[0]
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)


@contextlib.contextmanager
def browser_page():
    """An empty tab."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"),
            args=["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"],
        )
        page = browser.new_page(viewport={"width": 1280, "height": 800}, color_scheme="light")
        page.add_init_script(ANY_WEBGL)
        yield page
        browser.close()


def open_explore(page, address):
    """Wait until the model has seen all images."""
    page.goto(address)
    page.wait_for_selector("#cluster-list .figure", timeout=300_000)
    page.wait_for_timeout(2500)


def take(page, name):
    """A screenshot as docs/images/NAME.png."""
    path = IMAGES / f"{name}.png"
    page.screenshot(path=path)
    Image.open(path).convert("RGB").save(path, optimize=True)
    print(f"{path}: {path.stat().st_size:,} bytes")


def show(page, address):
    """Go to a view of the local page."""
    page.evaluate(f"location.hash = '/{address}'")
    page.wait_for_timeout(1500)


def take_explore(page):
    """The views of the local page that docs/explore.md shows."""
    show(page, "gallery/0")
    page.locator("#gallery .tile").nth(5).click()
    for place in (12, 13, 16):
        page.locator("#gallery .tile").nth(place).hover()
        page.locator("#gallery .tile .tick").nth(place).click()
    page.wait_for_timeout(800)
    take(page, "explore-gallery")
    page.click("#clear-selection")
    show(page, "review")
    page.wait_for_selector("#review-keep", timeout=60_000)
    page.wait_for_timeout(1500)
    take(page, "explore-review")
    show(page, "labels")
    take(page, "explore-labels")
    show(page, "map")
    take(page, "explore-map")
    page.get_by_role("button", name="On the map").click()
    page.wait_for_timeout(2500)
    take(page, "explore-close")
    show(page, "generate/1")
    page.click("#tab-dimensions")
    page.wait_for_timeout(2000)
    page.locator("#dimensions input[type=range]").nth(1).fill("1.5")
    page.wait_for_timeout(800)
    take(page, "explore-dimensions")
    page.click("#tab-new-images")
    page.wait_for_timeout(1500)
    take(page, "explore-generate")


def take_report(page, model, data, name):
    """The first screen of a report."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "report.html")
        subprocess.run([sys.executable, "-m", "clusterloom", "report", model, data, "--out", path], check=True)
        page.goto(path.as_uri())
        take(page, name)


def main():
    """Take them all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("data")
    options = parser.parse_args()
    with browser_page() as page:
        take_report(page, options.model, options.data, "report")
        with served(options.model, options.data) as address:
            open_explore(page, address)
            take_explore(page)


if __name__ == "__main__":
    main()
