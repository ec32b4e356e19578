"""The loop and its checkpoints: repeatable, resumable, safe to kill, honest about trouble."""

import errno
import json
import multiprocessing
import os
import random
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import gather_object
from safetensors import safe_open
from torch import nn

from clusterloom import AutoencoderClusterer, ConvVAEClusterer
from clusterloom.device import Compute
from clusterloom.errors import ClusterloomError, CollapseWarning, DataError, ModelError, SettingsError
from clusterloom.estimators.methods import METHODS
from clusterloom.networks.objective import Algorithm1, ObjectiveSettings
from clusterloom.networks.step import StepOutput
from clusterloom.networks.vae import ClusterVAE, ConvNetworkSettings
from clusterloom.training import loop
from clusterloom.training.checkpoint import Position, read_checkpoint, restore, save_checkpoint
from clusterloom.training.loop import DivergedError, Trainer
from clusterloom.training.plan import TrainingPlan, batch_bounds, epoch_order
from clusterloom.training.processes import from_each, from_main, leave_together
from clusterloom.training.progress import EpochLines, MetricsFile, Observer, TrainingProgress, describe
from clusterloom.training.randomness import numpy_generator, seed_for, torch_generator
from clusterloom.training.run import Run

IMAGES = np.random.default_rng(0).integers(0, 256, (53, 8, 8, 1)).astype(np.uint8)
SETTINGS = ConvNetworkSettings(
    latent_dim=4,
    hidden_dim=16,
    conv_filters=(4, 4),
    conv_kernels=(3, 5),
    conv_downsample="pool",
    concatenate=True,
    reconstruction_weight=2.5,
)


def new_model(settings=SETTINGS):
    return Algorithm1(ClusterVAE(settings, (8, 8, 1), 3), ObjectiveSettings())


def make_trainer(tmp_path=None, epochs=3, observers=(), model=None, **plan):
    torch.manual_seed(0)
    model = model or new_model().to(memory_format=torch.channels_last)
    plan = TrainingPlan(**{"epochs": epochs, "batch_size": 13, "learning_rate": 1e-3, "seed": 5, **plan})
    checkpoint = tmp_path / "checkpoint.safetensors" if tmp_path else None
    return Trainer(model, plan, Compute.choose("cpu"), Accelerator(device_placement=False), checkpoint, "id", observers)


def weights(trainer):
    return torch.cat([p.detach().flatten() for p in trainer.model.parameters()])


class Spy(Observer):
    """Records what observers are told, and can stop a run after some batches, as a kill would."""

    def __init__(self, stop_after_epoch=None):
        self.records, self.stop_after_epoch = [], stop_after_epoch

    def on_start(self, history):
        self.started_with = list(history)

    def on_epoch(self, record):
        self.records.append(record)
        if record["epoch"] == self.stop_after_epoch:
            raise KeyboardInterrupt


def test_loss_falls_and_records_add_up():
    trainer = make_trainer(epochs=80, learning_rate=3e-3)
    brightness = np.arange(0, 212, 4, np.uint8).reshape(53, 1, 1, 1)
    history = trainer.fit(np.broadcast_to(brightness, IMAGES.shape))
    assert [record["epoch"] for record in history] == list(range(1, 81))
    assert history[-1]["loss"] < history[0]["loss"] * 0.8
    for record in history:
        assert record["loss"] == pytest.approx(record["reconstruction"] + record["kl"] + record["category"])
        assert record["images_per_second"] > 0


def test_same_seed_same_bits_and_another_seed_another_model():
    first, second, third = make_trainer(), make_trainer(), make_trainer(seed=6)
    for trainer in (first, second, third):
        trainer.fit(IMAGES)
    assert torch.equal(weights(first), weights(second))
    assert not torch.equal(weights(first), weights(third))


def test_every_image_is_seen_once_an_epoch_in_another_order_each_time():
    orders = [epoch_order(53, 5, epoch) for epoch in range(3)]
    for order in orders:
        assert sorted(order) == list(range(53))
    assert not np.array_equal(orders[0], orders[1])


