"""Command lines out of prose: which are busmap's and make's, and whether the program would take them."""

from __future__ import annotations

import importlib.util
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import typer

from app.cli import app
from tests.docs.pages import ROOT, Code

_ASSIGNMENT = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*=")
_BEFORE = {"sudo", "exec", "time", "nice", "env", "$", "#"}
_ENDS = {"|", "||", "&&", ";", "&", "(", ")", ">", ">>", "2>"}
# `busmap` inside another program's command line, as in `docker compose exec gateway busmap status`.
_WRAPPERS = ("docker", "podman", "kubectl", "systemd-run", "runuser", "su")


def command_lines(piece: Code) -> Iterator[list[str]]:
    """The single commands of a piece of code, each as its arguments."""
    text = piece.text.replace("\\\n", " ")
    for line in [text] if piece.inline else text.splitlines():
        try:
            words = shlex.split(line, comments=not piece.inline)
        except ValueError:  # a diagram, a sentence
            continue
        yield from _commands(words)


def _commands(words: list[str]) -> Iterator[list[str]]:
    command: list[str] = []
    for word in [*words, ";"]:
        if word in _ENDS or word.endswith(";"):
            if word not in _ENDS:
                command.append(word[:-1])
            yield from [_bare(command)] if command else []
            command = []
        else:
            command.append(word)


def _bare(command: list[str]) -> list[str]:
    """Without assignments and words that only stand before; the inner one of a wrapper."""
    while command and (command[0] in (*_BEFORE, "-u") or _ASSIGNMENT.match(command[0])):
        command = command[2 if command[0] == "-u" else 1 :]  # sudo -u USER, env -u VARIABLE
    if command and command[0] in _WRAPPERS:
        start = command.index("--") + 1 if "--" in command else 1
        # From the end: the container may be called busmap, too.
        for index, word in reversed(list(enumerate(command[start:-1], start))):
            if _name(word) == "busmap" and (index == start > 1 or "exec" in command[:index]):
                return command[index:]
    return command


def fault(command: list[str], *, mention: bool) -> str | None:
    """Why the command would not be taken; None where it would, or is another program's.

    `mention`: in a sentence a verb may stand without its arguments.
    """
    if not command:
        return None
    name = _name(command[0])
    if name == "busmap" and len(command) > 1:
        return _busmap_fault(command[1:], mention=mention)
    if name == "make":
        return _make_fault(command[1:])
    if re.fullmatch(r"python[0-9.]*", name) and command[1:2] == ["-m"] and len(command) > 2:
        return _module_fault(command[2], command[3:])
    if name == "pytest":
        return _module_fault("pytest", command[1:])
    return None


def _name(word: str) -> str:
    return Path(word).name


def _busmap_fault(arguments: list[str], *, mention: bool) -> str | None:
    faults = [_walk(chosen, mention) for chosen in _choices(arguments)]
    return next((one for one in faults if one), None)


@cache
def _command(verbs: tuple[str, ...]) -> tuple[Any, Any]:
    """A verb by its path, and its context; (None, ...) where there is none."""
    if not verbs:
        root: Any = typer.main.get_command(app)
        return root, root.context_class(root, info_name="busmap")
    above, context = _command(verbs[:-1])
    found = above.get_command(context, verbs[-1])
    if found is None:
        return None, context
    return found, found.context_class(found, info_name=verbs[-1], parent=context)


def _choices(arguments: list[str]) -> list[list[str]]:
    """`train lesion|diagnosis --out RUNS`, spelled out; brackets around what may be left out are no part."""
    lists: list[list[str]] = [[]]
    for word in arguments:
        words = word.strip("[]").split("|") if not word.startswith("http") else [word]
        lists = [[*one, choice] for one in lists for choice in words]
    return lists


def _walk(arguments: list[str], mention: bool) -> str | None:
    verbs: tuple[str, ...] = ()
    command, context = _command(verbs)
    while hasattr(command, "get_command") and arguments and not arguments[0].startswith("-"):
        verbs, arguments = (*verbs, arguments[0]), arguments[1:]
        command, context = _command(verbs)
    path = " ".join(("busmap", *verbs))
    if command is None:
        return f"there is no {path}"
    if (not arguments and mention) or arguments == ["--help"]:
        return None
    try:
        given, left, _ = command.make_parser(context).parse_args(list(arguments))
    except Exception as error:  # the parser's own kinds, of click or of what typer carries of it
        return f"{path}: {error}"
    if left or (hasattr(command, "get_command") and not given):
        return f"{path}: what is {left or 'to be done'}?"
    missing = [one.name for one in command.params if one.required and given.get(one.name) in (None, ())]
    return f"{path}: missing {missing}" if missing and not mention else None


def make_targets() -> set[str]:
    """What the Makefile makes."""
    return set(re.findall(r"^([a-z][a-z0-9-]*):", (ROOT / "Makefile").read_text(), re.M))


def _make_fault(arguments: list[str]) -> str | None:
    asked = [one for one in arguments if not one.startswith("-") and not _ASSIGNMENT.match(one)]
    unknown = [one for one in asked if one not in make_targets()]
    return f"the Makefile has no target {unknown}" if unknown else None


def _module_fault(module: str, arguments: list[str]) -> str | None:
    try:
        found = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        found = None
    if found is None:
        return f"there is no module {module}"
    paths = [one.split("::")[0] for one in arguments if one.startswith(("tests/", "app/", "packaging/"))]
    lost = [one for one in paths if not (ROOT / one).exists()]
    return f"there is no {lost}" if lost else None
