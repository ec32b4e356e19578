"""Fixtures and helpers for tests of the local page in a real browser: Debian's Chromium.

Skipped where no Chromium is on the path; none is ever downloaded.
"""

import shutil
from urllib.parse import urlsplit

import numpy as np
import pytest
from explore_helpers import folder_session, served

sync_api = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the path")

WIDE, NARROW = {"width": 1400, "height": 900}, {"width": 390, "height": 844}
SIZES = {width: {"width": width, "height": 844} for width in (1600, 1024, 920, 390)}
every_width = pytest.mark.parametrize("width", SIZES)
ARGUMENTS = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
# The page prefers a plain canvas to WebGL in software, which is what there is here.
ANY_WEBGL = """{
  const { prototype } = WebGL2RenderingContext;
  const ask = prototype.getParameter;
  const isName = (what) => what === prototype.RENDERER || what === 0x9246;
  prototype.getParameter = function (what) { return isName(what) ? "any" : ask.call(this, what); };
}"""
CONTRAST = """() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgb = (text) => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = text; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data]; };
  const light = ([r, g, b]) => { const f = (v) => ((v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * f(r) + 0.7152 * f(g) + 0.0722 * f(b); };
  const ground = (e) => { for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor);
    if (c[3] === 255) return c; } return [255, 255, 255, 255]; };
  const bad = [];
  for (const e of document.querySelectorAll("body *")) {
    const text = [...e.childNodes].filter((n) => n.nodeType === 3).map((n) => n.textContent.trim()).join("");
    const seen = e.checkVisibility({ visibilityProperty: true, opacityProperty: true });
    if (!text || !seen || e.closest(":disabled, .unseen, option")) continue;
    const [a, b] = [light(rgb(getComputedStyle(e).color)), light(ground(e))].sort((x, y) => y - x);
    const contrast = (a + 0.05) / (b + 0.05);
    if (contrast < 4.5) bad.push(`${text.slice(0, 30)}: ${contrast.toFixed(2)}`);
  }
  return bad;
}"""


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    return folder_session(tmp_path_factory.mktemp("page"), "model <b>")


@pytest.fixture(scope="module")
def client(session):
    with served(session) as client:
        yield client


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser, client):
    """Opens the page as a user does; afterwards: no error, no violation of the policy, no request off the host."""
    pages, complaints, requests = [], [], []

    def open_page(view="map", size=WIDE, **options):
        context = browser.new_context(viewport=size, reduced_motion="reduce", **options)
        page = context.new_page()
        page.on("console", lambda m: m.type in ("error", "warning") and complaints.append(m.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(f"dialog: {dialog.message}"))
        page.on("request", lambda request: requests.append(request.url))
        page.add_init_script(ANY_WEBGL)
        page.add_init_script(
            "addEventListener('securitypolicyviolation', (e) => console.error('policy: ' + e.violatedDirective))"
        )
        page.goto(client.address)
        page.wait_for_selector("html[data-started]")
        page.evaluate(f"location.hash = '/{view}'")
        page.wait_for_selector(f"body[data-view={view.split('/')[0]}]")
        pages.append(page)
        return page

    yield open_page
    for page in pages:
        page.context.close()
    # A renderer in software says how slow it is; that is no complaint of ours.
    # A refusal that a test provokes is no complaint either.
    known = ("GPU stall", "GL Driver Message", "status of 400", "status of 409")
    assert [c for c in complaints if not any(text in c for text in known)] == []
    assert requests
    hosts = {urlsplit(url).netloc for url in requests if not url.startswith(("data:", "blob:"))}
    assert hosts == {client.host}


def at_every_width(page):
    """Width after width of an open page: a window is made narrower by hand, and nothing is loaded anew."""
    for width, size in SIZES.items():
        page.set_viewport_size(size)
        yield width


def until(page, expression, arg=None):
    """Wait until an expression is true. The browser's own waiting needs `eval`, which the page's policy forbids."""
    for _ in range(300):
        if page.evaluate(expression, arg):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"never true: {expression}")


def places_in(width, height, position):
    """Where images at positions (N, 2) lie in a map of that size while all of them are shown, in pixels, (N, 2)."""
    # As view.js lays it out: room for the buttons above, a margin below and on both sides.
    side = min(width - 56, height - 100)
    corner = np.array([(width - side) / 2, 72 + (height - 100 - side) / 2])
    return corner + side * np.stack([position[:, 0], 1 - position[:, 1]], 1)


def held_back(page, addresses):
    """Hold back the answers to some requests; a function that waits for the first of them, to be let go on."""
    asked = []
    page.route(addresses, lambda route: asked.append(route))

    def first():
        for _ in range(300):
            if asked:
                return asked[0]
            page.wait_for_timeout(50)
        raise AssertionError(f"never asked for: {addresses}")

    return first


def labels_of(client):
    """Cluster of each image, uint16, without the marks behind them."""
    both = client.get("/api/labels")[2]
    return both[: len(both) // 3 * 2]


def said(page, text):
    until(page, "(text) => document.getElementById('status').textContent.includes(text)", arg=text)


def wait_for_map(page):
    until(page, "Number(document.getElementById('map').dataset.drawn) > 0")


@pytest.fixture
def tidy(client):
    """Afterwards the clusters are the model's again."""
    yield
    while client.get_json("/api/state")["undo"]:
        client.edit({"op": "undo"})