@pytest.mark.parametrize("stop", [1, 2])
def test_resume_after_an_epoch_gives_the_same_bits(tmp_path, stop):
    whole = make_trainer()
    history = whole.fit(IMAGES)
    with pytest.raises(KeyboardInterrupt):
        make_trainer(tmp_path, observers=[Spy(stop)]).fit(IMAGES)
    spy = Spy()
    resumed = make_trainer(tmp_path, observers=[spy])
    resumed_history = resumed.fit(IMAGES, resume=True)
    assert len(spy.started_with) == stop
    assert torch.equal(weights(whole), weights(resumed))
    assert [r["loss"] for r in history] == [r["loss"] for r in resumed_history]


def test_epochs_that_visit_some_images_make_passes_over_all():
    """Of 5,000 images, in epochs of 1,300: every image once, then every image again."""
    visits = np.concatenate([epoch_order(5000, 3, epoch, "s", 1300) for epoch in range(8)])
    assert sorted(visits[:5000].tolist()) == sorted(visits[5000:10000].tolist()) == list(range(5000))
    assert not np.array_equal(visits[:5000], visits[5000:10000])
    whole = epoch_order(5000, 3, 0, "s", 4999)
    assert np.array_equal(visits[:4999], whole)  # where epochs begin changes nothing
    assert not np.array_equal(whole, epoch_order(5000, 4, 0, "s", 4999))
    assert not np.array_equal(whole, epoch_order(5000, 3, 0, "t", 4999))
    for visits_all in (None, 53, 60):
        assert np.array_equal(epoch_order(53, 5, 1, "s", visits_all), epoch_order(53, 5, 1, "s"))


