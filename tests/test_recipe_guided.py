"""The recipe as a whole: its stages, and the run around them."""

import numpy as np
import pytest
import torch
from recipe_helpers import QUICK, corners, digits, fitted_digits, hues, quarters, textures
from sklearn.datasets import load_digits

from clusterloom import GuidedClusterer, ModelError, SettingsError, load_model
from clusterloom.data.images import ImageRows
from clusterloom.device import Compute
from clusterloom.metrics import clustering_accuracy_score
from clusterloom.recipe import budget as budgets
from clusterloom.recipe import guided
from clusterloom.training.loop import DivergedError, Trainer
from clusterloom.training.plan import one_cycle
from clusterloom.training.run import Run


@pytest.fixture(scope="module")
def fitted():
    return fitted_digits()


def test_stages_make_one_history(fitted):
    stages = [record["stage"] for record in fitted.history_]
    assert stages == ["represent"] * 4 + ["fit-1"] * 2 + ["fit-2"] * 2 + ["refine"]
    assert [record["epoch"] for record in fitted.history_] == list(range(1, 10))
    seconds = [record["seconds"] for record in fitted.history_]
    assert seconds == sorted(seconds)
    stages = {"represent", "spaces", "layouts", "pseudo-labels-1", "fit-1", "pseudo-labels-2", "fit-2"}
    stages |= {"latents", "refine", "guidance"}
    assert set(fitted.about_["recipe"]["stage_seconds"]) == stages
    assert sum(fitted.about_["recipe"]["stage_seconds"].values()) == pytest.approx(
        fitted.about_["training_seconds"],
        abs=0.4,  # each is rounded to a tenth
    )


def test_work_between_epochs_tells_how_far_it_is(monkeypatch):
    told, make = set(), Run.__init__

    def listening(self, *arguments, **options):
        make(self, *arguments, **options)
        self.progress = lambda what, done, total: told.add(what)

    monkeypatch.setattr(Run, "__init__", listening)
    GuidedClusterer((2, 3), **QUICK).fit(digits(220))
    assert told >= {"neighbours", "layouts", "guides", "a closer look at numbers"}


@pytest.mark.parametrize("total", [3, 4, 5, 6, 16, 24, 41])
def test_epochs_are_divided_without_a_remainder_and_every_stage_has_one(total):
    epochs = budgets.Epochs.split(total, 100)
    parts = epochs.represent, epochs.first_fit, epochs.second_fit
    assert sum(parts) == total == epochs.total - epochs.refine
    assert min(*parts, epochs.refine) >= 1
    assert epochs.represent == pytest.approx(total / 2, abs=1)


def test_the_first_fit_goes_over_a_sample_more_often(monkeypatch):
    monkeypatch.setattr(budgets, "MAX_EMBEDDED", 250)
    assert [budgets.Epochs.split(10, n).first_fit for n in (250, 400, 1000, 10**7)] == [2, 4, 8, 10]
    assert budgets.Epochs.split(10, 10**7).second_fit == 2


def test_it_sorts_digits_and_new_images_look_like_their_clusters():
    loaded = load_digits()
    images = np.rint(loaded.images * 255 / 16).astype(np.uint8)
    model = GuidedClusterer(10, epochs=20, random_state=0).fit(images)
    assert clustering_accuracy_score(loaded.target, model.labels_) > 0.9
    right = []
    for cluster in range(10):
        new = (model.sample(40, cluster, random_state=0) * 255).astype(np.uint8)
        right.append((model.predict(new) == cluster).mean())
    assert np.mean(right) > 0.9


def test_an_interrupted_run_goes_on_to_the_same_bits(tmp_path, monkeypatch, fitted):
    """Stopped once in every stage, and each time taken up again."""
    step, stop_at = Trainer._step, {"left": 0}

    def stops(self, *arguments):
        if stop_at["left"] == 0:
            raise KeyboardInterrupt
        stop_at["left"] -= 1
        return step(self, *arguments)

    monkeypatch.setattr(Trainer, "_step", stops)
    model = GuidedClusterer(10, **QUICK, run_dir=str(tmp_path), resume=True)
    interruptions = 0
    for _ in range(40):
        stop_at["left"] = 17
        try:
            model.fit(digits())
            break
        except KeyboardInterrupt:
            interruptions += 1
    assert interruptions >= 2
    assert np.array_equal(model.predict_proba(digits()), fitted.predict_proba(digits()))
    assert [r["loss"] for r in model.history_] == [r["loss"] for r in fitted.history_]
    assert len((tmp_path / "clusterloom-metrics.jsonl").read_text().splitlines()) == 9


