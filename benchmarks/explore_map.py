"""Is the local page's map of 100,000 images smooth: moved, zoomed, pointed at, and drawn around?

    python benchmarks/explore_map.py --keep FOLDER    # some minutes, most of them for the model; or --smoke
    python benchmarks/explore_map.py --points 1000000 # so many made-up points, and none of the images

Needs Playwright (a test dependency) and Debian's `chromium`. The images are MNIST's 70,000 and the first 30,000 of
Fashion-MNIST, the model a short fit of 20 clusters on 20,000 of them; both are made in FOLDER, or found there.

`--points` draws clusters of points at random, and has the map show all of them: the page itself shows a sample of more
than 200,000 images. There the model is a fit of two epochs on digits, for the map does not ask it anything.

A browser without a window goes through gestures as a user makes them: drags with the mouse, turns the wheel from the
whole map to thumbnails and back, points at images, draws a lasso around a fifth of all. Chromium's own trace then says
how long the page's main thread worked from one frame that it drew to the next (`main`), how much of that was the
page's script (`script`), and how long the longest piece of work was that nothing could interrupt (`longest`), in
milliseconds of processor time: what other processes do on the machine does not count. `frame` is the time between
those frames by the clock, where it does count, and so does waiting for the mouse. A screen with 60 frames a second
leaves 16.7 ms for each.

Each gesture is made twice: `canvas` is how the page draws where there is no graphics processor, all of it on the main
thread; `webgl` is how it draws where there is one. Here the browser imitates one in another process, which makes
`frame` long and leaves `main` and `script` as they are everywhere.

Results go to benchmarks/results/explore_map.jsonl.
"""

import argparse
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import uvicorn
from explore import Page
from playwright.sync_api import sync_playwright
from provenance import RESULTS, provenance
from rich.console import Console
from rich.table import Table

from clusterloom import load_model
from clusterloom.corrections.editor import Editor
from clusterloom.corrections.journal import Journal
from clusterloom.data import load_images
from clusterloom.data.ids import RowIds
from clusterloom.data.images import ImageSet
from clusterloom.explore.app import build_app
from clusterloom.explore.collection import Collection
from clusterloom.explore.server import _config, _listen
from clusterloom.explore.session import Session
from clusterloom.predictions import Predictions
from paper.records import Records

WINDOW = {"width": 1400, "height": 900}
KINDS = {"canvas": ["--disable-gpu"], "webgl": ["--use-angle=swiftshader", "--enable-unsafe-swiftshader"]}
LASSOED = 0.2  # of all images
TRACED = ["toplevel", "devtools.timeline", "disabled-by-default-devtools.timeline"]
SCRIPT = {"FunctionCall", "EvaluateScript", "FireAnimationFrame", "EventDispatch", "RunMicrotasks", "v8.callFunction"}
# The page prefers a plain canvas to WebGL in software, unless it does not hear of that.
ANY_WEBGL = """{
  const { prototype } = WebGL2RenderingContext;
  const ask = prototype.getParameter;
  const isName = (what) => what === prototype.RENDERER || what === 0x9246;
  prototype.getParameter = function (what) { return isName(what) ? "any" : ask.call(this, what); };
}"""


def images_and_model(folder, smoke):
    """Paths of the images and of a model of them, made if they are not there."""
    data, model = folder / "images.npy", folder / "model"
    if not data.exists():
        parts = [load_images("digits").images] if smoke else [load_images("mnist").images]
        parts += [] if smoke else [load_images("fashion-mnist").images[:30_000]]
        np.save(data, np.concatenate([np.asarray(part) for part in parts]))
    if not model.exists():
        fit = ["fit", str(data), "--out", str(model), "--method", "vae", "--clusters", "20"]
        fit += ["--limit", "600", "--set", "epochs=2"] if smoke else ["--limit", "20000", "--set", "epochs=4"]
        subprocess.run([sys.executable, "-m", "clusterloom", *fit], check=True)
    return data, model


