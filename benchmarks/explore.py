"""Does the local page answer within 100 ms at 70,000 images, and start within five seconds?

    clusterloom fit fashion-mnist --out model
    python benchmarks/explore.py model fashion-mnist    # about a minute on two cores
    python benchmarks/explore.py --smoke                # seconds: three requests to each path, digits, nothing written

The page's server runs as users start it, in a process of its own; every path is asked for over HTTP on the loopback
interface, by one client, one request after the other, on a connection that stays open. The browser's part, drawing,
is not in these figures but in those of explore_map.py. Start-up is the time from the start of the process to the first
whole answer with the page, and until the map can be asked for: at the first start, which asks the model about every
image and draws the map, and at a later one, which finds both in the cache.

Results go to benchmarks/results/explore.jsonl.
"""

import argparse
import http.client
import io
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from provenance import RESULTS, provenance
from rich.console import Console
from rich.table import Table

from clusterloom import VAEClusterer, load_images
from clusterloom.data.cache import cache_root
from paper.records import Records


class Page:
    """A server that was started, and a connection to it."""

    def __init__(self, model, data, environment):
        began = time.perf_counter()
        command = [sys.executable, "-m", "clusterloom", "explore", model, data, "--no-browser", "--port", "0"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        for line in self.process.stdout:
            if found := re.search(r"http://127\.0\.0\.1:(\d+)/\?key=(\S+)", line):
                self.address = found[0]
                break
        else:
            raise SystemExit("explore did not start")
        port, key = found.groups()
        self.connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=600)
        self.headers = {"Cookie": f"clusterloom-{port}={key}"}
        text = self.ask("GET", "/").decode()
        self.page_seconds = time.perf_counter() - began
        self.headers["X-Clusterloom-Token"] = re.search(r"token&#34;: &#34;([\w-]+)", text)[1]
        while not self.state()["ready"]:
            time.sleep(0.02)
        self.ready_seconds = time.perf_counter() - began

    def ask(self, method, path, body=None, kind="application/json"):
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        headers = {**self.headers, **({"Content-Type": kind} if body is not None else {})}
        self.connection.request(method, path, body, headers)
        answer = self.connection.getresponse()
        data = answer.read()
        if answer.status != 200:
            raise SystemExit(f"{path}: {answer.status} {data[:200]!r}")
        return data

    def state(self):
        return json.loads(self.ask("GET", "/api/state"))

    def edit(self, edit):
        revision = self.state()["revision"]
        began = time.perf_counter()
        self.ask("POST", "/api/edit", {"edit": edit, "revision": revision})
        return time.perf_counter() - began

    def close(self):
        self.process.send_signal(signal.SIGINT)
        self.process.wait(60)


def requests(page):
    """Name and request of every path, with what varies drawn anew each time."""
    state = page.state()
    n = state["data"]["images"]
    shape = (state["model"]["height"], state["model"]["width"], state["model"]["channels"])
    clusters = [c["number"] for c in state["clusters"] if c["size"] > 100]
    rng = np.random.default_rng(0)
    latent_dim = state["model"]["latent_dim"]

    def row():
        return int(rng.integers(n))

    def cluster():
        return int(rng.choice(clusters))

    def picture():
        buffer = io.BytesIO()
        pixels = rng.integers(0, 256, (4 * shape[0], 4 * shape[1], 3)).astype(np.uint8)
        Image.fromarray(pixels).save(buffer, "PNG")
        return buffer.getvalue()

    def rows(count):
        return rng.choice(n, min(count, n), replace=False).tolist()

    def offsets():
        return rng.uniform(-2, 2, latent_dim).tolist()

    return {
        "page": lambda: ("GET", "/"),
        "script": lambda: ("GET", "/static/page.js"),
        "state": lambda: ("GET", "/api/state"),
        "places on the map": lambda: ("GET", "/api/columns/position"),
        "labels": lambda: ("GET", "/api/labels"),
        "confidences": lambda: ("GET", "/api/columns/confidence"),
        "list of edits": lambda: ("GET", "/api/history"),
        "image": lambda: ("GET", f"/image/{row()}.png"),
        "details of an image": lambda: ("GET", f"/api/images/{row()}"),
        "sheet of 128 thumbnails": lambda: ("GET", f"/sprites.png?rows={','.join(map(str, rows(128)))}"),
        "gallery, 120 images": lambda: ("POST", "/api/briefs", {"rows": rows(120)}),
        "find by id": lambda: ("GET", f"/api/find?text={row()}"),
        "similar to one image": lambda: ("POST", "/api/similar", {"rows": rows(1), "n": 60}),
        "similar to 5,000 images": lambda: ("POST", "/api/similar", {"rows": rows(5000), "n": 60}),
        "split, shown": lambda: ("POST", "/api/split", {"cluster": cluster()}),
        "24 new images": lambda: ("POST", "/api/generate", {"cluster": cluster(), "spread": 1, "n": 24, "seed": row()}),
        "walk, 24 steps": lambda: (
            "POST",
            "/api/walk",
            {"from": {"row": row()}, "to": {"cluster": cluster()}, "steps": 24},
        ),
        "latent dimensions, one moved": lambda: (
            "POST",
            "/api/latent/image",
            {"from": {"row": row()}, "offsets": offsets()},
        ),
        "latent dimensions, all strips": lambda: ("POST", "/api/latent/strips", {"from": {"cluster": cluster()}}),
        "picture dropped in": lambda: ("POST", "/api/drop", picture(), "application/octet-stream"),
    }


