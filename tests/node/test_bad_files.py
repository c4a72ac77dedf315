"""All 41 broken and odd files through both ways in, each with what is answered, kept, shown and reported.

Refused at the gate is only what cannot be filed; everything else is stored and fails where a person sees it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread

from app.node.status import read_status, render_status
from app.node.store.overview import StudyLine
from tests.node.rig import Node, Pacs, send_bytes, transmitted, wait_for

ROOT = Path(__file__).parents[2]
REFUSED, REJECTED, STORED = 0xA900, "rejected", 0x0000
# What a file can be set aside for before its picture is judged. The small phantoms of this folder are no
# breast: that the gate on pixels, or what follows it, says so means that they were analysed.
OF_THE_FILE = {
    *("not-dicom", "unreadable", "missing-uid", "malformed-uid", "not-an-image", "wrong-modality"),
    *("not-breast", "own-result", "secondary-capture", "duplicate-uid-different-bytes"),
    *("unsupported-transfer-syntax", "pixels-undecodable", "no-analysable-tissue"),
}


@dataclass(frozen=True)
class Row:
    """What becomes of one file.

    `answer` of the gateway. `aside`: the reason in the report, None where the pixels are judged; "idle" where
    it is kept and starts nothing. `said`: words of the remark or warning in report and status. `folder`: the
    reason in a folder's report where that is another: "unnamed" files stand in the report of every study.
    """

    answer: int | str
    aside: str | None = None
    said: str = ""
    folder: str = ""


ROWS = {
    "all-black": Row(STORED, "no-analysable-tissue", "black"),
    "bitsallocated-16-data-8": Row(STORED, "pixels-undecodable", "Pixel data is cut"),
    "control-good": Row(STORED),
    "corrupt-jpeg": Row(STORED, "pixels-undecodable", "JPEG"),
    "duplicate-uid-a": Row(STORED, said="quarantine"),
    "duplicate-uid-different-pixels-b": Row(STORED, said="quarantine"),
    "empty-patientid": Row(STORED),
    "fewer-fragments-than-frames": Row(STORED, "pixels-undecodable", "Frame 1"),
    "header-cut": Row(REFUSED, folder="unreadable"),
    "hostile-strings": Row(STORED),
    "huge-frames-declared": Row(STORED, "pixels-undecodable", "Pixel data is cut"),
    "huge-rows-cols-declared": Row(STORED, "pixels-undecodable", "65535 x 65535"),
    "malformed-studyuid": Row(REFUSED, folder="malformed-uid"),
    "meta-says-implicit-data-explicit": Row(STORED, "unreadable", "another transfer syntax"),
    "missing-seriesuid": Row(REFUSED, folder="missing-uid"),
    "missing-sopinstanceuid": Row(REFUSED, folder="missing-uid"),
    "missing-studyuid": Row(REFUSED, folder="missing-uid"),
    "monochrome1": Row(STORED),
    "nested-3000-levels": Row(STORED),
    "nested-60-levels": Row(STORED),
    "no-pixel-data": Row(STORED, "not-an-image", "no pixel data"),
    "no-preamble-raw-dataset": Row(REFUSED, folder="not-dicom"),
    "no-rows-columns": Row(STORED, "not-an-image", "no pixel data"),
    "not-dicom-png": Row(REFUSED, folder="not-dicom"),
    "patientname-300-chars": Row(STORED, said="64 characters"),
    "pixeldata-length-4gb": Row(REFUSED),
    "preamble-only": Row(REFUSED, folder="unreadable"),
    "secondary-capture-of-us": Row(STORED, "idle", "accept_secondary_capture", folder="secondary-capture"),
    "short-pixeldata": Row(STORED, "pixels-undecodable", "Pixel data is cut"),
    "structured-report-not-image": Row(STORED, "idle", "no ultrasound image", folder="not-an-image"),
    "text-file": Row(REFUSED, folder="not-dicom"),
    "trailing-padding-pixeldata": Row(STORED, said="512 bytes longer"),
    "truncated-pixels": Row(REFUSED, folder="pixels-undecodable"),
    "unknown-transfer-syntax": Row(REJECTED, folder="unsupported-transfer-syntax"),
    "us-but-liver": Row(STORED, "not-breast", "LIVER"),
    "us-sopclass-modality-ct": Row(STORED, "wrong-modality", "says modality CT"),
    "wrong-modality-ct": Row(REJECTED, folder="wrong-modality"),
    "wrong-modality-mammo": Row(REJECTED, folder="wrong-modality"),
    "zero-byte": Row(REFUSED, folder="not-dicom"),
    "zero-frames": Row(STORED, "pixels-undecodable", "0 frames"),
    "zero-rows": Row(STORED, "not-an-image", "Rows"),
}
NAMES_NO_STUDY = {
    *("header-cut", "malformed-studyuid", "missing-studyuid", "no-preamble-raw-dataset", "not-dicom-png"),
    *("preamble-only", "text-file", "zero-byte"),
}


@pytest.fixture(scope="module")
def bad(dicom_us: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with UIDs of their own for the files that were made from the control's bytes."""
    folder = tmp_path_factory.mktemp("files") / "bad"
    shutil.copytree(dicom_us / "bad", folder)
    control = dcmread(folder / "control-good.dcm", stop_before_pixels=True)
    for number, name in enumerate(("nested-3000-levels", "pixeldata-length-4gb")):
        path = folder / f"{name}.dcm"
        content = path.read_bytes()
        for uid in (control.StudyInstanceUID, control.SOPInstanceUID):
            content = content.replace(uid.encode(), f"{uid[:-1]}{(int(uid[-1]) + 1 + number) % 10}".encode())
        path.write_bytes(content)
    return folder


