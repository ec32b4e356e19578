"""The paper's best MNIST setting from one random start: s = 60, n = 1, m = 512, 50 epochs.

    python benchmarks/paper_preset.py MODEL            # 20 to 50 minutes on two cores; MODEL is the directory to write
    python benchmarks/paper_preset.py MODEL --seed 1

Runs `clusterloom fit mnist --preset paper` (all 70,000 images, no labels; an interrupted run goes on) unless MODEL is
there already, then scores the official training and test parts. One seed says little: see docs/guide.md on seeds.

Results go to benchmarks/results/paper_preset.jsonl.
"""

import argparse
import json
from pathlib import Path

from clusterloom import load_images, load_model
from clusterloom.cli import run
from clusterloom.metrics import label_scores

RESULTS = Path(__file__).parent / "results" / "paper_preset.jsonl"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if not options.model.exists():
        command = ["fit", "mnist", "--preset", "paper", "--seed", str(options.seed), "--out", str(options.model)]
        if status := run([*command, "--resume"]):
            raise SystemExit(status)
    model = load_model(options.model)
    last = model.history_[-1]
    result = {
        "dataset": "mnist",
        "latent_dim": model.latent_dim,
        "conv_depth": model.conv_depth,
        "hidden_dim": model.hidden_dim,
        "category_input": model.category_input,
        "epochs": last["epoch"],
        "loss": {name: round(last[name], 3) for name in ("loss", "reconstruction", "kl", "category")},
        "clusters_in_use": last["clusters_in_use"],
    }
    for part in ("train", "test"):
        images = load_images(f"mnist:{part}")
        scores = label_scores(images.labels, model.predict(images))
        result[part] = {name: round(value, 4) for name, value in scores.items()}
    result |= {key: model.about_[key] for key in ("seed", "training_seconds", "threads", "device", "versions")}
    result["command"] = " ".join(model.about_["command"].split(" --out ")[0].split())
    print(json.dumps(result))
    with RESULTS.open("a") as file:
        file.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
