"""What shape has the code: how long, how deep, how wide, and how many files does one image pass?

    python benchmarks/structure.py                    # 15 seconds; a table
    python benchmarks/structure.py --record NAME      # also a line in benchmarks/results/structure.jsonl
    PYTHONPATH=OTHER/src python benchmarks/structure.py    # another checkout's package

Before the house was redrawn (line "before", commit 17aa21f): 16,113 lines in 114 files; chains of 21 modules (17 at
once); 3.85 own modules imported per file, at most 17; 39 parameters; one image passes 26 files, one batch 8; 10 rooms
and 18 modules on the top level.

Afterwards (line "after"): 15,954 lines in 138 files and 1,497 in `paper`, which the wheel had before; chains of 15
modules (12 at once); 3.84 imports, at most 15; 13 parameters; one image passes 31 files, one batch 15; 11 rooms and 14
modules.

It measures the `clusterloom` that Python imports here, and the folder `paper` of the same checkout. Functions, imports
and docstrings are read from the source without running it:

* A chain counts modules: one that imports no other of our own is a chain of 1. Imports at any depth of a file count,
  also those inside functions ("at once": only those that run on import); those for type checkers alone do not.
  Modules that import each other in a circle count as one link for each of them. Medians are over the chains that
  begin at each module.
* Parameters are counted without `self` and `cls`, `*args` as one. The fields of a dataclass stand apart.
* A function is public where no part of its name begins with an underscore.

What one image and one batch pass is traced: the files of our own in which a function runs while `clusterloom predict`
reads a folder of one picture and writes a CSV, and from one step of the optimiser to the next while the default method
is trained (the files of most such steps). What runs on import, such as module bodies, does not count.
"""

import argparse
import ast
import contextlib
import importlib.util
import inspect
import io
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from functools import cache
from pathlib import Path

RESULTS = Path(__file__).parent / "results" / "structure.jsonl"
PACKAGE = Path(importlib.util.find_spec("clusterloom").origin).parent
FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)


