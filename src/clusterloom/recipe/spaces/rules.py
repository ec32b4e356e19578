"""How much each space is believed before its guides are heard, by its name and the number of images."""

from collections.abc import Collection

from clusterloom.recipe.spaces.embeddings import SpaceRules
from clusterloom.recipe.spaces.frozen import BACKBONE
from clusterloom.recipe.spaces.plain import APPEARANCE, CONTOURS, PALETTE, STROKES, TEXTURE, WAVES

_ALONE = (TEXTURE, CONTOURS, PALETTE, WAVES, BACKBONE)  # spaces that may see what no other can
_YIELDING = ("brightness", CONTOURS)  # spaces that yield to learned ones where many images show no clear kinds
# How many spaces one is worth. Of the learned ones, which confirm each other, those that the contrastive loss made tell
# kinds apart best. Brightness alone outvoted them: two forms of a letter differ there as much as two letters.
_COUNTS = {"projection": 2.0, "hidden": 2.0, "brightness": 0.5, TEXTURE: 3.0, WAVES: 2.0}
# At any angle, of which waves and strokes know more than learned spaces, and strokes less than at a fixed one.
_PROJECTION_BESIDE_WAVES, _STROKES_BESIDE_WAVES = 1.0, 0.6
# Of few images a network learns little, so spaces of which nothing is learned from them count for more: as often as the
# number of images goes into so many, but at least so often and at most so often.
_COUNTS_OF_FEW = {
    CONTOURS: (500, 0.3, 1.0),
    APPEARANCE: (1000, 0.0, 3.0),
    BACKBONE: (1000, 0.0, 3.0),
    STROKES: (5000, 0.0, 12.0),
}
_BACKBONE_OF_THINGS = 2.0  # at least: a backbone has seen photographs of things, and hardly any signs


def rules_of(n_images: int, spaces: Collection[str], learned: Collection[str], of_signs: bool) -> SpaceRules:
    """What is known of the spaces of so many images.

    Args:
        n_images: N.
        spaces: All names.
        learned: Those of spaces that a network has learned from the images.
        of_signs: The images are signs, of which a backbone that has seen photographs knows less.

    Example:
        >>> rules = rules_of(500, ["projection", "strokes"], ["projection"], of_signs=True)
        >>> rules.counts["projection"], rules.counts["strokes"]
        (2.0, 10.0)
    """
    of_few = {name: min(max(many / n_images, least), most) for name, (many, least, most) in _COUNTS_OF_FEW.items()}
    counts = _COUNTS | of_few
    if WAVES in spaces:
        counts["projection"] = _PROJECTION_BESIDE_WAVES
        counts[STROKES] *= _STROKES_BESIDE_WAVES
    if not of_signs:
        counts[BACKBONE] = max(counts[BACKBONE], _BACKBONE_OF_THINGS)
    alone = (*_ALONE, STROKES) if WAVES in spaces else _ALONE
    return SpaceRules(tuple(learned), alone, _YIELDING, counts)
