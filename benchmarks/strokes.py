"""Make the weights of `clusterloom.networks.strokes` from signs that nobody has ever written.

    OMP_NUM_THREADS=1 python benchmarks/strokes.py          # the weights, 40 minutes
    python benchmarks/strokes.py --picture strokes.png      # some of the signs, two drawings of each

A sign is one to four strokes. Half of the signs are free: strokes start and end anywhere, most of them on one another.
Half stand on a grid, as types do: stems, bars, diagonals, bowls, some of them symmetric. A drawing is what a hand or a
font makes of a sign: its ends and curves moved, bent, slanted, wide or narrow, with a pen or with letters' contrast and
serifs, sharp or blurred. Of two drawings of each of 256 signs at a time the network learns which belong together
(NT-Xent; Chen and others, 2020). Half of the signs come in pairs that differ in one stroke, for whoever tells only
strangers apart need not look closely. No image of any data set takes part, and no label.

One machine makes the same weights each time; another one rounds otherwise. Results of the recipe come with the weights
that are in the repository.
"""

import argparse
import sys
import time
from hashlib import sha256
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from clusterloom.losses import contrastive_loss
from clusterloom.networks.strokes import FEATURES, SIDE, WEIGHTS, StrokeNetwork
from clusterloom.pictures import image_grid

STROKES = 4  # at most
PIECES = 10  # straight ones that a stroke is drawn of
SIGNS, DRAWINGS = 98_304, 4
PAIRED = 0.5  # of the signs, in pairs that differ in one stroke
CHANGED = 0.15  # share of a sign's ink, at least
BATCH, EPOCHS, RATE, TEMPERATURE = 256, 24, 4e-3, 0.1
PROJECTION = 64
GRID_X, GRID_Y = torch.tensor([-0.7, 0.0, 0.7]), torch.tensor([-0.9, -0.45, 0.0, 0.45, 0.9])


class Chance:
    """Random numbers of one seed."""

    def __init__(self, seed):
        self.generator = torch.Generator().manual_seed(seed)

    def uniform(self, *shape, low=0.0, high=1.0):
        return low + (high - low) * torch.rand(*shape, generator=self.generator)

    def normal(self, *shape):
        return torch.randn(*shape, generator=self.generator)

    def whole(self, most, n):
        return torch.randint(most, (n,), generator=self.generator)

    def choice(self, shares, n):
        return torch.multinomial(torch.tensor(shares), n, replacement=True, generator=self.generator)

    def happens(self, share, *shape):
        return torch.rand(*shape, generator=self.generator) < share

    def sign(self, n):
        return torch.where(self.happens(0.5, n), 1.0, -1.0)


def points(x, y):
    return torch.stack([x, y], 1)


def signs(n: int, chance: Chance) -> tuple[Tensor, Tensor]:
    """Control points of curves, (n, 4 strokes, 4, 2), from -.85 to .85, and which strokes there are, (n, 4)."""
    free, of_free = free_signs(n, chance)
    types, of_types = types_on_a_grid(n, chance)
    is_type = chance.happens(0.5, n)
    arcs = torch.where(is_type[:, None, None, None], types, free)
    there = torch.where(is_type[:, None], of_types, of_free)
    # A quadratic arc as a cubic curve, or one whose ends run parallel, as those of a circle do.
    start, bend, end = arcs.unbind(2)
    out = (bend - (start + end) / 2) * (2 / 3)
    pointed = torch.stack([start, start + (bend - start) * 2 / 3, end + (bend - end) * 2 / 3, end], 2)
    rounded = torch.stack([start, start + out, end + out, end], 2)
    curves = torch.where(chance.happens(0.6, n)[:, None, None, None], rounded, pointed)
    seen = there[:, :, None, None]
    least, most = curves.where(seen, 9.0).amin((1, 2)), curves.where(seen, -9.0).amax((1, 2))
    half = ((most - least).amax(1) / 2).clamp(min=0.3)
    return (curves - (least + most)[:, None, None] / 2) / half[:, None, None, None] * 0.85, there


def signs_and_siblings(n: int, chance: Chance) -> tuple[Tensor, Tensor]:
    """The same, half of them in pairs that differ in one stroke, one after the other."""
    paired = int(PAIRED * n / 2)
    some = signs(n - paired, chance)
    alike = siblings(*(part[:paired] for part in some), chance)
    curves, there = (
        torch.cat([torch.stack([part[:paired], of_alike], 1).flatten(0, 1), part[paired:]])
        for part, of_alike in zip(some, alike, strict=True)
    )
    return curves, there


