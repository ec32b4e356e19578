"""The number of clusters: evidence from points, and the estimator that is asked for it."""

import numpy as np
import pytest
from recipe_helpers import QUICK, blobs, digits

from clusterloom import ConvVAEClusterer, GuidedClusterer, SettingsError, VAEClusterer, load_model
from clusterloom.recipe.cluster_count import choice as module
from clusterloom.recipe.cluster_count.advice import advice_on, doubt_about
from clusterloom.recipe.cluster_count.choice import cluster_count_evidence
from clusterloom.recipe.cluster_count.evidence import Evidence, Price, best_count, best_counts
from clusterloom.recipe.cluster_count.neighbourhoods import Division, Neighbourhoods, n_neighbours
from clusterloom.recipe.cluster_count.shared_guides import SharedGuides
from clusterloom.recipe.cluster_count.survey import FirstSight, first_sights
from clusterloom.recipe.points.layouts import layouts_of
from clusterloom.recipe.points.neighbours import neighbour_graph, shares_between
from clusterloom.recipe.pseudo_labels import division
from clusterloom.recipe.pseudo_labels.first import first_pseudo_labels
from clusterloom.recipe.spaces.embeddings import Embeddings, SpaceRules


def embedded_blobs(n, k):
    """Two spaces in which the same blobs lie apart, and one that shows nothing of them."""
    points, _ = blobs(n, k)
    turned = np.linalg.qr(np.random.default_rng(0).standard_normal((points.shape[1], points.shape[1])))[0]
    spaces = {
        "points": points,
        "turned": (points @ turned).astype(np.float32),
        "noise": np.random.default_rng(1).standard_normal(points.shape).astype(np.float32),
    }
    return Embeddings(spaces, layouts_of(spaces, 0, 1))


@pytest.mark.parametrize("k", [3, 6])
def test_as_many_as_there_are_blobs(k):
    embeddings = embedded_blobs(300, k)
    evidence = cluster_count_evidence(embeddings, 2, 9, 0)
    numbers = [e.n_clusters for e in evidence]
    assert len(numbers) == 8
    assert numbers == sorted(numbers)
    assert best_count(evidence) == best_counts(evidence)[0] == k
    assert doubt_about(evidence) == ""
    right = evidence[numbers.index(k)]
    assert right.stability > 0.98
    assert right.modularity == pytest.approx(1 - 1 / k, abs=0.02)  # all neighbours inside; 1 / k by chance
    assert evidence[-1].stability < right.stability - 0.02  # each space cuts blobs in its own way
    assert evidence == cluster_count_evidence(embeddings, 2, 9, 0)


def test_those_two_clusters_are_joined_that_leave_some_space_divided_best():
    points, labels = blobs(120, 4)
    neighbourhoods = Neighbourhoods([points, np.random.default_rng(0).standard_normal((120, 3))])
    parts = np.where((labels == 3) & (np.arange(120) % 2 == 0), 4, labels)  # one kind is cut in two
    joined = [*neighbourhoods.joined(neighbourhoods.judged(parts), 3)]
    assert [division.n_clusters for division in joined] == [4, 3]
    assert joined[0].labels.tolist() == labels.tolist()
    np.testing.assert_allclose(joined[0].shares, neighbourhoods.judged(labels).shares)


def test_many_clusters_of_few_images_are_judged_by_as_many_neighbours_as_they_have_room_for():
    """Of nine points of a kind each has eight neighbours of it: of twelve a third and more are of another."""
    points = 100 * np.repeat(np.random.default_rng(0).standard_normal((80, 3)), 9, 0)
    points += np.random.default_rng(1).standard_normal(points.shape) / 100
    kinds = np.arange(720) // 9
    neighbourhoods = Neighbourhoods([points])
    assert (n_neighbours(720), n_neighbours(720, 80)) == (12, 5)
    assert neighbourhoods.judged(kinds).coverage == pytest.approx(1)
    assert shares_between(neighbour_graph(points, 12), kinds).trace() < 0.8


