"""What is found in a tree, the bill of materials made of it, and its licences."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import sys
from pathlib import Path

import cyclonedx.schema
import pytest
import yaml
from image_archive import ArchiveError, read_image, unpack_records
from inventory import read_tree, shipped
from jsonschema import Draft7Validator
from licences import POLICY, judge, report
from referencing import Registry, Resource
from sbom import make_sbom
from source import project

from tests.packaging.supply import DEP5, ROOT, SITE, debian, distribution, oci_archive, run, small_root

POLICIES = yaml.safe_load(POLICY.read_text())
EXTRAS = ['Requires-Dist: speed; extra == "fast"', 'Requires-Dist: test; extra == "t"']
GRANT = "You may copy it under the terms of the GNU General Public License, version 3."


def test_a_root_is_read_by_its_own_records(tmp_path: Path) -> None:
    found = {(one.kind, one.name): one for one in read_tree(small_root(tmp_path))}
    front, back = found["python", "front-end"], found["python", "back-end"]
    one, two = found["debian", "libone"], found["debian", "libtwo"]
    assert (front.licence, front.licence_from) == ("MIT OR GPL-2.0-only", "License-Expression")
    assert (back.licence, back.licence_from) == ("BSD License", "classifier")
    assert (one.licence, one.source) == ("LGPL-2.1+", ("one", "2.0"))
    assert (two.licence, two.licence_from) == ("GPL-2", "copyright file (free text)")
    assert two.purl == "pkg:deb/debian/libtwo@1:3.1~rc1-2?arch=amd64&distro=debian-12"


def test_packages_that_share_a_folder_of_documents_and_removed_ones(tmp_path: Path) -> None:
    debian(tmp_path, "gcc-base", DEP5.format("GPL-3+"))
    debian(tmp_path, "libgcc", None)
    (tmp_path / "usr/share/doc/libgcc").symlink_to("gcc-base")
    status = tmp_path / "var/lib/dpkg/status"
    status.write_text(status.read_text() + "Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n")
    assert [(one.name, one.licence) for one in read_tree(tmp_path)] == [
        ("gcc-base", "GPL-3+"),
        ("libgcc", "GPL-3+"),
    ]


def test_an_empty_tree_is_an_error_and_not_an_empty_list(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no Python distribution"):
        read_tree(tmp_path)


def test_of_an_environment_what_is_required_ships_and_tools_do_not(tmp_path: Path) -> None:
    distribution(tmp_path, "product", headers=['Requires-Dist: lib[fast]; python_version > "3"'])
    distribution(
        tmp_path,
        "lib",
        headers=['Requires-Dist: speed; extra == "fast"', 'Requires-Dist: test; extra == "t"'],
    )
    for name in ("speed", "test", "linter"):
        distribution(tmp_path, name)
    names = [one.name for one in shipped(read_tree(tmp_path), ["product"])]
    assert names == ["lib", "product", "speed"]


def test_what_ships_of_this_environment_is_allowed_and_named() -> None:
    """The check of `make lint`, on what is really installed."""
    environment = read_tree(Path(sys.prefix)) + read_tree(ROOT / "models")
    ships = shipped(environment, project().requirements)
    names = {one.name for one in ships}
    assert {"pydicom", "psycopg-binary", "onnxruntime", "breast_us_lesion"} <= names
    assert not names & {"pytest", "mypy", "cyclonedx-python-lib", "torch"}
    verdicts = judge(ships, POLICIES)
    assert [(one.component.name, one.licence, one.fault) for one in verdicts if one.fault] == []
    reasons = {one.component.name: one.licence for one in verdicts if one.reason}
    assert reasons["psycopg"] == "LGPL-3.0-only"
    page = report(verdicts)
    assert "| psycopg |" in page
    assert "libcrypto" in page.split("Foreign libraries inside wheels")[1]


@pytest.mark.parametrize(
    ("headers", "texts", "fault"),
    [
        (["License-Expression: GPL-3.0-or-later"], {}, "not among the allowed licences"),
        (["License-Expression: MIT AND AGPL-3.0-only"], {}, "not among the allowed licences"),
        (["License: GPLv2"], {}, "not among the allowed licences"),
        ([], {}, "no licence in its records"),
        (
            ["License-Expression: MIT"],
            {"licenses/COPYING": GRANT},
            r"grant .* \(licenses/COPYING\)",
        ),
        (["License-Expression: MIT OR GPL-2.0-only"], {}, ""),
        (["License: MIT License\n Permission is hereby granted ..."], {}, ""),
        (["License-Expression: MIT"], {"licenses/PSF": "releases have also been GPL-compatible"}, ""),
    ],
)
def test_a_licence_is_judged_by_metadata_and_texts(tmp_path: Path, headers, texts, fault) -> None:
    distribution(tmp_path, "planted", headers=headers, texts=texts)
    [verdict] = judge(read_tree(tmp_path), POLICIES)
    assert re.search(fault, verdict.fault) if fault else verdict.fault == ""


def test_a_decision_holds_for_the_licence_it_was_made_on(tmp_path: Path) -> None:
    distribution(tmp_path, "psycopg", headers=["License-Expression: AGPL-3.0-only"])
    [verdict] = judge(read_tree(tmp_path), POLICIES)
    assert "decided on LGPL-3.0-only" in verdict.fault


@pytest.mark.parametrize(
    ("copyright_text", "fields", "fault"),
    [
        (DEP5.format("GPL-3+"), (), ""),
        (DEP5.format("AGPL-3+"), (), "AGPL is refused"),
        (DEP5.format("custom"), ("Section: non-free/libs",), "not of main"),
        ("No words of a licence.", (), "names no licence that is read"),
        (None, (), "copyright file is missing"),
    ],
)
def test_debian_is_judged_as_a_system(tmp_path: Path, copyright_text, fields, fault) -> None:
    debian(tmp_path, "libplanted", copyright_text, *fields)
    [verdict] = judge(read_tree(tmp_path), POLICIES)
    assert fault in verdict.fault if fault else verdict.fault == ""


def test_the_program_fails_and_names_what_must_not_ship(tmp_path: Path) -> None:
    root = small_root(tmp_path / "root")
    done = run("licences.py", "--root", root, "-o", tmp_path / "page.md")
    assert (done.returncode, done.stderr) == (0, "")
    distribution(root, "planted", headers=["License-Expression: GPL-3.0-only"])
    done = run("licences.py", "--root", root, "-o", tmp_path / "page.md")
    assert done.returncode == 1
    assert "python planted 1.0: GPL-3.0-only: not among the allowed licences" in done.stderr
    assert "## Not allowed" in (tmp_path / "page.md").read_text()


def _validator() -> Draft7Validator:
    folder = Path(cyclonedx.schema.__file__).parent / "_res"
    schemas = {
        name: json.loads((folder / f"{name}.SNAPSHOT.schema.json").read_text())
        for name in ("bom-1.6", "spdx", "jsf-0.82")
    }
    resources = [(schema["$id"], Resource.from_contents(schema)) for schema in schemas.values()]
    return Draft7Validator(schemas["bom-1.6"], registry=Registry().with_resources(resources))


def test_the_bill_of_materials_fits_the_schema_and_says_the_minimum(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1790000000")
    shutil.copytree(ROOT / "models/bundles/breast_us_marks", tmp_path / "opt/models/breast_us_marks")
    weights = tmp_path / "opt/models/breast_us_marks/models/model.onnx"
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    components = read_tree(small_root(tmp_path))
    text = make_sbom(components, "busmap", "0.1.0", "Apache-2.0")
    document = json.loads(text)
    assert [error.message for error in _validator().iter_errors(document)] == []
    by_name = {one["name"]: one for one in document["components"]}
    assert by_name.keys() == {"front-end", "back-end", "libone", "libtwo", "breast_us_marks"}
    assert by_name["breast_us_marks"]["type"] == "machine-learning-model"
    assert by_name["breast_us_marks"]["hashes"] == [{"alg": "SHA-256", "content": digest}]
    assert by_name["front-end"]["licenses"] == [{"expression": "MIT OR GPL-2.0-only"}]
    assert by_name["back-end"]["licenses"] == [{"license": {"name": "BSD License"}}]
    edges = {one["ref"]: one.get("dependsOn", []) for one in document["dependencies"]}
    assert edges[by_name["front-end"]["bom-ref"]] == [by_name["back-end"]["bom-ref"]]
    assert edges[by_name["libone"]["bom-ref"]] == [by_name["libtwo"]["bom-ref"]]
    assert len(edges["busmap@0.1.0"]) == 5
    assert document["metadata"]["timestamp"].startswith("2026-09-21")


def test_the_same_tree_gives_the_same_bytes_and_another_another_number(tmp_path: Path) -> None:
    first, second = small_root(tmp_path / "a"), small_root(tmp_path / "b")
    texts = [make_sbom(read_tree(root), "busmap", "0.1.0", "Apache-2.0") for root in (first, second)]
    assert texts[0] == texts[1]
    distribution(second, "more", headers=["License-Expression: MIT"])
    other = make_sbom(read_tree(second), "busmap", "0.1.0", "Apache-2.0")
    assert json.loads(other)["serialNumber"] != json.loads(texts[0])["serialNumber"]


def test_an_image_is_read_out_of_its_archive(tmp_path: Path) -> None:
    root = small_root(tmp_path / "root")
    debian(root, "libthree", None)
    (root / "usr/share/doc/libthree").symlink_to("libone")
    (root / "etc/passwd").parent.mkdir()
    (root / "etc/passwd").write_text("root")
    gone = f"{SITE}/.wh.back_end-1.0.dist-info"
    late = f"{SITE}/late-1.0.dist-info/METADATA"
    archive = oci_archive(
        root, tmp_path / "image.tar", upper={gone: b"", late: b"Name: late\nVersion: 1.0\nLicense: MIT\n"}
    )
    unpack_records(archive, tmp_path / "records")
    names = [one.name for one in read_tree(tmp_path / "records")]
    assert names == ["libone", "libthree", "libtwo", "front-end", "late"]
    assert not (tmp_path / "records/etc/passwd").exists()
    assert read_image(archive).architecture == "amd64"


def test_a_damaged_archive_and_a_way_out_are_refused(tmp_path: Path) -> None:
    root = small_root(tmp_path / "root")
    out = oci_archive(root, tmp_path / "out.tar", upper={"x/../../etc/os-release": b""})
    with pytest.raises(ArchiveError, match="leads out of the image"):
        unpack_records(out, tmp_path / "records")
    archive = oci_archive(root, tmp_path / "image.tar")
    data = bytearray(archive.read_bytes())
    data[600] ^= 1  # within the first blob, the lower layer
    archive.write_bytes(bytes(data))
    with pytest.raises(ArchiveError, match="damaged"):
        unpack_records(archive, tmp_path / "more")
    (tmp_path / "text.tar").write_text("no archive")
    with pytest.raises(ArchiveError, match="cannot be read as an OCI archive"):
        read_image(tmp_path / "text.tar")
