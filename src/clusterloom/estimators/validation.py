"""From what users pass to estimators to what networks read: (N, H, W, C), uint8 or float32 in [0, 1]."""

import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.utils.validation import check_array, validate_data

from clusterloom.data.arrays import array_range, is_channels_first
from clusterloom.data.images import ImageSet
from clusterloom.data.pixels import PixelRange, chunks, contrast_note, range_text
from clusterloom.errors import DataError, DataWarning, SettingsError

_CHUNK_BYTES = 1 << 22
_CHUNK_IMAGES = 8192  # looked at in one go, so that memory stays flat
_DUPLICATE_SAMPLE = 100_000


def images_from(estimator: Any, X: Any, reset: bool) -> np.ndarray:
    """Check images and bring them into the networks' layout.

    Accepts an `ImageSet`, (N, H, W), (N, H, W, C), or (N, D) with the estimator's `image_shape`. A table (N, D) without
    it is laid out row by row in the smallest square that holds D values, the rest zero: right for flattened square grey
    images, and a way to use any table.

    Args:
        estimator: Gets `n_features_in_`, `image_shape_` and `pixel_range_` when `reset`, and is held to them otherwise.
        X: The images.
        reset: True in `fit`.

    Returns:
        Shape (N, H, W, C): uint8 as given, or float32 with the training images' range scaled to [0, 1].

    Raises:
        DataError: images that cannot be used; the text names the first bad one.
        SettingsError: `image_shape` does not fit the images.
    """
    if isinstance(X, str | Path):
        raise DataError(f"expected an array of images or an ImageSet, got the text {str(X)!r}; load_images reads it")
    if isinstance(X, ImageSet):
        return _of_set(estimator, X, reset)
    X = np.asarray(X) if isinstance(X, list | tuple) else X
    if getattr(X, "ndim", 2) > 4:
        raise DataError(f"images must have shape (N, H, W), (N, H, W, C) or (N, D); got {tuple(X.shape)}")
    layout = _from_images if getattr(X, "ndim", 2) in (3, 4) else _from_table
    images = layout(estimator, X, reset)
    _check_finite(images)
    return _scaled(estimator, images, reset)


def _of_set(estimator: Any, X: ImageSet, reset: bool) -> np.ndarray:
    """Images of a set, whose 8 bits stand for the range of values that reading has scaled to them."""
    images = _from_images(estimator, X.images, reset)
    own = X.pixel_range
    if reset:
        estimator.pixel_range_ = own
        estimator.reading_ = dict(X.reading)
    if own == estimator.pixel_range_:
        return images
    if own is None or estimator.pixel_range_ is None:
        raise DataError(
            f"the model was trained on {_range_text(estimator.pixel_range_)}, and {X.name} holds {_range_text(own)}; "
            "convert them the same way"
        )
    low, high = (np.asarray(bound, np.float64) for bound in own)
    scaled, start = np.empty(images.shape, np.float32), 0
    for some in chunks(images, _CHUNK_BYTES):  # in double precision the whole would take eight times its size, twice
        scaled[start : start + len(some)] = _scaled(estimator, low + some * ((high - low) / 255), reset=False)
        start += len(some)
    return scaled


def _range_text(pixel_range: PixelRange | None) -> str:
    return "pixels of 8 bits" if pixel_range is None else f"values from {range_text(pixel_range)}"


def _from_images(estimator: Any, X: Any, reset: bool) -> np.ndarray:
    images = check_array(X, ensure_2d=False, allow_nd=True, dtype=None, ensure_all_finite=False, ensure_min_samples=1)
    images = images[..., None] if images.ndim == 3 else images
    if is_channels_first(images.shape):
        images = np.moveaxis(images, 1, 3)  # channels first, as PyTorch has them
    shape = images.shape[1:]
    if reset:
        vars(estimator).pop("feature_names_in_", None)  # of a table that it was fitted to before
        if estimator.image_shape is not None and _full_shape(estimator.image_shape) != shape:
            raise SettingsError(f"image_shape is {tuple(estimator.image_shape)}, but the images have shape {shape}")
        estimator.image_shape_ = tuple(int(side) for side in shape)
        estimator.n_features_in_ = math.prod(shape)
    elif shape != estimator.image_shape_:
        raise DataError(
            f"images have shape {shape} (height, width, channels); the model expects {estimator.image_shape_}"
        )
    return images