STAGES = {  # what is killed, and what is on file by then and must not be made again
    "layouts_of": ("plain_spaces",),
    "first_pseudo_labels": ("plain_spaces", "layouts_of"),
    "layout_of": ("plain_spaces", "layouts_of", "first_pseudo_labels"),
    "second_pseudo_labels": ("plain_spaces", "layouts_of", "first_pseudo_labels"),
    "learn_confidence": ("plain_spaces", "layouts_of", "first_pseudo_labels", "layout_of", "second_pseudo_labels"),
}


@pytest.mark.parametrize("killed_in", STAGES)
def test_a_run_that_is_taken_up_makes_nothing_again(tmp_path, monkeypatch, fitted, killed_in):
    def killed(*_, **__):
        raise KeyboardInterrupt

    model = GuidedClusterer(10, **QUICK, run_dir=str(tmp_path), refine=False, resume=True)
    with monkeypatch.context() as patch:
        patch.setattr(guided, killed_in, killed)
        with pytest.raises(KeyboardInterrupt):
            model.fit(digits())
    for name in STAGES[killed_in]:
        monkeypatch.setattr(guided, name, killed)
    assert np.array_equal(model.fit(digits()).predict_proba(digits()), fitted.predict_proba(digits()))
    assert model.about_["recipe"]["spaces"] == fitted.about_["recipe"]["spaces"]


def test_divergence_without_clusters_keeps_nothing_and_later_keeps_the_last_epoch(monkeypatch, tmp_path):
    check = Trainer._check_finite
    for bad_epoch, kept in ((2, False), (6, True)):
        calls = []

        def fails(self, sums, calls=calls, bad_epoch=bad_epoch):
            calls.append(1)
            if len(calls) == bad_epoch:
                raise FloatingPointError("contrast became NaN or infinite")
            check(self, sums)

        monkeypatch.setattr(Trainer, "_check_finite", fails)
        model = GuidedClusterer(10, **QUICK)
        with pytest.raises(DivergedError, match="became NaN"):
            model.fit(digits())
        assert hasattr(model, "network_") is kept
        if kept:
            assert len(model.history_) == 5
            model.save(tmp_path)
            assert np.array_equal(load_model(tmp_path).predict(digits()), model.predict(digits()))


def test_of_large_sets_a_sample_gets_pseudo_labels(monkeypatch, tmp_path):
    """The images are read from the disk, where they are."""
    monkeypatch.setattr(budgets, "MAX_EMBEDDED", 250)
    images, labels = quarters(400)
    np.save(tmp_path / "images.npy", images)
    on_disk = np.load(tmp_path / "images.npy", mmap_mode="r")
    seen, first = [], guided.first_pseudo_labels

    def watched(embeddings, *arguments, **more):
        seen.extend([len(embeddings), *(layout.shape[1] for layout in embeddings.layouts.values())])
        return first(embeddings, *arguments, **more)

    monkeypatch.setattr(guided, "first_pseudo_labels", watched)
    model = GuidedClusterer(4, epochs=20, refine=False, random_state=0).fit(on_disk)
    assert set(seen) == {250}
    assert clustering_accuracy_score(labels, model.labels_) > 0.95


@pytest.mark.parametrize(("knobs", "resolution"), [({}, None), ({"equal_kinds": True}, 1.7)])
def test_whoever_knows_that_kinds_are_equally_many_may_say_so(monkeypatch, knobs, resolution):
    class Divided(Exception):
        pass

    def watched(*_, **more):
        raise Divided(more["resolution"])

    monkeypatch.setattr(guided, "first_pseudo_labels", watched)
    with pytest.raises(Divided, match=str(resolution)):
        GuidedClusterer(4, epochs=3, random_state=0, **knobs).fit(quarters(100)[0])


