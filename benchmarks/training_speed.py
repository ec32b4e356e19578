"""How fast is our training step, against the same network as a plain eager float32 loop?

    python benchmarks/training_speed.py            # about 4 minutes on two quiet cores
    python benchmarks/training_speed.py --smoke    # seconds, to see that it runs
    python benchmarks/training_speed.py --after-epochs 3 --batch-sizes 100 --category-inputs latent   # later in a run

One process, the two loops taking turns in short slices, so that both meet the same noise; the ratio is the median over
pairs of neighbouring slices. The plain loop is what the paper's figure 1 gives when it is written down with standard
parts: NCHW, nearest upsampling, the decoder's 4704 outputs of which 1568 are cut off, a Dataset and DataLoader over the
same uint8 images, default Adam. Ours is `Trainer._step`, as `fit` runs it. Also reported: the machine's own
matrix-product rate, measured in the same run, and the share of it that the step's useful arithmetic reaches.

Results go to benchmarks/results/training_speed.jsonl.
"""

import argparse
import json
import platform
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import nn
from torch.utils.data import DataLoader, Dataset

from clusterloom.data import load_images
from clusterloom.device import Compute, freed_memory_reused, products_by_onednn
from clusterloom.estimators.convvae import ConvVAEClusterer
from clusterloom.networks.objective import Algorithm1
from clusterloom.training.loop import _CHECK_BATCHES, Trainer
from clusterloom.training.plan import TrainingPlan, epoch_order
from clusterloom.training.sums import Sums

LATENT, HIDDEN, CLUSTERS = 60, 512, 10
RESULTS = Path(__file__).parent / "results" / "training_speed.jsonl"


class PlainImages(Dataset):
    def __init__(self, images):
        self.images = images

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        return torch.from_numpy(np.array(self.images[i])).permute(2, 0, 1).float() / 255


class PlainVAE(nn.Module):
    """The paper's network at n = 1, m = 512, s = 60, part by part."""

    def __init__(self, category_input):
        super().__init__()
        self.category_input = category_input
        self.con_layer1 = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
        self.con_layer2 = nn.Sequential(nn.Conv2d(16, 32, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2))
        self.encoder = nn.Sequential(nn.Linear(4704, HIDDEN), nn.ReLU())
        self.mean, self.log_var = nn.Linear(HIDDEN, LATENT), nn.Linear(HIDDEN, LATENT)
        category_dim = LATENT if category_input == "latent" else 4704
        self.category = nn.Sequential(nn.Linear(category_dim, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, CLUSTERS))
        self.decoder = nn.Sequential(nn.Linear(LATENT, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 4704), nn.ReLU())
        self.tran_con_layer1 = nn.Sequential(
            nn.Upsample(scale_factor=2), nn.ConvTranspose2d(16, 1, 3, padding=1), nn.Sigmoid()
        )
        self.class_means = nn.Parameter(torch.zeros(CLUSTERS, LATENT))

    def forward(self, x):
        first = self.con_layer1(x)
        second = self.con_layer2(first)
        features = torch.cat([first.flatten(1), second.flatten(1)], 1)
        hidden = self.encoder(features)
        mean, log_var = self.mean(hidden), self.log_var(hidden)
        z = mean + torch.exp(log_var / 2) * torch.randn_like(mean)
        q = F.softmax(self.category(z if self.category_input == "latent" else features), 1)
        x_hat = self.tran_con_layer1(self.decoder(z)[:, :3136].view(-1, 16, 14, 14))
        reconstruction = 0.5 * ((x - x_hat) ** 2).sum((1, 2, 3))
        kl = (q * 0.5 * ((z[:, None] - self.class_means) ** 2 - log_var[:, None]).sum(2)).sum(1)
        category = (q * torch.log(q + 1e-9)).sum(1)
        return (2.5 * reconstruction + kl + category).mean()


def plain_steps(images, batch_size, category_input):
    """An endless plain training; yields the images of each step."""
    model = PlainVAE(category_input)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    loader = DataLoader(PlainImages(images), batch_size=batch_size, shuffle=True, drop_last=True)
    total = 0.0
    while True:
        for x in loader:
            optimizer.zero_grad()
            loss = model(x)
            loss.backward()
            optimizer.step()
            total += loss.item()
            yield len(x)


