"""Options that several commands share, and how their texts are read."""

import functools
import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

if TYPE_CHECKING:
    from clusterloom.console import Output, ProgressReport
    from clusterloom.data import ImageSet
    from clusterloom.settings import Knob, Settings

MAX_SEED = 2**32 - 1  # scikit-learn's generators take no larger one
# Parameters that --set does not take: those with an option of their own, and those that make sense in Python alone.
_OPTIONS = {"n_clusters": "-k", "random_state": "--seed", "device": "--device", "resume": "--resume", "verbose": "-v"}
_OF_PYTHON = ("run_dir", "image_shape")

DataArgument = Annotated[
    str,
    typer.Argument(
        metavar="DATA",
        help="Images: a folder, shards, an address, .npy, .npz, IDX, parquet, TIFF, FITS, or a name (data list).",
    ),
]
OptionalData = Annotated[
    str | None,
    typer.Argument(
        metavar="DATA",
        help="Images, as for fit. Without: what the model alone tells.",
    ),
]
ModelArgument = Annotated[Path, typer.Argument(metavar="MODEL", help="A model directory, as fit writes it.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]
Clusters = Annotated[
    str | None,
    typer.Option(
        "-k",
        "--clusters",
        metavar="K",
        help="Number of clusters; auto finds it from 2 to 100, FROM-TO in that range. Default: auto, or 10 where a "
        "method cannot find it.",
    ),
]
Method = Annotated[str, typer.Option(help="guided, convvae (Yan 2020), vae, dec or ae-kmeans.")]
Knobs = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Any other knob of the method; several times. See methods."),
]
LabelsFile = Annotated[
    Path | None,
    typer.Option(help="Labels: .npy, .csv with columns id and label, or text with one per line.", metavar="FILE"),
]
Corrections = Annotated[
    bool,
    typer.Option("--corrections/--no-corrections", help="Count what was corrected on the local page of these images."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@dataclass(frozen=True)
class Reading:
    """How images are read; the options of every command that takes DATA."""

    image_size: Annotated[
        str | None, typer.Option(help="Resize pictures to SIDE or HEIGHTxWIDTH pixels.", metavar="SIZE")
    ] = None
    channels: Annotated[
        str | None,
        typer.Option(
            help="Convert pictures to 1 (grey) or 3 (colour) channels, or pick some from 0: 0,2 or 2, for one alone.",
            metavar="N|LIST",
        ),
    ] = None
    tile: Annotated[
        int | None, typer.Option(min=4, help="Cut each picture into tiles of SIDE x SIDE pixels.", metavar="SIDE")
    ] = None
    show_channels: Annotated[
        str | None,
        typer.Option(help="Channels that pictures show: one, or three as red, green, blue, from 0.", metavar="LIST"),
    ] = None
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave out files that cannot be read, and list them.")
    ] = False
    limit: Annotated[int | None, typer.Option(help="Use a random subset of so many images.", min=1)] = None

    def load(
        self, source: str, output: "Output", like: Any = None, progress: "ProgressReport | None" = None
    ) -> "ImageSet":
        """Read the images and say what conversion did to them.

        Args:
            source: What the user named.
            output: Where to say it.
            like: A fitted estimator whose size, colour and range of values the images are brought to. With
                --show-channels its own pictures, such as new images, show these channels from here on, too.
            progress: Told how far it is; None for a bar on the output.
        """
        from clusterloom.data import load_images

        images = load_images(source, **self.wanted(source, like), progress=progress or output.progress)
        if like is not None and self.show_channels is not None:
            like.reading_ = {**like.reading_, "shown": images.reading["shown"]}
        tell_of(images.name, len(images), images.image_shape, images.notes, output)
        return images

    def stream(self, source: str, output: "Output", like: Any, size: int) -> "Iterator[ImageSet]":
        """Read the images in blocks, and say at the end what conversion did to them.

        Args:
            source: What the user named.
            output: Where to say it.
            like: A fitted estimator, as for `load`.
            size: Images in a block; the last one may have fewer.

        Yields:
            Block by block. Memory does not grow with their number.
        """
        from clusterloom.data import stream_images
        from clusterloom.data.stream import blocks_ahead

        stream = stream_images(source, like.image_shape_, **self.wanted(source, like))
        if stream is None:
            yield from blocks_ahead(self.load(source, output, like), size)
            return
        shape = like.image_shape_
        for block in stream.blocks(size):
            shape = block.image_shape
            yield block
        tell_of(stream.name, stream.n_images, shape, stream.notes, output)

    def wanted(self, source: str, like: Any) -> dict[str, Any]:
        """Arguments of `load_images`: what was asked for, and what a fitted estimator wants where nothing was."""
        from clusterloom.data import holds_pictures

        size, channels, tile, pixel_range = self.size(), self.wanted_channels(), self.tile, None
        show = self._shown()
        if like is not None:
            height, width, own_channels = like.image_shape_
            pixel_range = like.pixel_range_
            channels = like.reading_.get("channels") if channels is None else channels
            show = show or like.reading_.get("shown")
            if holds_pictures(source):
                size, tile = size or (height, width), like.reading_.get("tile") if tile is None else tile
                if channels is None and own_channels in (1, 3):
                    channels = own_channels
        return {
            "image_size": size,
            "channels": channels,
            "skip_bad": self.skip_bad,
            "limit": self.limit,
            "pixel_range": pixel_range,
            "tile": tile,
            "show": show,
        }

    def _shown(self) -> tuple[int, ...] | None:
        if self.show_channels is None:
            return None
        return _channel_numbers("--show-channels", self.show_channels, "one or three channels from 0, such as 3,0,1")

    def arguments(self) -> list[str]:
        """The options, as they would be typed, that read the same images."""
        named = {f"--{field.name.replace('_', '-')}": getattr(self, field.name) for field in fields(self)}
        given = {option: value for option, value in named.items() if value not in (None, False)}
        return [
            text for option, value in given.items() for text in ([option] if value is True else [option, str(value)])
        ]

    def wanted_channels(self) -> int | tuple[int, ...] | None:
        """A number of channels, or those to be picked, as they were asked for."""
        if self.channels is None:
            return None
        numbers = _channel_numbers("--channels", self.channels, "1, 3, or channels from 0 with commas, such as 0,2")
        return numbers if "," in self.channels else numbers[0]

    def size(self) -> tuple[int, int] | None:
        """Height and width that were asked for."""
        from clusterloom.errors import SettingsError

        if self.image_size is None:
            return None
        try:
            sides = [int(side) for side in self.image_size.lower().split("x")]
        except ValueError:
            sides = []
        if len(sides) not in (1, 2):
            raise SettingsError(f"--image-size {self.image_size}: expected SIDE or HEIGHTxWIDTH, such as 64 or 48x64")
        return sides[0], sides[-1]


def _channel_numbers(option: str, text: str, expected: str) -> tuple[int, ...]:
    from clusterloom.errors import SettingsError

    try:
        numbers = tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        numbers = ()
    if not numbers:
        raise SettingsError(f"{option} {text}: expected {expected}")
    return numbers


def tell_of(
    name: str, n_images: int, image_shape: tuple[int, int, int], notes: Sequence[str], output: "Output"
) -> None:
    """Say what images were read, and what conversion did to them."""
    from clusterloom.errors import printable

    height, width, channels = image_shape
    output.say(f"{printable(name)}: {n_images:,} images of {height} x {width} x {channels}")
    for note in notes:
        output.say(f"  {note}")


@dataclass(frozen=True)
class Talk:
    """How much a command says."""

    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Say nothing but results, warnings and errors.")] = False

    def output(self) -> "Output":
        """Where the command speaks; a context manager."""
        from clusterloom.console import Output

        return Output(self.quiet)


@dataclass(frozen=True)
class TrainingTalk(Talk):
    """How much a command that trains says."""

    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Say a line for every epoch too.")] = False

    @property
    def verbosity(self) -> int:
        """The estimators' parameter `verbose`."""
        return 0 if self.quiet else 2 if self.verbose else 1


def grouped(function: Callable[..., None]) -> Callable[..., None]:
    """A command whose parameters of the types above are made of their fields, one option each."""
    hints = get_type_hints(function, include_extras=True)
    groups: dict[str, Any] = {name: hint for name, hint in hints.items() if is_dataclass(hint)}
    own = [p.replace(annotation=hints[name]) for name, p in inspect.signature(function).parameters.items()]
    options = [
        inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=types[field.name]
        )
        for group in groups.values()
        for types in [get_type_hints(group, include_extras=True)]
        for field in fields(group)
    ]

    @functools.wraps(function)
    def command(**values: Any) -> None:
        made = {
            name: group(**{field.name: values.pop(field.name) for field in fields(group)})
            for name, group in groups.items()
        }
        function(**values, **made)

    parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own if p.name not in groups] + options
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    return command


