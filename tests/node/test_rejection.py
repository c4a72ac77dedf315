"""Rejection notes: what a destination is told of the results that a newer one replaces."""

from __future__ import annotations

import contextlib
import signal
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from app.demo.studies import make_study, read_samples
from app.node.crash import REJECTION_POINTS
from app.node.status import read_status, resend
from app.node.store.overview import DeliveryLine, StudyLine
from operators.report.rejection import RejectedObject, compose_rejection_note
from tests.node import peers
from tests.node.peers import storescp
from tests.node.rig import Node, Pacs, send, ultrasound, wait_for
from tests.node.test_loop import finished
from tests.operators.made_files import uid
from tests.programs import program

SR, CAPTURE, NOTE = (f"1.2.840.10008.5.1.4.1.1.{suffix}" for suffix in ("88.34", "7", "88.59"))
AT = datetime(2026, 5, 4, 12, 30, 15, tzinfo=UTC)
OLD = (RejectedObject(SR, "1.2.3.1", "1.2.3.10", False), RejectedObject(CAPTURE, "1.2.3.2", "1.2.3.20", True))


def new_report(**values: Any) -> Dataset:
    made = Dataset()
    made.SpecificCharacterSet = "ISO_IR 192"
    made.SOPInstanceUID, made.StudyInstanceUID, made.StudyID = "1.2.4.1", "1.2.4", "S1"
    made.PatientID, made.PatientName, made.PatientBirthDate = "P1", "Müller^Änne", "19700101"
    made.PatientSex, made.StudyDate, made.StudyTime = "F", "20260504", "120000"
    made.TimezoneOffsetFromUTC, made.DeviceSerialNumber = "+0200", "abc"
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return made


def rejected_by(note: Dataset) -> list[str]:
    """The objects that a note names, as a reader takes them from its tree; the evidence must agree."""
    tree = [
        item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        for item in note.ContentSequence
        if item.ValueType in ("IMAGE", "COMPOSITE")
    ]
    [study] = note.CurrentRequestedProcedureEvidenceSequence
    evidence = [
        one.ReferencedSOPInstanceUID
        for series in study.ReferencedSeriesSequence
        for one in series.ReferencedSOPSequence
    ]
    assert sorted(tree) == sorted(evidence)
    assert study.StudyInstanceUID == note.StudyInstanceUID
    title = note.ConceptNameCodeSequence[0]
    assert (title.CodeValue, title.CodingSchemeDesignator) == ("113001", "DCM")
    assert "CodingSchemeVersion" not in title  # with it, dcm4chee does not take it for a rejection
    return sorted(map(str, tree))


def test_a_note_names_what_is_replaced_and_by_what() -> None:
    note = compose_rejection_note(new_report(), 2, AT, OLD).dataset
    assert rejected_by(note) == ["1.2.3.1", "1.2.3.2"]
    assert [item.ValueType for item in note.ContentSequence][-2:] == ["COMPOSITE", "IMAGE"]
    assert "Replaced by AI result 2 of 2026-05-04 14:30" in str(note.ContentSequence[-3].TextValue)
    assert (note.PatientID, note.PatientName, note.Manufacturer) == ("P1", "Müller^Änne", "busmap")
    assert (note.Modality, note.SeriesNumber, note.ContentTime) == ("KO", 9003, "143015")


def test_the_same_replacement_is_the_same_note() -> None:
    def uid_of(report: Dataset, objects: tuple[RejectedObject, ...]) -> str:
        return str(compose_rejection_note(report, 2, AT, objects).dataset.SOPInstanceUID)

    first = uid_of(new_report(), OLD)
    assert uid_of(new_report(), OLD[::-1]) == first
    assert uid_of(new_report(), OLD[:1]) != first
    assert uid_of(new_report(SOPInstanceUID="1.2.4.9"), OLD) != first


