"""Sets of letters and words in many fonts of Debian's packages, which fonts.json lists with their versions."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from suite_data.packages import debian

PACKAGES = Path(__file__).with_name("fonts.json")
ENLARGED = 4  # drawn so many times as large, then scaled down, for smooth edges
OF_A_FAMILY = 3  # faces at most: many families have dozens that hardly differ
TRIAL_SIZE = 100  # pixels, to measure how large a font's letters are
ABSENT = "\uffff"  # what a font draws for it, it draws for every letter that it does not have
READABLE = 0.7  # share of its texts by which a face is kept
BLOCK = 512


def letters(group: str, alphabet: str, most_faces: int | None = None, light_on_dark: bool = False):
    """One image of each letter in each face, 32 x 32 pixels, of which a margin of three is free."""
    images, labels = in_fonts(group, list(alphabet), (32, 32), 3, most_faces)
    return (images if light_on_dark else 255 - images), labels


def words(group: str, chosen: list[str], most_faces: int):
    """Words in many fonts, 24 x 48 pixels, ink and paper of random grey."""
    images, labels = in_fonts(group, chosen, (24, 48), 2, most_faces)
    rng = np.random.default_rng(1)
    paper, ink = rng.integers(170, 256, (len(images), 1, 1, 1)), rng.integers(0, 90, (len(images), 1, 1, 1))
    return np.rint(paper + (ink - paper) * (images / 255)).astype(np.uint8), labels


def in_fonts(group: str, texts: list[str], shape: tuple[int, int], margin: int, most_faces: int | None):
    """Every text in every face that can be read, or in so many of them, white on black, and which text it is."""
    packages, pictures, seen = [], [], set()
    for package, path in faces(group):
        drawn = in_face(path, texts, shape, margin)
        if drawn is None or drawn.tobytes() in seen:
            continue
        seen.add(drawn.tobytes())
        packages.append(package)
        pictures.append(drawn)
    images = np.stack(pictures)
    images = images[readable(images, np.array(packages))]
    rng = np.random.default_rng(0)
    images = images[rng.permutation(len(images))[:most_faces]]
    labels = np.tile(np.arange(len(texts)), len(images))
    order = rng.permutation(len(labels))
    return images.reshape(-1, *shape, 1)[order], labels[order]


def faces(group: str) -> list[tuple[str, Path]]:
    """Package and file of the faces in the group's packages, OF_A_FAMILY of each family, in the files' order."""
    of_family: Counter[str] = Counter()
    chosen = []
    for folder in debian(json.loads(PACKAGES.read_text())[group]):
        for path in sorted(folder.rglob("*")):
            if path.suffix.lower() not in (".ttf", ".otf") or path.is_symlink():
                continue
            try:
                family, _ = ImageFont.truetype(path).getname()
            except OSError:  # a file that FreeType does not read
                continue
            of_family[family] += 1
            if of_family[family] <= OF_A_FAMILY:
                chosen.append((folder.name, path))
    return chosen


def in_face(path: Path, texts: list[str], shape: tuple[int, int], margin: int) -> np.ndarray | None:
    """The texts in one face, (n, H, W), uint8, all in one size; None if the face lacks a letter or draws it empty."""
    trial = ImageFont.truetype(path, TRIAL_SIZE, layout_engine=ImageFont.Layout.BASIC)
    absent = bytes(trial.getmask(ABSENT))
    for letter in set("".join(texts)):
        mask = trial.getmask(letter)
        if not mask.getbbox() or bytes(mask) == absent:
            return None
    boxes = [trial.getbbox(text) for text in texts]
    height, width = shape
    fit = min(
        (width - 2 * margin) / max(box[2] - box[0] for box in boxes),
        (height - 2 * margin) / max(box[3] - box[1] for box in boxes),
    )
    font = trial.font_variant(size=TRIAL_SIZE * fit * ENLARGED)
    return np.stack([in_the_middle(text, font, shape) for text in texts])


def in_the_middle(text: str, font: ImageFont.FreeTypeFont, shape: tuple[int, int]) -> np.ndarray:
    height, width = (ENLARGED * side for side in shape)
    left, top, right, bottom = font.getbbox(text)
    picture = Image.new("L", (width, height))
    ImageDraw.Draw(picture).text(((width - left - right) // 2, (height - top - bottom) // 2), text, fill=255, font=font)
    return np.asarray(picture.reduce(ENLARGED))


def readable(images: np.ndarray, packages: np.ndarray) -> np.ndarray:
    """Which faces show what they should: most of their texts are nearest to the same text of another package.

    What drops out are fonts of symbols and those whose letters are like no other's. In whole numbers, so that every
    machine keeps the same faces.

    Args:
        images: Every text in every face, (n_faces, n_texts, H, W), uint8.
        packages: Package of each face, (n_faces,).
    """
    n_faces, n_texts, height, width = images.shape
    halves = images.reshape(n_faces * n_texts, height // 2, 2, width // 2, 2).astype(np.int64).sum((2, 4))
    x = halves.reshape(len(halves), -1).astype(float)  # products and sums are below 2 ** 53, so exact
    lengths = (x * x).sum(1)
    package = np.repeat(np.unique(packages, return_inverse=True)[1], n_texts)
    nearest = []
    for start in range(0, len(x), BLOCK):
        rows = slice(start, start + BLOCK)
        distances = lengths - 2 * x[rows] @ x.T
        distances[package[rows, np.newaxis] == package] = np.inf
        nearest.append(distances.argmin(1))
    text = np.tile(np.arange(n_texts), n_faces)
    right = text[np.concatenate(nearest)] == text
    return right.reshape(n_faces, n_texts).mean(1) >= READABLE