def siblings(curves, there, chance):
    """Signs that lack a stroke, or have another one in its place or besides; where that hardly shows, other signs."""
    n = len(curves)
    others, of_others = signs(n, chance)
    slot, rows = chance.whole(STROKES, n), torch.arange(n)
    changed, left = curves.clone(), there.clone()
    gone = there[rows, slot] & (there.sum(1) > 1) & chance.happens(0.5, n)
    changed[rows, slot] = others[rows, torch.where(of_others[rows, slot], slot, 0)]
    left[rows, slot] = ~gone
    before, after = drawn_plainly(curves, there), drawn_plainly(changed, left)
    shows = (before - after).abs().sum(1) / torch.maximum(before.sum(1), after.sum(1)) > CHANGED
    return torch.where(shows[:, None, None, None], changed, others), torch.where(shows[:, None], left, of_others)


def free_signs(n, chance):
    """Arcs by start, bend and end, (n, 4, 3, 2), and which of them there are."""
    arcs = torch.zeros(n, STROKES, 3, 2)
    near = torch.tensor([[x, y] for x in (-0.8, -0.4, 0, 0.4, 0.8) for y in GRID_Y.tolist()])

    def spot():
        on_grid = near[chance.whole(len(near), n)] + chance.uniform(n, 2, low=-0.15, high=0.15)
        anywhere = chance.uniform(n, 2, low=-1.0) * torch.tensor([0.85, 0.95])
        return torch.where(chance.happens(0.6, n, 1), on_grid, anywhere)

    for stroke in range(STROKES):
        start, end = spot(), spot()
        if stroke:  # most strokes start on another one, at its end or along it
            a, bend, b = arcs[torch.arange(n), chance.whole(stroke, n)].unbind(1)
            along = chance.uniform(n)
            t = torch.where(chance.happens(0.6, n), chance.whole(2, n).float(), along)[:, None]
            on_other = (1 - t) ** 2 * a + 2 * t * (1 - t) * bend + t**2 * b
            start = torch.where(chance.happens(0.8, n, 1), on_other, start)
        for _ in range(3):
            end = torch.where((end - start).norm(dim=1, keepdim=True) < 0.5, spot(), end)
        across = (end - start).flip(1) * torch.tensor([-1.0, 1.0])
        curved = torch.where(chance.happens(0.45, n, 1), 0.0, chance.uniform(n, 1, low=-1.6, high=1.6))
        arcs[:, stroke] = torch.stack([start, (start + end) / 2 + across * curved, end], 1)
    there = torch.arange(STROKES) <= chance.choice([0.12, 0.33, 0.33, 0.22], n)[:, None]
    centre = chance.uniform(n, 2, low=-0.5, high=0.5) * torch.tensor([0.6, 1.0])
    radii = chance.uniform(n, 2, low=0.7, high=1.3) * chance.uniform(n, 1, low=0.3, high=0.8)
    return with_rings(arcs, there, chance.happens(0.25, n), centre, radii)


