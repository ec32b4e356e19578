"""Named sets of estimator parameters. A preset is fixed for all data: nothing in it depends on any labels."""

from collections.abc import Mapping
from typing import Any

PRESETS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    # The estimators' own defaults; see clusterloom.recipe.guided. The plain VAE has no guide.
    "guided": {"convvae": {}},
    # Yan (2020), Table 1, the best MNIST row (s, n, m, epochs), and for the plain VAE the peak given in its section 3.
    # What the paper leaves open (batch size, optimiser, weights) is written down in docs/paper.md.
    "paper": {
        "convvae": {
            "start": "random",
            "latent_dim": 60,
            "conv_depth": 1,
            "hidden_dim": 512,
            "conv_filters": (16, 32),
            "conv_kernels": (3, 5),
            "conv_downsample": "pool",
            "batch_norm": False,
            "concatenate": True,
            "category_input": "latent",
            "kl_weight": 1.0,
            "epochs": 50,
            "batch_size": 100,
            "learning_rate": 1e-3,
        },
        "vae": {"latent_dim": 10, "hidden_dim": 100, "epochs": 50, "batch_size": 100, "learning_rate": 1e-3},
        # What the paper compares itself with, as published; the estimators' docstrings say where they depart.
        "dec": {},
        "ae-kmeans": {},
    },
}

# As the paper prints them: prior N(0, 1), formula (3) in closed form, formula (7) letter by letter on q(y|x).
LITERAL: Mapping[str, str] = {
    "prior": "standard",
    "kl": "analytic",
    "category_formula": "printed",
    "category_input": "features",
}