@contextmanager
def owning(*paths: Path | None) -> Iterator[None]:
    """What a command writes is its own for as long as it runs: a second one that would write the same is refused.

    Args:
        paths: Files and folders; None for what is not written after all.
    """
    from clusterloom.console import is_main_process
    from clusterloom.ownership import owned

    with ExitStack() as stack:
        for path in paths if is_main_process() else ():
            if path is not None:
                stack.enter_context(owned(path))
        yield


def settable(settings: "type[Settings]") -> "list[Knob]":
    """The knobs that --set takes."""
    return [knob for knob in settings.described() if knob.name not in (*_OPTIONS, *_OF_PYTHON)]


def knob_values(settings: "type[Settings]", clusters: str | None, texts: Sequence[str] | None) -> dict[str, Any]:
    """Parameters of an estimator from -k and --set."""
    from clusterloom.errors import SettingsError
    from clusterloom.settings import OPTION_NAMES

    values: dict[str, Any] = {}
    if clusters is not None:
        try:
            values["n_clusters"] = settings.parse("n_clusters", clusters.replace("-", ","))
        except SettingsError:
            finds_it = "auto" in settings.expected("n_clusters")
            more = ", FROM-TO or auto" if finds_it else "; method guided alone finds the number"
            expected = f"a whole number of at least 1{more}"
            raise SettingsError(f"-k {clusters}: expected {expected}") from None
    for text in texts or ():
        name, equals, value = text.partition("=")
        name = name.strip().replace("-", "_")
        if not equals:
            raise SettingsError(f"--set {text}: expected NAME=VALUE")
        if option := _OPTIONS.get(OPTION_NAMES.get(name, name)):
            raise SettingsError(f"--set {text}: use {option} for that")
        if name in _OF_PYTHON:
            raise SettingsError(f"--set {text}: {name} is for Python alone")
        values[name] = settings.parse(name, value.strip())
    return values


def seed_numbers(text: str) -> tuple[int, ...]:
    """Seeds separated by commas."""
    from clusterloom.errors import SettingsError

    try:
        seeds = tuple(int(part) for part in text.split(","))
    except ValueError:
        seeds = (-1,)
    if not all(0 <= seed <= MAX_SEED for seed in seeds):
        raise SettingsError(f"--seeds {text}: expected whole numbers from 0 to {MAX_SEED} with commas between")
    return seeds
