"""Known weaknesses of what is in a tree, from a database on disk: `python packaging/supply/advisories.py`.

Promises: opens no connection. Reads OSV records (schema 1.6; JSON files, or the `all.zip` that osv.dev and
osv-scanner keep for each ecosystem) below a given folder, and compares versions as the ecosystem does (PEP
440, deb-version(7)). Says which ecosystems the database covers and from when it is; without a database it
says that nothing was checked, and nothing else. An accepted advisory names its reason and the day it must
be looked at again.
"""

from __future__ import annotations

import json
import sys
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import yaml
from debian_version import DebianVersion
from inventory import Component
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version
from source import add_source_arguments, fail, program_parser, read_source

ACCEPTED = Path(__file__).with_name("advisories.yaml")
UNCHECKED = (
    "No database of advisories was given: nothing was checked. Bring one (docs/supply-chain.md, Advisories) "
    "and run `make advisories DB=FOLDER`."
)
_ECOSYSTEMS = {"python": "PyPI", "debian": "Debian"}


@dataclass(frozen=True)
class Finding:
    """An advisory that names a version that is there. `accepted`: the reason for shipping it all the same."""

    advisory: str
    aliases: tuple[str, ...]
    component: Component
    summary: str
    fixed: tuple[str, ...]
    accepted: str = ""


@dataclass(frozen=True)
class Database:
    """OSV records by ecosystem and package; `newest`: the last modification of any of them, an ISO date."""

    records: Mapping[tuple[str, str], Sequence[Any]]
    newest: str
    count: int

    @property
    def ecosystems(self) -> set[str]:
        """Ecosystems with at least one record, without release: Debian:12 is Debian."""
        return {ecosystem for ecosystem, _ in self.records}


def read_database(folder: Path) -> Database:
    """Read all OSV records below a folder.

    Raises
    ------
    ValueError
        There is none, or a file is no OSV record.
    """
    records: dict[tuple[str, str], list[Any]] = defaultdict(list)
    newest, count = "", 0
    for name, text in _texts(folder):
        try:
            record = json.loads(text)
            newest, count = max(newest, str(record["modified"])), count + 1
            keys = {_key(one["package"]) for one in record.get("affected", ()) if "package" in one}
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{name} is no OSV record ({type(error).__name__}: {error})") from None
        if "withdrawn" not in record:
            for key in keys:
                records[key].append(record)
    if not count:
        raise ValueError(f"{folder} holds no OSV record: give the folder into which they were unpacked")
    return Database(records, newest[:10], count)


def _texts(folder: Path) -> Iterator[tuple[str, bytes]]:
    for path in sorted(folder.rglob("*")):
        if path.suffix == ".json":
            yield str(path), path.read_bytes()
        elif path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive:
                for name in archive.namelist():
                    if name.endswith(".json"):
                        yield f"{path}:{name}", archive.read(name)


def _key(package: Mapping[str, str]) -> tuple[str, str]:
    ecosystem = package["ecosystem"].split(":")[0]
    name = package["name"]
    return ecosystem, canonicalize_name(name) if ecosystem == "PyPI" else name


def find(
    components: Iterable[Component], database: Database, debian_release: str = "12"
) -> Iterator[Finding]:
    """Advisories that name a version of `components`. Debian's go by source package and release."""
    for one in components:
        if one.kind not in _ECOSYSTEMS:
            continue
        name, version = one.source if one.kind == "debian" else (one.name, one.version)
        order = DebianVersion if one.kind == "debian" else _python_version
        for record in database.records.get((_ECOSYSTEMS[one.kind], name), ()):
            entries = [
                entry
                for entry in record["affected"]
                if _key(entry.get("package", {"ecosystem": "", "name": ""})) == (_ECOSYSTEMS[one.kind], name)
                and entry["package"]["ecosystem"] in ("PyPI", "Debian", f"Debian:{debian_release}")
            ]
            if any(_is_affected(version, entry, order) for entry in entries):
                yield Finding(
                    str(record["id"]),
                    tuple(record.get("aliases", ())),
                    one,
                    str(record.get("summary") or record.get("details", "")).split("\n")[0][:120],
                    tuple(_events(entries, "fixed")),
                )


def _python_version(text: str) -> Version:
    return Version("0") if text == "0" else Version(text)


def _events(entries: Iterable[Any], kind: str) -> Iterator[str]:
    for entry in entries:
        for span in entry.get("ranges", ()):
            yield from (str(event[kind]) for event in span.get("events", ()) if kind in event)


