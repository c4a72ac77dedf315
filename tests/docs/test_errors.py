"""Every code and exit status that the program can end with has its line in errors.md; none is left over."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from app.node import identity
from tests.docs.pages import DOCS, ROOT, tokens

PAGE = DOCS / "errors.md"
_UNDOCUMENTED = {"busmap-error"}  # the base of all; no error is only that


def test_every_code_has_its_line_and_its_exit_status():
    assert _rows("status") == _raised()


def test_every_code_of_a_failed_study_has_its_line():
    assert _rows("where it shows").keys() == _of_studies()


def test_every_reason_of_an_unchecked_identity_has_its_line():
    told = set().union(*(re.findall(r"`([^`]+)`", code) for code in _table("why")))
    made = {re.sub(r"\{.*", "N", one) for one in _literals("app/node/identity_query.py", "Unanswered")}
    patterns = {"status-0xN", "http-N"}
    assert {code for code in made if code not in patterns} | set(identity._WHY) == {
        code for code in told if not code.endswith("NNN")
    }
    assert patterns <= made
    assert {"status-0xNNNN", "http-NNN"} <= told


def _rows(heading: str) -> dict[str, str]:
    """Codes in the first column of the table whose second column is `heading`."""
    return {code.strip("`"): cells[0] for code, cells in _table(heading).items()}


def _table(heading: str) -> dict[str, list[str]]:
    rows: list[list[str]] = []
    for before, after in zip(tokens(PAGE), tokens(PAGE)[1:], strict=False):
        if before.type == "tr_open":
            rows.append([])
        if before.type in ("td_open", "th_open"):
            rows[-1].append(after.content)
    starts = [index for index, row in enumerate(rows) if row[0] == "code"]
    for start, end in zip(starts, [*starts[1:], len(rows)], strict=True):
        if rows[start][1] == heading:
            return {row[0]: row[1:] for row in rows[start + 1 : end]}
    raise AssertionError(f"{PAGE.name} has no table of codes with a column {heading}")


@cache
def _trees() -> tuple[tuple[Path, ast.Module], ...]:
    """Every source file that may raise an error on purpose, the container's programs among them."""
    files = [
        path
        for folder in ("app", "operators", "models", "validation", "packaging")
        for path in (ROOT / folder).rglob("*")
        if path.suffix == ".py" or (path.suffix == "" and path.is_file())
    ]
    texts = ((path, path.read_bytes()) for path in sorted(files))
    return tuple(
        (path, ast.parse(text)) for path, text in texts if _is_python(path, text) and b"code" in text
    )


def _is_python(path: Path, text: bytes) -> bool:
    return path.suffix == ".py" or (text.startswith(b"#!") and b"python" in text.splitlines()[0])


def _raised() -> dict[str, str]:
    """Codes of classes, and of what is told without one, with their exit statuses."""
    classes = {
        node.name: node for _, tree in _trees() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)
    }
    found = {
        code: str(_inherited(classes, name, "exit_status"))
        for name in classes
        if isinstance(code := _own(classes[name], "code"), str) and code not in _UNDOCUMENTED
    }
    for path, tree in _trees():
        for node in ast.walk(tree):
            match node:  # the container's programs, which import nothing of ours, and what is no class
                case ast.Call(
                    func=ast.Name(id="Refusal" | "cls"),
                    args=[ast.Constant(value=str(code)), _, ast.Name(id=status)],
                ):
                    found[code] = str(_constant(path, status))
    return found


def _inherited(classes: dict[str, ast.ClassDef], name: str, attribute: str) -> object:
    own = _own(classes[name], attribute)
    bases = [base.id for base in classes[name].bases if isinstance(base, ast.Name) and base.id in classes]
    return own if own is not None else next((_inherited(classes, one, attribute) for one in bases), None)


def _own(node: ast.ClassDef, attribute: str) -> object:
    return _assigned(node.body, attribute)


def _assigned(body: list[ast.stmt], name: str) -> object:
    """The constant that `name` is set to among these statements, None where it is not."""
    for line in body:
        match line:
            case ast.Assign(targets=[ast.Name(id=found)], value=ast.Constant(value=value)) if found == name:
                return value
            case ast.Assign(targets=[ast.Tuple(elts=names)], value=ast.Tuple(elts=values)):
                for one, value in zip(names, values, strict=True):
                    if isinstance(one, ast.Name) and one.id == name and isinstance(value, ast.Constant):
                        return value.value
    return None


def _of_studies() -> set[str]:
    """Codes that the analysis process answers with, beside those of the errors it passes on."""
    found = set()
    for path in (ROOT / "app" / "node" / "child.py", ROOT / "app" / "node" / "analyst.py"):
        for node in ast.walk(dict(_trees())[path]):
            if isinstance(node, ast.Dict):
                for key, value in zip(node.keys, node.values, strict=True):
                    if isinstance(key, ast.Constant) and key.value == "code":
                        found |= set(_strings(value))
    found |= set(_literals("app/node/analyst.py", "AnalysisRefused"))
    return found


def _literals(file: str, called: str) -> Iterator[str]:
    """First arguments of the calls of `called`, the changing part of an f-string in braces."""
    for node in ast.walk(dict(_trees())[ROOT / file]):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id == called
            and node.args
        ):
            yield from _strings(node.args[0])


def _strings(value: ast.expr) -> Iterator[str]:
    match value:
        case ast.Constant(value=str(text)):
            yield text
        case ast.JoinedStr(values=parts):
            yield "".join(str(one.value) if isinstance(one, ast.Constant) else "{}" for one in parts)
        case ast.IfExp(body=one, orelse=other):
            yield from _strings(one)
            yield from _strings(other)
        case ast.Name(id=name) if name.isupper():
            yield str(_constant(ROOT / "app" / "node" / "analyst.py", name))


def _constant(path: Path, name: str) -> object:
    value = _assigned(dict(_trees())[path].body, name)
    assert value is not None, f"{path.name} has no {name}"
    return value
