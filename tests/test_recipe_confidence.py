"""How sure the model may be, and that it is as sure afterwards."""

import numpy as np
import pytest
import torch

from clusterloom.networks.vae import ClusterVAE, ConvNetworkSettings
from clusterloom.recipe.learning.confidence import calibrate, expected_accuracy, learn_confidence, temperature_for
from clusterloom.recipe.pseudo_labels.first import FirstPseudoLabels

NO_OTHERS = np.empty((0, 4), int)
NOWHERE: dict[str, np.ndarray] = {}  # no layouts in which density would find a cluster


def network_of(n_clusters=3):
    torch.manual_seed(0)
    conv = {"conv_filters": (4, 4), "conv_kernels": (3, 3)}
    settings = ConvNetworkSettings(latent_dim=2, hidden_dim=16, category_input="features", **conv)
    return ClusterVAE(settings, (8, 8, 1), n_clusters).eval()


def soft(labels, n_clusters, sure):
    return ((1 - sure) / n_clusters) + sure * np.eye(n_clusters)[labels]


def test_expected_accuracy_goes_by_the_images_of_which_the_model_is_least_sure():
    """A few of which it is not sure at all say nothing, a sixth says all."""
    labels, none, no = np.arange(1000) % 2, np.zeros((1000, 2)), np.zeros(2, bool)

    def expected(unsure):
        return expected_accuracy(soft(labels, 2, np.where(np.arange(1000) < unsure, 0.5, 0.96)[:, None]), none, no)

    assert expected(0) == expected(140) == pytest.approx(1 - 1 / (1 + 0.78 * 49**0.75 * 499**0.5))
    assert expected(160) == pytest.approx(1 - 1 / (1 + 0.78 * 3**0.75 * 499**0.5))


def test_expected_accuracy_stays_between_chance_and_certainty():
    labels, none, no = np.array([0, 1, 2]), np.zeros((3, 3)), np.zeros(3, bool)
    assert expected_accuracy(soft(labels, 3, 1.0), none, no) == 1 - 0.5 / 4
    assert expected_accuracy(soft(np.zeros(300, int), 3, 0.001), np.zeros((300, 3)), no) == pytest.approx(1 / 3)


def test_doubt_grows_where_clusters_are_of_odd_sizes():
    none, no, yes = np.zeros((400, 2)), np.zeros(2, bool), np.ones(2, bool)
    even, odd = (soft(labels, 2, 0.8) for labels in (np.arange(400) % 2, np.repeat([0, 1], [300, 100])))
    # Three quarters are in a cluster 1.5 times as large as the mean, the others in one of half its size.
    assert expected_accuracy(odd, none, no) == pytest.approx(1 - 1 / (1 + 0.78 * 9**0.75 * (0.625 / 0.375) ** 0.5))
    assert expected_accuracy(odd, none, yes) == expected_accuracy(even, none, no) > 0.98


@pytest.mark.parametrize(("n", "expected"), [(20, 0.584), (200, 0.864), (20_000, 0.985)])
def test_of_few_images_other_divisions_tell_how_many_are_placed_rightly(n, expected):
    labels = np.arange(n) % 2
    found = expected_accuracy(soft(labels, 2, 0.7), np.full((n, 2), 0.5), np.zeros(2, bool))
    assert found == pytest.approx(expected, abs=0.001)


def test_a_group_that_guides_place_elsewhere_is_doubted_and_unseen_images_like_it_too():
    """The model takes 40 of 400 images for its first cluster; all guides say the second, and so do ties."""
    generator = np.random.default_rng(0)
    network, last = network_of(), np.zeros((3, 16))
    last[[0, 1, 2], [0, 1, 2]] = 3
    with torch.no_grad():
        network.category_output.weight.copy_(torch.from_numpy(last))
        network.category_output.bias.zero_()
    heap = np.array([0] * 120 + [1] * 120 + [2] * 120 + [3] * 40)

    def hidden():
        """Heaps are blobs; the fourth lies beside the first."""
        middles = np.eye(16)[[0, 1, 2, 0]] + 0.6 * (np.arange(4)[:, None] == 3) * np.eye(16)[5]
        return (middles[heap] + 0.05 * generator.standard_normal((400, 16))).astype(np.float32)

    model, elsewhere = np.array([0, 1, 2, 0])[heap], np.array([0, 1, 2, 1])[heap]
    ties = np.diag([0.3, 0.28, 0.28, 0.08]) + 0.02 * np.eye(4)[[3, 3, 3, 1]] + 0.02 * np.eye(4)[[3, 3, 3, 1]].T
    first = FirstPseudoLabels(
        0.8 * np.eye(3)[model], model, {}, {"one": elsewhere[None], "other": model[None]}, heap, ties, NO_OTHERS
    )
    seen, unseen = hidden(), hidden()
    with torch.no_grad():
        before = network.category_output(torch.from_numpy(seen)).softmax(1).numpy()
    level = expected_accuracy(before, np.zeros((400, 3)), np.zeros(3, bool))
    learn_confidence(network, seen, first, NOWHERE)
    for points in (seen, unseen):
        with torch.no_grad():
            q = network.category_output(torch.from_numpy(points)).softmax(1).numpy()
        sure = q.max(1)
        assert np.mean(q.argmax(1) == model) > 0.99
        assert sure[heap == 3].max() < sure[heap < 3].min()
        assert sure.mean() == pytest.approx(level, abs=0.01)