def types_on_a_grid(n, chance):
    """The same for signs of stems, bars, diagonals and bowls."""
    arcs = torch.zeros(n, STROKES, 3, 2)
    for stroke in range(STROKES):
        left, right = GRID_X[chance.whole(3, n)], GRID_X[chance.whole(3, n)]
        level = GRID_Y[chance.whole(5, n)]
        right = torch.where(left == right, torch.where(left > 0, left - 0.7, left + 0.7), right)
        tall = chance.happens(0.7, n)
        top = torch.where(tall, GRID_Y[chance.whole(2, n)], level)
        bottom = torch.where(tall, -GRID_Y[chance.whole(2, n)], GRID_Y[chance.whole(5, n)])
        bottom = torch.where(top == bottom, torch.where(top > 0, top - 0.9, top + 0.9), bottom)
        bowl = left + chance.sign(n) * chance.uniform(n, low=0.9, high=1.8)
        hook = level + chance.sign(n) * chance.uniform(n, low=0.5, high=1.3)
        hangs = chance.happens(0.65, n)
        kinds = [
            (left, top, left, (top + bottom) / 2, left, bottom),  # a stem
            (left, level, (left + right) / 2, level, right, level),  # a bar
            (left, top, (left + right) / 2, (top + bottom) / 2, right, bottom),  # a diagonal
            (  # a bowl at one side, or a hook between two
                left,
                torch.where(hangs, top, level),
                torch.where(hangs, bowl, (left + right) / 2),
                torch.where(hangs, (top + bottom) / 2, hook),
                torch.where(hangs, left, right),
                torch.where(hangs, bottom, level),
            ),
            (left, level, left, level, left, level),  # a dot
        ]
        of_kinds = torch.stack([torch.stack(kind, 1) for kind in kinds], 1)
        arcs[:, stroke] = of_kinds[torch.arange(n), chance.choice([0.28, 0.21, 0.19, 0.27, 0.05], n)].view(n, 3, 2)
    there = torch.arange(STROKES) <= chance.choice([0.06, 0.3, 0.38, 0.26], n)[:, None]
    # The second half of a symmetric sign mirrors the first.
    symmetric, both = chance.happens(0.2, n), there[:, :2].repeat(1, 2)
    mirrored = torch.cat([arcs[:, :2], arcs[:, :2] * torch.tensor([-1.0, 1.0])], 1)
    arcs = torch.where(symmetric[:, None, None, None], mirrored, arcs)
    there = torch.where(symmetric[:, None], both, there)
    small = chance.happens(0.5, n)
    centre = points(torch.zeros(n), torch.where(small, GRID_Y[1 + chance.whole(3, n)], 0.0))
    radii = points(torch.full((n,), 0.65), torch.where(small, 0.45, 0.9))
    return with_rings(arcs, there, chance.happens(0.15, n), centre, radii)


def with_rings(arcs, there, ring, centre, radii):
    """Some signs with a ring in place of their first two strokes, or as their only ones."""
    x, y = centre[:, 0], centre[:, 1]
    top, bottom = points(x, y - radii[:, 1]), points(x, y + radii[:, 1])
    halves = [torch.stack([top, points(x + side * 2 * radii[:, 0], y), bottom], 1) for side in (-1, 1)]
    arcs, there = arcs.clone(), there.clone()
    arcs[:, :2] = torch.where(ring[:, None, None, None], torch.stack(halves, 1), arcs[:, :2])
    there[:, 1] |= ring
    return arcs, there


def along_curves(control, t):
    """Where cubic curves (n, 4, 2), given by four control points each, are at shares t of their way."""
    bernstein = ((1 - t) ** 3, 3 * (1 - t) ** 2 * t, 3 * (1 - t) * t**2, t**3)
    return sum(w * p[:, :, None] for w, p in zip(bernstein, control, strict=True))


def drawn_plainly(curves, there):
    """Signs by one pen, nothing bent, (n, 32 * 32)."""
    along = along_curves(curves.unbind(2), torch.linspace(0, 1, PIECES + 1).view(1, 1, -1, 1))
    a, b = along[:, :, :-1].flatten(1, 2), along[:, :, 1:].flatten(1, 2)
    return torch.sigmoid(-40 * far_from(a, b, torch.full(a.shape[:2], 0.09), pieces(there)))