def test_what_an_epoch_visits_lies_in_blocks():
    """Of ten million images an epoch of a tenth touches some thousand pieces of a disk, in an order of its own."""
    visits = epoch_order(10_000_000, 0, 2, "s", 1_000_000)
    assert len(np.unique(visits)) == 1_000_000
    assert len(np.unique(visits // 1024)) < 1400
    assert np.abs(np.diff(visits[:1000])).mean() > 1_000_000


def test_a_plan_knows_what_it_sees():
    plan = TrainingPlan(2, 13, 1e-3, seed=0, epoch_images=1300)
    assert plan.sees_all(1300)
    assert not plan.sees_all(1301)
    assert np.array_equal(plan.rows_seen(2600, "s"), np.arange(2600))
    rows = plan.rows_seen(5000, "s")
    assert len(set(rows.tolist())) == 2600
    assert np.array_equal(rows, np.sort(rows))
    assert plan.rows_described(1300) is None
    assert len(plan.rows_described(5000)) == 1300


def test_resume_in_the_middle_of_an_epoch_that_visits_some_images(tmp_path, monkeypatch):
    """At every batch, over the end of a pass: 53 images in epochs of 20."""
    monkeypatch.setattr(loop, "_CHECKPOINT_SECONDS", -1.0)
    whole = make_trainer(epochs=4, epoch_images=20)
    records = whole.fit(IMAGES)
    assert len(records) == 4
    for stop in range(1, 8):
        folder = tmp_path / str(stop)
        folder.mkdir()
        begun = make_trainer(folder, epochs=4, epoch_images=20)
        step, steps = begun._step, []

        def interrupted(*arguments, step=step, steps=steps, stop=stop):
            if len(steps) == stop:
                raise KeyboardInterrupt
            steps.append(1)
            step(*arguments)

        begun._step = interrupted
        with pytest.raises(KeyboardInterrupt):
            begun.fit(IMAGES)
        resumed = make_trainer(folder, epochs=4, epoch_images=20)
        resumed.fit(IMAGES, resume=True)
        assert torch.equal(weights(resumed), weights(whole))


def test_resume_in_the_middle_of_an_epoch_gives_the_same_bits(tmp_path, monkeypatch):
    """Checkpoints within an epoch hold the running sums too."""
    whole = make_trainer()
    history = whole.fit(IMAGES)
    monkeypatch.setattr(loop, "_CHECKPOINT_SECONDS", 0.0)
    stopped = make_trainer(tmp_path)
    step, calls = stopped._step, []

    def step_or_die(*arguments):
        calls.append(1)
        if len(calls) == 8:  # the third batch of the second epoch; a checkpoint follows every batch
            raise KeyboardInterrupt
        step(*arguments)

    stopped._step = step_or_die
    with pytest.raises(KeyboardInterrupt):
        stopped.fit(IMAGES)
    with safe_open(tmp_path / "checkpoint.safetensors", "pt") as file:
        position = json.loads(file.metadata()["position"])
    assert (position["epoch"], position["batch"]) == (1, 2)
    resumed = make_trainer(tmp_path)
    resumed_history = resumed.fit(IMAGES, resume=True)
    assert torch.equal(weights(whole), weights(resumed))
    assert [r["loss"] for r in history] == [r["loss"] for r in resumed_history]


def train_until_killed(folder, epochs, ready):
    loop._CHECKPOINT_SECONDS = 0.0
    trainer = make_trainer(folder, epochs=epochs)
    ready.set()
    trainer.fit(IMAGES, resume=True)
    np.save(folder / "weights.npy", weights(trainer).numpy())


def kill_at_random(folder, kills, epochs, longest_seconds):
    """Start the same run again and again, each time killed after a random while; then let it finish."""
    processes = multiprocessing.get_context("forkserver")  # which imports PyTorch once for all of them
    processes.set_forkserver_preload(["torch", "accelerate", "clusterloom.training.loop", "clusterloom.estimators"])
    generator, restored = random.Random(0), 0
    for kill in range(kills + 1):
        ready = processes.Event()
        process = processes.Process(target=train_until_killed, args=(folder, epochs, ready))
        process.start()
        assert ready.wait(60)
        if kill < kills:
            time.sleep(generator.uniform(0, longest_seconds))
            process.kill()
        process.join()
        path = folder / "checkpoint.safetensors"
        if path.exists():
            trainer = make_trainer()
            restore(read_checkpoint(path, "id")[0], trainer.model, trainer.optimizer)
            restored += kill < kills
    assert restored
    assert process.exitcode == 0
    return np.load(folder / "weights.npy")


def test_killed_runs_always_resume_to_the_same_bits(tmp_path):
    """At four moments; the slow test has fifty."""
    whole = make_trainer(epochs=60)
    whole.fit(IMAGES)
    assert np.array_equal(kill_at_random(tmp_path, kills=4, epochs=60, longest_seconds=0.6), weights(whole).numpy())


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_killed_at_fifty_random_moments(tmp_path):
    whole = make_trainer(epochs=600)
    whole.fit(IMAGES)
    assert np.array_equal(kill_at_random(tmp_path, kills=50, epochs=600, longest_seconds=0.6), weights(whole).numpy())


def test_checkpoint_of_other_settings_is_refused(tmp_path):
    make_trainer(tmp_path, epochs=1).fit(IMAGES)
    other = make_trainer(tmp_path)
    other.run_id = "other"
    with pytest.raises(ModelError, match="belongs to other settings or other images"):
        other.fit(IMAGES, resume=True)


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "text"])
def test_damaged_checkpoint_is_refused(tmp_path, damage):
    make_trainer(tmp_path, epochs=1).fit(IMAGES)
    path = tmp_path / "checkpoint.safetensors"
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes({"flip": data, "cut": data[:-50], "empty": b"", "text": b"not a checkpoint"}[damage])
    with pytest.raises(ModelError, match=r"checkpoint.*begin again with resume=False"):
        make_trainer(tmp_path).fit(IMAGES, resume=True)


