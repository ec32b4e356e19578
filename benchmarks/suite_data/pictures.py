"""Sets cut from pictures that packages hold: textures, emoji, icons, sprites."""

import itertools
import json
import re
import zipfile
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from suite_data.packages import unpacked

PATCH = 32
PATCHES = 400  # of each texture
FIRST_KINDS = ("brick", "grass", "gravel")  # photographs of scikit-image, 512 pixels
TERRAINS = ("floor01", "mud01", "rock", "sand01")  # leaves, mud, wet rock, sand, 256 pixels
WALLS = ("boxTree", "grass", "pebbles", "marbleWall", "roughcast", "darkBlueTile", "lightBlueTile", "oldWoodenFloor")
FACES, CROP = 100, 25  # the photographs of faces in scikit-image, and their side
# Print, stained tissue, galaxies: how many crops, and the least deviation of their pixels, lest paper without print.
CROPS = {"page.png": (80, 25), "ihc.png": (70, 0), "hubble_deep_field.jpg": (50, 0)}
SAMPLE_SIZE = 109  # the only one that the font of pictures has
EMOJI = {
    "clocks": range(0x1F550, 0x1F568),
    "faces": range(0x1F600, 0x1F61E),
    "hearts": [*range(0x1F493, 0x1F4A0), 0x2764, 0x1F5A4, 0x1F90D, 0x1F90E, 0x1F9E1],
    "animals": range(0x1F400, 0x1F41C),
}
# Kinds of emoji by Unicode's subgroups, and how many of each.
FLAGS_AND_OTHERS = (
    (30, ("country-flag",)),
    (33, ("hand-single-finger", "hand-fingers-closed", "hand-fingers-open", "hand-fingers-partial")),
    (25, ("transport-ground",)),
    (20, ("place-building",)),
)
GESTURES_AND_OTHERS = (
    (30, ("person-gesture",)),
    (30, ("geometric",)),
    (25, ("food-prepared", "food-sweet")),
    (16, ("animal-bug",)),
)
# Figures of a game: the folder of their frames, and how the frames' names begin.
FIGURES = (
    ("dwarves", "fighter"), ("dwarves", "lord"), ("dwarves/dragonguard", "dragonguard"),
    ("dwarves/thunderer", "thunderer"), ("human-loyalists", "spearman"), ("human-magi", "white"), ("orcs", "archer"),
    ("saurians/skirmisher", "skirmisher"), ("undead-skeletal/archer", "archer"),
    ("undead-skeletal/skeleton", "skeleton"), ("woses", "wose"),
)  # fmt: skip
OTHER_FIGURES = (
    ("dwarves/berserker", "berserker"), ("elves-wood", "archer"), ("goblins", "spearman"),
    ("human-loyalists", "fencer"), ("human-outlaws", "thief"), ("orcs", "grunt"), ("saurians/oracle", "oracle"),
    ("trolls", "whelp"), ("undead-necromancers", "adept"), ("undead-skeletal/revenant", "revenant"),
)  # fmt: skip
FRAME = 72  # pixels
ICON_FOLDERS = (
    "actions", "apps", "categories", "devices", "emblems", "emotes", "mimetypes", "places", "status",
)  # fmt: skip


def textures_grey():
    """Patches of seven grey photographs."""
    ours = unpacked("scikit-image") / "skimage" / "data"
    theirs = unpacked("extremetuxracer-data") / "usr/share/games/etr/terrains"
    files = [ours / f"{kind}.png" for kind in FIRST_KINDS] + [theirs / f"{kind}.png" for kind in TERRAINS]
    return patches([np.asarray(Image.open(file).convert("L"))[..., np.newaxis] for file in files])


def textures_colour():
    """Patches of eight colour photographs of walls, floors and plants, each in a light of its own.

    The light's strength and colour are random, since without that the mean colour alone tells the kind.
    """
    jar = unpacked("sweethome3d") / "usr/share/sweethome3d/sweethome3d.jar"
    with zipfile.ZipFile(jar) as archive:
        files = [archive.open(f"com/eteks/sweethome3d/io/resources/textures/{kind}.jpg") for kind in WALLS]
        images, labels = patches([np.asarray(Image.open(file).convert("RGB")) for file in files])
    rng = np.random.default_rng(1)
    strength = rng.uniform(0.45, 1, (len(images), 1, 1, 1))
    light = strength * np.exp(rng.normal(0, 0.1, (len(images), 1, 1, 3)))
    return np.clip(np.rint(images * light), 0, 255).astype(np.uint8), labels


def patches(photographs: Sequence[np.ndarray]):
    """From each photograph (H, W, C) PATCHES squares at random places; its number is the label."""
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat(np.arange(len(photographs)), PATCHES))
    return np.stack([square(photographs[kind], PATCH, rng) for kind in labels]), labels


def square(photograph: np.ndarray, side: int, rng: np.random.Generator) -> np.ndarray:
    top, left = (rng.integers(length - side + 1) for length in photograph.shape[:2])
    return photograph[top : top + side, left : left + side]


def emoji(vendor: str):
    """A vendor's emoji by Unicode's groups, without skin tones; flags are left out."""
    entries = [(entry["category"], file) for entry, file in emoji_files(vendor)]
    entries = [(kind, file) for kind, file in entries if kind not in ("Flags", "Component")]
    kinds = sorted({kind for kind, _ in entries})
    images = [on_white(file) for _, file in entries]
    return shuffled(np.stack(images), np.array([kinds.index(kind) for kind, _ in entries]))


