"""Colours and markers of clusters: who can tell them apart, and which clusters share one."""

import numpy as np

from clusterloom.palette import COLOURS, styles


def test_forty_clusters_differ_in_colour_or_marker_and_near_ones_in_colour():
    places = np.stack(np.meshgrid(np.arange(8), np.arange(5)), -1).reshape(-1, 2).astype(float)
    chosen = styles(places)
    assert len({(style.colour, style.marker) for style in chosen}) == 40
    for i, a in enumerate(chosen):
        for j in range(i):
            if a.colour == chosen[j].colour:
                assert np.linalg.norm(places[i] - places[j]) > 1.5
    assert len(styles(np.zeros((100, 2)))) == 100


def test_clusters_that_come_later_change_no_other():
    places = np.random.default_rng(0).uniform(size=(70, 2))
    chosen = styles(places)
    assert chosen[:13] == styles(places[:13])
    assert len(set(chosen)) == 70
    assert len({style.colour for style in chosen[10:20]}) == 10
    assert styles(np.zeros((3, 2)))[2].hex == COLOURS[2]


def test_people_who_see_colours_differently_can_tell_them_apart():
    # Machado, Oliveira and Fernandes (2009), severity 1: what red-, green- and blue-blind people see.
    sights = [
        np.eye(3),
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
    ]
    linear = linear_light(COLOURS)
    for sight in sights:
        lab = oklab(np.clip(linear @ np.transpose(sight), 0, 1))
        distance = np.linalg.norm(lab[:, None] - lab, axis=2) + 9 * np.eye(len(lab))
        assert distance.min() > 0.09


def test_colours_stand_out_from_the_grounds_that_they_are_drawn_on():
    luminance = linear_light(COLOURS) @ [0.2126, 0.7152, 0.0722]
    # Of the report, then of the page: its map, and its panels where that is the harder one.
    grounds = {"#ffffff": 1.8, "#191c1f": 2.2, "#f5f4f1": 1.7, "#131416": 2.3, "#1b1c1f": 2.15}
    for ground, least in grounds.items():
        (own,) = linear_light([ground]) @ [0.2126, 0.7152, 0.0722]
        contrast = (np.maximum(luminance, own) + 0.05) / (np.minimum(luminance, own) + 0.05)
        assert contrast.min() > least, ground


def linear_light(colours):
    rgb = np.array([[int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)] for colour in colours])
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def oklab(linear):
    cones = linear @ np.transpose(
        [
            [0.4122214708, 0.5363325363, 0.0514459929],
            [0.2119034982, 0.6806995451, 0.1073969566],
            [0.0883024619, 0.2817188376, 0.6299787005],
        ]
    )
    return np.cbrt(cones) @ np.transpose(
        [
            [0.2104542553, 0.7936177850, -0.0040720468],
            [1.9779984951, -2.4285922050, 0.4505937099],
            [0.0259040371, 0.7827717662, -0.8086757660],
        ]
    )