def test_full_disk_keeps_the_old_checkpoint(tmp_path, monkeypatch):
    trainer = make_trainer(tmp_path, epochs=1)
    trainer.fit(IMAGES)
    path = tmp_path / "checkpoint.safetensors"
    before = path.read_bytes()

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(path, trainer.model, trainer.optimizer, {}, Position(), "id")
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_moments_keep_the_memory_layout_of_their_parameters(tmp_path):
    """A fused optimiser reads both as flat memory: another layout would mix up channels after a resume."""
    trainer = make_trainer(tmp_path, epochs=1)
    trainer.fit(IMAGES)
    resumed = make_trainer(tmp_path)
    tensors, _ = read_checkpoint(tmp_path / "checkpoint.safetensors", "id")
    restore(tensors, resumed.model, resumed.optimizer)
    for parameter, old in zip(resumed.model.parameters(), trainer.model.parameters(), strict=True):
        moment = resumed.optimizer.state[parameter]["exp_avg"]
        assert moment.stride() == parameter.stride()
        assert torch.equal(moment, trainer.optimizer.state[old]["exp_avg"])


def test_moments_of_silent_units_do_not_stay_at_the_smallest_numbers():
    trainer = make_trainer(epochs=1)
    trainer.fit(IMAGES)
    with torch.no_grad():
        trainer.model.vae.encoder.bias.fill_(-1e6)  # no unit behind it answers any more
    for state in trainer.optimizer.state.values():
        state["exp_avg"].fill_(1e-39)  # where a moment is after some 900 steps without a gradient
    trainer.plan = TrainingPlan(epochs=2, batch_size=13, learning_rate=1e-3, seed=5)
    trainer.fit(IMAGES)
    moments = torch.cat([state["exp_avg"].flatten() for state in trainer.optimizer.state.values()])
    assert (moments[moments != 0].abs() >= torch.finfo(torch.float32).tiny).all()
    assert (trainer.optimizer.state[trainer.model.vae.encoder.weight]["exp_avg"] == 0).all()


class Scripted(nn.Module):
    """A model whose loss and assignments follow a script, to see how the loop takes trouble."""

    def __init__(self, nan_from_step=None, q=None):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.step, self.nan_from_step, self.q = 0, nan_from_step, q

    def draw_noise(self, n, generator):
        return torch.randn(n, 1, generator=generator)

    def forward(self, x, noise):
        self.step += 1
        loss = (self.weight - 1).square().expand(len(x))
        if self.nan_from_step is not None and self.step >= self.nan_from_step:
            loss = loss * float("nan")
        # Without a script, images are dealt out to the clusters evenly.
        q = torch.eye(4)[torch.arange(len(x)) % 4] if self.q is None else self.q.expand(len(x), 4)
        return StepOutput({"script": loss}, q)


def test_nan_stops_with_the_last_good_model(tmp_path):
    good = make_trainer(model=Scripted(), epochs=2)
    good.fit(IMAGES)
    trainer = make_trainer(tmp_path, model=Scripted(nan_from_step=12), epochs=9)
    with pytest.raises(
        DivergedError, match=r"epoch 3, batch 5: script became NaN.*epoch 2 is kept.*learning_rate"
    ) as e:
        trainer.fit(IMAGES)
    assert len(e.value.history) == 2
    assert torch.equal(weights(trainer), weights(good))
    fresh = make_trainer(model=Scripted())
    tensors, position = read_checkpoint(tmp_path / "checkpoint.safetensors", "id")
    restore(tensors, fresh.model, fresh.optimizer)
    assert position.epoch == 2
    assert torch.equal(weights(fresh), weights(good))


def test_weights_that_blow_up_after_a_finite_loss_are_caught():
    with pytest.raises(DivergedError, match="NaN or infinite"):
        make_trainer(model=new_model(), learning_rate=1e38).fit(IMAGES)


def test_collapse_is_warned_of_while_it_happens():
    model = Scripted(q=torch.tensor([[0.7, 0.1, 0.1, 0.1]]))
    spy = Spy()
    images = np.repeat(IMAGES, 60, 0)  # enough steps per epoch for empty clusters to mean something
    with pytest.warns(CollapseWarning, match="epoch 3: only 1 of 4 clusters") as caught:
        make_trainer(model=model, epochs=6, observers=[spy]).fit(images)
    assert len([w for w in caught if w.category is CollapseWarning]) == 1
    assert {record["clusters_in_use"] for record in spy.records} == {1}