def test_of_divisions_into_many_clusters_scraps_are_worth_what_they_bring():
    price = Price(0.6, 14)

    def worth(sizes: list[int]) -> float:
        shares = np.diag(np.array(sizes) / sum(sizes))[None]
        return price.worth_at_first(Division(np.repeat(np.arange(len(sizes)), sizes), shares))

    assert worth([10] * 28) == pytest.approx(1 - 1 / 28 + price.allowance(1 / 28))
    concentration = (26 * 10**2 + 20) / 280**2
    assert worth([10] * 26 + [1] * 20) == pytest.approx(1 - concentration + price.allowance(concentration))
    assert worth([10] * 4 + [30] * 2) == pytest.approx(1 - 0.22 + 0.6 / 6)  # of few they may be kinds of other sizes


def test_what_the_quick_division_misses_is_found_by_joining():
    """Three kinds in two spaces, and two halves of each in a third, which counts for most."""
    points, _ = blobs(600, 3)
    halves = blobs(600, 2)[0][np.random.default_rng(0).permutation(600)]
    layouts = {"kinds": points, "too": (2 * points[:, ::-1]).astype(np.float32), "halves": halves}
    rules = SpaceRules(alone=["halves"], counts={"halves": 9.0})
    embeddings = Embeddings(layouts, {space: layout[None] for space, layout in layouts.items()}, rules=rules)
    guides = SharedGuides(embeddings.layouts, np.random.default_rng(0))
    guides.look_on(2, 12)
    found = first_sights(embeddings, guides, Neighbourhoods(layouts.values()), range(2, 9), 0)
    assert max(found, key=lambda k: found[k].division.modularity + 0.6 / k) == 3
    assert found[3].agreement == pytest.approx(1 / 3)  # of three pairs of spaces one


def test_numbers_share_guides_and_only_those_of_the_nearest_number_are_coarse():
    layouts = {"one": blobs(200, 4)[0][None], "other": blobs(200, 5)[0][None]}
    guides = SharedGuides(layouts, np.random.default_rng(0))
    guides.look_on(2, 24)
    assert guides.numbers == [*range(2, 13), 14, 16, 18, 21, 24]
    near = guides.near(13, (1.0, 1.5, 2.0))
    assert [(g.space, int(g.labels.max()) + 1, g.coarse) for g in near] == [
        (space, k, k == 12) for k in (12, 18, 24) for space in ("one", "one", "other", "other")
    ]
    assert guides.agreement(13) == 0
    guides.look(0, [13])
    assert [int(g.labels.max()) + 1 for g in guides.near(13, (1.0,))] == [13] * 4
    assert guides.numbers == [*range(2, 15), 16, 18, 21, 24]


def test_kinds_that_lie_apart_are_counted_between_the_steps_too():
    """Spaces also agree on 24 of 25 kinds, nearly: which two are joined changes little of the index."""
    generator = np.random.default_rng(0)
    kinds = np.repeat(np.arange(25), 25)
    spaces = {
        name: (5 * generator.standard_normal((25, 12))[kinds] + generator.standard_normal((len(kinds), 12))).astype(
            "f4"
        )
        for name in "abc"
    }
    evidence = cluster_count_evidence(Embeddings(spaces, layouts_of(spaces, 0, 1)), 24, 26, 0)
    assert [e.agreement > 0.6 for e in evidence] == [True, True, True]
    assert best_count(evidence) == 25


def test_many_kinds_are_looked_for_as_long_as_more_look_better(monkeypatch):
    monkeypatch.setattr(module, "_LOOKED_AT", 2)
    evidence = cluster_count_evidence(gaussians([14] * 25), 2, 60, 0)
    assert 23 <= best_count(evidence) <= 27
    few = cluster_count_evidence(gaussians([80] * 4), 2, 60, 0)
    assert best_count(few) == 4
    assert max(e.n_clusters for e in few) <= 30


def test_of_many_clusters_of_few_images_coverage_may_fall_by_as_much_whenever_they_double():
    def worth(k: int, coverage: float) -> float:
        return Evidence(k, coverage - 1 / k, 1.0, coverage=coverage, many=20).worth

    assert worth(16, 1.0) == pytest.approx(1 - 0.3 / 16)
    assert worth(20, 1.0) == pytest.approx(1 - 0.3 / 20)
    for k in (20, 40):
        assert worth(2 * k, 0.9) == pytest.approx(worth(k, 0.97))