def drawings(curves: Tensor, there: Tensor, chance: Chance) -> Tensor:
    """One drawing of each sign, shape (n, 1, 32, 32), from 0 to 1: half of them by hands, half by fonts."""
    n = len(curves)
    font = chance.happens(0.5, n)
    hand = 1 - font.float()
    # Every end and every curve moves a little on its own, and all curves are fuller or flatter.
    curves = curves + chance.normal(*curves.shape) * (0.02 + 0.015 * hand[:, None, None, None])
    start, end = curves[:, :, 0], curves[:, :, 3]
    thirds = (start + (end - start) / 3, end + (start - end) / 3)
    fuller = torch.exp(0.2 * chance.normal(n))[:, None, None]
    bends = [third + (curves[:, :, i] - third) * fuller for i, third in enumerate(thirds, 1)]
    # A hand starts and stops a stroke a little early or late, which opens and closes loops.
    early, late = (
        chance.uniform(n, STROKES, 1, 1, low=-0.15, high=0.08) * (0.3 + 0.7 * hand[:, None, None, None])
        for _ in range(2)
    )
    t = torch.linspace(0, 1, PIECES + 1).view(1, 1, -1, 1) * (1 + early + late) - early
    along = along_curves((start, *bends, end), t)
    # The whole is bent by waves, turned, slanted, wide or narrow, large or small.
    waves, phase = 2.2 * chance.normal(n, 3, 2), chance.uniform(n, 1, 3, high=2 * np.pi)
    by = chance.normal(n, 3, 2) * (0.02 + 0.04 * hand[:, None, None])
    along = along + (torch.sin(along.flatten(1, 2) @ waves.mT + phase) @ by).view_as(along)
    turn, slant = chance.normal(n) * (0.032 + 0.128 * hand), chance.normal(n) * (0.12 + 0.06 * hand)
    wide, tall = torch.exp(0.16 * chance.normal(n) - 0.1), torch.exp(0.12 * chance.normal(n) - 0.05)
    size = chance.uniform(n, low=0.6, high=1.02)
    x, y = along.unbind(3)
    each = (slice(None), None, None)
    x, y = (x + slant[each] * y) * wide[each], y * tall[each]
    x, y = x * turn.cos()[each] - y * turn.sin()[each], x * turn.sin()[each] + y * turn.cos()[each]
    shift = 0.06 * chance.normal(n, 2)
    along = torch.stack([x + shift[:, 0][each], y + shift[:, 1][each]], 3) * size[:, None, None, None]
    a, b = along[:, :, :-1].flatten(1, 2), along[:, :, 1:].flatten(1, 2)
    drawn = pieces(there)
    # Of fonts some have serifs, and some have level strokes that are thin.
    half = chance.uniform(n, 1, low=0.08, high=0.18) * size[:, None]
    ends = torch.cat([along[:, :, 0], along[:, :, -1]], 1)
    bar = torch.stack([half.expand(-1, 2 * STROKES), torch.zeros(n, 2 * STROKES)], 2)
    a, b = torch.cat([a, ends - bar], 1), torch.cat([b, ends + bar], 1)
    serifs = (font & chance.happens(0.4, n))[:, None]
    drawn = torch.cat([drawn, torch.cat([there, there], 1) & serifs], 1)
    pen, weight = chance.uniform(n, low=0.05, high=0.18), 0.035 + 0.22 * chance.uniform(n) ** 1.3
    width = (torch.where(font, weight, pen) * (0.5 + 0.5 * size))[:, None]
    length = (b - a).norm(dim=2).clamp(min=1e-3)
    contrast = (font & chance.happens(0.5, n)).float()[:, None] * chance.uniform(n, 1, high=0.75)
    widths = width * (1 - contrast * ((b - a)[..., 0] / length) ** 2)
    widths[:, -2 * STROKES :] = width * chance.uniform(n, 1, low=0.35, high=0.75)
    blur = 0.03 + 0.09 * chance.uniform(n, 1) * (0.4 + 0.6 * hand[:, None])
    images = torch.sigmoid(-3 * far_from(a, b, widths, drawn) / blur).view(n, 1, SIDE, SIDE)
    grain = 0.08 * chance.normal(*images.shape) * chance.happens(0.25, n, 1, 1, 1)
    return (images + grain).clamp(0, 1)


def pieces(there):
    """Which straight pieces there are, of strokes (n, 4)."""
    return there[:, :, None].expand(-1, -1, PIECES).flatten(1)


def far_from(a, b, widths, drawn):
    """How far each pixel is from the nearest edge of straight pieces, negative within, shape (n, 32 * 32)."""
    parts = zip(*(x.split(32) for x in (a, b, widths, drawn)), strict=True)  # of all at once would take gigabytes
    return torch.cat([distances(*part) for part in parts])


def distances(a, b, widths, drawn):
    """The same, with all pixels by all pieces in memory."""
    axis = (torch.arange(SIDE) + 0.5) / SIDE * 2 - 1
    pixels = torch.stack([axis.repeat(SIDE), axis.repeat_interleave(SIDE)], 1)
    way = b - a
    squared = way.square().sum(2).clamp(min=1e-6)[:, None]
    along = torch.einsum("pc,nmc->npm", pixels, way) - (a * way).sum(2)[:, None]
    share = (along / squared).clamp(0, 1)
    from_start = pixels.square().sum(1)[:, None] - 2 * torch.einsum("pc,nmc->npm", pixels, a)
    far = from_start + a.square().sum(2)[:, None] - 2 * share * along + share**2 * squared
    return (far.clamp(min=0).sqrt() - widths[:, None]).masked_fill(~drawn[:, None], 9.0).amin(2)