def test_early_stopping_is_by_the_training_loss():
    model = Scripted()
    history = make_trainer(model=model, epochs=500, patience_epochs=3, learning_rate=0.05).fit(IMAGES)
    assert 3 < len(history) < 500
    assert history[-1]["loss"] < 0.05


@pytest.mark.parametrize("n", [1, 2, 27])
def test_batches_of_one_image_work(n):
    trainer = make_trainer(epochs=2)
    history = trainer.fit(IMAGES[:n])
    assert np.isfinite(history[-1]["loss"])


def test_a_single_last_image_joins_the_batch_before():
    """Batch norm cannot divide by the deviation of one image."""

    class Counted(Scripted):
        sizes = ()

        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm1d(1)

        def forward(self, x, noise):
            self.sizes += (len(x),)
            return super().forward(x, noise)

    trainer = make_trainer(model=Counted(), epochs=1)
    trainer.fit(IMAGES[:27])
    assert trainer.model.sizes == (13, 14)


def test_a_run_forgets_what_an_earlier_one_left_and_nothing_else(tmp_path):
    run = make_run(tmp_path, seed=0)
    run.cached("layout", lambda: {"places": np.zeros(3)})
    (tmp_path / "notes.txt").write_text("mine")
    safetensors.numpy.save_file({"mine": np.zeros(2)}, tmp_path / "mine.safetensors")
    with pytest.raises(ModelError, match="other settings"):
        make_run(tmp_path, seed=1, resume=True).cached("layout", lambda: {"places": np.ones(3)})
    make_run(tmp_path, seed=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.safetensors", "notes.txt"]
    again = make_run(tmp_path, seed=1, resume=True).cached("layout", lambda: {"places": np.ones(3)})
    assert again["places"].tolist() == [1, 1, 1]


def make_run(folder, seed, resume=False, **watched):
    accelerator = Accelerator(device_placement=False)
    return Run(IMAGES, {"seed": np.int64(seed)}, Compute.choose("cpu"), accelerator, folder, resume, **watched)


def test_stages_draw_their_own_order_and_noise():
    class Seen(Scripted):
        def forward(self, x, noise):
            self.drawn = (*getattr(self, "drawn", ()), (x[:, 0, 0, 0].numpy(), noise.numpy()))
            return super().forward(x, noise)

    run, models = make_run(None, seed=0), [Seen(), Seen(), Seen()]
    plan = TrainingPlan(epochs=1, batch_size=13, learning_rate=1e-3, seed=5)
    for model, stage in zip(models, ("represent", "fit", "fit"), strict=True):
        run.train(model, plan, IMAGES, stage)
    for (x, noise), (other_x, other_noise), (same_x, same_noise) in zip(*(m.drawn for m in models), strict=True):
        assert not np.array_equal(x, other_x)
        assert not np.isin(noise, other_noise).any()
        assert np.array_equal(other_x, same_x)
        assert np.array_equal(other_noise, same_noise)


def test_every_part_of_a_stream_s_name_counts():
    streams = [
        (0, "noise"),
        (1, "noise"),
        (0, "order"),
        (0, "noise", "fit"),
        (0, "noise", "fit", 1),
        (0, "noise", "fit", 0, 1),
        (0, "noise", "fit-1"),
    ]
    seeds = [seed_for(*stream) for stream in streams]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert seed_for(np.int64(0), "noise") == seed_for(0, "noise") == 1145161814616605414  # on every machine
    drawn = {(float(torch.rand(1, generator=torch_generator(*s))), numpy_generator(*s).random()) for s in streams}
    assert len(drawn) == len(streams)


@pytest.mark.parametrize(
    ("n", "batch_size", "least", "sizes"),
    [
        (53, 13, 1, [13, 13, 13, 13, 1]),
        (53, 13, 2, [13, 13, 13, 14]),
        (55, 13, 4, [13, 13, 13, 16]),  # two processes would have one image and two
        (56, 13, 4, [13, 13, 13, 13, 4]),
        (3, 13, 4, [3]),
        (13, 13, 4, [13]),
    ],
)
def test_a_rest_too_small_for_its_processes_joins_the_batch_before(n, batch_size, least, sizes):
    bounds = batch_bounds(n, batch_size, least)
    assert [stop - start for start, stop in bounds] == sizes
    assert [start for start, _ in bounds[1:]] == [stop for _, stop in bounds[:-1]]
    assert (bounds[0][0], bounds[-1][1]) == (0, n)


def test_divergence_at_once_keeps_nothing_and_says_so():
    with pytest.raises(DivergedError, match=r"epoch 1, batch 5: script .*; there is no model with clusters to keep"):
        make_trainer(model=Scripted(nan_from_step=1)).fit(IMAGES)


@pytest.mark.parametrize(
    ("gives_clusters", "kept"), [(True, "the model of epoch 2 is kept"), (False, "there is no model with clusters")]
)
def test_divergence_counts_the_epochs_of_the_run(gives_clusters, kept):
    run, plan = make_run(None, seed=0), TrainingPlan(epochs=2, batch_size=13, learning_rate=1e-3, seed=5)
    run.train(Scripted(), plan, IMAGES, "represent", gives_clusters=gives_clusters)
    with pytest.raises(DivergedError, match=rf"stopped in epoch 3, batch 5: .*; {kept}") as error:
        run.train(Scripted(nan_from_step=1), plan, IMAGES, "fit")
    assert len(error.value.history) == (2 if gives_clusters else 0)


def test_seconds_add_up_over_stages_and_sessions(tmp_path):
    plan, lines = TrainingPlan(epochs=3, batch_size=13, learning_rate=1e-3, seed=5), []

    def stages(run, layout_seconds):
        def layout():
            time.sleep(layout_seconds)
            return {"layout": np.zeros(3)}

        run.train(Scripted(), plan, IMAGES, "represent", gives_clusters=False)
        assert list(run.cached("layout", layout)) == ["layout"]
        run.train(Scripted(), plan, IMAGES, "fit")

    first, again = make_run(tmp_path, seed=0), make_run(tmp_path, seed=0, resume=True, tell=lines.append)
    stages(first, 0.5)
    stages(again, 60)  # nothing is computed once more
    assert list(again.stage_seconds) == ["represent", "layout", "fit"]
    assert again.stage_seconds == pytest.approx(first.stage_seconds)
    assert again.stage_seconds["layout"] >= 0.5
    assert again.seconds == pytest.approx(sum(first.stage_seconds.values()))
    assert again.history[-1]["seconds"] == pytest.approx(again.seconds)
    assert [line.split(":")[0] for line in lines] == ["represent", "layout", "fit"]


def test_time_between_the_batches_counts_too():
    def targets(epoch):
        time.sleep(0.2)
        return np.zeros((53, 1), np.float32)

    class Guided(Scripted):
        def forward(self, x, noise, targets):
            return super().forward(x, noise)

    history = make_trainer(model=Guided(), epochs=2).fit(IMAGES, targets=targets)
    assert history[-1]["seconds"] >= 0.4


def test_lines_of_epochs_say_their_stage():
    lines = []
    run = make_run(None, seed=0, observers=[EpochLines(lines.append)])
    run.train(Scripted(), TrainingPlan(epochs=2, batch_size=13, learning_rate=1e-3, seed=5), IMAGES, "fit")
    assert [line.split(" = ")[0].split(":")[0] for line in lines] == ["fit, epoch 1", "fit, epoch 2"]


@pytest.mark.parametrize(("verbose", "lines"), [(0, []), (1, ["training: "]), (2, ["epoch 1", "epoch 2", "training"])])
def test_verbose_says_nothing_then_stages_then_epochs_too(capsys, verbose, lines):
    ConvVAEClusterer(3, latent_dim=2, hidden_dim=8, epochs=2, random_state=0, verbose=verbose).fit(IMAGES)
    said = capsys.readouterr().err.splitlines()
    assert [line.startswith(start) for line, start in zip(said, lines, strict=True)] == [True] * len(lines)


def test_progress_counts_the_images_of_the_whole_run(monkeypatch):
    monkeypatch.setattr(loop, "_SHOWN_SECONDS", 0.0)
    told = []
    progress = TrainingProgress(lambda *about: told.append(about), len(IMAGES), epochs=4)
    run, plan = make_run(None, seed=0, observers=[progress]), TrainingPlan(2, 13, learning_rate=1e-3, seed=5)
    run.train(Scripted(), plan, IMAGES, "represent")
    run.train(Scripted(), plan, IMAGES, "fit")
    assert {total for *_, total in told} == {4 * 53}
    done = [done for _, done, _ in told]
    assert done == sorted(done)
    assert set(done) >= {0, 13, 53, 106, 119, 159, 212}
    assert told[-1][0].startswith("fit, epoch 4/4, loss ")


def test_global_state_is_left_alone():
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), torch.get_num_threads()
    trainer = make_trainer()
    torch.manual_seed(1)
    state = torch.get_rng_state()
    trainer.fit(IMAGES)
    assert torch.equal(torch.get_rng_state(), state)
    assert np.array_equal(np.random.get_state()[1], before[1])
    assert torch.get_num_threads() == before[2]


