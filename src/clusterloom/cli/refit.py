"""`clusterloom refit`: a new model from what was corrected on the local page."""

import shlex
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clusterloom.cli.options import DataArgument, Json, ModelArgument, Overwrite, Reading, TrainingTalk, grouped, owning
from clusterloom.cli.runs import check_run_dir, found, origin, remove_run, tell

if TYPE_CHECKING:
    from clusterloom.corrections.assignment import Assignment


@grouped
def refit(
    context: typer.Context,
    model: ModelArgument,
    data: DataArgument,
    out: Annotated[Path, typer.Option("-o", "--out", help="Model directory to write.")],
    reading: Reading,
    talk: TrainingTalk,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run of the same --out.")] = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Fit MODEL again, to what you have corrected about DATA.

    Corrected, merged and split clusters are where the new model begins; it keeps their names. MODEL stays as it is.
    """
    from clusterloom.console import is_main_process
    from clusterloom.corrections.journal import Journal
    from clusterloom.corrections.read import journal_path, read_assignment, weights_sha256
    from clusterloom.corrections.refit import answers_of, carried_on, refitted_clusters
    from clusterloom.errors import DataError, SettingsError, printable
    from clusterloom.estimators.guided import GuidedClusterer
    from clusterloom.estimators.methods import load_model
    from clusterloom.model_dir.write import check_target
    from clusterloom.report.model_pictures import model_pictures

    fitted = load_model(model)
    if not isinstance(fitted, GuidedClusterer):
        raise SettingsError(f"refit is for models of method guided; {printable(str(model))} is one of {fitted.method}")
    target = out.resolve()
    if target == model.resolve():
        raise SettingsError(f"--out {printable(str(out))} is MODEL itself, which stays as it is; choose another")
    check_target(out, overwrite)
    run_dir = str(target.with_name(target.name + ".partial"))
    fitted.set_params(device=device, verbose=talk.verbosity)
    with talk.output() as output, owning(target):
        check_run_dir(run_dir, out, resume, overwrite)
        images = reading.load(data, output, like=fitted)
        proba = fitted.predict_proba(images)
        with warnings.catch_warnings(record=True) as told:  # of corrections of other images: a part of the error
            assignment = read_assignment(model, images, proba.argmax(1), fitted.n_clusters_, fitted.cluster_names_)
        heard = {} if assignment is None else _counts(assignment)
        if assignment is None or not sum(heard[name] for name in ("images", "outliers", "merged", "made")):
            explore = shlex.join(["clusterloom", "explore", str(model), data])
            why = f" ({told[0].message})" if told else ""
            raise DataError(
                f"nothing has been corrected about these images{why}; {printable(explore)} is where to do so"
            )
        answers, names = answers_of(assignment, proba), [assignment.names[k] for k in refitted_clusters(assignment)]
        new = fitted.refit(images, answers, names, run_dir, resume)
        pictures = model_pictures(new, images, output.progress)  # every process takes part
        if not is_main_process():
            return
        new.about_ |= origin(images, shlex.join(["clusterloom", *context.obj]))
        new.about_["recipe"]["corrections"] = heard
        new.save(target, pictures, overwrite)
        journal = Journal(journal_path(target), weights_sha256(target), images.fingerprint())
        for number, edit in enumerate(carried_on(answers, new.labels_)):
            journal.append(edit, number)
        remove_run(run_dir)
        if as_json:
            output.json(found(new, out))
        else:
            tell(new, out, [data, *(["--skip-bad"] if reading.skip_bad else [])], output)


def _counts(assignment: "Assignment") -> dict[str, int]:
    """How much a model has heard, by what it was."""
    from clusterloom.corrections.assignment import CONFIRMED, OUTLIER

    return {
        "images": int((assignment.marks == CONFIRMED).sum()),
        "outliers": int((assignment.marks == OUTLIER).sum()),
        "merged": len(assignment.merged_into),
        "made": len(assignment.founders.keys() & assignment.names.keys()),
        "named": sum(map(bool, assignment.names.values())),
    }
