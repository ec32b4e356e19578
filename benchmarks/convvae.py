"""The paper's best MNIST setting from one random start: s = 60, n = 1, m = 512, 50 epochs.

    python benchmarks/convvae.py             # 20 to 50 minutes on two cores; an interrupted run goes on
    python benchmarks/convvae.py --seed 1
    python benchmarks/convvae.py --smoke     # digits, two epochs, nothing written

All 70,000 images and no labels, then the scores of the official training and test parts. `python -m paper table1 --rows
6` trains the same on the 60,000 alone. One seed says little: see docs/guide.md on seeds.

Results go to benchmarks/results/convvae.jsonl, one line per run.
"""

import argparse
import json
import shutil
import tempfile
from pathlib import Path

from provenance import RESULTS, provenance

from clusterloom import ConvVAEClusterer, load_images
from clusterloom.metrics import label_scores
from paper.records import Records


def run(dataset, parts, seed, run_dir, **parameters):
    model = ConvVAEClusterer(random_state=seed, run_dir=str(run_dir), resume=True, verbose=1, **parameters)
    model.fit(load_images(dataset))
    last = model.history_[-1]
    result = {
        "dataset": dataset,
        **{name: getattr(model, name) for name in ("latent_dim", "conv_depth", "hidden_dim", "category_input")},
        "epochs": last["epoch"],
        "loss": {name: round(last[name], 3) for name in ("loss", "reconstruction", "kl", "category")},
        "clusters_in_use": last["clusters_in_use"],
    }
    for part in parts:
        images = load_images(f"{dataset}:{part}" if part != "all" else dataset)
        scores = label_scores(images.labels, model.predict(images))
        result[part] = {name: round(value, 4) for name, value in scores.items()}
    about = {key: model.about_[key] for key in ("seed", "training_seconds", "precision", "device")}
    return result | about | provenance()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--smoke", action="store_true", help="digits, two epochs, nothing written")
    options = parser.parse_args()
    if options.smoke:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(run("digits", ["all"], 0, Path(folder), epochs=2)))
        return
    records = Records(RESULTS / "convvae.jsonl")
    scratch = records.scratch(f"seed-{options.seed}")
    result = run("mnist", ["train", "test"], options.seed, scratch)
    print(json.dumps(result))
    records.add(result)
    shutil.rmtree(scratch)


if __name__ == "__main__":
    main()
