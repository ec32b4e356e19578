"""Runs every command of docs/tutorial.md, and takes the pictures of that page.

    python docs/tutorial.py FOLDER     # an empty folder to work in; some minutes

A test runs the commands alone.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
from PIL import Image

from clusterloom.pictures import image_grid

DOCS = Path(__file__).resolve().parent
PAGE = DOCS / "tutorial.md"
sys.path.insert(0, str(DOCS))
import screenshots  # noqa: E402


def blocks(text):
    """Language and code of every block of shell commands or Python in a page, in order."""
    return re.findall(r"^```(sh|python)\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def run(folder, page=PAGE, languages=("sh", "python")):
    """Run those of a page one after the other in a folder, as a reader would."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    for language, code in blocks(page.read_text(encoding="utf-8")):
        if language not in languages:
            continue
        if "clusterloom explore" in code:  # it would go on until Ctrl-C
            open_once(folder, code.split()[2:4])
            continue
        command = ["bash", "-euc", code] if language == "sh" else [sys.executable, "-c", code]
        subprocess.run(command, cwd=folder, env={**os.environ, "PATH": path}, check=True)


def open_once(folder, arguments):
    """Start the local page, and see that it answers."""
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    with screenshots.served(*(str(Path(folder, name)) for name in arguments)) as address:
        assert browser.open(address, timeout=60).status == 200


def take_pictures(folder):
    """What the page shows, from what its commands have left."""
    images = screenshots.IMAGES
    for name, file in {
        "tutorial-clusters": "scans-model/clusters.png",
        "tutorial-count": "scans-model/number-of-clusters.png",
        "tutorial-new-images": "new-images.png",
    }.items():
        shutil.copyfile(folder / file, images / f"{name}.png")
    scans = [read(path) for path in sorted((folder / "scans").iterdir())[:60]]
    image_grid([np.stack(scans[i : i + 20]) for i in (0, 20, 40)]).save(images / "tutorial-scans.png")
    sorted_folders = [path for path in (folder / "sorted").iterdir() if path.is_dir()]
    sorted_folders.sort(key=lambda path: int(path.name.removeprefix("cluster-")))
    rows = [np.stack([read(path) for path in sorted(one.iterdir())[:16]]) for one in sorted_folders]
    image_grid(rows, [one.name for one in sorted_folders]).save(images / "tutorial-sorted.png")
    model, data = str(folder / "scans-model"), str(folder / "scans")
    with screenshots.browser_page() as page:
        screenshots.take_report(page, model, data, "tutorial-report")
        with screenshots.served(model, data) as address:
            screenshots.open_explore(page, address)
            screenshots.take(page, "tutorial-explore")


def read(path):
    """A grey picture as (H, W, 1)."""
    return np.asarray(Image.open(path))[..., None]


def main():
    """Run and take."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    run(folder)
    take_pictures(folder)


if __name__ == "__main__":
    main()
