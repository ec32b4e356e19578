"""`clusterloom evaluate`: score a model on images, against labels where there are some and without any."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from clusterloom.cli.options import Corrections, DataArgument, Json, LabelsFile, ModelArgument, Reading, Talk, grouped

if TYPE_CHECKING:
    import numpy as np

    from clusterloom.console import Output
    from clusterloom.corrections.assignment import Assignment
    from clusterloom.predictions import Totals


@grouped
def evaluate(
    model: ModelArgument,
    data: DataArgument,
    reading: Reading,
    talk: Talk,
    labels: LabelsFile = None,
    corrections: Corrections = True,
    as_json: Json = False,
) -> None:
    """Score a model on images, with labels or without.

    Sizes and confidence of the clusters; where labels exist also accuracy, purity, NMI, ARI and a table per class.
    """
    import numpy as np

    from clusterloom.console import is_main_process
    from clusterloom.corrections.read import read_assignment
    from clusterloom.estimators.methods import load_model
    from clusterloom.metrics import label_scores, per_class_table, silhouette_of, silhouette_sample
    from clusterloom.predictions import predict_totals
    from clusterloom.report.origin import disclosure, scored_rows
    from clusterloom.tables import read_labels

    fitted = load_model(model)
    with talk.output() as output:
        images = reading.load(data, output, like=fitted)
        labels_true, names = (images.labels, images.class_names) if labels is None else read_labels(labels, images.ids)
        sampled = silhouette_sample(len(images))
        totals = predict_totals(fitted, images, sampled, output.progress)
        if not is_main_process():
            return
        everywhere, scored, labels_of_all = totals.labels.astype(np.int64), scored_rows(fitted, images), labels_true
        silhouette = silhouette_of(totals.latents, totals.labels[sampled])
        if len(scored) < len(images):
            totals, labels_true = totals.of(scored), None if labels_true is None else labels_true[scored]
        result = _unsupervised_scores(totals, silhouette)
        if len(scored) < len(images):
            result["left_out"] = len(images) - len(scored)
        if note := disclosure(fitted):
            result["note"] = note
        if labels_true is not None:
            result |= label_scores(labels_true, totals.labels)
            rows = per_class_table(labels_true, totals.labels)
            result["classes"] = [{**vars(row), "name": names[row.label]} for row in rows]
        if corrections:
            assignment = read_assignment(model, images, everywhere, fitted.n_clusters_, fitted.cluster_names_)
            if assignment is not None:
                result["corrected"] = _corrected_scores(assignment, everywhere, labels_of_all)
        if as_json:
            output.json(result)
        else:
            _print(result, output)


def _corrected_scores(
    assignment: "Assignment", labels_pred: "np.ndarray", labels_true: "np.ndarray | None"
) -> dict[str, Any]:
    """What corrections make of the scores: of all images, and of those alone that nobody has looked at."""
    from clusterloom.metrics import label_scores

    unseen = assignment.marks == 0
    result: dict[str, Any] = {
        "clusters": len(set(assignment.labels.tolist())),
        "moved": int((assignment.labels != labels_pred).sum()),
        "looked_at": int((~unseen).sum()),
    }
    if labels_true is not None:
        result |= label_scores(labels_true, assignment.labels)
        if unseen.any():
            result["accuracy_of_the_others"] = label_scores(labels_true[unseen], assignment.labels[unseen])["accuracy"]
    return result


def _unsupervised_scores(totals: "Totals", silhouette: float | None) -> dict[str, Any]:
    score = float(totals.score.mean())
    return {
        "images": len(totals),
        "silhouette": silhouette,
        "confidence": float(totals.confidence.mean()),
        "score": score if math.isfinite(score) else None,  # JSON has no infinity
        "outliers": int(totals.outlier.sum()),
        "clusters": [
            {"cluster": k, "images": int(totals.sizes[k]), "confidence": totals.confidence_of(k)}
            for k in range(totals.n_clusters)
        ],
    }


def _print(result: Mapping[str, Any], output: "Output") -> None:
    from rich.table import Table

    from clusterloom.errors import printable

    title = "clusters, before corrections" if "corrected" in result else "clusters"
    clusters = Table("cluster", "images", "mean probability", title=title)
    for row in result["clusters"]:
        clusters.add_row(str(row["cluster"]), f"{row['images']:,}", _number(row["confidence"]))
    output.result(clusters)
    if "classes" in result:
        classes = Table("class", "images", "cluster", "recall", "precision", "most confused with", title="classes")
        name_of = {row["label"]: row["name"] for row in result["classes"]}
        for row in result["classes"]:
            cluster = "none" if row["cluster"] is None else str(row["cluster"])
            numbers = (f"{row['recall']:.3f}", f"{row['precision']:.3f}")
            confused = name_of.get(row["confused_with"], "")
            names = [printable(name) for name in (row["name"], confused)]
            classes.add_row(names[0], f"{row['images']:,}", cluster, *numbers, names[1])
        output.result(classes)
    left_out = f"without the {result['left_out']:,} that were corrected" if "left_out" in result else ""
    note = "".join(f", {text}" for text in [left_out, result.get("note")] if text)
    corrected = result.get("corrected", {})
    columns = ("score", "value", "as corrected") if corrected else ("score", "value")
    scores = Table(*columns, title=f"{result['images']:,} images{note}")
    for name in ("accuracy", "purity", "nmi", "ari", "silhouette", "confidence"):
        if name in result:
            scores.add_row(name, _number(result[name]), *([_number(corrected.get(name))] if corrected else []))
    scores.add_row("score, nats per image", _number(result["score"]))
    scores.add_row("outliers", f"{result['outliers']:,}")
    if corrected:
        for name in ("moved", "looked_at"):
            scores.add_row(f"images {name.replace('_', ' ')}", "", f"{corrected[name]:,}")
        if "accuracy_of_the_others" in corrected:
            scores.add_row("accuracy of the others", "", _number(corrected["accuracy_of_the_others"]))
    output.result(scores)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
