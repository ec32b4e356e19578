"""New images of every class of a data set, and how good and how varied they are beside real ones.

Labels say which clusters show a class, after training; no model sees them.
"""

import numpy as np

from clusterloom.data import ImageSet
from paper.classifier import Classifier
from paper.models import VAE
from paper.runs import labels
from paper.sample_metrics import coverage, frechet_distance, vendi_score

SAMPLES = 500  # of each class, on each side of a comparison


def images_of(part: ImageSet, label: int) -> np.ndarray:
    """The first images of a class, at most `SAMPLES`, shape (n, H, W, C)."""
    return part.images[part.labels == label][:SAMPLES]


def clusters_of_classes(model: VAE, images: ImageSet) -> list[list[int]]:
    """For every class, the clusters whose most frequent class it is, as the paper's figures name them."""
    counts = np.zeros((model.n_clusters_, len(images.class_names)), int)
    np.add.at(counts, (model.predict(images), labels(images)), 1)
    majority = np.where(counts.sum(1) > 0, counts.argmax(1), -1)
    return [np.flatnonzero(majority == label).tolist() for label in range(counts.shape[1])]


def new_images(model: VAE, clusters: list[int], seed: int, checked: bool = False) -> np.ndarray:
    """New images of some clusters by their sizes, as `sample` draws them. Empty without clusters."""
    if not clusters:
        return np.empty((0, *model.image_shape_), np.float32)
    rng, sizes = np.random.default_rng(seed), model.cluster_sizes_[clusters]
    shares = dict(zip(clusters, rng.multinomial(SAMPLES, sizes / sizes.sum()).tolist(), strict=True))
    drawn = [model.sample(n, cluster, random_state=seed, checked=checked) for cluster, n in shares.items() if n]
    return rng.permutation(np.concatenate(drawn))


def class_scores(classifier: Classifier, label: int, real: np.ndarray, images: np.ndarray) -> dict[str, float]:
    """Scores of images against real ones of the same class, in the classifier's 128 features; none without images.

    Args:
        classifier: Trained on the true labels.
        label: The class.
        real: Real images of it, shape (n, H, W, C).
        images: The images to be scored, shape (m, H, W, C).

    Returns:
        By the names that records have; "share_judged_right" is that of images which the classifier gives to the class.
    """
    if len(images) == 0:
        return {}
    reference, features = (classifier.features(some).astype(np.float64) for some in (real, images))
    scores = {
        "share_judged_right": float((classifier.classes(images) == label).mean()),
        "frechet_distance": frechet_distance(reference, features),
        **coverage(reference, features),
        "vendi_over_real": vendi_score(features) / vendi_score(reference),
    }
    return {name: round(value, 4) for name, value in scores.items()}
