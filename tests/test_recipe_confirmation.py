"""How far spaces confirm each other, and which guides are heard for it."""

import math

import numpy as np
import pytest
from recipe_helpers import guide, random_guides
from sklearn.metrics import adjusted_rand_score

from clusterloom.recipe.pseudo_labels.confirmation import better_confirmed, confirmations, weights_of
from clusterloom.recipe.pseudo_labels.guides import Guide
from clusterloom.recipe.spaces.embeddings import SpaceRules


def test_guides_by_density_are_heard_where_others_confirm_them_more_than_mixtures():
    sizes = {"a": [70, 70, 20, 40], "b": [50, 50, 40, 60], "c": [30, 80, 50, 40]}
    mixtures = {space: np.repeat(np.arange(4), of_space) for space, of_space in sizes.items()}
    kinds, joined = np.repeat(np.arange(4), [140, 20, 20, 20]), np.repeat([0, 1], [10, 190])
    mixtures["alone"], at_random = (of.labels for of in random_guides("alone", 200, 4, 2))
    apart = {"a": kinds, "b": kinds.copy(), "c": joined, "alone": at_random}
    guides = [Guide(space, labels, True, apart[space]) for space, labels in mixtures.items() for _ in range(2)]
    heard = {g.space: g.labels for g in better_confirmed(guides, 4, SpaceRules(alone=["alone"]))}
    assert {space for space in mixtures if heard[space] is apart[space]} == {"a", "b"}
    assert {space for space in mixtures if heard[space] is mixtures[space]} == {"c", "alone"}


@pytest.mark.parametrize("enough", [True, False])
def test_few_clusters_by_density_are_heard_where_no_space_has_enough(enough):
    kinds, few = np.repeat(np.arange(4), [140, 20, 20, 20]), np.repeat([0, 1], [140, 60])
    cut, other = np.repeat(np.arange(4), [70, 70, 20, 40]), np.repeat(np.arange(4), [50, 50, 40, 60])
    apart = {"a": kinds if enough else None, "b": kinds.copy() if enough else None, "c": few, "d": few.copy()}
    mixtures = {"a": cut, "b": other, "c": cut[::-1], "d": other[::-1]}
    guides = [Guide(space, labels, True, apart[space]) for space, labels in mixtures.items() for _ in range(2)]
    heard = {g.space: g.labels for g in better_confirmed(guides, 4)}
    assert {s for s in apart if heard[s] is apart[s]} == ({"a", "b"} if enough else {"c", "d"})


def test_a_space_is_confirmed_by_the_one_that_is_most_like_it():
    labels = np.repeat(np.arange(4), 50)
    halved = labels // 2
    guides = [guide("a", labels), guide("b", labels), guide("c", halved), *random_guides("d", 200, 4, 2)]
    guides.append(guide("c", labels, coarse=False))  # finer guides do not count
    confirmed = confirmations(guides)
    assert confirmed["a"] == confirmed["b"] == 1
    assert confirmed["c"] == pytest.approx(adjusted_rand_score(labels, halved))
    assert 0 <= confirmed["d"] < 0.1


def test_a_space_that_sees_what_no_other_can_may_be_confirmed_by_its_own_guides():
    labels, other = np.repeat(np.arange(4), 50), np.tile(np.arange(4), 50)
    guides = [guide("a", labels), guide("b", labels // 2), guide("c", other), guide("c", other)]
    assert confirmations(guides)["c"] < 0.1
    assert confirmations(guides, SpaceRules(alone=["c"]))["c"] == 1
    assert confirmations(guides, SpaceRules(alone=["c"]))["a"] < 0.7


def test_a_space_is_confirmed_less_and_not_by_its_own_guides_where_two_others_agree_on_other_clusters():
    labels, other = np.repeat(np.arange(4), 50), np.tile(np.arange(4), 50)
    nearly = np.where(np.arange(200) < 10, 3, labels)  # a good deal alike: 0.86
    own = [guide("c", other), guide("c", other)]
    assert confirmations([guide("a", labels), guide("b", nearly), *own], SpaceRules(alone=["c"]))["c"] < 0.1
    # Others that agree less on theirs count less, too.
    halved = [guide("c", other), guide("d", other // 2)]
    of_two = confirmations([guide("a", labels), guide("b", nearly), *halved])
    assert of_two["c"] == pytest.approx(0.7 * adjusted_rand_score(other, other // 2))
    assert of_two["a"] == pytest.approx(adjusted_rand_score(labels, nearly))
    # One that finds much the same is not contradicted.
    joined = np.minimum(labels, 2)
    same = [guide("a", labels), guide("b", nearly), guide("c", joined), guide("c", joined)]
    assert confirmations(same, SpaceRules(alone=["c"]))["c"] == 1


@pytest.mark.parametrize(("each", "contradicted"), [(30, True), (50, False)])
def test_of_few_images_two_spaces_contradict_others_though_they_agree_less(each, contradicted):
    labels, other = np.repeat(np.arange(4), each), np.tile(np.arange(4), each)
    alike = np.where(np.arange(4 * each) < 0.6 * each, 3, labels)
    assert 0.7 < adjusted_rand_score(labels, alike) < 0.75
    own = [guide("c", other), guide("c", other)]
    found = confirmations([guide("a", labels), guide("b", alike), *own], SpaceRules(alone=["c"]))
    assert (found["c"] < 0.1) == contradicted


def test_spaces_of_one_network_do_not_confirm_each_other_without_a_third():
    labels, other = np.repeat(np.arange(4), 50), np.tile(np.arange(4), 50)
    guides = [guide("a", other), guide("b", other), guide("c", labels), guide("d", labels // 2)]
    assert confirmations(guides)["a"] == 1
    confirmed = confirmations(guides, SpaceRules(learned=["a", "b"]))
    assert confirmed["a"] == confirmed["b"] < 0.1
    assert confirmed["c"] == confirmed["d"] == pytest.approx(adjusted_rand_score(labels, labels // 2))
    half = confirmations([guide("a", labels), guide("b", labels), guide("d", labels // 2)], SpaceRules(["a", "b"]))
    assert half["a"] == pytest.approx(math.sqrt(half["d"]))  # the mean of 1 and of what the third says


def test_weights_are_shares_and_a_space_may_be_worth_several():
    assert weights_of({"a": 0.8, "b": 0.4}) == pytest.approx({"a": 16 / 17, "b": 1 / 17})
    several = SpaceRules(counts={"b": 3.0, "c": 2.0})
    assert weights_of({"a": 0.5, "b": 0.5}, several) == pytest.approx({"a": 0.25, "b": 0.75})
    assert weights_of({"a": 1.0, "b": 0.5}) == pytest.approx({"a": 48 / 49, "b": 1 / 49})  # islands count three times
    assert weights_of({"a": 1.0, "b": 0.5}, joining=["a"]) == pytest.approx({"a": 16 / 17, "b": 1 / 17})
    assert weights_of({"a": 0.0, "b": 0.0}) == {"a": 0.5, "b": 0.5}  # nobody confirms anybody


def test_one_space_alone_is_taken_at_its_word():
    assert confirmations(random_guides("only", 50, 3, 4)) == {"only": 1.0}