@contextmanager
def made_up(model_path, n):
    """A server in this process whose page has n made-up points; its address and their places."""
    model, rng = load_model(model_path), np.random.default_rng(0)
    k, dim = model.n_clusters_, model.network_.latent_dim
    labels = rng.integers(0, k, n)
    places = rng.uniform(0.1, 0.9, (k, 2))[labels] + rng.normal(0, 0.04, (n, 2))
    position = np.clip(places, 0, 1).astype(np.float32)
    proba = rng.dirichlet(np.full(k, 0.2), n).astype(np.float32) / 2
    proba[np.arange(n), labels] += 0.5
    latents, score = rng.standard_normal((n, dim), np.float32), rng.standard_normal(n, np.float32)
    said = Predictions(proba, latents, score, score < -4, position)
    pixels = np.broadcast_to(rng.integers(0, 255, model.image_shape_, np.uint8), (n, *model.image_shape_))
    images = ImageSet(pixels, RowIds(range(n)), None, (), "made up", ())
    session = Session(model, model_path, lambda model, progress: images)
    journal = Journal(model_path.with_name("made-up.sqlite"), session.model_sha256, "made up")
    session._collection = Collection(images, said, Editor(said.labels, k, journal))
    session._finished.set()
    # What a first request would otherwise wait for.
    _ = session.collection.ranks, session.collection.score_ranks, session.collection.styles
    with _listen(0) as listener:
        port = listener.getsockname()[1]
        app = build_app(session, port)
        server = uvicorn.Server(_config(app))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{port}/?key={app.key}", position
        finally:
            server.should_exit = True
            thread.join(20)


@contextmanager
def explored(data, model):
    """A server as users start it; its address and the places of the images."""
    server = Page(str(model), str(data), dict(os.environ))
    try:
        yield server.address, np.frombuffer(server.ask("GET", "/api/columns/position"), "<f4").reshape(-1, 2)
    finally:
        server.close()


class Map:
    """The map in a browser, and where things are on it."""

    def __init__(self, page, positions):
        self.page, self.positions = page, positions
        page.wait_for_selector("#cluster-list .figure")
        box = page.locator("#map").bounding_box()
        self.x, self.y, self.width, self.height = box["x"], box["y"], box["width"], box["height"]
        # The densest part: the place among whose neighbours most others lie.
        cells = np.minimum((positions * 24).astype(int), 23)
        counts = np.zeros((24, 24), int)
        np.add.at(counts, tuple(cells.T), 1)
        self.dense = (np.argwhere(counts == counts.max())[0] + 0.5) / 24

    def place(self, point):
        """Where a place of the map lies on the screen while all of it is shown; as view.js has it."""
        scale = min(self.width - 56, self.height - 28 - 56)
        left = (self.width - scale) / 2
        top = 56 + (self.height - 84 - scale) / 2
        return self.x + left + point[0] * scale, self.y + top + (1 - point[1]) * scale

    def middle(self):
        return self.x + self.width / 2, self.y + self.height / 2

    def settle(self):
        self.page.mouse.move(*self.middle())
        self.page.wait_for_timeout(800)

    def show_all(self):
        self.page.click("#zoom-all")
        self.settle()

    def wheel(self, steps):
        """Turn the wheel over the densest part; positive steps go nearer. Half a level of zoom is about five steps."""
        self.page.mouse.move(*self.place(self.dense))
        for _ in range(abs(steps)):
            self.page.mouse.wheel(0, -50 if steps > 0 else 50)
            self.page.wait_for_timeout(16)

    def drag(self, steps):
        x, y = self.middle()
        self.page.mouse.move(x, y)
        self.page.mouse.down()
        for i in range(steps):
            angle = 4 * math.pi * i / steps
            self.page.mouse.move(x + 200 * math.sin(angle), y + 130 * math.sin(angle / 2))
        self.page.mouse.up()

    def point(self, steps):
        x, y = self.middle()
        for i in range(steps):
            angle = 6 * math.pi * i / steps
            self.page.mouse.move(x + (60 + i) * math.cos(angle), y + (60 + i) * math.sin(angle))

    def lasso(self, steps, share):
        """Draw around a share of all images, by hand: in a circle that trembles."""
        centre = np.median(self.positions, 0)
        distance = np.sort(np.linalg.norm(self.positions - centre, axis=1))
        radius = distance[int(share * len(distance))]
        self.page.keyboard.down("Shift")
        for i in range(steps + 1):
            angle, r = 2 * math.pi * i / steps, radius * (1 + 0.02 * math.sin(i))
            self.page.mouse.move(*self.place(centre + r * np.array([math.cos(angle), math.sin(angle)])))
            if i == 0:
                self.page.mouse.down()
        self.page.mouse.up()
        self.page.keyboard.up("Shift")
        self.page.wait_for_timeout(1500)  # what is selected is shown, and similar images looked for


