"""Pictures that stand beside a model: members of each cluster, new images, what spoke for the number of clusters."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from clusterloom.console import ProgressReport, no_progress
from clusterloom.data.images import ImageSet
from clusterloom.figures import cluster_count_plot
from clusterloom.pictures import image_grid, png_bytes
from clusterloom.predictions import Predictions
from clusterloom.report.origin import evidence_of

if TYPE_CHECKING:
    from clusterloom.estimators.base import ImageClusterer

_MOST_IMAGES = 20_000  # evenly spaced; members are chosen among these
_SHOWN = 16  # of each cluster


def model_pictures(model: ImageClusterer, images: ImageSet, progress: ProgressReport = no_progress) -> dict[str, bytes]:
    """PNG files by name, as `save` puts them beside the model card.

    Args:
        model: A fitted estimator.
        images: What it was fitted to.
        progress: Told how far it is.

    Returns:
        clusters.png, the most typical images of each cluster, as the report has them; generated.png, where the model
        generates; number-of-clusters.png, where the model found that number.
    """
    step = -(-len(images) // _MOST_IMAGES)
    looked_at = replace(images, images=images.images[::step], ids=images.ids[::step], labels=None, class_names=())
    said = Predictions(**model.predictions(looked_at, progress))
    clusters = range(model.n_clusters_)
    members = [looked_at.shown(said.typical(k, _SHOWN)) for k in clusters]
    sizes = [f"cluster {k}\n{model.cluster_sizes_[k]:,}" for k in clusters]
    pictures = {"clusters.png": png_bytes(image_grid(members, sizes, "the most typical images of each cluster"))}
    if model.generates:
        of_each = np.repeat(clusters, _SHOWN)
        made = model.shown(model.to_unit(model.sample(len(of_each), of_each, random_state=0)))
        new = np.split(made, len(clusters))
        names = [f"cluster {k}" for k in clusters]
        refined = " and refined" if model.refines else ""
        pictures["generated.png"] = png_bytes(
            image_grid(new, names, "new images of each cluster, made by the model" + refined)
        )
    if evidence := evidence_of(model):
        pictures["number-of-clusters.png"] = cluster_count_plot(evidence)
    return pictures
