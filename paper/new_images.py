"""New images of every class of a data set, and how good and how varied they are beside real ones.

Labels say which clusters show a class, after training; no model sees them.
"""

import numpy as np

from clusterloom.data import ImageSet
from clusterloom.estimators.variational import VariationalClusterer
from paper.judge import Judge
from paper.sample_metrics import coverage, frechet_distance, vendi_score

SAMPLES = 500  # of each class, on each side of a comparison


def images_of(part: ImageSet, label: int) -> np.ndarray:
    """The first images of a class, at most `SAMPLES`, shape (n, H, W, C)."""
    return part.images[part.labels == label][:SAMPLES]


def clusters_of_classes(model: VariationalClusterer, images: ImageSet) -> list[list[int]]:
    """For every class, the clusters whose most frequent class it is, as the paper's figures name them."""
    assert images.labels is not None, "the built-in sets have labels"
    counts = np.zeros((model.n_clusters_, len(images.class_names)), int)
    np.add.at(counts, (model.predict(images), images.labels), 1)
    majority = np.where(counts.sum(1) > 0, counts.argmax(1), -1)
    return [np.flatnonzero(majority == label).tolist() for label in range(counts.shape[1])]


def new_images(model: VariationalClusterer, clusters: list[int], seed: int) -> np.ndarray:
    """New images of some clusters by their sizes, as the paper draws them: unchecked. Empty without clusters."""
    if not clusters:
        return np.empty((0, *model.image_shape_), np.float32)
    sizes = model.cluster_sizes_[clusters]
    shares = np.random.default_rng(seed).multinomial(SAMPLES, sizes / sizes.sum())
    drawn = [
        model.sample(int(n), cluster, random_state=seed, checked=False)
        for cluster, n in zip(clusters, shares, strict=True)
        if n
    ]
    images = np.concatenate(drawn)
    return images[np.random.default_rng(seed).permutation(len(images))]


def scores_of_class(judge: Judge, label: int, real: np.ndarray, images: np.ndarray) -> dict[str, float]:
    """Scores of images against real ones of the same class, in the judge's 128 features; none without images.

    Args:
        judge: Trained on the true labels.
        label: The class.
        real: Real images of it, shape (n, H, W, C).
        images: The images to be scored, shape (m, H, W, C).
    """
    if len(images) == 0:
        return {}
    reference, features = judge.features(real).astype(np.float64), judge.features(images).astype(np.float64)
    scores = {
        "share_judged_right": float((judge.classes(images) == label).mean()),
        "frechet_distance": frechet_distance(reference, features),
        **vars(coverage(reference, features)),
        "vendi_over_real": vendi_score(features) / vendi_score(reference),
    }
    return {name: round(value, 4) for name, value in scores.items()}