def gestures(shown, steps):
    """Name and action of every gesture, in an order in which each finds the map as it wants it."""
    return {
        "move, all": lambda: shown.drag(steps),
        "point, all": lambda: shown.point(steps),
        "zoom in": lambda: shown.wheel(5 * steps // 12),
        "move, thumbnails": lambda: shown.drag(steps),
        "point, thumbnails": lambda: shown.point(steps),
        "zoom out": lambda: shown.wheel(-5 * steps // 12),
        "zoom in halfway": lambda: shown.wheel(steps // 6),
        "move, halfway": lambda: shown.drag(steps),
        "lasso": lambda: (shown.show_all(), shown.lasso(2 * steps, LASSOED)),
        "move, selected": lambda: shown.drag(steps),
    }


def traced(browser, page, act):
    """What an action costs, from Chromium's trace of it."""
    browser.start_tracing(page=page, categories=TRACED)
    act()
    return figures(json.loads(browser.stop_tracing())["traceEvents"])


def figures(events):
    names = {(e["pid"], e["tid"]): e["args"]["name"] for e in events if e["name"] == "thread_name"}
    tasks = {}
    for event in events:
        if event.get("ph") == "X" and names.get((event["pid"], event["tid"])) == "CrRendererMain":
            tasks.setdefault((event["pid"], event["tid"]), []).append(event)
    thread = max(tasks.values(), key=lambda found: sum(e["name"] == "FireAnimationFrame" for e in found))
    thread.sort(key=lambda e: (e["ts"], -e.get("dur", 0)))
    begins = [e["ts"] for e in thread if e["name"] == "FireAnimationFrame"]
    begins = np.array(begins or [0])  # the page asks for frames where it has something to draw, and only there
    whole = outermost(thread, {"RunTask", "ThreadControllerImpl::RunTask"})
    main, script = np.zeros(len(begins)), np.zeros(len(begins))
    for total, chosen in ((main, whole), (script, outermost(thread, SCRIPT))):
        for event in chosen:
            total[max(int(np.searchsorted(begins, event["ts"], "right")) - 1, 0)] += event.get("tdur", 0) / 1000
    longest = max((e.get("tdur", 0) / 1000 for e in whole), default=0.0)
    between = np.diff(begins) / 1000 if len(begins) > 1 else np.zeros(1)
    return {
        "frames": len(begins),
        "frame_ms": spread(between),
        "main_ms": spread(main),
        "script_ms": spread(script),
        "longest_ms": round(longest, 1),
        "over_50_ms": sum(e.get("tdur", 0) > 50_000 for e in whole),
    }


def outermost(events, names):
    """Events of some names that do not lie within others of them."""
    found, end = [], -1.0
    for event in events:
        if event["name"] in names and event["ts"] >= end:
            found.append(event)
            end = event["ts"] + event.get("dur", 0)
    return found


def spread(values):
    return {"median": round(statistics.median(values), 1), "p95": round(float(np.percentile(values, 95)), 1)}


def measure(browser, address, positions, webgl, steps):
    page = browser.new_page(viewport=WINDOW)
    page.set_default_timeout(120_000)
    if webgl:
        page.add_init_script(ANY_WEBGL)
    page.goto(address)
    shown = Map(page, positions)
    shown.settle()
    found = {}
    for name, act in gestures(shown, steps).items():
        found[name] = traced(browser, page, act)
        shown.settle()
        if name == "lasso":
            found[name]["selected"] = int(page.locator("#selection h2").inner_text().split()[0].replace(",", ""))
    page.close()
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keep", type=Path, help="folder for images and model; by default a temporary one")
    parser.add_argument("--note", default="", help="words to keep with the result")
    parser.add_argument("--points", type=int, metavar="N", help="made-up points in place of images")
    parser.add_argument("--steps", type=int, default=120, help="of each gesture")
    parser.add_argument("--smoke", action="store_true", help="1,797 images and short gestures, nothing written")
    options = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        raise SystemExit("there is no chromium on the path")
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        data, model = images_and_model(folder, options.smoke or options.points)
        server = made_up(model, options.points) if options.points else explored(data, model)
        kinds = {}
        with server as (address, positions), sync_playwright() as playwright:
            for kind, arguments in KINDS.items():
                browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", *arguments])
                steps = 6 if options.smoke else options.steps
                kinds[kind] = measure(browser, address, positions, kind == "webgl", steps)
                version = browser.version
                browser.close()
    points = f"--points {options.points} " if options.points else ""
    result = {
        "images": len(positions),
        "gestures": kinds,
        "note": options.note,
        **provenance(),
        "command": f"python benchmarks/explore_map.py {points}--steps {options.steps}",
        "chromium": version,
    }
    columns = ("drawn by", "gesture", "frames", "frame", "main", "script", "longest", "> 50")
    table = Table(*columns, title="milliseconds: median / 95th percentile")
    for kind, found in kinds.items():
        for name, row in found.items():
            three = (f"{row[key]['median']} / {row[key]['p95']}" for key in ("frame_ms", "main_ms", "script_ms"))
            table.add_row(kind, name, str(row["frames"]), *three, str(row["longest_ms"]), str(row["over_50_ms"]))
    console = Console(width=120)
    console.print(table)
    console.print({key: value for key, value in result.items() if key != "gestures"})
    if not options.smoke:
        Records(RESULTS / "explore_map.jsonl").add(result)


if __name__ == "__main__":
    main()
