"""`clusterloom describe`: a model's networks."""

from pathlib import Path
from typing import Annotated

import typer

from clusterloom.cli.options import Json, ModelArgument, Overwrite, Talk, grouped, owning


@grouped
def describe(
    model: ModelArgument,
    talk: Talk,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Also draw the networks: NAME.png.", metavar="FILE")
    ] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Print a model's networks, layer by layer.

    Layers, shapes and parameter counts, as in the paper's figure 1.
    """
    from rich.table import Table

    from clusterloom.errors import SettingsError, printable
    from clusterloom.estimators.methods import load_model
    from clusterloom.figures import network_figure
    from clusterloom.files import write_atomically
    from clusterloom.networks.describe import describe as parts_of
    from clusterloom.networks.describe import size
    from clusterloom.networks.vae import ClusterVAE
    from clusterloom.targets import check_file

    if out is not None:
        check_file(out, [".png"], overwrite)
    fitted = load_model(model)
    network = fitted.network_
    if not isinstance(network, ClusterVAE):
        raise SettingsError(f"{printable(str(model))}: describe knows variational models, not method {fitted.method}")
    parts = parts_of(network)
    parameters = sum(p.numel() for p in network.parameters())
    with talk.output() as output, owning(out):
        if as_json:
            output.json({"method": fitted.method, "parameters": parameters, "networks": [vars(part) for part in parts]})
        else:
            table = Table("network", "reads", "layers", "in", "out", "parameters", title=f"method {fitted.method}")
            for part in parts:
                shapes = (size(part.input_shape), size(part.output_shape))
                table.add_row(part.name, part.reads, "\n".join(part.layers), *shapes, f"{part.parameters:,}")
            means = network.class_means
            table.add_row("class means", "", "", "", size(tuple(means.shape)), f"{means.numel():,}")
            table.add_row("all", "", "", "", "", f"{parameters:,}")
            output.result(table)
        if out is not None:
            height, width, channels = fitted.image_shape_
            title = f"Method {fitted.method}, {fitted.n_clusters_} clusters, images of {height} x {width} x {channels}"
            write_atomically(out, network_figure(parts, title))
            output.say(f"figure: {printable(str(out))}")