@pytest.fixture
def budget(monkeypatch):
    """As for very many images, with 400: 100 guide, and an epoch visits 120. There are fewer epochs."""
    few = {"_LEAST_STEPS": 150, "_REPRESENT_SEES": 5000, "_FIRST_FIT_SEES": 3000, "_LONG_FIRST_FIT_SEES": 6000}
    for name, number in {"MAX_EMBEDDED": 100, "MAX_VISITED": 120, **few}.items():
        monkeypatch.setattr(budgets, name, number)
    monkeypatch.setattr("clusterloom.training.plan._BLOCK", 8)
    monkeypatch.setattr("clusterloom.training.plan._GROUP", 4)


def test_beyond_a_budget_no_more_images_are_visited(budget, monkeypatch):
    images, labels = quarters(400)
    read = []
    batch = Compute.batch
    monkeypatch.setattr(Compute, "batch", lambda self, some: read.append(len(some)) or batch(self, some))
    visits = []
    for n in (200, 400):
        read.clear()
        model = GuidedClusterer(4, random_state=0, hidden_dim=32).fit(images[:n])
        visits.append(sum(read))
        assert len(model.labels_) == len(model.labelled_rows_) == 120
        assert clustering_accuracy_score(labels[model.labelled_rows_], model.labels_) > 0.95
        assert clustering_accuracy_score(labels, model.predict(images)) > 0.95
    assert visits[1] < 1.2 * visits[0]
    assert GuidedClusterer(4, epochs=8, random_state=0, hidden_dim=32, refine=False).fit(images).labelled_rows_ is None


def test_a_run_with_a_budget_is_taken_up_to_the_same_bits(budget, monkeypatch, tmp_path):
    images = quarters(400)[0]
    settings = {"n_clusters": 4, "random_state": 0, "hidden_dim": 16, "refine": False}
    whole = GuidedClusterer(**settings).fit(images)
    for stage in ("represent", "fit-2"):
        run_dir = str(tmp_path / stage)
        step = Trainer._step

        def killed(self, *arguments, stage=stage, step=step):
            if self.stage == stage and arguments[3:5] == (1, 0):  # the first batch of the second epoch
                raise KeyboardInterrupt
            step(self, *arguments)

        with monkeypatch.context() as patch:
            patch.setattr(Trainer, "_step", killed)
            with pytest.raises(KeyboardInterrupt):
                GuidedClusterer(**settings, run_dir=run_dir).fit(images)
        resumed = GuidedClusterer(**settings, run_dir=run_dir, resume=True).fit(images)
        for name, tensor in whole.network_.state_dict().items():
            assert torch.equal(tensor, resumed.network_.state_dict()[name]), name


def test_a_run_is_kept_at_an_address_and_taken_up_from_there(monkeypatch, fitted):
    memory = pytest.importorskip("fsspec").filesystem("memory")
    settings = {"n_clusters": 10, **QUICK, "run_dir": "memory://bucket/run"}
    step = Trainer._step

    def killed(self, *arguments):
        if self.stage == "fit-2":
            raise KeyboardInterrupt
        step(self, *arguments)

    try:
        with monkeypatch.context() as patch:
            patch.setattr(Trainer, "_step", killed)
            with pytest.raises(KeyboardInterrupt):
                GuidedClusterer(**settings).fit(digits())
        kept = {path.rpartition("/")[2] for path in memory.find("/bucket/run")}
        names = ("checkpoint-represent", "checkpoint-fit-1", "layouts")
        assert {f"clusterloom-{name}.safetensors" for name in names} <= kept
        with monkeypatch.context() as patch:
            patch.setattr(guided, "layouts_of", None)  # what is kept is not made again
            resumed = GuidedClusterer(**settings, resume=True).fit(digits())
        for name, tensor in fitted.network_.state_dict().items():
            assert torch.equal(tensor, resumed.network_.state_dict()[name]), name
        GuidedClusterer(**{**settings, "epochs": 4}).fit(digits())  # a new run forgets the one before
        assert "clusterloom-checkpoint-fit-2.safetensors" in {
            path.rpartition("/")[2] for path in memory.find("/bucket/run")
        }
        with pytest.raises(SettingsError, match="run_dir is an address"):
            GuidedClusterer(**settings, tracker="tensorboard").fit(digits())
    finally:
        memory.rm("/bucket", recursive=True)


