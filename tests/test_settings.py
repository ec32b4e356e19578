"""Knobs: what their text and values may be, and what is said where they may not."""

import inspect
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pytest

from clusterloom.errors import SettingsError
from clusterloom.estimators.methods import METHODS
from clusterloom.settings import CommonSettings, Count, Rate, Settings, TrainingSettings


@dataclass(frozen=True, kw_only=True)
class Some(Settings):
    size: Count = 3
    """How large.
    In pixels."""
    rate: Rate | Literal["auto"] = "auto"
    sizes: tuple[Count, ...] | Literal["auto"] = (1, 2)
    kind: Literal["relu", "none"] = "relu"
    limit: Count | None = None
    is_on: bool = False


@dataclass(frozen=True, kw_only=True)
class More(Some):
    size: Count = 5


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("size", "7", 7),
        ("rate", "1e-3", 1e-3),
        ("rate", "2", 2.0),
        ("rate", "auto", "auto"),
        ("sizes", "4", (4,)),
        ("sizes", "4, 5,6", (4, 5, 6)),
        ("sizes", "4:5:6", (4, 5, 6)),
        ("sizes", "auto", "auto"),
        ("kind", "none", "none"),
        ("limit", "none", None),
        ("limit", "9", 9),
        ("is_on", "true", True),
        ("is_on", "False", False),
    ],
)
def test_texts_are_values(name, text, value):
    found = Some.parse(name, text)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("size", "3.0", "size must be a whole number of at least 1; got '3.0'"),
        ("size", "0", "size must be a whole number of at least 1; got '0'"),
        ("size", "true", "got 'true'"),
        ("rate", "nan", "rate must be a number above 0, or auto; got 'nan'"),
        ("sizes", "4;5", "sizes must be whole numbers of at least 1 with commas between, or auto"),
        ("sizes", "4,0", "got '4,0'"),
        ("kind", "gelu", "kind must be relu or none; got 'gelu'"),
        ("is_on", "1", "is_on must be true or false; got '1'"),
        ("sise", "3", "there is no knob 'sise' here; did you mean size?"),
        ("zzz", "3", "there is no knob 'zzz' here; the knobs are size, rate"),
    ],
)
def test_other_texts_are_refused(name, text, expected):
    with pytest.raises(SettingsError) as raised:
        Some.parse(name, text)
    assert expected in str(raised.value)


def test_values_are_checked_and_made_plain():
    made = Some(size=np.int64(4), sizes=[np.int32(3), 5])
    assert (made.size, made.sizes) == (4, (3, 5))
    assert type(made.size) is int
    for bad in ({"size": 3.0}, {"size": True}, {"size": "3"}, {"rate": float("inf")}, {"sizes": (0,)}, {"limit": 0}):
        with pytest.raises(SettingsError, match="must be"):
            Some(**bad)


def test_a_default_may_change_without_its_docstring():
    knobs = {knob.name: knob for knob in More.described()}
    assert knobs["size"].default == "5"
    assert knobs["size"].description == "How large. In pixels."
    assert knobs["sizes"].default == "1,2"
    assert knobs["limit"].default == "none"


@pytest.mark.parametrize("method", METHODS)
def test_every_knob_of_every_method_is_documented_and_is_a_parameter(method):
    settings = METHODS[method].Settings
    for knob in settings.described():
        assert knob.description, knob.name
        if knob.name != "random_state":
            assert settings.parse(knob.name, knob.default) == getattr(settings(), knob.name)
    parameters = list(inspect.signature(METHODS[method]).parameters)
    assert parameters[0] == "n_clusters"
    assert set(parameters) == set(settings.names()) == set(METHODS[method]().get_params())
    assert METHODS[method](4).settings == settings(4)


def test_groups_share_what_they_have_in_common():
    for method in METHODS.values():
        assert issubclass(method.Settings, CommonSettings)
    assert issubclass(METHODS["convvae"].Settings, TrainingSettings)