def test_metrics_file_holds_each_epoch_once_after_a_resume(tmp_path):
    path = tmp_path / "metrics.jsonl"
    with pytest.raises(KeyboardInterrupt):
        make_trainer(tmp_path, observers=[MetricsFile(path), Spy(2)]).fit(IMAGES)
    make_trainer(tmp_path, observers=[MetricsFile(path)]).fit(IMAGES, resume=True)
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert [record["epoch"] for record in records] == [1, 2, 3]
    assert "loss" in describe(records[0])


@pytest.mark.parametrize(
    ("plan", "text"),
    [
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"learning_rate": float("nan")}, "learning_rate must be a positive number"),
        ({"patience_epochs": 0}, "patience_epochs must be at least 1"),
    ],
)
def test_plans_out_of_range(plan, text):
    with pytest.raises(SettingsError, match=text):
        TrainingPlan(**{"epochs": 1, "batch_size": 1, "learning_rate": 1.0, "seed": 0, **plan})


def train_small(method, **others):
    changed = {"n_clusters": 3, "latent_dim": 4, "hidden_dim": 16, "epochs": 3, "batch_size": 13, "random_state": 0}
    changed |= others
    # bf16, "auto" on some machines, rounds sums over half a batch otherwise
    return METHODS[method](**changed, device="cpu", precision="fp32").fit(IMAGES)


