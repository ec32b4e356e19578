"""A real server for tests of the local page, and a client that speaks plain HTTP to it."""

import http.client
import json
import threading
import time
from contextlib import contextmanager

import numpy as np
import torch
import uvicorn
from PIL import Image

from clusterloom import ConvVAEClusterer, GuidedClusterer, load_model
from clusterloom.cli.explore import _refit_command
from clusterloom.cli.options import Reading
from clusterloom.corrections.editor import Editor
from clusterloom.corrections.journal import Journal
from clusterloom.data import load_images
from clusterloom.data.ids import RowIds
from clusterloom.data.images import ImageSet
from clusterloom.device import threads_kept
from clusterloom.explore.app import build_app
from clusterloom.explore.collection import Collection
from clusterloom.explore.server import _config, _listen
from clusterloom.explore.session import Session
from clusterloom.predictions import Predictions

HOSTILE = ["<img src=x onerror=alert(1)>.png", '" onload="alert(2).png', "&amp;{{7*7}}.png"]


def make_folder(folder, n=90):
    """Colour pictures of three kinds, in sub-folders, some with names that are hard on pages."""
    rng = np.random.default_rng(0)
    for i in range(n):
        kind = i % 3
        pixels = rng.integers(0, 70, (24, 24, 3)).astype(np.uint8)
        pixels[..., kind] += 170
        pixels[4 + 4 * kind : 12 + 4 * kind, 6:18] = 250 - 60 * kind
        name = HOSTILE[i] if i < len(HOSTILE) else f"picture {i}.png"
        (folder / f"kind {kind}").mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / f"kind {kind}" / name)
    return folder


def fit_small(images, n_clusters=3):
    network = {"latent_dim": 4, "hidden_dim": 16, "conv_filters": (8,), "conv_kernels": (3,), "batch_norm": True}
    network |= {"conv_downsample": "stride", "category_input": "features"}
    training = {"epochs": 40, "learning_rate": 3e-3, "batch_size": 16, "reconstruction_weight": 1.0, "random_state": 1}
    training["precision"] = "fp32"  # the same clusters on every machine; "auto" is bf16 on some
    # On one thread: sums in another order make another model, and a map of three islands, which nothing holds together,
    # differs by a third of its width when a feature differs in its last bits.
    with threads_kept():
        torch.set_num_threads(1)
        model = ConvVAEClusterer(n_clusters, **network, **training).fit(images)
    assert model.cluster_sizes_.min() > 9, "tests of the page want images in every cluster"
    return model


def folder_session(tmp_path, name="model"):
    folder = make_folder(tmp_path / "pictures")
    images = load_images(folder)
    fit_small(images).save(tmp_path / name)
    session = Session(
        load_model(tmp_path / name), tmp_path / name, lambda model, progress: load_images(folder), source=folder
    )
    session.start(lambda _: None)
    assert session.wait(120)
    assert session.error is None, session.error
    return session


@contextmanager
def served(session, port=0):
    listener = _listen(port)
    app = build_app(session, listener.getsockname()[1])
    server = uvicorn.Server(_config(app))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    wait_until(lambda: server.started)
    try:
        yield Client(app, listener.getsockname()[1])
    finally:
        server.should_exit = True
        thread.join(20)
        listener.close()


class Client:
    """What the page sends; any header can be replaced, and None leaves it out."""

    def __init__(self, app, port):
        self.app, self.port = app, port
        self.host = f"127.0.0.1:{port}"

    @property
    def address(self):
        return f"http://{self.host}/?key={self.app.key}"

    def request(self, method, path, body=None, **headers):
        given = {
            "Host": self.host,
            "Cookie": f"clusterloom-{self.port}={self.app.key}",
            "X-Clusterloom-Token": self.app.token if method != "GET" else None,
            "Content-Type": "application/json" if body is not None else None,
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            if body is not None and "Content-Length" not in given and "Transfer-Encoding" not in given:
                given["Content-Length"] = str(len(body))
            for name, value in given.items():
                if value is not None:
                    connection.putheader(name, value)
            connection.endheaders()
            if body is not None:
                connection.send(body)
            answer = connection.getresponse()
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def get(self, path, **headers):
        return self.request("GET", path, **headers)

    def get_json(self, path):
        status, _, body = self.get(path)
        assert status == 200, (status, body)
        return json.loads(body)

    def post(self, path, values, **headers):
        return self.request("POST", path, json.dumps(values).encode(), **headers)

    def post_json(self, path, values):
        status, _, body = self.post(path, values)
        assert status == 200, (status, body)
        return json.loads(body)

    def edit(self, edit):
        return self.post_json("/api/edit", {"edit": edit, "revision": self.get_json("/api/state")["revision"]})

    def refused(self, path, values, status=400):
        got, _, body = self.post(path, values)
        assert got == status, (got, body)
        error = json.loads(body)["error"]
        assert "\n" not in error
        return error


def wait_until(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


def guided_session(tmp_path, refit_command=None):
    """A small guided model of the folder of `make_folder`, with two clusters for three kinds."""
    folder = make_folder(tmp_path / "pictures")
    model = GuidedClusterer(2, hidden_dim=32, epochs=8, random_state=0).fit(load_images(folder))
    model.save(tmp_path / "model")
    session = Session(
        load_model(tmp_path / "model"),
        tmp_path / "model",
        lambda model, progress: load_images(folder),
        source=folder,
        refit_command=refit_command or (lambda old, new: _refit_command(old, str(folder), new, Reading())),
    )
    session.start(lambda _: None)
    assert session.wait(120)
    assert session.error is None, session.error
    return session


def points_session(tmp_path, position, n_clusters=3):
    """A session whose map has images at these places, shape (N, 2); all images are the same."""
    folder = make_folder(tmp_path / "few")
    fit_small(load_images(folder), n_clusters).save(tmp_path / "model")
    model, n = load_model(tmp_path / "model"), len(position)
    proba = np.full((n, n_clusters), 0.1, np.float32)
    proba[np.arange(n), np.arange(n) % n_clusters] = 1 - 0.1 * (n_clusters - 1)
    latents, score = np.zeros((n, model.network_.latent_dim), np.float32), np.zeros(n, np.float32)
    said = Predictions(proba, latents, score, np.zeros(n, bool), np.asarray(position, np.float32))
    pixels = np.broadcast_to(np.zeros(model.image_shape_, np.uint8), (n, *model.image_shape_))
    images = ImageSet(pixels, RowIds(range(n)), None, (), "points", ())
    session = Session(model, tmp_path / "model", lambda model, progress: images)
    journal = Journal(tmp_path / "points.sqlite", session.model_sha256, "points")
    session._collection = Collection(images, said, Editor(said.labels, n_clusters, journal))
    session._finished.set()
    return session
