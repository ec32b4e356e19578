"""What `fit` and `refit` share: the folder of an unfinished run, and what is said of a model that is finished."""

import shlex
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clusterloom.console import Output
    from clusterloom.data import ImageSet

_SURE = 0.8  # a probability below it is counted as doubtful
_FEW, _UNSURE = 0.1, 0.5  # images of a cluster that is none, in shares of the mean, and their mean probability: at most


def check_checkpoints(place: str, target: Path) -> Path | None:
    """Refuse a place where no unfinished run can be kept, before any work is done.

    Args:
        place: A folder or an address.
        target: Where the model goes.

    Returns:
        The folder; None of an address.

    Raises:
        SettingsError: a file is in the way, or the place lies in the model directory, which holds nothing but a model.
    """
    from clusterloom.data.addresses import is_address
    from clusterloom.errors import SettingsError, printable
    from clusterloom.targets import in_the_way

    if is_address(place):
        return None
    folder, refused = Path(place).resolve(), f"no unfinished run can be kept in {printable(place)}"
    if folder == target or target in folder.parents:
        raise SettingsError(f"{refused}: --out holds a model and nothing else; choose another place")
    if file := in_the_way(folder):
        raise SettingsError(f"{refused}: {printable(str(file))} is not a folder; choose another place")
    return folder


def check_run_dir(run_dir: str, out: Path, resume: bool, overwrite: bool) -> None:
    """Refuse to begin where an unfinished run would be lost.

    Raises:
        SettingsError: one is there, and it is neither to be taken up nor to go.
    """
    from clusterloom.console import is_main_process
    from clusterloom.errors import SettingsError, printable
    from clusterloom.training.run_folder import checkpoints_in

    if is_main_process() and not (resume or overwrite) and checkpoints_in(run_dir):
        raise SettingsError(
            f"an unfinished run of {printable(str(out))} is there; --resume goes on with it (same settings and "
            "images), --overwrite begins again"
        )


def origin(images: "ImageSet", command: str) -> dict[str, str]:
    """What a model says of the images and of the command that made it."""
    from clusterloom.data.boundary import without_secrets
    from clusterloom.errors import printable

    said = {"data": printable(images.name), "command": printable(without_secrets(command))}
    return said | {"data_sha256": images.fingerprint()}


def remove_run(place: str) -> None:
    """Remove what only an unfinished run needs; a tracker's logs stay."""
    from clusterloom.data.addresses import is_address
    from clusterloom.training.run_folder import CHECKPOINTS, METRICS, remove_checkpoints

    if is_address(place):
        remove_checkpoints(place)
        return
    run_dir = Path(place)
    unfinished = run_dir.glob(f".{CHECKPOINTS}.*")  # by a process that was killed a moment ago
    for path in (*run_dir.glob(CHECKPOINTS), *unfinished, run_dir / METRICS):
        path.unlink(missing_ok=True)
    if run_dir.is_dir() and not any(run_dir.iterdir()):
        shutil.rmtree(run_dir)


def found(estimator: Any, out: Path) -> dict[str, Any]:
    """The clusters that were found, as JSON values."""
    import numpy as np

    from clusterloom.recipe.cluster_count.advice import doubt_about
    from clusterloom.recipe.cluster_count.evidence import best_counts
    from clusterloom.report.origin import disclosure, evidence_of

    rows: list[dict[str, Any]] = []
    scored = np.ones(len(estimator.labels_), bool)
    scored[estimator.corrected_] = False
    for k, size in enumerate(estimator.cluster_sizes_):
        confidence = estimator.confidences_[scored & (estimator.labels_ == k)]
        mean = float(confidence.mean()) if len(confidence) else None
        rows.append(
            {"cluster": k, "images": int(size), "confidence": mean, "doubtful": int((confidence < _SURE).sum())}
        )
        if name := estimator.cluster_names_[k]:
            rows[-1]["name"] = name
    result: dict[str, Any] = {"model": str(out), "clusters": rows, "seconds": estimator.about_["training_seconds"]}
    if estimator.labelled_rows_ is not None:
        result["of_a_sample"] = len(estimator.labelled_rows_)
    if evidence := evidence_of(estimator):
        result["number_of_clusters"] = {"best": best_counts(evidence), "doubt": doubt_about(evidence)}
    return {**result, "note": note} if (note := disclosure(estimator)) else result


def tell(estimator: Any, out: Path, source: list[str], output: "Output") -> None:
    """The clusters that were found, and what to type next."""
    from rich.table import Table

    from clusterloom.data.boundary import without_secrets
    from clusterloom.errors import printable
    from clusterloom.report.origin import recipe_of

    about = found(estimator, out)
    sampled = about.get("of_a_sample")
    captions = [f"of {sampled:,} images chosen at random" if sampled else None, about.get("note")]
    caption = "; ".join(filter(None, captions)) or None
    table = Table("cluster", "images", "mean probability", f"doubtful (below {_SURE:.0%})", caption=caption)
    for row in about["clusters"]:
        mean = "" if row["confidence"] is None else f"{row['confidence']:.3f}"
        table.add_row(
            printable(f"{row['cluster']} {row.get('name', '')}".strip()),
            f"{row['images']:,}",
            mean,
            f"{row['doubtful']:,}",
        )
    output.table(table)
    if advice := recipe_of(estimator).get("count_advice"):
        output.say(advice)
    if left_over := _left_over(about["clusters"]):
        names = ", ".join(f"cluster {k}" for k in left_over)
        output.say(f"fewer clusters may do: few images, and none for sure, in {names}")
    output.say(f"model: {printable(str(out))} (members of every cluster: clusters.png)")
    output.say("next:")
    for command in (["predict", str(out), *source, "--out", "clusters.csv"], ["explore", str(out), *source]):
        output.say(f"  {printable(without_secrets(shlex.join(['clusterloom', *command])))}")


def _left_over(clusters: list[dict[str, Any]]) -> list[int]:
    """Clusters of images that fit nowhere, or of none: what is left where more are asked for than images show.

    Where a user has placed all images of one, it has no confidence, and nothing is said of it.
    """
    few = _FEW * sum(row["images"] for row in clusters) / len(clusters)

    def is_unsure(row: dict[str, Any]) -> bool:
        return row["images"] == 0 if row["confidence"] is None else row["confidence"] < _UNSURE

    return [row["cluster"] for row in clusters if row["images"] < few and is_unsure(row)]