def _is_affected(version: str, entry: Any, order: Callable[[str], Any]) -> bool:
    """The evaluation of OSV's schema: named outright, or within a range."""
    if version in entry.get("versions", ()):
        return True
    spans = [span for span in entry.get("ranges", ()) if span.get("type") in ("ECOSYSTEM", "SEMVER")]
    try:
        return any(_within(order(version), span["events"], order) for span in spans)
    except InvalidVersion:
        return True  # what cannot be compared is looked at by a person


def _within(version: Any, events: Iterable[Mapping[str, str]], order: Callable[[str], Any]) -> bool:
    inside = False
    for kind, bound in sorted(
        ((kind, value) for event in events for kind, value in event.items()),
        key=lambda pair: (order(pair[1]), pair[0] != "introduced"),
    ):
        if kind == "introduced" and version >= order(bound):
            inside = True
        elif (kind == "fixed" and version >= order(bound)) or (
            kind == "last_affected" and version > order(bound)
        ):
            inside = False
    return inside


def accept(
    findings: Iterable[Finding], accepted: Sequence[Mapping[str, Any]], today: date
) -> tuple[Finding, ...]:
    """Enter the reasons of `advisories.yaml`; one whose day has come accepts nothing any more."""
    result = []
    for one in findings:
        names = {one.advisory, *one.aliases}
        reasons = [
            entry["reason"]
            for entry in accepted
            if entry["id"] in names and entry["package"] == one.component.name and entry["until"] > today
        ]
        result.append(Finding(**{**one.__dict__, "accepted": reasons[0]}) if reasons else one)
    return tuple(result)


def report(findings: Sequence[Finding], database: Database | None, kinds: Iterable[str] = ()) -> str:
    """The findings as a page in Markdown."""
    lines = ["# Advisories", ""]
    if database is None:
        return "\n".join([*lines, UNCHECKED, ""])
    counted = f"{database.count} OSV records, the newest of {database.newest}"
    wanted = {_ECOSYSTEMS[kind] for kind in kinds if kind in _ECOSYSTEMS}
    lines += [
        f"Checked against {counted}, for {', '.join(sorted(wanted & database.ecosystems)) or 'nothing'}.",
        "",
    ]
    lines += [
        f"**Not checked: {name}. The database has no record of it.**\n"
        for name in sorted(wanted - database.ecosystems)
    ]
    for title, chosen in (
        ("Open", [one for one in findings if not one.accepted]),
        ("Accepted", [one for one in findings if one.accepted]),
    ):
        lines += [f"## {title}", "", *(_table(chosen) if chosen else ["None.", ""])]
    return "\n".join(lines)


def _table(findings: Iterable[Finding]) -> list[str]:
    rows = [
        f"| {', '.join((one.advisory, *one.aliases))} | {one.component.name} {one.component.version} | "
        f"{', '.join(one.fixed) or 'none known'} | {one.summary} | {one.accepted} |"
        for one in findings
    ]
    return [
        "| advisory | in | fixed in | what | why accepted |",
        "| --- | --- | --- | --- | --- |",
        *rows,
        "",
    ]


def read_accepted(path: Path = ACCEPTED) -> list[Mapping[str, Any]]:
    """The advisories that were looked at, each with id, package, reason and the day of the next look."""
    return list(yaml.safe_load(path.read_text(encoding="utf-8")) or ())


def main(arguments: Sequence[str] | None = None) -> int:
    """Look a tree up; answers 1 where an advisory is open, 0 where none is or nothing was checked."""
    parser = program_parser("advisories.py", __doc__)
    add_source_arguments(parser)
    parser.add_argument("--database", type=Path, help="folder of OSV records; nothing is checked without one")
    parser.add_argument("-o", "--output", type=Path, help="page to write (Markdown)")
    given = parser.parse_args(arguments)
    findings: tuple[Finding, ...] = ()
    database = None
    components = read_source(given)
    try:
        if given.database:
            database = read_database(given.database)
            findings = accept(find(components, database), read_accepted(), date.today())
    except ValueError as error:
        return fail(f"advisories: {error}")
    page = report(findings, database, {one.kind for one in components})
    if given.output:
        given.output.write_text(page, encoding="utf-8")
    print(page)
    return 1 if any(not one.accepted for one in findings) else 0


if __name__ == "__main__":
    sys.exit(main())