def test_at_the_closer_look_guides_of_another_layout_are_heard_too(monkeypatch):
    """What one layout shows and another does not is no kind."""
    heard = []

    def listening(embeddings, k, seed, guides, **options):
        heard.append({space: sum(g.space == space and g.coarse for g in guides) for space in embeddings.layouts})
        return first_pseudo_labels(embeddings, k, seed, guides, **options)

    monkeypatch.setattr(module, "first_pseudo_labels", listening)
    points = blobs(300, 3)[0]
    for n_layouts in (1, 2):
        layouts = {"a": np.stack([points, points[:, ::-1]][:n_layouts])}
        cluster_count_evidence(Embeddings({"a": points}, layouts), 2, 6, 0)
    assert heard == [{"a": 4}] * 10  # two of each; of a single layout other starts


def test_each_number_is_judged_by_the_best_division_into_it(monkeypatch):
    """The large kind has two halves; as one it leaves the small kind to be cut."""
    compared = []
    resolutions = (0.1, 0.3, 3.0)

    def comparing(*args, worth):
        found = first_pseudo_labels(*args, worth=worth)
        others = [first_pseudo_labels(*args, resolution=at).labels for at in resolutions]
        compared.append((worth(found.labels), [worth(labels) for labels in others]))
        return found

    monkeypatch.setattr(division, "_RESOLUTIONS", resolutions)
    monkeypatch.setattr(module, "first_pseudo_labels", comparing)
    generator, centres = np.random.default_rng(0), np.repeat([0, 1.6, 8, 9.6], [160, 160, 80, 80])
    of_kinds = np.stack([centres, 0 * centres], 1)
    spaces = {name: (of_kinds + 0.5 * generator.standard_normal((480, 2))).astype(np.float32) for name in "ab"}
    layouts = {name: space[None] for name, space in spaces.items()}
    (evidence,) = cluster_count_evidence(Embeddings(spaces, layouts), 3, 3, 0)
    ((best, others),) = compared
    assert evidence.worth == best == pytest.approx(max(others))
    assert best > min(others) + 0.1


def test_a_number_that_was_missed_at_first_is_looked_at_where_joined_clusters_promise_it(monkeypatch):
    """At first sight the larger numbers look best; three kinds are found there, in parts."""

    def sight(k: int) -> FirstSight:
        shares = np.eye(k) if k > 4 else np.ones((k, k))
        return FirstSight(Division(np.arange(k), shares[None] / shares.sum()), 0.0)

    monkeypatch.setattr(module, "first_sights", lambda *args: {k: sight(k) for k in args[3]})
    evidence = cluster_count_evidence(embedded_blobs(300, 3), 2, 12, 0)
    numbers = [e.n_clusters for e in evidence]
    assert set(range(5, 13)) < set(numbers)
    assert len(numbers) <= 10
    assert best_count(evidence) == 3


def gaussians(sizes):
    """Two spaces with as many points of each kind, of which some overlap."""
    generator = np.random.default_rng(0)
    kinds = np.repeat(np.arange(len(sizes)), sizes)
    centres = 3 * generator.standard_normal((len(sizes), 6))
    spaces = {
        name: (centres[kinds] + 0.6 * generator.standard_normal((len(kinds), 6))).astype(np.float32) for name in "ab"
    }
    return Embeddings(spaces, {name: space[None] for name, space in spaces.items()})


@pytest.mark.parametrize("numbers", [(2, 14), (4, 9)])
def test_small_kinds_beside_large_ones_are_counted_too(monkeypatch, numbers):
    """The three large ones alone divide the points nearly as well."""
    embeddings = gaussians([300] * 3 + [30] * 5)
    evidence = cluster_count_evidence(embeddings, *numbers, 0)
    assert 8 in [e.n_clusters for e in evidence]
    assert best_count(evidence) in {7, 8}
    assert all(1 / 5 < e.concentration < 1 / 3 for e in evidence if 5 < e.n_clusters < 9)
    monkeypatch.setattr(module, "are_uneven", lambda sizes: False)
    assert best_count(cluster_count_evidence(embeddings, *numbers, 0)) < 6


def test_of_equal_kinds_nothing_is_taken_for_unequal():
    evidence = cluster_count_evidence(gaussians([100] * 6), 2, 14, 0)
    assert {e.concentration for e in evidence} == {0.0}
    assert 6 in [e.n_clusters for e in evidence]