def few_emoji(vendor: str, kinds: Sequence[tuple[int, Sequence[str]]]):
    """Some of a vendor's emoji, 48 x 48 pixels: the first of some subgroups for each kind."""
    files = emoji_files(vendor)
    images, labels = [], []
    for kind, (count, subgroups) in enumerate(kinds):
        for file in [file for entry, file in files if entry["subcategory"] in subgroups][:count]:
            picture = Image.fromarray(on_white(file)).resize((48, 48), Image.Resampling.BOX)
            images.append(np.asarray(picture))
            labels.append(kind)
    return shuffled(np.stack(images), np.array(labels))


def emoji_files(vendor: str):
    """What is known of each emoji that a vendor draws, and its file, 64 x 64 pixels."""
    folder = unpacked(f"emoji-datasource-{vendor}") / "package"
    entries = json.loads((folder / "emoji.json").read_text("utf8"))
    return [(e, folder / f"img/{vendor}/64" / e["image"]) for e in entries if e[f"has_img_{vendor}"]]


def icons():
    """The 48-pixel icons of two desktops, MATE and Oxygen, by folder."""
    mate = unpacked("mate-icon-theme") / "usr/share/icons/mate/48x48"
    oxygen = unpacked("oxygen-icon-theme") / "usr/share/icons/oxygen/base/48x48"
    return icons_of([[root / name for name in ICON_FOLDERS] for root in (mate, oxygen)])


def other_icons():
    """The 48-pixel icons of two more themes, GNOME and Faenza, by folder."""
    gnome = unpacked("gnome-icon-theme") / "usr/share/icons/gnome/48x48"
    faenza = unpacked("faenza-icon-theme") / "usr/share/icons/Faenza"
    return icons_of([[gnome / name for name in ICON_FOLDERS], [faenza / name / "48" for name in ICON_FOLDERS]])


def icons_of(themes):
    """Icons in the folders of each theme, whose place is their label; other names of the same file are left out."""
    files = [
        (kind, file)
        for folders in themes
        for kind, folder in enumerate(folders)
        for file in sorted(folder.glob("*.png"))
        if not file.is_symlink() and Image.open(file).size == (48, 48)
    ]
    return shuffled(np.stack([on_white(file) for _, file in files]), np.array([kind for kind, _ in files]))


def sprites(figures: Sequence[tuple[str, str]]):
    """Frames of figures of The Battle for Wesnoth, in any pose, 48 x 48 pixels."""
    units = unpacked("wesnoth-1.18-data") / "usr/share/games/wesnoth/1.18/data/core/images/units"
    images, labels = [], []
    for kind, (folder, name) in enumerate(figures):
        for file in sorted((units / folder).iterdir()):
            if file.suffix not in (".png", ".webp") or re.split(r"[-+.\d]", file.name)[0] != name:
                continue
            with Image.open(file) as picture:
                if picture.size == (FRAME, FRAME):
                    small = Image.fromarray(on_white(file)).resize((48, 48), Image.Resampling.BOX)
                    images.append(np.asarray(small))
                    labels.append(kind)
    return shuffled(np.stack(images), np.array(labels))


def crops():
    """300 grey crops of photographs: faces, print, stained tissue and galaxies."""
    folder = unpacked("scikit-image") / "skimage" / "data"
    images = [np.rint(255 * np.load(folder / "lfw_subset.npy")[:FACES]).astype(np.uint8)]
    rng = np.random.default_rng(0)
    for name, (count, least) in CROPS.items():
        photograph = np.asarray(Image.open(folder / name).convert("L"))
        drawn = (square(photograph, CROP, rng) for _ in itertools.count())
        images.append(np.stack(list(itertools.islice((crop for crop in drawn if crop.std() >= least), count))))
    labels = np.repeat(np.arange(len(images)), [len(kind) for kind in images])
    return shuffled(np.concatenate(images)[..., np.newaxis], labels)


def hundred_emoji():
    """A hundred of Noto's emoji: 24 clocks, 30 faces, 18 hearts and 28 animals."""
    file = unpacked("fonts-noto-color-emoji") / "usr/share/fonts/truetype/noto/NotoColorEmoji.ttf"
    font = ImageFont.truetype(file, SAMPLE_SIZE, layout_engine=ImageFont.Layout.BASIC)
    images, labels = [], []
    for kind, codes in enumerate(EMOJI.values()):
        for code in codes:
            picture = Image.new("RGB", (128, 128), "white")
            ImageDraw.Draw(picture).text((-4, 0), chr(code), font=font, embedded_color=True)
            images.append(np.asarray(picture.resize((48, 48), Image.Resampling.BOX)))
            labels.append(kind)
    return shuffled(np.stack(images), np.array(labels))


def on_white(file) -> np.ndarray:
    """A picture with transparency as (H, W, 3), uint8."""
    picture = Image.open(file).convert("RGBA")
    return np.asarray(Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB"))


def shuffled(images: np.ndarray, labels: np.ndarray):
    order = np.random.default_rng(0).permutation(len(images))
    return images[order], labels[order]