def _from_table(estimator: Any, X: Any, reset: bool) -> np.ndarray:
    table = validate_data(estimator, X, reset=reset, dtype=_table_dtype(X), ensure_all_finite=False)
    n_columns = table.shape[1]
    if reset:
        if estimator.image_shape is not None:
            estimator.image_shape_ = _full_shape(estimator.image_shape)
        else:
            side = max(math.isqrt(n_columns - 1) + 1, 4)
            estimator.image_shape_ = (side, side, 1)
    n_pixels = math.prod(estimator.image_shape_)
    if estimator.image_shape is not None and n_pixels != n_columns:
        raise SettingsError(
            f"image_shape {estimator.image_shape_} has {n_pixels} values per image, but the rows have {n_columns}"
        )
    if n_pixels > n_columns:
        table = np.pad(table, ((0, 0), (0, n_pixels - n_columns)))
    return table.reshape(-1, *estimator.image_shape_)


def _table_dtype(X: Any) -> Any:
    """Keep numeric types as they are (uint8 above all); let scikit-learn convert the rest, or refuse it."""
    return None if getattr(getattr(X, "dtype", None), "kind", "O") in "buif" else "numeric"


def _full_shape(image_shape: Any) -> tuple[int, int, int]:
    shape = tuple(int(side) for side in image_shape)
    if len(shape) == 2:
        shape = (*shape, 1)
    if len(shape) != 3 or min(shape) < 1:
        raise SettingsError(f"image_shape must be (height, width) or (height, width, channels); got {image_shape}")
    return shape[0], shape[1], shape[2]


def _check_finite(images: np.ndarray) -> None:
    if images.dtype.kind != "f":
        return
    for start in range(0, len(images), _CHUNK_IMAGES):
        good = np.isfinite(images[start : start + _CHUNK_IMAGES]).reshape(-1, math.prod(images.shape[1:])).all(1)
        if not good.all():
            first = start + int(np.argmin(good))
            raise DataError(f"Input X contains NaN or infinity (inf); the first such image is number {first}, from 0")


def _scaled(estimator: Any, images: np.ndarray, reset: bool) -> np.ndarray:
    """Bring pixels to uint8, or float32 in the range that the model was trained on, scaled to [0, 1]."""
    if images.dtype == bool:
        images = images.astype(np.uint8) * np.uint8(255)
    if reset:
        estimator.pixel_range_ = _pixel_range(images)
    if estimator.pixel_range_ is None:
        if images.dtype == np.uint8:
            if reset and (note := contrast_note(images)):
                warnings.warn(note, DataWarning, stacklevel=4)
            return images
        if images.size and (images.min() < 0 or images.max() > 1):
            raise DataError(
                f"pixels lie between {images.min():g} and {images.max():g}; the model was trained on uint8, or on "
                "numbers from 0 to 1: convert them the same way"
            )
        return images.astype(np.float32, copy=False)
    # Of wide integers and doubles the range may be small beside the numbers, which single precision would round away.
    kind: Any = np.float32 if np.can_cast(images.dtype, np.float32) else np.float64
    low, high = (np.asarray(bound, kind) for bound in estimator.pixel_range_)
    width = np.where(high > low, high - low, kind(1))
    scaled = np.empty(images.shape, np.float32)
    for start in range(0, len(images), _CHUNK_IMAGES):
        some = slice(start, start + _CHUNK_IMAGES)
        scaled[some] = ((images[some].astype(kind) - low) / width).clip(0, 1)
    return scaled


def _pixel_range(images: np.ndarray) -> PixelRange | None:
    """None for uint8 and for numbers in [0, 1]; otherwise what files are scaled by too, `percentile_range`."""
    if images.dtype == np.uint8 or (images.min() >= 0 and images.max() <= 1):
        return None
    return array_range(images)


def warn_of_duplicates(images: np.ndarray) -> None:
    """Warn when all images are equal, or at least half of them repeat another one.

    Beyond 100,000 images an evenly spaced sample is looked at.
    """
    sample = images[:: math.ceil(len(images) / _DUPLICATE_SAMPLE)]
    distinct = len({hash(image.tobytes()) for image in sample})
    if len(sample) > 1 and distinct == 1:
        warnings.warn("all images are equal: there is nothing to cluster", DataWarning, stacklevel=4)
    elif distinct <= len(sample) / 2:
        share = 1 - distinct / len(sample)
        warnings.warn(f"{share:.0%} of the images repeat another one exactly", DataWarning, stacklevel=4)
