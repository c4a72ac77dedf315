"""Advisories from a database on disk: what is found, what is accepted, and what was not looked at."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from datetime import date
from importlib.metadata import version
from pathlib import Path

import pytest
from advisories import accept, find, read_accepted, read_database, report
from debian_version import DebianVersion
from hypothesis import given, settings
from hypothesis import strategies as st
from inventory import read_tree

from tests.packaging.supply import debian, distribution, run, small_root


def record(folder: Path, identifier: str, package: str, ecosystem: str = "PyPI", **entry: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    affected = {"package": {"ecosystem": ecosystem, "name": package}, **entry}
    content = {
        "id": identifier,
        "modified": "2026-11-01T00:00:00Z",
        "aliases": [identifier.replace("OSV", "CVE")],
        "summary": "A hole.",
        "affected": [affected],
    }
    path = folder / f"{identifier}.json"
    path.write_text(json.dumps(content))
    return path


def events(*pairs: tuple[str, str]) -> list[object]:
    return [{"type": "ECOSYSTEM", "events": [{kind: value} for kind, value in pairs]}]


FIXED_TWICE = (("introduced", "0"), ("fixed", "0.5"), ("introduced", "0.9"), ("fixed", "1.1"))


def test_an_advisory_that_names_an_installed_version_fails_the_check(tmp_path: Path) -> None:
    """pydicom as it is installed; in the next version the hole is mended."""
    installed = version("pydicom")
    record(
        tmp_path, "OSV-2026-1", "pydicom", ranges=events(("introduced", "0"), ("fixed", f"{installed}.post1"))
    )
    done = run("advisories.py", "--environment", sys.prefix, "--database", tmp_path)
    assert done.returncode == 1, done.stderr
    assert f"| OSV-2026-1, CVE-2026-1 | pydicom {installed} | {installed}.post1 | A hole. |" in done.stdout
    record(tmp_path, "OSV-2026-1", "pydicom", ranges=events(("introduced", "0"), ("fixed", installed)))
    done = run("advisories.py", "--environment", sys.prefix, "--database", tmp_path)
    assert done.returncode == 0, done.stdout
    assert "Checked against 1 OSV records, the newest of 2026-11-01, for PyPI." in done.stdout


def test_without_a_database_it_says_that_nothing_was_checked(tmp_path: Path) -> None:
    done = run("advisories.py", "--root", small_root(tmp_path), "-o", tmp_path / "page.md")
    assert done.returncode == 0
    assert "nothing was checked" in done.stdout
    assert "None." not in (tmp_path / "page.md").read_text()


def test_an_empty_folder_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = run("advisories.py", "--root", small_root(tmp_path / "root"), "--database", tmp_path / "empty")
    assert done.returncode == 1
    assert "holds no OSV record" in done.stderr


def test_an_ecosystem_without_a_record_is_told(tmp_path: Path) -> None:
    record(tmp_path / "db", "OSV-1", "other", versions=["1"])
    page = report((), read_database(tmp_path / "db"), {"python", "debian"})
    assert "for PyPI." in page
    assert "**Not checked: Debian." in page


@pytest.mark.parametrize(
    ("entry", "affected"),
    [
        ({"versions": ["0.9", "1.0"]}, True),
        ({"versions": ["0.9"]}, False),
        ({"ranges": events(("introduced", "0"))}, True),
        ({"ranges": events(("introduced", "0"), ("fixed", "1.0"))}, False),
        ({"ranges": events(("introduced", "0"), ("last_affected", "1.0"))}, True),
        ({"ranges": events(("introduced", "0"), ("last_affected", "0.9"))}, False),
        (
            {
                "ranges": events(
                    ("introduced", "0"), ("fixed", "0.5"), ("introduced", "0.9"), ("fixed", "1.1")
                )
            },
            True,
        ),
        ({"ranges": events(("introduced", "1.0.1"))}, False),
        ({"ranges": events(("introduced", "0"), ("fixed", "not a version"))}, True),
    ],
)
def test_versions_are_compared_as_the_schema_says(tmp_path: Path, entry, affected: bool) -> None:
    distribution(tmp_path / "root", "Some_Thing", "1.0")
    record(tmp_path / "db", "OSV-1", "some-thing", **entry)
    assert bool(list(find(read_tree(tmp_path / "root"), read_database(tmp_path / "db")))) is affected


def test_debian_goes_by_source_package_and_release(tmp_path: Path) -> None:
    debian(tmp_path / "root", "libssl3", "MIT", "Source: openssl", version="3.0.16-1~deb12u1")
    fixed = events(("introduced", "0"), ("fixed", "3.0.17-1~deb12u1"))
    record(tmp_path / "db", "OSV-1", "openssl", "Debian:12", ranges=fixed)
    record(tmp_path / "db", "OSV-2", "openssl", "Debian:11", ranges=fixed)
    record(tmp_path / "db", "OSV-3", "libssl3", "Debian:12", ranges=fixed)
    found = list(find(read_tree(tmp_path / "root"), read_database(tmp_path / "db")))
    assert [(one.advisory, one.component.name) for one in found] == [("OSV-1", "libssl3")]


def test_archives_are_read_and_withdrawn_records_left_out(tmp_path: Path) -> None:
    path = record(tmp_path / "in", "OSV-1", "front-end", versions=["1.0"])
    gone = record(tmp_path / "in", "OSV-2", "front-end", versions=["1.0"])
    gone.write_text(json.dumps({**json.loads(gone.read_text()), "withdrawn": "2026-11-02T00:00:00Z"}))
    (tmp_path / "db/PyPI").mkdir(parents=True)
    with zipfile.ZipFile(tmp_path / "db/PyPI/all.zip", "w") as archive:
        for one in (path, gone):
            archive.write(one, one.name)
    database = read_database(tmp_path / "db")
    assert database.count == 2
    assert [one.advisory for one in find(read_tree(small_root(tmp_path / "root")), database)] == ["OSV-1"]


def test_a_file_that_is_no_record_is_named(tmp_path: Path) -> None:
    (tmp_path / "notes.json").write_text("[]")
    with pytest.raises(ValueError, match=r"notes\.json is no OSV record"):
        read_database(tmp_path)


def test_an_accepted_advisory_is_open_again_on_its_day(tmp_path: Path) -> None:
    distribution(tmp_path / "root", "pynetdicom", "3.0.4")
    record(tmp_path / "db", "OSV-2026-56445", "pynetdicom", versions=["3.0.4"])
    found = list(find(read_tree(tmp_path / "root"), read_database(tmp_path / "db")))
    rules = read_accepted()
    day = next(one["until"] for one in rules if one["id"] == "CVE-2026-56445")
    assert "qrscp" in accept(found, rules, date(2026, 11, 25))[0].accepted
    assert accept(found, rules, day)[0].accepted == ""
    assert "None." in report(
        accept(found, rules, date(2026, 11, 25)), read_database(tmp_path / "db"), {"python"}
    )


_VERSIONS = st.from_regex(r"([0-9]:)?[0-9][0-9a-c.~+]{0,5}(-[0-9a-c.~+]{1,4})?", fullmatch=True)


@pytest.mark.skipif(shutil.which("dpkg") is None, reason="dpkg judges the order, and is not installed")
@given(one=_VERSIONS, other=_VERSIONS)
@settings(max_examples=60, deadline=None)
def test_debians_versions_are_ordered_as_dpkg_orders_them(one: str, other: str) -> None:
    for sign, holds in (
        ("lt", DebianVersion(one) < DebianVersion(other)),
        ("eq", DebianVersion(one) == DebianVersion(other)),
    ):
        judged = subprocess.run(["dpkg", "--compare-versions", one, sign, other])
        assert holds is (judged.returncode == 0), (one, sign, other)