def study_of(path: Path) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return str(dcmread(path, stop_before_pixels=True).StudyInstanceUID)


@dataclass(frozen=True)
class Sent:
    """What came of sending every file to a node with the real analysis."""

    answers: dict[str, int | str | None]
    lines: dict[str, StudyLine]
    shown: str
    node: Node


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory, bad: Path) -> Iterator[Sent]:
    pacs = Pacs().start()
    node = Node(tmp_path_factory.mktemp("bad") / "state", [pacs], assembly={"quiet_period_seconds": 2})
    try:
        node.start(analyser="app.analyse")
        answers = {name: send_bytes(node.port, transmitted(bad / f"{name}.dcm")) for name in ROWS}

        def settled() -> tuple[StudyLine, ...] | None:
            lines = read_status(node.settings).studies
            ended = all(one.job_state in ("done", "failed") for one in lines if one.images)
            sent = all(delivery.state == "accepted" for one in lines for delivery in one.deliveries)
            return lines if ended and sent else None

        lines = wait_for(settled, 120)
        shown = " ".join(render_status(read_status(node.settings)).split())
        yield Sent(answers, {one.study_instance_uid: one for one in lines}, shown, node)
    finally:
        node.stop()
        pacs.stop()


def facts_of(node: Node, study: str) -> dict[str, Any]:
    for path in (node.folder / "results").glob("*/*/result.json"):
        facts: dict[str, Any] = json.loads(path.read_text())
        if facts["study_instance_uid"] == study:
            return facts
    raise AssertionError("no result")


def reasons_of_files(aside: list[dict[str, Any]]) -> list[str]:
    return [one["reason"] for one in aside if one["reason"] in OF_THE_FILE]


def test_the_table_has_every_file(bad: Path) -> None:
    assert {path.stem for path in bad.glob("*.dcm")} == set(ROWS)