def facts_of(model):
    state = torch.cat([p.detach().flatten() for p in model.network_.parameters()]).numpy()
    return {"weights": state, "labels": model.labels_, "losses": [record["loss"] for record in model.history_]}


def train_apart(folder):
    """Each process has a folder of its own, of which the main process's alone holds anything."""
    images = np.random.default_rng(0).integers(0, 256, (55, 8, 8, 1)).astype(np.uint8)
    accelerator = Accelerator(device_placement=False, cpu=True)
    own = folder / f"machine-{accelerator.process_index}"
    own.mkdir()
    plan = TrainingPlan(epochs=2, batch_size=13, learning_rate=1e-3, seed=0)  # the rest: an image, and two
    results = []
    for resume in (False, True):
        torch.manual_seed(accelerator.process_index if resume else 0)
        network = new_model(replace(SETTINGS, batch_norm=True))
        run = Run(images, "run", Compute(torch.device("cpu"), "fp32"), accelerator, own, resume)
        run.train(network, plan, images, "fit")
        layout = run.cached("layout", lambda: {"layout": np.random.default_rng().random(3)})
        run.store("target", {"q": layout["layout"]})
        assert (run.stored("target") is not None) is resume
        results.append((*(v.numpy().copy() for v in network.state_dict().values()), layout["layout"]))
    assert all(np.array_equal(a, b) for a, b in zip(*results, strict=True))
    with pytest.raises(SettingsError, match="two images of every batch in each of the 2 processes"):
        run.train(network, TrainingPlan(1, 3, learning_rate=1e-3, seed=0), images, "small")
    with pytest.raises(SettingsError, match="resume needs random_state"):  # the second one's folder is empty
        train_small("vae", run_dir=str(own), resume=True, random_state=None)
    with pytest.raises(KeyError, match="no layout"):
        run.cached("other", lambda: raising(KeyError("no layout")))
    quick = {"hidden_dims": (8,), "latent_dim": 2, "pretrain_epochs": 1, "finetune_epochs": 1, "random_state": 0}
    # What one process does alone asks nothing of others.
    labels = AutoencoderClusterer(3, **quick, device="cpu", precision="fp32").fit(images).labels_
    assert labels.shape == (55,)
    np.savez(folder / f"{accelerator.process_index}.npz", *results[0], files=len(list(own.iterdir())))