def test_rows_of_images_are_read_as_an_array_is():
    images = np.arange(60).reshape(10, 2, 3, 1)
    rows = np.array([1, 4, 5, 9])
    some = ImageRows(images, rows)
    assert (len(some), some.shape, some.dtype) == (4, (4, 2, 3, 1), images.dtype)
    for at in (slice(1, 3), slice(None, None, 2), np.array([3, 0]), 2):
        assert np.array_equal(some[at], images[rows][at])


@pytest.mark.parametrize("n", [8, 20, 60, 190, 210])
def test_a_handful_of_images_is_sorted(n):
    images, labels = quarters(n)
    model = GuidedClusterer(4, refine=False, random_state=0).fit(images)
    assert clustering_accuracy_score(labels, model.labels_) > 0.95


@pytest.mark.parametrize(("n", "n_clusters"), [(3, 1), (3, 3), (20, 20), (60, 1)])
def test_one_cluster_and_as_many_as_images(n, n_clusters):
    images = quarters(n)[0]
    model = GuidedClusterer(n_clusters, hidden_dim=8, epochs=4, random_state=0).fit(images)
    assert model.predict_proba(images).shape == (n, n_clusters)
    np.testing.assert_allclose(model.predict_proba(images).sum(1), 1, rtol=1e-5)


def test_more_clusters_than_the_images_show_come_back(monkeypatch):
    """Twenty of ten digits; one or two of a few images may stay lost."""
    with monkeypatch.context() as patch:
        patch.setattr(guided, "bring_back", lambda *_: [])
        fits = GuidedClusterer(20, **QUICK, refine=False).fit(digits())
    model = GuidedClusterer(20, **QUICK, refine=False).fit(digits())
    assert (fits.cluster_sizes_ > 0).sum() <= 16
    assert (model.cluster_sizes_ > 0).sum() >= 18
    assert model.about_["recipe"]["lost_clusters"]


@pytest.mark.parametrize("n", [30, 210])
@pytest.mark.filterwarnings("ignore:images use")
def test_equal_images_have_a_model(n):
    with pytest.warns(UserWarning, match="all images are equal"):
        model = GuidedClusterer(3, hidden_dim=8, epochs=4, random_state=0).fit(np.full((n, 8, 8, 1), 128, np.uint8))
    assert len(set(model.labels_.tolist())) == 1


def coloured_quarters(n=240):
    """`quarters`, each in a colour of its own that says nothing of the kind."""
    images, labels = quarters(n)
    return (images * np.random.default_rng(1).uniform(0.3, 1, (n, 1, 1, 3))).astype(np.uint8), labels


def test_colours_that_tell_kinds_apart_stay_in_the_views_and_others_are_drawn_anew():
    for (images, labels), told_apart in ((hues(240), True), (coloured_quarters(), False)):
        model = GuidedClusterer(labels.max() + 1, epochs=24, refine=False, random_state=0).fit(images)
        recipe = model.about_["recipe"]
        assert (recipe["spaces"]["colours"] >= 0.5) is told_apart
        assert (recipe["views"]["hue_degrees"] == 0) is told_apart
        assert clustering_accuracy_score(labels, model.labels_) > 0.95


def test_colours_are_used_or_ignored_where_that_is_asked_for():
    images, labels = hues(240)
    used, ignored = (
        GuidedClusterer(3, colours=c, epochs=24, refine=False, random_state=0).fit(images) for c in ("use", "ignore")
    )
    assert used.about_["recipe"]["views"]["hue_degrees"] == 0
    assert clustering_accuracy_score(labels, used.labels_) > 0.95
    assert ignored.about_["recipe"]["views"]["hue_degrees"] > 0
    assert "colours" not in ignored.about_["recipe"]["spaces"]
    assert clustering_accuracy_score(labels, ignored.labels_) < 0.7
    with pytest.raises(SettingsError, match="colours"):
        GuidedClusterer(3, colours="perhaps").fit(images)