@pytest.mark.parametrize("name", ROWS)
def test_through_the_gateway(sent: Sent, bad: Path, name: str) -> None:
    row = ROWS[name]
    assert sent.answers[name] == row.answer
    if row.answer != STORED:
        assert name in NAMES_NO_STUDY or study_of(bad / f"{name}.dcm") not in sent.lines
        return
    study = study_of(bad / f"{name}.dcm")
    line = sent.lines[study]
    if row.aside == "idle":
        assert (line.state, line.images, line.others) == ("idle", 0, 1)
        assert row.said in sent.shown
        return
    assert (line.state, line.job_state) == ("closed", "done")
    facts = facts_of(sent.node, study)
    assert reasons_of_files(facts["set_aside"]) == ([row.aside] if row.aside else [])
    if row.aside:
        assert (facts["frames_analysed"], line.result_status) == (0, "nothing-usable")
    said = [*facts["warnings"], *(one["detail"] for one in facts["set_aside"])]
    assert any(row.said in one for one in said)
    if not row.said:
        assert facts["warnings"] == []
    if row.aside:
        assert row.said in " ".join(line.remarks), "status tells what the report tells"


def test_other_bytes_under_a_known_uid_are_kept_and_told(sent: Sent, bad: Path) -> None:
    line = sent.lines[study_of(bad / "duplicate-uid-a.dcm")]
    assert (line.images, line.quarantined) == (1, 1)
    assert "kept in quarantine" in line.warnings[0]
    assert "quarantine" in sent.shown


def test_identical_bytes_again_change_nothing(sent: Sent, bad: Path) -> None:
    before = (read_status(sent.node.settings).studies, len(list((sent.node.folder / "images").glob("*/*"))))
    for name in ("control-good", "duplicate-uid-a", "duplicate-uid-different-pixels-b", "monochrome1"):
        assert send_bytes(sent.node.port, transmitted(bad / f"{name}.dcm")) == STORED
    after = (read_status(sent.node.settings).studies, len(list((sent.node.folder / "images").glob("*/*"))))
    assert after == before


def test_no_name_reaches_the_log(sent: Sent) -> None:
    written = sent.node.log_path.read_text()
    for secret in ("<script>", "DROP TABLE", "PHANTOM", "AAAAAAAAAA", "Traceback"):
        assert secret not in written


@pytest.fixture(scope="module")
def folder_facts(tmp_path_factory: pytest.TempPathFactory, bad: Path) -> dict[str, dict[str, Any]]:
    """The result of each study of one run on the whole folder, by Study Instance UID."""
    out = tmp_path_factory.mktemp("folder") / "out"
    clean = {key: value for key, value in os.environ.items() if not key.startswith("BUSMAP_")}
    done = subprocess.run(
        [sys.executable, "-m", "app", "-i", str(bad), "-o", str(out)],
        cwd=ROOT,
        env=clean,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    facts = json.loads((out / "result.json").read_text())
    for page in out.glob("*report.html"):
        assert "<script>" not in page.read_text()
    return {one["study_instance_uid"]: one for one in facts["studies"]}


@pytest.mark.parametrize("name", ROWS)
def test_from_a_folder(folder_facts: dict[str, dict[str, Any]], bad: Path, name: str) -> None:
    row = ROWS[name]
    reason = row.folder or row.aside
    if name in NAMES_NO_STUDY:
        for facts in folder_facts.values():
            found = reasons_of_files([one for one in facts["set_aside"] if one["file_name"] == f"{name}.dcm"])
            assert found == [reason], "a file that names no study is told of in every report"
        return
    facts = folder_facts[study_of(bad / f"{name}.dcm")]
    mine = [one for one in facts["set_aside"] if one["file_name"] == f"{name}.dcm"]
    if name.startswith("duplicate-uid"):
        other = [one for one in facts["set_aside"] if one["file_name"].startswith("duplicate-uid")]
        assert reasons_of_files(other) == ["duplicate-uid-different-bytes"]
        assert any("share one SOP Instance UID" in one for one in facts["warnings"])
        return
    assert reasons_of_files(mine) == ([reason] if reason else [])
    if reason:
        assert facts["frames_analysed"] == 0
    if row.said and row.answer == STORED and row.aside != "idle":
        assert any(row.said in one for one in [*facts["warnings"], *(one["detail"] for one in mine)])
