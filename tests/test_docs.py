"""The documentation keeps up with the program: its pages are what the program says, and its commands run."""

import csv
import re
import runpy
import tomllib
from pathlib import Path

import numpy as np
import pytest
import typer

from clusterloom.cli.program import app
from clusterloom.metrics import clustering_accuracy_score

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


def test_the_command_line_page_is_made_from_the_program():
    page = runpy.run_path(str(DOCS / "cli_reference.py"))["page"]()
    written = (DOCS / "cli.md").read_text(encoding="utf-8")
    assert written == page, "docs/cli.md is out of date; run: python docs/cli_reference.py"


def commands(path, command):
    """Words and click command of everything that can be run."""
    for name, member in getattr(command, "commands", {}).items():
        yield from commands([*path, name], member)
    if not hasattr(command, "commands"):
        yield " ".join(path), command


def test_every_command_and_option_is_on_the_command_line_page():
    page = (DOCS / "cli.md").read_text(encoding="utf-8")
    sections = {part.split("`")[0]: part for part in page.split("\n## `")[1:]}
    everything = dict(commands([], typer.main.get_command(app)))
    assert {"fit", "data fetch"} <= set(everything)
    for path, command in everything.items():
        for parameter in command.params:
            names = [*parameter.opts, *parameter.secondary_opts] if parameter.param_type_name == "option" else []
            for name in names:
                # --help is everywhere, and on the page once for all.
                assert name == "--help" or re.search(rf"`{name}[` ]", sections[path]), f"{path} {name}"
    assert "`--sort-into FOLDER`" in page
    row = next(line for line in page.split("### `--method convvae`")[1].splitlines() if "`latent_dim`" in line)
    assert row.startswith("| `latent_dim` | `60` | a whole number of at least 1 | Dimensions of the latent variable z")


def test_pictures_in_the_documentation_exist():
    for page in (ROOT / "README.md", *DOCS.glob("*.md")):
        for picture in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / picture).is_file(), f"{page.name}: {picture}"


def anchors(page):
    """What GitHub and MyST call the headings of a page."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


# Sphinx looks after those among the pages in docs/.
@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_lead_somewhere(name):
    for link in re.findall(r"\]\(([^)\s]+)\)", (ROOT / name).read_text(encoding="utf-8")):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        page = ROOT / (path or name)
        assert page.exists(), link
        assert not anchor or anchor in anchors(page), link


def test_links_have_a_text():
    """Only Sphinx fills in the text of others, and the pages are read where they lie, too."""
    for page in (*ROOT.glob("*.md"), *DOCS.glob("*.md"), *(ROOT / "paper").glob("*.md")):
        assert not re.search(r"(?<!\!)\[\]\(", page.read_text(encoding="utf-8")), page.name


def test_the_guide_lists_all_extras():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    part = (DOCS / "guide.md").read_text(encoding="utf-8").split("### Extras")[1].split("\n## ")[0]
    listed = re.findall(r"^\| `(\w+)` \|", part, flags=re.MULTILINE)
    assert sorted(listed) == sorted(project["optional-dependencies"])


@pytest.fixture
def own_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("CLUSTERLOOM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"), prepend=":")
    return tmp_path


def table(path):
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_commands_of_the_tutorial_run(own_folder):
    runpy.run_path(str(DOCS / "tutorial.py"))["run"](own_folder)
    answers = {row["id"]: int(row["label"]) for row in table(own_folder / "answers.csv")}
    rows = table(own_folder / "clusters.csv")
    labels_true = np.array([answers[row["id"]] for row in rows])
    labels_pred = np.array([int(row["cluster"]) for row in rows])
    assert clustering_accuracy_score(labels_true, labels_pred) > 0.8
    assert len(list((own_folder / "sorted").rglob("*.png"))) == len(rows) == 197
    assert (own_folder / "scans-model.report.html").is_file()
    assert (own_folder / "new-images.png").is_file()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_python_of_the_readme_runs(own_folder):
    runpy.run_path(str(DOCS / "tutorial.py"))["run"](own_folder, ROOT / "README.md", languages=("python",))
    assert (own_folder / "digits-model" / "config.json").is_file()