@pytest.mark.peers
@pytest.mark.parametrize("lacking", [(), ("PatientBirthDate", "PatientSex", "StudyDate", "StudyTime")])
def test_dciodvfy_finds_nothing(tmp_path: Path, lacking: tuple[str, ...]) -> None:
    report = new_report()
    for keyword in lacking:
        delattr(report, keyword)
    path = tmp_path / "note.dcm"
    compose_rejection_note(report, 2, AT, OLD).dataset.save_as(path, enforce_file_format=True)
    done = subprocess.run(
        [program("dciodvfy"), "-new", str(path)], capture_output=True, text=True, check=False
    )
    remarks = [line for line in done.stderr.splitlines() if line.startswith(("Error", "Warning"))]
    if lacking:  # what the source lacks, a DICOMDIR would lack
        remarks = [line for line in remarks if not line.endswith("needed to build DICOMDIR")]
    assert remarks == []
    assert done.returncode == 0


class House:
    """A node whose destinations take rejection notes, with the stand-in for analysis."""

    def __init__(self, folder: Path, **destinations: int) -> None:
        self.node = Node(
            folder / "state",
            delivery={
                "destinations": [
                    {
                        "name": name,
                        "ae_title": "PACS",
                        "host": "127.0.0.1",
                        "port": port,
                        "rejection_note": True,
                    }
                    for name, port in destinations.items()
                ]
            },
            analysis={"attempts": 10},
        )

    def line(self, study: str) -> StudyLine:
        [one] = [one for one in read_status(self.node.settings).studies if one.study_instance_uid == study]
        return one

    def notes(self, study: str, revision: int, destinations: int = 1) -> list[DeliveryLine]:
        """The deliveries of a study's notes, once all destinations have them."""

        def done() -> list[DeliveryLine] | None:
            found = [
                one
                for one in self.line(study).deliveries
                if one.kind == "rejection-note" and one.revision == revision and one.state == "accepted"
            ]
            return found if len(found) == destinations else None

        return wait_for(done)


@pytest.fixture(scope="module")
def pacs() -> Iterator[Pacs]:
    one = Pacs().start()
    yield one
    one.stop()


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, pacs: Pacs) -> Iterator[House]:
    """Started by the first test, which has its worker die."""
    one = House(tmp_path_factory.mktemp("rejection"), pacs=pacs.port)
    yield one
    one.node.stop()


def objects(pacs: Pacs, study: str, *classes: str) -> list[Dataset]:
    mine = [one for one in pacs.order if one.StudyInstanceUID == uid(study)]
    return [one for one in mine if one.SOPClassUID in classes]


@pytest.mark.crash
def test_worker_that_dies_over_a_note_makes_it_once(house: House, pacs: Pacs) -> None:
    node = house.node
    written, committed = REJECTION_POINTS
    node.start("gateway")
    node.start("worker", crash_at=written)
    assert send(node.port, ultrasound("1", "killed")) == [0]
    finished(node, "killed")
    assert send(node.port, ultrasound("2", "killed")) == [0]
    assert node.ended("worker") == [-signal.SIGKILL]
    node.start("worker", crash_at=committed)
    assert node.ended("worker") == [-signal.SIGKILL]
    node.start("worker")
    assert house.notes(uid("killed"), 2)
    [note] = objects(pacs, "killed", NOTE)
    assert len(rejected_by(note)) == 2
    assert len(list((node.folder / "results").rglob("rejection-*"))) == 1