def raising(error):
    raise error


def fail_together():
    """An error of one process is raised on both, and neither waits for the other."""
    state = PartialState()
    full = OSError(errno.ENOSPC, "No space left on device", "pixels")
    with pytest.raises(OSError, match="No space left on device: 'pixels'"):
        from_main(state, lambda: raising(full))
    for error in (full, DataError("1.tar")):
        with pytest.raises(type(error), match=r"No space|1\.tar"):
            from_each(lambda e=error: raising(e) if state.process_index == 1 else 0)
    # Pickle cannot make this one anew.
    with pytest.raises(ClusterloomError, match="loss became NaN"):
        from_main(state, lambda: raising(DivergedError("loss", 1, 1, [], "fewer")))
    assert from_each(lambda: state.process_index) == [0, 1]


def train_in_two_processes(folder):
    """What each of the two does, one after the other: starting them costs more than all of it."""
    for method in ("convvae", "guided"):
        model = train_small(method)
        state = PartialState()
        if state.is_main_process:
            np.savez(folder / f"{method}.npz", **facts_of(model), processes=state.num_processes)
    loop._SHOWN_SECONDS = 0.0
    # Without a seed the first process draws one for all; of a batch of one image it has no share, and nothing to show.
    seedless = train_small("vae", random_state=None, batch_size=1, epochs=1, verbose=1)
    seeds = gather_object([seedless.about_["seed"]])
    assert len(set(seeds)) == 1
    train_apart(folder)
    fail_together()


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    """The folder where `train_in_two_processes` saved what it found."""
    folder = tmp_path_factory.mktemp("two")
    # Without CUDA the processes share out the CPU: --multi_gpu is how this launcher starts several on one machine.
    command = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    command += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(folder)}  # the launcher leaves its logs there
    command += ["--main_process_port", "0", __file__, folder]
    subprocess.run(command, check=True, env=environment, timeout=200)
    return folder


def test_two_processes_train_the_model_of_one(two_processes):
    """Half the batch each, an uneven last batch (53 = 4 * 13 + 1), labels in input order."""
    one, two = facts_of(train_small("convvae")), np.load(two_processes / "convvae.npz")
    assert two["processes"] == 2
    np.testing.assert_allclose(two["weights"], one["weights"], atol=1e-6)
    np.testing.assert_allclose(two["losses"], one["losses"], rtol=1e-6)
    np.testing.assert_array_equal(two["labels"], one["labels"])


def test_two_processes_are_guided_to_one_model(two_processes):
    """Not the model of one process, since each contrasts and normalises its own share, but all stages, and labels."""
    one, two = facts_of(train_small("guided")), np.load(two_processes / "guided.npz")
    assert len(two["losses"]) == len(one["losses"]) == 4  # three epochs, and one that refines
    assert np.isfinite(two["losses"]).all()
    assert two["labels"].shape == one["labels"].shape == (53,)


def test_processes_without_a_shared_disk_agree_on_what_is_there(two_processes):
    """See `train_apart`; with batch norm, and uneven shares."""
    first, second = (np.load(two_processes / f"{rank}.npz") for rank in (0, 1))
    assert (first["files"], second["files"]) == (3, 0)
    for name in first.files:
        if name != "files":
            np.testing.assert_array_equal(first[name], second[name])


if __name__ == "__main__":
    train_in_two_processes(Path(sys.argv[1]))
    leave_together()
