"""Knobs: each one written once, as a field of a frozen dataclass, with its type, range, default and docstring.

Estimators take their parameters from these classes, the command line reads `--set NAME=VALUE` by them, model
directories store their values, sweeps vary them, and the documentation lists them. pydantic checks values; msgspec
0.22, which was tried first, crashed on a union of a bounded number, a pair of them and a word.
"""

import ast
import contextlib
import difflib
import inspect
import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import KW_ONLY, dataclass, fields
from functools import cache
from itertools import pairwise
from typing import Annotated, Any, Concatenate, Literal, ParamSpec, Self, get_args, get_origin, get_type_hints

import numpy as np
from annotated_types import Ge, Gt, Lt
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.types import AllowInfNan

from clusterloom.errors import SettingsError

Count = Annotated[int, Ge(1)]
Number = Annotated[int, Ge(0)]
Weight = Annotated[float, Ge(0), AllowInfNan(False)]
Rate = Annotated[float, Gt(0), AllowInfNan(False)]

# What users of the command line may call a parameter that has an option of its own.
OPTION_NAMES = {"k": "n_clusters", "clusters": "n_clusters", "seed": "random_state"}

P = ParamSpec("P")


@dataclass(frozen=True)
class Knob:
    """A field of some settings, for people to read: its name, default, what it takes and what it does."""

    name: str
    default: str
    takes: str
    description: str


@dataclass(frozen=True)
class Settings:
    """Base of all settings: values are checked when they are made.

    Raises:
        SettingsError: a value is of another type than its field, or out of its range.
    """

    def __post_init__(self) -> None:
        for name in self.names():
            object.__setattr__(self, name, self.checked(name, getattr(self, name)))

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Names of all knobs."""
        return tuple(field.name for field in fields(cls))

    @classmethod
    def checked(cls, name: str, value: Any) -> Any:
        """A knob's value as its type has it: lists become tuples, NumPy's numbers Python's.

        Raises:
            SettingsError: it is of another type, or out of range.
        """
        try:
            return _adapter(cls, name).validate_python(_plain(value), strict=True)  # type: ignore[arg-type]
        except ValidationError:
            raise SettingsError(f"{name} must be {cls.expected(name)}; got {value!r}") from None

    @classmethod
    def parse(cls, name: str, text: str) -> Any:
        """A knob's value from text, such as `16`, `2.5`, `true`, `none`, and `3,5` or `3:5` for several numbers.

        Raises:
            SettingsError: there is no such knob (the nearest one is named), or the text is no value of it.
        """
        cls.check_name(name)
        for value in _readings(text):
            try:
                return cls.checked(name, value)
            except SettingsError:
                continue
        raise SettingsError(f"{name} must be {cls.expected(name)}; got {text!r}")

    @classmethod
    def check_name(cls, name: str) -> None:
        """Refuse a name that is no knob's.

        Raises:
            SettingsError: it names the nearest one.
        """
        if name not in cls.names():
            near = difflib.get_close_matches(name.replace("-", "_"), cls.names(), n=1)
            own = [knob for knob in cls.names() if knob not in CommonSettings.names()]
            hint = f"did you mean {near[0]}?" if near else f"the knobs are {', '.join(own)}"
            raise SettingsError(f"there is no knob {name!r} here; {hint}")

    @classmethod
    def expected(cls, name: str) -> str:
        """What a knob takes, in words."""
        return _in_words(_hints(cls)[name])  # type: ignore[arg-type]

    @classmethod
    def description(cls, name: str) -> str:
        """A knob's docstring on one line, from the class that wrote one last."""
        found = (_docstrings(base).get(name) for base in cls.__mro__ if base is not object)
        return next((" ".join(text.split()) for text in found if text), "")

    @classmethod
    def described(cls) -> list["Knob"]:
        """All knobs, for people to read."""
        return [
            Knob(field.name, _as_text(field.default), cls.expected(field.name), cls.description(field.name))
            for field in fields(cls)
        ]

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """The settings whose values a mapping holds, or those of their names among others."""
        return cls(**{name: values[name] for name in cls.names()})