def module_name(file):
    parts = (PACKAGE.name, *file.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def parsed(folder):
    return {file: ast.parse(file.read_text()) for file in sorted(folder.rglob("*.py"))}


def lines(folder):
    return sum(len(file.read_text().splitlines()) for file in folder.rglob("*.py"))


def runtime_nodes(tree, in_functions=True):
    """All nodes of a file but those that only type checkers see."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, FUNCTION) and not in_functions:
            continue
        yield node
        hidden = node.body if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test) else ()
        waiting += [child for child in ast.iter_child_nodes(node) if child not in hidden]


def own_imports(name, file, tree, modules, in_functions=True):
    """Modules of our own that a file imports."""
    found = set()
    for node in runtime_nodes(tree, in_functions):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            package = name.split(".") if file.name == "__init__.py" else name.split(".")[:-1]
            base = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            names = {f"{source}.{alias.name}" for alias in node.names}
            found |= names & modules | ({source} if names - modules else set())
    return found & modules - {name}


def import_chains(imports):
    """The longest chain that begins at each module."""

    @cache
    def reached(name):
        seen, waiting = set(), [name]
        while waiting:
            new = imports[waiting.pop()] - seen
            seen |= new
            waiting += new
        return frozenset(seen)

    @cache
    def chain(name):
        circle = {name, *(other for other in reached(name) if name in reached(other))}
        beyond = sorted(set().union(*(imports[module] for module in circle)) - circle)
        return [*sorted(circle), *max(map(chain, beyond), key=len, default=[])]

    return [chain(name) for name in imports]


def functions(node, prefix=""):
    """Name and definition of every function; its name holds those of the classes and functions around it."""
    for child in ast.iter_child_nodes(node):
        inside = prefix
        if isinstance(child, (*FUNCTION, ast.ClassDef)):
            inside = f"{prefix}{child.name}."
        if isinstance(child, FUNCTION):
            yield f"{prefix}{child.name}", child, isinstance(node, ast.ClassDef)
        yield from functions(child, inside)


def n_parameters(function, is_method):
    arguments = function.args
    listed = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    bound = is_method and listed and listed[0].arg in ("self", "cls")
    return len(listed) - bool(bound) + bool(arguments.vararg) + bool(arguments.kwarg)


def dataclass_fields(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and any("dataclass" in ast.unparse(d) for d in node.decorator_list):
            yield sum(isinstance(line, ast.AnnAssign) for line in node.body), node.name


def measured():
    """What can be read from the source."""
    trees = parsed(PACKAGE)
    names = {file: module_name(file) for file in trees}
    imports, at_once = (
        {n: own_imports(n, f, trees[f], set(names.values()), in_functions) for f, n in names.items()}
        for in_functions in (True, False)
    )
    chains, chains_at_once = import_chains(imports), import_chains(at_once)
    found = [(names[file], *entry) for file, tree in trees.items() for entry in functions(tree)]
    lengths = [function.end_lineno - function.lineno + 1 for _, _, function, _ in found]
    widths = [(n_parameters(function, method), f"{module}.{name}") for module, name, function, method in found]
    fields = [entry for tree in trees.values() for entry in dataclass_fields(tree)]
    public = [f for _, n, f, _ in found if not any(part.startswith("_") for part in n.split("."))]
    paper = PACKAGE.parents[1] / "paper"
    return {
        "lines_wheel": lines(PACKAGE),
        "lines_paper": lines(paper) if paper.is_dir() else 0,
        "files_wheel": len(trees),
        "function_lines_median": statistics.median(lengths),
        "function_lines_p90": round(statistics.quantiles(lengths, n=10)[-1]),
        "function_lines_max": max(lengths),
        "chain_max": max(map(len, chains)),
        "chain_max_of": [module.removeprefix("clusterloom.") for module in max(chains, key=len)],
        "chain_median": statistics.median(map(len, chains)),
        "chain_at_once_max": max(map(len, chains_at_once)),
        "chain_at_once_median": statistics.median(map(len, chains_at_once)),
        "imports_mean": round(statistics.mean(map(len, imports.values())), 2),
        "imports_max": max(map(len, imports.values())),
        "parameters_max": max(widths)[0],
        "parameters_max_of": max(widths)[1],
        "functions_over_12_parameters": sum(width > 12 for width, _ in widths),
        "dataclass_fields_max": max(fields)[0],
        "dataclass_fields_max_of": max(fields)[1],
        "rooms": sum(any(folder.glob("*.py")) for folder in PACKAGE.iterdir()),
        "top_level_modules": sum(not file.name.startswith("__") for file in PACKAGE.glob("*.py")),
        "public_docstrings": round(statistics.mean(ast.get_docstring(f) is not None for f in public), 3),
    }


class Trace:
    """Notes in which files of our own a function runs, in all threads that start inside."""

    def __enter__(self):
        self.files = set()
        threading.setprofile(self._note)
        sys.setprofile(self._note)
        return self

    def __exit__(self, *_):
        sys.setprofile(None)
        threading.setprofile(None)

    def _note(self, frame, event, argument):
        code, inside = frame.f_code, f"{PACKAGE}{os.sep}"
        # Bodies of modules and classes are no functions: they run on import.
        if event == "call" and code.co_flags & inspect.CO_OPTIMIZED and code.co_filename.startswith(inside):
            self.files.add(code.co_filename.removeprefix(inside))


def batch_files(images, model_path):
    """Train the default method on a few images and save it; files that run from one step to the next."""
    from unittest.mock import patch

    import clusterloom
    from clusterloom.training.adamw import AdamW

    method = getattr(clusterloom, "GuidedClusterer", clusterloom.ConvVAEClusterer)
    model = method(n_clusters=2, epochs=4, batch_size=8, random_state=0, device="cpu")
    steps = []
    with Trace() as trace:

        def counted(optimizer, step=AdamW.step):
            step(optimizer)
            steps.append(frozenset(trace.files))
            trace.files.clear()

        with patch.object(AdamW, "step", counted):
            model.fit(images)
    model.save(model_path)
    return sorted(Counter(steps).most_common(1)[0][0])


def image_files(pictures, model_path, out):
    """Files that run while the command predicts one picture; twice, so that nothing is imported the second time."""
    from clusterloom.cli.program import run

    for number, picture in enumerate(pictures):
        folder = out / str(number)
        folder.mkdir()
        picture.save(folder / "one.png")
        with Trace() as trace, contextlib.redirect_stderr(io.StringIO()):
            if run(["predict", str(model_path), str(folder), "--out", str(out / f"{number}.csv")]) != 0:
                raise SystemExit("predict failed")
    return sorted(trace.files)


def traced():
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    kinds = rng.integers(0, 200, (2, 16, 16, 1))
    images = (kinds[np.arange(66) % 2] + rng.integers(0, 50, (66, 16, 16, 1))).astype(np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["CLUSTERLOOM_CACHE"] = str(Path(folder, "cache"))
        batch = batch_files(images[:64], Path(folder, "model"))
        pictures = [Image.fromarray(image[..., 0]) for image in images[64:]]
        image = image_files(pictures, Path(folder, "model"), Path(folder))
    return {"files_of_image": len(image), "files_of_batch": len(batch), "image_passes": image, "batch_passes": batch}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--record", metavar="NAME", help="keep the line under this name")
    options = parser.parse_args()
    result = {**measured(), **traced()}
    for name, value in result.items():
        print(f"{name.replace('_', ' '):30} {' '.join(value) if isinstance(value, list) else value}")
    if options.record:
        with RESULTS.open("a") as file:
            file.write(json.dumps({"name": options.record, **result, "date": time.strftime("%Y-%m-%d")}) + "\n")


if __name__ == "__main__":
    main()
