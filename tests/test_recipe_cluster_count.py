"""The number of clusters: evidence from points, and the estimator that is asked for it."""

import numpy as np
import pytest
from recipe_helpers import QUICK, blobs, digits

from clusterloom import ConvVAEClusterer, GuidedClusterer, SettingsError, VAEClusterer, load_model
from clusterloom.recipe.cluster_count import Evidence, best_count, cluster_count_evidence, enough_modularity
from clusterloom.recipe.neighbours import layout_of


@pytest.mark.parametrize("k", [3, 6])
def test_as_many_as_there_are_blobs(k):
    points, _ = blobs(600, k)
    layout, said = layout_of(points, 0), []
    evidence = cluster_count_evidence(points, layout, 2, 9, 0, said.append)
    assert [e.n_clusters for e in evidence] == list(range(2, 10))
    assert len(said) == 8
    assert best_count(evidence) == k
    right = evidence[k - 2]
    assert right.stability > 0.98
    assert right.modularity == pytest.approx(1 - 1 / k, abs=0.02)  # all neighbours inside; 1 / k by chance
    assert min(e.stability for e in evidence[k:]) < 0.9  # blobs that are cut are cut differently in each half
    assert evidence[:2] == cluster_count_evidence(points, layout, 2, 3, 0)


def test_few_points_bound_the_number():
    points, _ = blobs(40, 3)
    assert [e.n_clusters for e in cluster_count_evidence(points, points, 2, 20, 0)] == [2, 3, 4, 5]
    assert [e.n_clusters for e in cluster_count_evidence(points, points, 7, 20, 0)] == [7]


@pytest.mark.parametrize(("n", "n_clusters"), [(3, "auto"), (8, (5, 10)), (12, (5, 10))])
def test_a_handful_of_images_gets_the_fewest_clusters_asked_for(n, n_clusters):
    images = np.random.default_rng(0).integers(0, 256, (n, 8, 8)).astype(np.uint8)
    model = GuidedClusterer(n_clusters, hidden_dim=8, epochs=3, random_state=0).fit(images)
    assert model.n_clusters_ == {3: 2, 8: 5, 12: 5}[n]


def test_the_smallest_of_the_best_is_taken():
    evidence = [Evidence(k, m, 1.0) for k, m in ((2, 0.789), (3, 0.791), (4, 0.8), (5, 0.79))]
    assert enough_modularity(evidence) == pytest.approx(0.79)
    assert best_count(evidence) == 3
    assert best_count([Evidence(4, -0.1, 1.0)]) == 4


def test_the_estimator_finds_the_number_and_keeps_the_evidence(tmp_path):
    model = GuidedClusterer("auto", **QUICK, run_dir=str(tmp_path / "run")).fit(digits(200))
    evidence = [Evidence(**e) for e in model.about_["recipe"]["count_evidence"]]
    assert evidence[0].n_clusters == 2
    assert evidence[-1].n_clusters == 20
    assert model.n_clusters_ == best_count(evidence) == len(model.cluster_sizes_)
    assert model.predict_proba(digits(5)).shape == (5, model.n_clusters_)
    assert len(model.sample(3, cluster=model.n_clusters_ - 1)) == 3
    resumed = GuidedClusterer("auto", **QUICK, run_dir=str(tmp_path / "run"), resume=True).fit(digits(200))
    assert np.array_equal(resumed.predict_proba(digits(50)), model.predict_proba(digits(50)))
    model.save(tmp_path / "model")
    loaded = load_model(tmp_path / "model")
    assert loaded.n_clusters_ == model.n_clusters_
    assert np.array_equal(loaded.predict_proba(digits(50)), model.predict_proba(digits(50)))
    card = (tmp_path / "model" / "README.md").read_text()
    assert f"Found from the images: {model.n_clusters_}," in card
    assert f"| **{model.n_clusters_}** |" in card


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
