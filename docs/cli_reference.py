"""Makes docs/cli.md from the program itself: `python docs/cli_reference.py`. A test compares the two."""

import re
from pathlib import Path

import typer

from clusterloom.cli.options import settable
from clusterloom.cli.program import app
from clusterloom.estimators.methods import METHODS

PAGE = Path(__file__).with_name("cli.md")
HEAD = """# Command line

This page is made from the program by `python docs/cli_reference.py`. The [guide](guide.md) says when to use what, and
`clusterloom COMMAND --help` prints the same in a terminal. `clusterloom --install-completion` lets the shell complete
commands and options; `clusterloom --version` prints the version.
"""
KNOBS = """## Knobs of the methods

`--set NAME=VALUE` of `fit` and `sweep` changes any of these; several numbers have commas between them, as in
`--set conv_filters=16,32`. The other parameters of the Python classes have options of their own (`-k`, `--seed`,
`--device`, `--resume`, `-v`), or are for Python alone (`run_dir`, `image_shape`). `clusterloom methods METHOD` prints a
table of this kind.
"""


def page():
    """Text of docs/cli.md."""
    program = typer.main.get_command(app)
    sections = [HEAD.strip()]
    for name, command in program.commands.items():
        for path, leaf in leaves(name, command):
            sections += command_section(path, leaf)
    sections.append(KNOBS.strip())
    for method, estimator in METHODS.items():
        sections += method_section(method, estimator)
    return "\n\n".join(sections) + "\n"


def leaves(path, command):
    """Commands that can be run, with their words; a group stands for its members."""
    if hasattr(command, "commands"):
        for name, member in command.commands.items():
            yield from leaves(f"{path} {name}", member)
    else:
        yield path, command


def command_section(path, command):
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option" and p.name != "help"]
    needed = [f"{option.opts[-1]} {placeholder(option)}" for option in options if option.required]
    words = [placeholder(a) if a.required else f"[{placeholder(a)}]" for a in arguments]
    usage = " ".join(["clusterloom", path, *words, *needed, *(["[OPTIONS]"] if options else [])])
    yield f"## `{path}`\n\n{spelled_as_code(command.help)}\n\n```text\n{usage}\n```"
    if arguments:
        yield table(("argument", "what it is"), [(code(placeholder(a)), spelled_as_code(a.help)) for a in arguments])
    if options:
        yield table(
            ("option", "default", "what it does"),
            [option_row(option) for option in options],
        )


def method_section(method, estimator):
    knobs = settable(estimator.Settings)
    yield f"### `--method {method}`\n\n{estimator.__doc__.splitlines()[0]} In Python: `{estimator.__name__}`."
    yield table(
        ("knob", "default", "takes", "what it does"),
        [(code(k.name), code(k.default), k.takes, " ".join(k.description.split())) for k in knobs],
    )


def option_row(option):
    return ", ".join(code(name) for name in spelled(option)), default(option), spelled_as_code(option.help)


def placeholder(parameter):
    return parameter.metavar or parameter.name.upper()


def spelled(option):
    """All spellings, the longest one with the value that it takes."""
    if option.is_flag:
        return [*option.opts, *option.secondary_opts]
    return [*option.opts[:-1], f"{option.opts[-1]} {placeholder(option)}"]


def default(option):
    if option.required:
        return "required"
    if option.is_flag:
        return code((option.opts if option.default else option.secondary_opts)[0]) if option.secondary_opts else ""
    return "" if option.default is None else code(str(option.default))


def code(text):
    return f"`{text}`"


def spelled_as_code(text):
    """Options in a text as code, whose dashes stay as they are."""
    return re.sub(r"(?<!\S)--[a-z-]+", lambda found: code(found[0]), text)


def table(header, rows):
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE)
