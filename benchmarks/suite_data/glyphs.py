"""Sets of letters and words in many fonts of Debian's packages, which fonts.json lists with their versions."""

import contextlib
import json
import logging
from collections import Counter
from pathlib import Path

import numpy as np
from fontTools.pens.basePen import BasePen
from fontTools.pens.transformPen import TransformPen
from fontTools.ttLib import TTFont, TTLibError
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.path import Path as Outline
from matplotlib.transforms import Affine2D, Bbox
from suite_data.packages import debian

PACKAGES = Path(__file__).with_name("fonts.json")
OF_A_FAMILY = 3  # faces at most: many families have dozens that hardly differ
# What fontTools raises on damaged files, and `outline` on fonts that lack a letter.
UNREADABLE = (TTLibError, KeyError, ValueError)
READABLE = 0.7  # share of its texts by which a face is kept
BLOCK = 512

logging.getLogger("fontTools").setLevel(logging.ERROR)  # old fonts have odd dates


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
    for package, file in faces(group):
        drawn = in_face(file, texts, shape, margin)
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
    of_family: Counter[str | None] = Counter()
    chosen = []
    for folder in debian(json.loads(PACKAGES.read_text())[group]):
        for file in sorted(folder.rglob("*")):
            if file.suffix.lower() in (".ttf", ".otf") and not file.is_symlink():
                with contextlib.suppress(*UNREADABLE), TTFont(file, lazy=True) as font:
                    of_family[family := font["name"].getBestFamilyName()] += 1
                    if of_family[family] <= OF_A_FAMILY:
                        chosen.append((folder.name, file))
    return chosen


def in_face(file: Path, texts: list[str], shape: tuple[int, int], margin: int) -> np.ndarray | None:
    """The texts in one face, (n, H, W), uint8, all in one size; None if the face lacks a letter or draws it empty.

    Outlines are filled as they are in the file, since hints are followed differently by each version of FreeType.
    """
    height, width = shape
    try:
        with TTFont(file, lazy=True) as font:
            outlines = [outline(font, text) for text in texts]
    except UNREADABLE:
        return None
    boxes = [path.get_extents() for path in outlines]
    fit = min(
        (width - 2 * margin) / max(box.width for box in boxes),
        (height - 2 * margin) / max(box.height for box in boxes),
    )
    return np.stack([in_the_middle(path, box, fit, shape) for path, box in zip(outlines, boxes, strict=True)])


def outline(font: TTFont, text: str) -> Outline:
    """One letter after the other, without kerning.

    Raises:
        KeyError: there is no such letter in the font.
        ValueError: a letter is empty.
    """
    glyphs, names = font.getGlyphSet(), font.getBestCmap() or {}
    pen, place = OutlinePen(glyphs), 0.0
    for letter in text:
        glyph, before = glyphs[names[ord(letter)]], len(pen.vertices)
        glyph.draw(TransformPen(pen, (1, 0, 0, 1, place, 0)))
        if len(pen.vertices) == before:
            raise ValueError(f"{letter} is empty")
        place += glyph.width
    return Outline(pen.vertices, pen.codes)


class OutlinePen(BasePen):
    """Collects what a font draws as the vertices and codes of Matplotlib."""

    def __init__(self, glyphs):
        super().__init__(glyphs)
        self.vertices, self.codes = [], []

    def add(self, code, *points):
        self.vertices += points
        self.codes += [code] * len(points)

    def _moveTo(self, point):
        self.add(Outline.MOVETO, point)

    def _lineTo(self, point):
        self.add(Outline.LINETO, point)

    def _curveToOne(self, first, second, point):
        self.add(Outline.CURVE4, first, second, point)

    def _qCurveToOne(self, first, point):
        self.add(Outline.CURVE3, first, point)

    def _closePath(self):
        self.add(Outline.CLOSEPOLY, (0, 0))


def in_the_middle(path: Outline, box: Bbox, fit: float, shape: tuple[int, int]) -> np.ndarray:
    """A filled outline, (H, W), uint8, white on black."""
    height, width = shape
    renderer = RendererAgg(width, height, dpi=72)
    to_middle = Affine2D().translate(-(box.x0 + box.x1) / 2, -(box.y0 + box.y1) / 2).scale(fit)
    context = renderer.new_gc()
    context.set_linewidth(0)
    renderer.draw_path(context, path, to_middle.translate(width / 2, height / 2), (0, 0, 0))
    return np.asarray(renderer.buffer_rgba())[..., 3].copy()


def readable(images: np.ndarray, packages: np.ndarray) -> np.ndarray:
    """Which faces show what they should: most of their texts have that text's neighbours in other packages.

    A text is confirmed if two of its three nearest neighbours are the same text; one may be a twin of the font.

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
        nearest.append(np.argsort(distances, 1, kind="stable")[:, :3])
    text = np.tile(np.arange(n_texts), n_faces)
    right = (text[np.concatenate(nearest)] == text[:, np.newaxis]).sum(1) >= 2
    return right.reshape(n_faces, n_texts).mean(1) >= READABLE