@dataclass(frozen=True)
class CommonSettings(Settings):
    """What every method takes."""

    n_clusters: Count = 10
    """Number of clusters, k."""
    _: KW_ONLY
    image_shape: tuple[Count, Count] | tuple[Count, Count, Count] | None = None
    """Height and width, or height, width, channels, of images given as rows of a table (N, D)."""
    random_state: Number | np.random.RandomState | np.random.Generator | None = None
    """Seed, or a generator of NumPy to draw one from; None differs every time."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:N or mps."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """auto takes bf16 where the hardware makes it faster."""
    run_dir: str | None = None
    """Folder for clusterloom-metrics.jsonl and the checkpoint of the run; None keeps neither. An address, such as
    s3://bucket/run, keeps the checkpoint alone."""
    resume: bool = False
    """Go on from the checkpoint in run_dir, if there is one."""
    tracker: Literal["tensorboard", "mlflow"] | None = None
    """What to log every epoch to; it must be installed. TensorBoard's files go to run_dir."""
    verbose: Number | bool = 0
    """1 shows progress on standard error, 2 also a line for every epoch."""


@dataclass(frozen=True, kw_only=True)
class TrainingSettings(Settings):
    """How long and how to train, where a method has one stage."""

    epochs: Count = 50
    """Passes over the images."""
    batch_size: Count = 100
    """Images per step."""
    learning_rate: Rate = 1e-3
    """Of Adam."""
    patience_epochs: Count | None = None
    """Stop when the training loss has not improved by 0.1 % for so many epochs; none never does."""


def parameters_of(settings: Callable[P, Settings]) -> Callable[Concatenate[Any, P], None]:
    """An `__init__` that takes what `settings` takes and stores it, as scikit-learn asks of estimators.

    Keyword-only dataclasses pass scikit-learn's checks as well, but an estimator must allow `set_params`, so it cannot
    be the frozen dataclass that networks and model directories keep; this way the knobs are written in that one alone.
    """
    signature = inspect.signature(settings)

    def __init__(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> None:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        for name, value in bound.arguments.items():
            setattr(self, name, value)

    types = get_type_hints(settings)  # as a user reads them, without their ranges
    shown = [p.replace(annotation=types.get(name, p.annotation)) for name, p in signature.parameters.items()]
    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    __init__.__signature__ = signature.replace(parameters=[own, *shown])  # type: ignore[attr-defined]
    return __init__


@cache
def _hints(cls: Any) -> dict[str, Any]:
    return get_type_hints(cls, include_extras=True)


@cache
def _adapter(cls: Any, name: str) -> TypeAdapter[Any]:
    return TypeAdapter(_hints(cls)[name], config=ConfigDict(arbitrary_types_allowed=True))


@cache
def _docstrings(cls: Any) -> dict[str, str]:
    """The string literal below each field of a class, as documentation tools read it."""
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    assert isinstance(definition, ast.ClassDef)
    return {
        field.target.id: inspect.cleandoc(below.value.value)
        for field, below in pairwise(definition.body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(below, ast.Expr)
        and isinstance(below.value, ast.Constant)
        and isinstance(below.value.value, str)
    }


def _readings(text: str) -> Iterator[Any]:
    """What a text may stand for: a word of Python, a number, itself, or whole numbers with commas between."""
    words = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        yield words[text.lower()]
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            yield kind(text)
    yield text
    with contextlib.suppress(ValueError):
        yield tuple(int(part) for part in text.replace(":", ",").split(","))


def _as_text(value: Any) -> str:
    """A value as `Settings.parse` reads it."""
    if isinstance(value, tuple):
        return ",".join(map(_as_text, value))
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, list | tuple):
        return tuple(_plain(item) for item in value)
    return value.__fspath__() if hasattr(value, "__fspath__") else value


def _in_words(hint: Any) -> str:
    """What a type accepts, as a user would say it."""
    if hint is None or hint is type(None):
        return "none"
    if get_origin(hint) is Annotated:
        kind, *limits = get_args(hint)
        least = [f" of at least {limit.ge}" for limit in limits if isinstance(limit, Ge)]
        above = [f" above {limit.gt}" for limit in limits if isinstance(limit, Gt)]
        below = [f" below {limit.lt}" for limit in limits if isinstance(limit, Lt)]
        return _in_words(kind) + "".join(least + above) + " and".join(["", *below])
    if get_origin(hint) is Literal:
        return " or ".join(get_args(hint))
    if get_origin(hint) is tuple:
        kinds = get_args(hint)
        number = "" if kinds[-1] is Ellipsis else f"{len(kinds)} "
        return f"{number}{_in_words(kinds[0]).removeprefix('a ').replace('number', 'numbers')} with commas between"
    if get_args(hint):
        return ", or ".join(_in_words(kind) for kind in get_args(hint))
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    return words.get(hint, f"a {getattr(hint, '__name__', hint)}")
