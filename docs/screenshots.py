"""The screenshots of the local page and of a report in docs/images, taken anew.

    clusterloom fit fashion-mnist --out model
    python docs/screenshots.py model fashion-mnist

Needs Playwright (a test dependency) and Debian's `chromium`.
"""

import argparse
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

IMAGES = Path(__file__).parent / "images"
# The page prefers a plain canvas to WebGL in software; the pictures show what most people see.
ANY_WEBGL = """{
  const { prototype } = WebGL2RenderingContext;
  const ask = prototype.getParameter;
  const isName = (what) => what === prototype.RENDERER || what === 0x9246;
  prototype.getParameter = function (what) { return isName(what) ? "any" : ask.call(this, what); };
}"""


def started(model, data):
    """A server, and its address."""
    command = [sys.executable, "-m", "clusterloom", "explore", model, data, "--no-browser", "--port", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    for line in process.stderr:
        if found := re.search(r"http://\S+", line):
            return process, found[0]
    raise SystemExit("explore did not start")


def written_report(model, data, folder):
    """The address of a report."""
    path = Path(folder, "report.html")
    subprocess.run([sys.executable, "-m", "clusterloom", "report", model, data, "--out", path], check=True)
    return path.as_uri()


def take(page, name):
    path = IMAGES / f"{name}.png"
    page.screenshot(path=path)
    Image.open(path).convert("RGB").save(path, optimize=True)
    print(f"{path}: {path.stat().st_size:,} bytes")


def show(page, address):
    page.evaluate(f"location.hash = '/{address}'")
    page.wait_for_timeout(1500)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("data")
    options = parser.parse_args()
    IMAGES.mkdir(exist_ok=True)
    process, address = started(options.model, options.data)
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium"),
                args=["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"],
            )
            page = browser.new_page(viewport={"width": 1280, "height": 800}, color_scheme="light")
            page.add_init_script(ANY_WEBGL)
            page.goto(address)
            page.wait_for_selector("#cluster-list .figure:has-text(',')", timeout=300_000)
            show(page, "gallery/9")
            page.locator("#gallery .tile").nth(5).click()
            for place in (12, 13, 16):
                page.locator("#gallery .tile").nth(place).hover()
                page.locator("#gallery .tile .tick").nth(place).click()
            page.wait_for_timeout(800)
            take(page, "explore-gallery")
            page.click("#clear-selection")
            show(page, "map")
            take(page, "explore-map")
            page.get_by_role("button", name="On the map").click()
            page.wait_for_timeout(2500)
            take(page, "explore-close")
            show(page, "generate/5")
            page.click("#tab-dimensions")
            page.wait_for_timeout(2000)
            page.locator("#dimensions input[type=range]").nth(1).fill("1.5")
            page.wait_for_timeout(800)
            take(page, "explore-dimensions")
            page.click("#tab-new-images")
            page.wait_for_timeout(1500)
            take(page, "explore-generate")
            with tempfile.TemporaryDirectory() as folder:
                page.goto(written_report(options.model, options.data, folder))
                take(page, "report")
            browser.close()
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)


if __name__ == "__main__":
    main()