def test_kinds_that_lie_apart_are_not_cut_however_wide_they_are():
    """Each of three kinds is a square, which can be halved at the cost of few neighbours; each space has its own."""
    generator = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 400)
    corners = np.array([[0, 0], [3, 0], [0, 3]])
    spaces = {name: (corners[labels] + generator.random((1200, 2))).astype(np.float32) for name in "abc"}
    embeddings = Embeddings(spaces, {name: space[None] for name, space in spaces.items()})
    evidence = {e.n_clusters: e for e in cluster_count_evidence(embeddings, 2, 12, 0)}
    assert max(evidence.values(), key=lambda e: e.modularity).n_clusters > 3
    assert evidence[3].agreement == 1
    assert max(e.agreement for k, e in evidence.items() if k != 3) < 0.5
    assert best_count(list(evidence.values())) == 3
    assert doubt_about(list(evidence.values())) == ""


def test_noise_is_doubted():
    spaces = {name: np.random.default_rng(at).standard_normal((400, 8)) for at, name in enumerate("ab")}
    evidence = cluster_count_evidence(Embeddings(spaces, layouts_of(spaces, 0, 1)), 2, 6, 0)
    assert "no clear groups" in doubt_about(evidence)


def test_a_space_that_sees_what_no_other_can_is_believed():
    """Six kinds lie apart in one space; in the other two only halves of them do."""
    points, labels = blobs(600, 6)
    halves = blobs(600, 2)[0][np.argsort(np.argsort(labels % 2, kind="stable"), kind="stable")]
    spaces = {"sees": points, "one": halves, "other": (2 * halves[:, ::-1]).astype(np.float32)}
    layouts = {name: space[None] for name, space in spaces.items()}
    rules = SpaceRules(alone=["sees"], counts={"sees": 3.0})
    sixth = cluster_count_evidence(Embeddings(spaces, layouts), 6, 6, 0)[0]
    believed = cluster_count_evidence(Embeddings(spaces, layouts, rules=rules), 6, 6, 0)[0]
    assert believed.stability > 0.98 > sixth.stability
    assert believed.modularity == pytest.approx(1 - 1 / 6, abs=0.02)


def test_few_points_bound_the_number():
    points, _ = blobs(40, 3)
    spaces, layouts = {"a": points, "b": points[:, ::-1]}, {"a": points[None], "b": points[None, :, ::-1]}
    embeddings = Embeddings(spaces, layouts)
    assert [e.n_clusters for e in cluster_count_evidence(embeddings, 2, 20, 0)] == [2, 3, 4, 5]
    assert [e.n_clusters for e in cluster_count_evidence(embeddings, 7, 20, 0)] == [7]


@pytest.mark.parametrize(("n", "n_clusters"), [(3, "auto"), (8, (5, 10)), (12, (5, 10))])
def test_a_handful_of_images_gets_the_fewest_clusters_asked_for(n, n_clusters):
    images = np.random.default_rng(0).integers(0, 256, (n, 8, 8)).astype(np.uint8)
    model = GuidedClusterer(n_clusters, hidden_dim=8, epochs=3, random_state=0).fit(images)
    assert model.n_clusters_ == {3: 2, 8: 5, 12: 5}[n]


def test_score_doubt_and_advice():
    clear = [Evidence(k, m, 1.0) for k, m in ((2, 0.4), (3, 0.6), (4, 0.74), (5, 0.71))]
    assert clear[2].score == pytest.approx(0.74 + 0.05 + 0.175)
    assert best_counts(clear) == [4, 5, 3]
    assert doubt_about(clear) == ""
    assert advice_on(clear) == "4 clusters; next best: 5 and 3"
    close = [*clear[:3], Evidence(5, 0.777, 0.9)]
    assert doubt_about(close) == "5 would be nearly as good"
    assert advice_on(close).endswith("next best: 5 and 3 (ask for one with -k 5 or -k 3)")
    as_good = [Evidence(k, m, 1.0) for k, m in ((2, 0.5), (3, 0.615), (4, 0.676))]
    assert advice_on(as_good).endswith("in doubt: 2 or 3 would be nearly as good (ask for one with -k 2 or -k 3)")
    unstable = [*clear[:3], Evidence(5, 0.81, 0.5)]
    assert best_count(unstable) == 5
    assert doubt_about(unstable) == "the images fall into no clear groups"
    assert advice_on([Evidence(4, -0.1, 1.0)]) == "4 clusters"

    apart = [Evidence(2, 0.4, 1.0, 0.7, 0.999), *clear[1:3]]  # most spaces find the same two, which lie apart
    assert best_counts(apart) == [2, 4, 3]
    assert doubt_about(apart) == ""
    twice = [*apart[:1], Evidence(3, 0.52, 1.0, 0.7, 0.999), clear[2]]
    assert best_counts(twice) == [3, 2, 4]
    assert doubt_about(twice) == "2 would be nearly as good"
    cut = [Evidence(2, 0.4, 1.0, 0.7, 0.99), *clear[1:3]]
    assert best_counts(cut) == [4, 3, 2]


