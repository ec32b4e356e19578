"""Algorithm 1 to the letter: its first step stands before the loop, so the features are computed once.

Then the conv networks keep their initial weights, and what formula (2) compares are features: the paper says that this
loss grows with the dimension of the concatenated input. New images are not made here; the transposed network that the
last step draws them by would have to be trained besides.
"""

import shutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from rich.table import Table
from torch import Tensor

from clusterloom.device import Compute
from clusterloom.estimators.convvae import ConvVAESettings
from clusterloom.estimators.vae import VAESettings
from clusterloom.inference import apply_in_batches
from clusterloom.networks.objective import Algorithm1
from clusterloom.networks.precision import as_float32
from clusterloom.networks.vae import ClusterVAE
from clusterloom.training.plan import TrainingPlan
from clusterloom.training.randomness import fresh_weights
from clusterloom.training.session import training_session
from paper.models import active_dims, mean_loss, posterior
from paper.records import count, spread
from paper.runs import Experiment, scores

_K = 10


@dataclass(frozen=True)
class Setting:
    """One model of the features of MNIST, otherwise of the size of the paper's best row for it.

    Attributes:
        reconstruction_weight: Lambda of formula (2).
        encoder_activation: Of the encoder's hidden layer; "none" is what the paper's text says.
        latent_dim: The paper's s.
    """

    reconstruction_weight: float = 2.5
    encoder_activation: str = "none"
    latent_dim: int = 60

    @property
    def identity(self) -> dict[str, Any]:
        """What tells its runs from others."""
        return {"dataset": "mnist", **asdict(self)}


SETTINGS = (Setting(), Setting(encoder_activation="relu"), Setting(reconstruction_weight=6.0))


class _FeatureVAE(ClusterVAE):
    """The plain VAE for vectors in place of images, shape (B, F, 1, 1): they have no upper end as pixels have."""

    def decode(self, z: Tensor) -> Tensor:
        return as_float32(self.decoder(z)[:, :, None, None])


def run(some: Iterable[Setting], experiment: Experiment) -> None:
    """Run what is not on record yet."""
    for identity in experiment.missing([setting.identity for setting in some]):
        _run(identity, experiment)


def _run(identity: dict[str, Any], experiment: Experiment) -> None:
    compute = Compute.choose(precision=experiment.precision)
    scratch = experiment.records.scratch("-".join(map(str, (*identity.values(), compute.precision))))
    parts = experiment.parts(identity["dataset"])
    with fresh_weights(identity["seed"]):
        fixed = ClusterVAE(ConvVAESettings(initial_weights="glorot"), parts["train"].images.shape[1:], _K)
        features = {part: _features(fixed, images.images, compute) for part, images in parts.items()}
        settings = VAESettings(
            hidden_dim=512,
            initial_weights="glorot",
            epochs=experiment.epochs,
            random_state=identity["seed"],
            run_dir=str(scratch),
            resume=True,
            verbose=1,
            **{name: identity[name] for name in ("latent_dim", "encoder_activation", "reconstruction_weight")},
        )
        network = _FeatureVAE(settings, features["train"].shape[1:], _K).to(compute.device)
    objective, plan = Algorithm1(network, settings), TrainingPlan.of(settings, identity["seed"])
    with training_session(settings, features["train"], plan, identity, compute) as session:
        session.run.train(objective, plan, features["train"])
        about = session.about()

    result: dict[str, Any] = {}
    for part, images in parts.items():
        (q,) = apply_in_batches(lambda x: (network.assign(x),), features[part], compute)
        result[f"loss_{part}"] = round(mean_loss(objective, features[part], compute), 4)
        result |= scores(images, q.argmax(1), part)
    means, _ = posterior(network, features["test"], compute)
    result |= {"active_dims": active_dims(means), "seconds": about["training_seconds"]}
    experiment.add(identity, result | {key: about[key] for key in ("device", "precision", "threads", "versions")})
    shutil.rmtree(scratch, ignore_errors=True)


def _features(network: ClusterVAE, images: np.ndarray, compute: Compute) -> np.ndarray:
    """Concatenated outputs (N, 1, 1, F) of the conv networks for images (N, H, W, C)."""
    (features,) = apply_in_batches(lambda x: (network.features(x),), images, compute)
    return features[:, None, None]


def table(some: Iterable[Setting], experiment: Experiment) -> Table:
    """The runs on record, as mean and standard deviation over seeds (worst to best)."""
    result = Table(
        *("λ", "encoder", "seeds", "loss, train", "accuracy, test", "purity, test", "dims used"),
        title="Fixed conv networks, features reconstructed",
    )
    for setting in some:
        runs = experiment.runs(setting.identity)
        result.add_row(
            *(f"{setting.reconstruction_weight:g}", {"none": "linear", "relu": "ReLU"}[setting.encoder_activation]),
            *(count(runs), spread(runs, "loss_train", 1)),
            *(spread(runs, f"{name}_test", 1, 100, ends=True) for name in ("accuracy", "purity")),
            spread(runs, "active_dims", 0),
        )
    return result