@pytest.mark.parametrize(("images", "slow"), [(corners(240), True), (quarters(240)[0], False)])
@pytest.mark.parametrize("learned", [True, False])
def test_the_first_fit_goes_on_where_its_pseudo_labels_are_not_learned(images, slow, learned, monkeypatch):
    told, expect = [], Run.expect

    def listening(run, epochs):
        told.append(epochs)
        expect(run, epochs)

    monkeypatch.setattr(Run, "expect", listening)
    asked, not_asked = (0.0, 1.1) if learned else (1.1, 0.0)
    monkeypatch.setattr(guided, "_GOES_ON", {"fit-1-goes-on": asked if slow else not_asked})
    monkeypatch.setattr(guided, "_ENOUGH", not_asked if slow else asked)
    few = {"_LEAST_STEPS": 60, "_REPRESENT_SEES": 1000, "_FIRST_FIT_SEES": 2000, "_LONG_FIRST_FIT_SEES": 4000}
    for name, number in few.items():
        monkeypatch.setattr(budgets, name, number)
    model = GuidedClusterer(3, hidden_dim=32, refine=False, random_state=0).fit(images)
    stages = [record["stage"] for record in model.history_]
    assert ("fit-1-goes-on" in stages) != learned
    assert told[-1] == len(stages)
    assert len(told) == (1 if learned else 2)


@pytest.mark.parametrize(
    ("images", "slow"), [(corners(240), True), (textures(240)[0], True), (quarters(240)[0], False)]
)
def test_what_looks_different_each_time_is_learned_slowly(images, slow, monkeypatch):
    found = []

    def train(network, run, images, plan, epochs, views, *_):
        found.append(views.learned_slowly)
        return {}

    monkeypatch.setattr("clusterloom.estimators.guided.train_guided", train)

    def described(self, *_):
        self.confidences_, self.outlier_threshold_ = np.ones(1), 0.0

    monkeypatch.setattr(GuidedClusterer, "_describe_training", described)
    GuidedClusterer(3, random_state=0).fit(images)
    assert found == [slow]


def test_of_textures_places_do_not_count():
    images, labels = textures(240)
    model = GuidedClusterer(3, epochs=16, refine=False, random_state=0).fit(images)
    assert "texture" in model.about_["recipe"]["spaces"]
    assert clustering_accuracy_score(labels, model.labels_) > 0.95


@pytest.mark.parametrize("shape", [(8, 8), (13, 9, 3), (32, 40), (9, 12, 2), (12, 12, 4)])
def test_any_image_size_gets_networks_that_fit(shape):
    images = np.random.default_rng(0).integers(0, 256, (40, *shape)).astype(np.uint8)
    model = GuidedClusterer(3, hidden_dim=8, epochs=4, random_state=0).fit(images)
    assert model.sample(2, 0).shape == (2, *shape, *(() if len(shape) == 3 else (1,)))


@pytest.mark.parametrize("change", [{"colours": "use"}, {"n_clusters": (2, 4)}, {"random_state": 1}])
def test_other_settings_do_not_go_on_with_a_run(tmp_path, monkeypatch, change):
    """Stages without training, such as the layout, depend on them too."""
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3)).astype(np.uint8)
    common = {"n_clusters": (2, 3), "hidden_dim": 8, "epochs": 4, "random_state": 0, "run_dir": str(tmp_path)}

    def killed(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(guided, "first_pseudo_labels", killed)
    with pytest.raises(KeyboardInterrupt):
        GuidedClusterer(**common).fit(images)
    with pytest.raises(ModelError, match="other settings"):
        GuidedClusterer(**{**common, **change}, resume=True).fit(images)
    with pytest.raises(SettingsError, match="random_state"):
        GuidedClusterer(**{**common, "random_state": None}, resume=True).fit(images)


def test_every_stage_needs_an_epoch():
    with pytest.raises(SettingsError, match="epochs must be a whole number of at least 3, or auto; got 2"):
        GuidedClusterer(epochs=2).fit(digits())


def test_one_cycle_rises_and_falls():
    values = [one_cycle(p) for p in np.linspace(0, 1, 101)]
    assert max(values) == values[30] == pytest.approx(1)
    assert values[:31] == sorted(values[:31])
    assert values[30:] == sorted(values[30:], reverse=True)