def test_of_few_images_clusters_cost_less():
    rows = np.random.default_rng(0).normal(size=(300, 4)).astype(np.float32)
    costs = [
        cluster_count_evidence(Embeddings({"a": rows[:n]}, layouts_of({"a": rows[:n]}, 0, 1)), 2, 2, 0)[0].cost
        for n in (300, 105)
    ]
    assert costs == pytest.approx([0.7, 0.41], abs=0.01)


def test_of_numbers_that_divide_equally_well_the_smaller_is_taken_and_stability_tips_the_scale():
    assert best_count([Evidence(9, 0.8, 0.9), Evidence(10, 0.803, 0.9)]) == 9
    assert best_count([Evidence(9, 0.8, 0.9), Evidence(10, 0.809, 0.9)]) == 10
    assert best_count([Evidence(9, 0.8, 0.9), Evidence(10, 0.809, 0.7)]) == 9


def test_the_estimator_finds_the_number_and_keeps_the_evidence(tmp_path):
    model = GuidedClusterer("auto", **QUICK, run_dir=str(tmp_path / "run")).fit(digits(200))
    evidence = [Evidence.from_record(e) for e in model.about_["recipe"]["count_evidence"]]
    assert len(evidence) == 8
    assert evidence[-1].n_clusters <= 25  # of 200 images
    assert model.n_clusters_ == best_count(evidence) == len(model.cluster_sizes_)
    assert model.predict_proba(digits(5)).shape == (5, model.n_clusters_)
    assert len(model.sample(3, cluster=model.n_clusters_ - 1)) == 3
    resumed = GuidedClusterer("auto", **QUICK, run_dir=str(tmp_path / "run"), resume=True).fit(digits(200))
    assert np.array_equal(resumed.predict_proba(digits(50)), model.predict_proba(digits(50)))
    model.save(tmp_path / "model")
    loaded = load_model(tmp_path / "model")
    assert loaded.n_clusters_ == model.n_clusters_
    assert np.array_equal(loaded.predict_proba(digits(50)), model.predict_proba(digits(50)))
    assert model.about_["recipe"]["count_advice"] == advice_on(evidence)
    card = (tmp_path / "model" / "README.md").read_text()
    assert f"Found from the images: {advice_on(evidence)}." in card
    assert f"| **{model.n_clusters_}** |" in card


def test_of_equal_images_no_number_is_looked_at():
    equal = {"points": np.ones((60, 3), np.float32)}
    assert cluster_count_evidence(Embeddings(equal, {"points": equal["points"][None]}), 2, 5, 0) == []


def test_a_range_is_kept_to():
    model = GuidedClusterer((3, 4), **QUICK).fit(digits(120))
    assert model.n_clusters_ in (3, 4)
    assert [e["n_clusters"] for e in model.about_["recipe"]["count_evidence"]] == [3, 4]
    assert "count_evidence" not in GuidedClusterer((3, 3), **QUICK).fit(digits(60)).about_["recipe"]


@pytest.mark.parametrize("n_clusters", ["many", (1, 5), (5, 3), (2, 3, 4), (2.5, 3), ()])
def test_what_is_no_number_is_refused(n_clusters):
    with pytest.raises(SettingsError, match="n_clusters must be"):
        GuidedClusterer(n_clusters).fit(digits(30))


def test_the_paper_needs_a_number():
    for estimator in (ConvVAEClusterer("auto"), VAEClusterer("auto"), VAEClusterer((2, 5))):
        with pytest.raises(SettingsError, match="n_clusters must be a whole number of at least 1; got"):
            estimator.fit(digits(30))
