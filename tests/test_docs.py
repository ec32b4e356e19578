"""The documentation keeps up with the program: its pages are what the program says, and its commands run."""

import csv
import re
import runpy
from pathlib import Path

import numpy as np
import pytest

from clusterloom.metrics import clustering_accuracy_score

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


def test_the_command_line_page_is_made_from_the_program():
    page = runpy.run_path(str(DOCS / "cli_reference.py"))["page"]()
    written = (DOCS / "cli.md").read_text(encoding="utf-8")
    assert written == page, "docs/cli.md is out of date; run: python docs/cli_reference.py"


def test_every_command_and_option_is_on_the_command_line_page():
    page = (DOCS / "cli.md").read_text(encoding="utf-8")
    for words in ("## `fit`", "## `data fetch`", "`--sort-into FOLDER`", "`-k`, `--clusters K`", "### `--method dec`"):
        assert words in page
    row = next(line for line in page.split("### `--method convvae`")[1].splitlines() if "`latent_dim`" in line)
    assert row.startswith("| `latent_dim` | `60` | a whole number of at least 1 | Dimensions of the latent variable z")


def test_pictures_in_the_documentation_exist():
    for page in (ROOT / "README.md", *DOCS.glob("*.md")):
        for picture in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / picture).is_file(), f"{page.name}: {picture}"


def test_links_of_the_readme_lead_somewhere():
    for link in re.findall(r"\]\(([^)#]+)[^)]*\)", (ROOT / "README.md").read_text(encoding="utf-8")):
        assert link.startswith("https://") or (ROOT / link).exists(), link


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