def test_the_model_learns_to_doubt_what_strokes_place_elsewhere():
    """It is as sure of two halves of a cluster, of which one lies in the other cluster by its strokes."""
    generator, network, last = np.random.default_rng(0), network_of(2), np.zeros((2, 16))
    last[[0, 0, 1], [0, 1, 2]] = 0.7
    heap = np.repeat([0, 1, 2], [60, 60, 120])
    hidden = (np.eye(16)[heap] + 0.05 * generator.standard_normal((240, 16))).astype(np.float32)
    with torch.no_grad():
        network.category_output.weight.copy_(torch.from_numpy(last))
        network.category_output.bias.zero_()
    model, elsewhere = np.array([0, 0, 1])[heap], np.array([0, 1, 1])[heap]
    first = FirstPseudoLabels(
        0.8 * np.eye(2)[model] + 0.1, model, {}, {"one": model[None]}, model, np.eye(2) / 2, np.empty((0, 2), int)
    )
    strokes = (np.eye(3)[elsewhere] + 0.01 * generator.standard_normal((240, 3))).astype(np.float32)
    learn_confidence(network, hidden, first, NOWHERE, strokes)
    with torch.no_grad():
        sure = network.category_output(torch.from_numpy(hidden)).softmax(1).numpy()[np.arange(240), model]
    assert 1 - sure[heap == 1].mean() > 2 * (1 - sure[heap == 0].mean())


def test_a_small_cluster_that_density_finds_again_is_not_doubted_for_its_size():
    """Of three clusters of 200, 200 and 40 images layouts show all three, or nothing."""
    generator, model = np.random.default_rng(0), np.repeat([0, 1, 2], [200, 200, 40])
    hidden = (np.eye(16)[model] + 0.05 * generator.standard_normal((440, 16))).astype(np.float32)
    seen = generator.normal(size=(1, 440, 3)) + 15 * np.eye(3)[model]
    last = 6 * np.eye(3, 16)
    first = FirstPseudoLabels(
        0.8 * np.eye(3)[model] + 0.2 / 3, model, {}, {"one": model[None]}, model, np.eye(3) / 3, np.empty((0, 3), int)
    )

    def sure(layouts):
        network = network_of()
        with torch.no_grad():
            network.category_output.weight.copy_(torch.from_numpy(last))
            network.category_output.bias.zero_()
        learn_confidence(network, hidden, first, layouts)
        with torch.no_grad():
            return network.category_output(torch.from_numpy(hidden)).softmax(1).numpy()[np.arange(440), model]

    doubted, believed = sure({"one": seen[:, ::-1]}), sure({"one": seen[:, ::-1], "other": seen})
    assert doubted[model == 2].mean() < doubted[model < 2].mean() - 0.1
    assert believed[model == 2].mean() > believed[model < 2].mean() - 0.05


def test_a_model_of_one_cluster_stays_as_it_is():
    network = network_of(1)
    before = network.category_output.weight.clone()
    first = FirstPseudoLabels(
        np.ones((5, 1)), np.zeros(5, int), {}, {}, np.zeros(5, int), np.ones((1, 1)), NO_OTHERS[:, :1]
    )
    learn_confidence(network, np.ones((5, 16), np.float32), first, NOWHERE)
    assert torch.equal(network.category_output.weight, before)


def test_calibration_gives_the_mean_confidence_and_keeps_the_clusters():
    network = network_of()
    x = torch.rand(50, 1, 8, 8)
    with torch.no_grad():
        for parameter in network.category_output.parameters():
            parameter.mul_(30)
        before = network.logits(x).numpy()
        calibrate(network, before, 0.7)
        after = network.assign(x)
    assert float(after.amax(1).mean()) == pytest.approx(0.7, abs=1e-3)
    assert np.array_equal(after.argmax(1).numpy(), before.argmax(1))


def test_temperature_of_hand_worked_logits():
    logits = np.array([[2 * np.log(3), 0.0]])  # nine to one; at temperature 2 three to one
    assert temperature_for(logits, 0.75) == pytest.approx(2, rel=1e-4)
    assert temperature_for(logits, 0.9) == pytest.approx(1, rel=1e-4)