def edits(page, times):
    """Milliseconds of each kind of edit, taken back afterwards."""
    rng = np.random.default_rng(1)
    n = page.state()["data"]["images"]
    took = {"edit: name": [], "edit: move 1,000 images": [], "edit: merge": [], "undo": []}
    for i in range(times):
        chosen = rng.choice(n, min(1000, n), replace=False).tolist()
        for name, edit in (
            ("edit: name", {"op": "name", "cluster": 0, "name": f"name {i}"}),
            ("edit: move 1,000 images", {"op": "move", "rows": chosen, "to": 1}),
            ("edit: merge", {"op": "merge", "clusters": [0, 1], "into": 0}),
        ):
            took[name].append(page.edit(edit))
        took["undo"] += [page.edit({"op": "undo"}) for _ in range(3)]
    return took


def summary(seconds):
    return {
        "median_ms": round(1000 * statistics.median(seconds), 2),
        "p95_ms": round(1000 * float(np.percentile(seconds, 95)), 2),
        "requests": len(seconds),
    }


def measure(page, times):
    took = {}
    for name, request in requests(page).items():
        page.ask(*request())  # the first may import something
        took[name] = []
        for _ in range(times):
            asked = request()
            began = time.perf_counter()
            page.ask(*asked)
            took[name].append(time.perf_counter() - began)
    return {name: summary(seconds) for name, seconds in {**took, **edits(page, max(times // 4, 2))}.items()}


def cache_without_predictions(folder):
    """A cache with the data of the user's, and no predictions."""
    cache = folder / "cache"
    cache.mkdir()
    for entry in cache_root().iterdir():
        if entry.name != "predictions":
            (cache / entry.name).symlink_to(entry)
    return cache


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?")
    parser.add_argument("data", nargs="?", default="digits")
    parser.add_argument("--times", type=int, default=100, help="requests to each path")
    parser.add_argument("--smoke", action="store_true", help="three requests to each path, digits, nothing written")
    options = parser.parse_args()
    if not options.model and not options.smoke:
        parser.error("give MODEL and DATA, or --smoke")
    times = 3 if options.smoke else options.times
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model"  # a copy: the journal of these edits is not the user's
        if options.model:
            shutil.copytree(options.model, model)
        else:
            VAEClusterer(epochs=1, random_state=0).fit(load_images("digits")).save(model)
        environment = {**os.environ, "CLUSTERLOOM_CACHE": str(cache_without_predictions(Path(folder)))}
        first = Page(str(model), options.data, environment)
        first.close()
        page = Page(str(model), options.data, environment)
        result = {
            "first_page_seconds": round(first.page_seconds, 2),
            "first_ready_seconds": round(first.ready_seconds, 2),
            "page_seconds": round(page.page_seconds, 2),
            "ready_seconds": round(page.ready_seconds, 2),
        }
        images = page.state()["data"]["images"]
        paths = measure(page, times)
        page.close()
    result |= {
        "images": images,
        "data": options.data,
        "paths": paths,
        **provenance(),
        # By name alone: where a model lies on this machine tells nobody anything.
        "command": f"python benchmarks/explore.py {Path(options.model or '').name} {options.data}",
    }
    table = Table("path", "median ms", "95th percentile ms", title=f"{images:,} images")
    for name, row in paths.items():
        table.add_row(name, f"{row['median_ms']:.1f}", f"{row['p95_ms']:.1f}")
    console = Console(width=100)
    console.print(table)
    console.print({key: value for key, value in result.items() if key != "paths"})
    if not options.smoke:
        Records(RESULTS / "explore.jsonl").add(result)


if __name__ == "__main__":
    main()
