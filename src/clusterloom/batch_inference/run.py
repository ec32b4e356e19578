"""All units of a source that have no table yet, one after the other in this process, or by Ray's."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from clusterloom.batch_inference.predictor import Done, UnitPredictor
from clusterloom.batch_inference.tables_folder import TablesFolder
from clusterloom.batch_inference.units import Unit, pictures_sha256, units_of
from clusterloom.data.addresses import is_address, shown_address
from clusterloom.data.parts import Parts
from clusterloom.model_dir.read import model_sha256, read_model


@dataclass
class Outcome:
    """What came of a run.

    Attributes:
        done: Tables that were made.
        there_already: Tables that an earlier run had made.
        images: In the tables that were made.
        outliers: How many of these images were flagged.
        problems: Why units have no table, a line for each.
        skipped: How many pictures could not be read and were left out.
        first_skipped: Which one was the first, and why.
    """

    done: int = 0
    there_already: int = 0
    images: int = 0
    outliers: int = 0
    problems: list[str] = field(default_factory=list)
    skipped: int = 0
    first_skipped: str = ""

    def add(self, done: Done) -> None:
        """Count a unit."""
        if done.problem:
            self.problems.append(done.problem)
        else:
            self.done += 1
            self.images, self.outliers = self.images + done.images, self.outliers + done.outliers
            self.skipped += len(done.skipped)
            self.first_skipped = self.first_skipped or next(iter(done.skipped), "")


def predict_units(
    model: Path,
    data: str,
    parts: Parts,
    wanted: Mapping[str, Any],
    folder: TablesFolder,
    share: tuple[int, int] = (0, 1),
    ray_address: str | None = None,
    tell: Callable[[Outcome], None] = lambda outcome: None,
) -> Outcome:
    """Make the tables that are missing.

    Args:
        model: A model directory.
        data: What the user named; a later run has to name the same.
        parts: What there is.
        wanted: How pictures are read, keyword arguments of `stream_images`; likewise.
        folder: Where tables go.
        share: Which share of the units, and of how many: units are dealt out one by one.
        ray_address: Have the processes of Ray there do it, "auto" those of any; None does it in this process.
        tell: Told after each unit.

    Returns:
        What came of it. A unit that cannot be read does not keep the others waiting.

    Raises:
        DataError: the folder is that of another model, of other data or of another way of reading.
        ModelError: the model cannot be used.
    """
    contents = read_model(model)
    source = shown_address(data) if is_address(data) else str(Path(data).resolve())
    # Whether bad pictures are left out may change on the way: tables that are there have none.
    reading = {name: value for name, value in wanted.items() if value not in (None, False) and name != "skip_bad"}
    facts = {"model_sha256": model_sha256(model), "data": source, "reading": as_json(reading)}
    if pictures := pictures_sha256(parts):  # tables hold so many of them in their order: one more would shift them
        facts["pictures_sha256"] = pictures
    folder.claim(facts)
    there, outcome = folder.tables(), Outcome()

    def missing() -> Iterator[Unit]:
        for unit in islice(units_of(parts), share[0], None, share[1]):
            if unit.table in there:
                outcome.there_already += 1
            else:
                yield unit

    if ray_address is None:
        predictor = UnitPredictor(contents, wanted, folder)
        finished: Iterator[Done] = map(predictor.predict, missing())
    else:
        from clusterloom.batch_inference.on_ray import predicted_on_ray

        finished = predicted_on_ray(ray_address, list(missing()), contents, wanted, folder)
    for done in finished:
        outcome.add(done)
        tell(outcome)
    return outcome


def as_json(value: Any) -> Any:
    """A value as it is after it has been through JSON: tuples are lists."""
    if isinstance(value, dict):
        return {name: as_json(item) for name, item in value.items()}
    return list(map(as_json, value)) if isinstance(value, tuple | list) else value