def test_notes_follow_the_new_result_and_name_what_was_acknowledged(house: House, pacs: Pacs) -> None:
    node = house.node
    node.complete()
    pacs.answers[CAPTURE] = 0xA900
    assert send(node.port, ultrasound("1", "note")) == [0]
    finished(node, "note")
    pacs.answers.clear()
    for number in (2, 3):
        assert send(node.port, ultrasound(str(number), "note")) == [0]
        house.notes(uid("note"), number)
    reports, captures = objects(pacs, "note", SR), objects(pacs, "note", CAPTURE)
    first, second = objects(pacs, "note", NOTE)
    # The first capture was refused: the PACS does not have it, and is told nothing of it.
    assert rejected_by(first) == [reports[0].SOPInstanceUID]
    assert rejected_by(second) == sorted([reports[1].SOPInstanceUID, captures[0].SOPInstanceUID])
    classes = [one.SOPClassUID for one in objects(pacs, "note", SR, CAPTURE, NOTE)]
    assert classes == [SR, SR, CAPTURE, NOTE, SR, CAPTURE, NOTE]
    # Back from the PACS they start nothing; asked for again, the same bytes go out.
    before = house.line(uid("note"))
    assert send(node.port, first, second) == [0, 0]
    assert house.line(uid("note")) == before
    resend(node.settings, uid("note"))
    wait_for(lambda: len(pacs.received[str(second.SOPInstanceUID)]) == 2)
    assert len(set(pacs.received[str(second.SOPInstanceUID)])) == 1


@pytest.mark.peers
def test_late_view_replaces_the_result_in_orthanc_and_dcmtk(tmp_path: Path) -> None:
    """The whole way with the real analysis: report, captures and note as two real archives hold them."""
    [sample] = [one for one in read_samples() if one.name == "malignant, two views"]
    made = make_study(sample, tmp_path, 1, AT)
    images = [dcmread(path) for path in made.paths]
    with contextlib.ExitStack() as stack:
        archive = stack.enter_context(peers.archive(tmp_path / "orthanc"))
        storage = stack.enter_context(storescp(tmp_path / "storage"))
        house = House(tmp_path, archive=archive.dicom_port, storage=storage)
        node, study = house.node, str(images[0].StudyInstanceUID)
        stack.callback(node.stop)
        node.start(analyser="app.analyse")
        assert send(node.port, images[0]) == [0]
        wait_for(lambda: {one.state for one in house.line(study).deliveries} == {"accepted"})
        assert send(node.port, images[1]) == [0]
        house.notes(study, 2, destinations=2)
        before = house.line(study)
        replaced = [dcmread(path) for path in (node.folder / "results").glob("*/1/*.dcm")]
        held = archive.held()
        stored = [dcmread(path) for path in (tmp_path / "storage").iterdir()]
        for kept in (held, stored):
            first, second = sorted(_of(kept, SR), key=lambda one: one.InstanceNumber)
            _names_predecessor(second, first)
            [note] = _of(kept, NOTE)
            assert rejected_by(note) == sorted(one.SOPInstanceUID for one in replaced)
        paths = [path for path in (tmp_path / "storage").iterdir() if dcmread(path).SOPClassUID == NOTE]
        shown = subprocess.run(
            [program("dsrdump"), str(paths[0])], capture_output=True, text=True, check=True
        )
        assert "Rejected for Quality Reasons" in shown.stdout
        # Everything comes back, from an archive that forwards what it has: nothing starts.
        assert set(send(node.port, *images, *held)) == {0}
        assert house.line(study) == before


def _of(kept: list[Dataset], sop_class: str) -> list[Dataset]:
    return [one for one in kept if one.SOPClassUID == sop_class]


def _names_predecessor(second: Dataset, first: Dataset) -> None:
    [study] = second.PredecessorDocumentsSequence
    [series] = study.ReferencedSeriesSequence
    [document] = series.ReferencedSOPSequence
    assert study.StudyInstanceUID == first.StudyInstanceUID
    assert series.SeriesInstanceUID == first.SeriesInstanceUID
    assert document.ReferencedSOPInstanceUID == first.SOPInstanceUID
    assert document.ReferencedSOPClassUID == first.SOPClassUID
    time = f"{first.ContentTime[:2]}:{first.ContentTime[2:4]}"
    day = f"{first.ContentDate[:4]}-{first.ContentDate[4:6]}-{first.ContentDate[6:]}"
    of = time if first.ContentDate == second.ContentDate else f"{day} {time}"
    assert f"replaces result 1 of {of}" in second.to_json()
