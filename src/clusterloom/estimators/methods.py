"""Methods by the names that users give them, and the parameters that a method, a preset and the user's own make."""

from collections.abc import Mapping
from typing import Any

from clusterloom.errors import SettingsError
from clusterloom.estimators.autoencoder import AutoencoderClusterer, DECClusterer
from clusterloom.estimators.base import ImageClusterer
from clusterloom.estimators.convvae import ConvVAEClusterer
from clusterloom.estimators.vae import VAEClusterer
from clusterloom.estimators.variational import VariationalClusterer
from clusterloom.presets import LITERAL, PRESETS

METHODS: Mapping[str, type[ImageClusterer]] = {
    "convvae": ConvVAEClusterer,
    "vae": VAEClusterer,
    "dec": DECClusterer,
    "ae-kmeans": AutoencoderClusterer,
}


def method_parameters(
    method: str, preset: str | None, overrides: Mapping[str, Any], literal: bool = False
) -> dict[str, Any]:
    """Parameters of a method's estimator.

    Args:
        method: A key of `METHODS`.
        preset: A key of `PRESETS`; None is "guided" where there is a guided recipe, and otherwise "paper".
        overrides: Parameters that replace the preset's.
        literal: Use the paper's formulas as printed.

    Raises:
        SettingsError: the method or preset is unknown, or a parameter does not apply to the method.
    """
    preset = preset or ("guided" if method == "convvae" and not literal else "paper")
    if method not in METHODS:
        raise SettingsError(f"unknown method {method!r}; expected one of {', '.join(METHODS)}")
    if preset not in PRESETS:
        raise SettingsError(f"unknown preset {preset!r}; expected one of {', '.join(PRESETS)}")
    if method not in PRESETS[preset]:
        raise SettingsError(f"preset {preset} does not apply to method {method}; use --preset paper")
    unknown = sorted(set(overrides) - set(METHODS[method]._get_param_names()))
    if unknown:
        raise SettingsError(f"--{unknown[0].replace('_', '-')} does not apply to method {method}")
    if literal and not issubclass(METHODS[method], VariationalClusterer):
        raise SettingsError(f"--literal does not apply to method {method}")
    return {**PRESETS[preset][method], **(LITERAL if literal else {}), **overrides}