def our_steps(images, batch_size, category_input):
    """The same with the library's own step."""
    estimator = ConvVAEClusterer(CLUSTERS, category_input=category_input)
    estimator.image_shape_ = images.shape[1:]
    plan = TrainingPlan(epochs=1, batch_size=batch_size, learning_rate=1e-3, seed=0)
    model = Algorithm1(estimator._initialised_network(CLUSTERS, 0), estimator.settings)
    trainer = Trainer(model, plan, Compute.choose("cpu", "fp32"), Accelerator(device_placement=False, cpu=True))
    for epoch in range(10**9):
        sums, order = Sums(), epoch_order(len(images), 0, epoch)
        for batch in range(len(images) // batch_size):
            rows = order[batch * batch_size : (batch + 1) * batch_size]
            trainer._step(images, None, rows, epoch, batch, sums)
            if (batch + 1) % _CHECK_BATCHES == 0:
                trainer._clear_faded_moments()
            yield len(rows)


def images_per_second(steps, seconds):
    start, images = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        images += next(steps)
    return images / (time.perf_counter() - start)


def matrix_rate(seconds, size=2048):
    """Floating-point operations per second of a float32 matrix product, the best of the repetitions."""
    a, b, c = torch.randn(3, size, size).unbind()
    best, start = float("inf"), time.perf_counter()
    while time.perf_counter() - start < seconds:
        at = time.perf_counter()
        torch.mm(a, b, out=c)
        best = min(best, time.perf_counter() - at)
    return 2 * size**3 / best


def useful_operations(category_input):
    """Multiplications and additions that one image needs in a training step, the decoder's unused share left out.

    Every dense or conv layer is computed once forward and twice backward; the first conv layer needs no gradient of
    its input.
    """
    conv1, conv2 = 28 * 28 * 16 * 9, 14 * 14 * 32 * 16 * 25
    dense = 4704 * HIDDEN + HIDDEN * 2 * LATENT + LATENT * HIDDEN + HIDDEN * 3136
    category = (LATENT if category_input == "latent" else 4704) * HIDDEN + HIDDEN * CLUSTERS
    transposed = 14 * 14 * 16 * 4 * 9
    return 2 * (2 * conv1 + 3 * (conv2 + dense + category + transposed))


def compare(images, batch_size, category_input, pairs, seconds, after_epochs):
    plain, ours = (make(images, batch_size, category_input) for make in (plain_steps, our_steps))
    for steps in (plain, ours):
        seen = 0
        while seen < after_epochs * len(images):
            seen += next(steps)
        images_per_second(steps, seconds)  # warm up
    rounds = []
    for _ in range(pairs):
        plain_rate = images_per_second(plain, seconds)
        with freed_memory_reused(), products_by_onednn():  # as `fit` does; the plain loop has the allocator as it comes
            our_rate = images_per_second(ours, seconds)
        with products_by_onednn():
            rounds.append((plain_rate, our_rate, matrix_rate(seconds / 4)))
    ratios = [b / a for a, b, _ in rounds]
    rates = [b * useful_operations(category_input) / c for _, b, c in rounds]
    return {
        "batch_size": batch_size,
        "category_input": category_input,
        "after_epochs": after_epochs,
        "pairs": pairs,
        "plain_images_per_second": round(statistics.median(a for a, _, _ in rounds)),
        "our_images_per_second": round(statistics.median(b for _, b, _ in rounds)),
        "ratio_median": round(statistics.median(ratios), 3),
        "ratio_min": round(min(ratios), 3),
        "ratio_max": round(max(ratios), 3),
        "matrix_gflops": round(statistics.median(c for *_, c in rounds) / 1e9, 1),
        "share_of_matrix_rate": round(statistics.median(rates), 3),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="digits-sized slices on random images")
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=3.0, help="length of a slice")
    parser.add_argument("--after-epochs", type=int, default=0, help="train both so long before anything is timed")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[100, 512])
    parser.add_argument("--category-inputs", nargs="+", default=["latent", "features"])
    options = parser.parse_args()
    if options.smoke:
        options.pairs, options.seconds = 1, 0.3
        images = np.random.default_rng(0).integers(0, 256, (2000, 28, 28, 1)).astype(np.uint8)
    else:
        images = load_images("mnist").images
    for category_input in options.category_inputs:
        for batch_size in options.batch_sizes:
            result = compare(images, batch_size, category_input, options.pairs, options.seconds, options.after_epochs)
            result |= {
                "command": " ".join(["python", *sys.argv]),
                "date": time.strftime("%Y-%m-%d"),
                "threads": torch.get_num_threads(),
                "cpu": torch.backends.cpu.get_cpu_capability(),
                "torch": torch.__version__,
                "python": platform.python_version(),
            }
            print(json.dumps(result), flush=True)
            if not options.smoke:
                with RESULTS.open("a") as file:
                    file.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