def seen(images: Tensor, chance: Chance) -> Tensor:
    """Drawings as scans are: some of fewer pixels, all at their full brightness."""
    chosen = chance.choice([0.55, 0.25, 0.2], len(images))
    parts = [images] + [F.interpolate(F.avg_pool2d(images, by), (SIDE, SIDE), mode="bilinear") for by in (2, 4)]
    images = torch.stack(parts)[chosen, torch.arange(len(images))]
    return images / images.amax((1, 2, 3), keepdim=True).clamp(min=0.1)


def trained(pool: Tensor, chance: Chance, epochs: int) -> StrokeNetwork:
    """A network that knows which drawings of a pool (signs, drawings, 1, 32, 32) belong together.

    Signs that follow each other, of which half are pairs, are told apart in the same step.
    """
    network, learner = StrokeNetwork(), nn.Sequential()
    for layer in network.layers:  # batch norm while it learns, part of the layers afterwards
        learner.append(layer)
        if isinstance(layer, nn.Conv2d):
            learner.append(nn.BatchNorm2d(layer.out_channels))
        elif isinstance(layer, nn.Linear):
            learner.append(nn.BatchNorm1d(layer.out_features))
    learner = learner.to(memory_format=torch.channels_last)
    project = nn.Linear(FEATURES, PROJECTION)
    parameters = [*learner.parameters(), *project.parameters()]
    optimiser = torch.optim.AdamW(parameters, weight_decay=1e-3)
    batches = len(pool) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, epochs * batches)
    for epoch in range(epochs):
        total, start = 0.0, time.monotonic()
        pairs = 2 * torch.randperm(len(pool) // 2, generator=chance.generator)
        for rows in torch.stack([pairs, pairs + 1], 1).flatten().split(BATCH):
            two = torch.randperm(pool.shape[1], generator=chance.generator)[:2]
            x = seen(pool[rows][:, two].transpose(0, 1).flatten(0, 1).float() / 255, chance)
            with torch.autocast("cpu", torch.bfloat16):
                features = learner(x)
            projected = F.normalize(project(features.float()), dim=1)
            loss = contrastive_loss(*projected.chunk(2), TEMPERATURE).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            total += loss.item()
        print(f"epoch {epoch + 1}: {total / batches:.3f}, {time.monotonic() - start:.0f} s", file=sys.stderr)
    fused = []
    for layer in learner.eval():
        if isinstance(layer, nn.BatchNorm2d):
            fused[-1] = fuse_conv_bn_eval(fused[-1], layer)
        elif isinstance(layer, nn.BatchNorm1d):
            fused[-1] = fuse_linear_bn_eval(fused[-1], layer)
        else:
            fused.append(layer)
    network.layers = nn.Sequential(*fused)
    return network


def picture(chance: Chance, down: int = 10, across: int = 12) -> Image.Image:
    """Signs side by side, two drawings of each."""
    sketched = signs_and_siblings(down * across, chance)
    both = torch.stack([drawings(*sketched, chance)[:, 0] for _ in range(2)], 1)
    return image_grid([*both.view(down, 2 * across, SIDE, SIDE, 1).numpy()])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    parser.add_argument("--picture", type=Path, help="draw some signs, and learn nothing")
    parser.add_argument("--smoke", action="store_true", help="a few signs for an epoch, and nothing is written")
    args = parser.parse_args()
    chance = Chance(0)
    torch.manual_seed(0)
    if args.picture:
        picture(chance).save(args.picture)
        return
    n, epochs = (2 * BATCH, 1) if args.smoke else (SIGNS, EPOCHS)
    pool = torch.empty(n, DRAWINGS, 1, SIDE, SIDE, dtype=torch.uint8)
    for start in range(0, n, BATCH):
        sketched = signs_and_siblings(BATCH, chance)
        for drawing in range(DRAWINGS):
            pool[start : start + BATCH, drawing] = (drawings(*sketched, chance) * 255).byte()
    print(f"{n:,} signs, {DRAWINGS} drawings of each", file=sys.stderr)
    network = trained(pool, chance, epochs)
    weights = safetensors.torch.save({k: v.half().contiguous() for k, v in network.state_dict().items()})
    print(f"{len(weights):,} bytes, SHA-256 {sha256(weights).hexdigest()}")
    if not args.smoke:
        args.out.write_bytes(weights)


if __name__ == "__main__":
    main()
