"""Units dealt out to the processes of a Ray cluster by Ray Data, which starts new ones where some are lost."""

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from clusterloom.batch_inference.predictor import Done, UnitPredictor
from clusterloom.batch_inference.tables_folder import TablesFolder
from clusterloom.batch_inference.units import Unit
from clusterloom.errors import MissingPackageError, SettingsError, printable
from clusterloom.model_dir.contents import ModelContents


class _Worker:
    """An actor of the pool: the model is made once, and tables are written from here."""

    def __init__(self, contents: dict[str, Any], wanted: Mapping[str, Any], folder: TablesFolder) -> None:
        self._predictor = UnitPredictor(ModelContents(**contents), wanted, folder)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        done = [self._predictor.predict(unit) for unit in batch["unit"]]
        return {name: [getattr(each, name) for each in done] for name in Done._fields}


def predicted_on_ray(
    address: str,
    units: Sequence[Unit],
    contents: ModelContents,
    wanted: Mapping[str, Any],
    folder: TablesFolder,
) -> Iterator[Done]:
    """Predict units on a Ray cluster, in any order.

    One process for each processor of the cluster, or for each graphics card where there are some, with the model in its
    memory. Only the names of shards, the model and what became of a unit pass through Ray: pictures are read, and
    tables written, where they are predicted, so the memory of a process is that of one block of images. A unit whose
    process was lost is made again by another one.

    Args:
        address: Of the cluster: HOST:PORT, ray://HOST:PORT, or "auto" for the one that this machine belongs to. Where
            there is none, "auto" starts processes on this machine alone.
        units: What to predict.
        contents: The model.
        wanted: How pictures are read, keyword arguments of `stream_images`.
        folder: Where tables go.

    Yields:
        What became of each unit, as they are finished.

    Raises:
        SettingsError: Ray is not installed, or there is no cluster at the address.
    """
    if not units:
        return
    ray = _ray()
    with _connected(ray, address):
        # Each unit is a block, so that it is dealt out, and made again, by itself.
        dataset = ray.data.from_items([{"unit": unit} for unit in units], override_num_blocks=len(units))
        cards = int(ray.cluster_resources().get("GPU", 0))
        most = min(len(units), cards or max(1, int(ray.cluster_resources().get("CPU", 1))))
        results = dataset.map_batches(
            _Worker,
            fn_constructor_args=(asdict(contents), dict(wanted), folder),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=most, max_tasks_in_flight_per_actor=2),
            num_cpus=None if cards else 1,
            num_gpus=1 if cards else None,
        )
        try:
            for row in results.iter_rows():
                yield Done(**row)
        except ray.exceptions.RayTaskError as error:
            cause = error.cause
            while isinstance(cause, ray.exceptions.RayTaskError):
                cause = cause.cause
            raise cause if isinstance(cause, MissingPackageError | OSError) else error from None


def _ray() -> Any:
    try:
        import ray.data
    except ImportError:
        raise SettingsError("--ray needs Ray: pip install 'clusterloom[ray]'") from None
    return ray


@contextlib.contextmanager
def _connected(ray: Any, address: str) -> Iterator[None]:
    """A connection to a cluster, silent; processes that were started for it end with it."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray of itself would report the use of it to its makers
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        try:
            ray.init(address=address, **quiet)
        except ConnectionError:
            if address != "auto":
                raise
            ray.init(address="local", include_dashboard=False, **quiet)
    except (ConnectionError, ValueError, RuntimeError) as error:
        why = " ".join(str(error).split())[:200]
        raise SettingsError(f"--ray {printable(address)}: no Ray cluster answers there: {printable(why)}") from None
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    try:
        yield
    finally:
        ray.shutdown()
