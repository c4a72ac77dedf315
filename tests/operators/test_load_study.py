"""What of a folder becomes a study, and why the rest does not."""

from __future__ import annotations

import itertools
import os
import shutil
import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

import app.node.header
from operators.eligibility import OWN_MANUFACTURER
from operators.load_study import find_input_files, load_study
from operators.read_header import UnreadableHeaderError, read_header
from operators.report.uids import MANUFACTURER
from operators.study import MixedPatientError, NoStudyError, Reason, Study
from tests.operators.made_files import (
    SECONDARY_CAPTURE,
    image,
    insert_before_pixels,
    nested,
    save,
    speckle,
    uid,
)

ANALYSED = None
# What a lone file of bad/ becomes: analysable, set aside with a reason, or no study at all (then: a word of
# the message).
BAD: dict[str, Reason | str | None] = {
    "all-black": ANALYSED,
    "bitsallocated-16-data-8": ANALYSED,  # its pixels are refused when they are read
    "control-good": ANALYSED,
    "corrupt-jpeg": ANALYSED,
    "duplicate-uid-a": ANALYSED,
    "duplicate-uid-different-pixels-b": ANALYSED,
    "empty-patientid": ANALYSED,
    "fewer-fragments-than-frames": ANALYSED,
    "header-cut": "middle of its header",
    "hostile-strings": ANALYSED,
    "huge-frames-declared": ANALYSED,
    "huge-rows-cols-declared": Reason.PIXELS_UNDECODABLE,
    "malformed-studyuid": "no DICOM UID",
    "meta-says-implicit-data-explicit": Reason.UNREADABLE,
    "missing-seriesuid": Reason.MISSING_UID,
    "missing-sopinstanceuid": Reason.MISSING_UID,
    "missing-studyuid": "lacks StudyInstanceUID",
    "monochrome1": ANALYSED,
    "nested-3000-levels": ANALYSED,  # the sequence stands behind the pixels, where nothing reads it
    "nested-60-levels": ANALYSED,
    "no-pixel-data": Reason.NOT_AN_IMAGE,
    "no-preamble-raw-dataset": "bare DICOM data set",
    "no-rows-columns": Reason.NOT_AN_IMAGE,
    "not-dicom-png": "not a DICOM file",
    "patientname-300-chars": ANALYSED,
    "pixeldata-length-4gb": ANALYSED,
    "preamble-only": "middle of its header",
    "secondary-capture-of-us": Reason.SECONDARY_CAPTURE,
    "short-pixeldata": ANALYSED,
    "structured-report-not-image": Reason.NOT_AN_IMAGE,
    "text-file": "not a DICOM file",
    "trailing-padding-pixeldata": ANALYSED,
    "truncated-pixels": ANALYSED,
    "unknown-transfer-syntax": Reason.UNSUPPORTED_TRANSFER_SYNTAX,
    "us-but-liver": Reason.NOT_BREAST,
    "us-sopclass-modality-ct": Reason.WRONG_MODALITY,
    "wrong-modality-ct": Reason.WRONG_MODALITY,
    "wrong-modality-mammo": Reason.WRONG_MODALITY,
    "zero-byte": "empty",
    "zero-frames": Reason.PIXELS_UNDECODABLE,
    "zero-rows": Reason.NOT_AN_IMAGE,
}


def one(*paths: Path, **options: bool | str) -> Study:
    (study,) = load_study(paths, **options)  # type: ignore[arg-type]
    return study


def reasons(study: Study) -> list[Reason]:
    return [aside.reason for aside in study.set_aside]


def assert_named_and_unreadable(path: Path, why: str) -> None:
    """The object is not analysed, and its study and patient are known: a report can tell of it."""
    study = one(path)
    assert study.instances == ()
    assert reasons(study) == [Reason.UNREADABLE]
    assert why in study.set_aside[0].detail
    assert study.header.PatientID == "P1"


@pytest.mark.parametrize("name", BAD)
def test_every_bad_file_has_a_named_outcome(dicom_us: Path, name: str) -> None:
    path, outcome = dicom_us / "bad" / f"{name}.dcm", BAD[name]
    if isinstance(outcome, Reason):
        study = one(path)
        assert study.instances == ()
        assert reasons(study) == [outcome]
        (aside,) = study.set_aside
        assert aside.file_name == path.name
        assert len(aside.detail) > 15
    elif outcome is None:
        assert len(one(path).instances) == 1
    else:
        with pytest.raises(NoStudyError, match=outcome):
            load_study([path])


def test_no_bad_file_is_forgotten(dicom_us: Path) -> None:
    assert {path.stem for path in (dicom_us / "bad").glob("*.dcm")} == set(BAD)


def test_all_bad_files_at_once_lose_no_file(dicom_us: Path) -> None:
    paths = find_input_files(dicom_us / "bad")
    studies = load_study(paths)
    told = {aside.file_name for study in studies for aside in study.set_aside}
    told |= {instance.path.name for study in studies for instance in study.instances}
    assert told == {path.name for path in paths}


def test_every_file_of_the_corpus_loads_or_has_a_reason(dicom_us: Path) -> None:
    for path in sorted(dicom_us.glob("*.dcm")):
        study = one(path)
        assert len(study.instances) + len(study.set_aside) == 1, path.name
        assert set(reasons(study)) <= {Reason.UNSUPPORTED_TRANSFER_SYNTAX, Reason.NOT_BREAST}, path.name


def test_the_order_of_files_decides_nothing(tmp_path: Path) -> None:
    a = save(image(speckle(seed=1), "same"), tmp_path / "a")
    b = save(image(speckle(seed=2), "same"), tmp_path / "b")
    c = save(image(speckle(seed=3), "other"), tmp_path / "c")
    outcomes = {
        (study.instances, study.set_aside, study.warnings)
        for order in itertools.permutations((a, b, c))
        for study in load_study(order)
    }
    ((instances, aside, warnings),) = outcomes
    assert len(instances) == 2
    assert [(each.reason, each.sop_instance_uid) for each in aside] == [(Reason.DUPLICATE_UID, uid("same"))]
    assert any("share one SOP Instance UID" in warning for warning in warnings)


def test_as_received_the_first_object_under_a_uid_is_kept(tmp_path: Path) -> None:
    a = save(image(speckle(seed=1), "same"), tmp_path / "a")
    b = save(image(speckle(seed=2), "same"), tmp_path / "b")
    for first, second in ((a, b), (b, a)):
        study = one(first, second, in_order_received=True)
        assert [instance.path for instance in study.instances] == [first]
        assert [aside.file_name for aside in study.set_aside] == [second.name]


def test_identical_bytes_count_once_and_without_remark(tmp_path: Path) -> None:
    a = save(image(speckle()), tmp_path / "a")
    shutil.copy(a, tmp_path / "b")
    study = one(a, tmp_path / "b")
    assert len(study.instances) == 1
    assert study.set_aside == ()
    assert study.warnings == ()


def test_studies_come_sorted_each_with_its_own_instances(tmp_path: Path) -> None:
    paths = [save(image(speckle(), f"i{n}", f"study{n % 3}"), tmp_path / str(n)) for n in range(6)]
    studies = load_study(paths)
    assert [study.study_instance_uid for study in studies] == sorted(uid(f"study{n}") for n in range(3))
    assert [len(study.instances) for study in studies] == [2, 2, 2]
    for study in studies:
        assert {instance.path for instance in study.instances} == set(study.paths)
        (again,) = load_study(study.paths)
        assert again == study


def test_a_file_without_a_study_is_named_in_the_study_that_is_there(tmp_path: Path) -> None:
    a = save(image(speckle()), tmp_path / "a")
    (tmp_path / "b").write_text("no DICOM")
    assert [(each.reason, each.file_name) for each in one(a, tmp_path / "b").set_aside] == [
        (Reason.NOT_DICOM, "b")
    ]


def test_an_empty_input_says_what_to_give() -> None:
    with pytest.raises(NoStudyError, match="folder with DICOM files"):
        load_study([])


@pytest.mark.parametrize(
    "other",
    [
        {"PatientID": "P2"},
        {"IssuerOfPatientID": "elsewhere"},
        {"PatientID": "", "PatientName": "OTHER^WOMAN"},
        {"PatientID": "", "PatientBirthDate": "19810203"},
    ],
)
def test_two_patients_in_one_study_stop_everything(tmp_path: Path, other: dict[str, str]) -> None:
    mine = {"IssuerOfPatientID": "here"} if "IssuerOfPatientID" in other else {}
    a = save(image(speckle(seed=1), "a", **mine), tmp_path / "a")
    b = save(image(speckle(seed=2), "b", **other), tmp_path / "b")
    with pytest.raises(MixedPatientError, match="two patients") as caught:
        load_study([a, b])
    for secret in ("PHANTOM", "OTHER", "P1", "P2", "1970"):
        assert secret not in str(caught.value)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"PatientName": "Test Phantom"}, None),
        ({"PatientName": "TEST^PHANTOM^MARRIED"}, "PatientName differs"),
        ({"PatientID": ""}, "no Patient ID"),
        ({"PatientBirthDate": ""}, None),
    ],
)
def test_one_patient_written_differently_is_a_warning_at_most(
    tmp_path: Path, other: dict[str, str], said: str | None
) -> None:
    a = save(image(speckle(seed=1), "a"), tmp_path / "a")
    b = save(image(speckle(seed=2), "b", **other), tmp_path / "b")
    study = one(a, b)
    assert len(study.instances) == 2
    assert [said in warning for warning in study.warnings] == [True] if said else study.warnings == ()


def test_results_of_busmap_start_nothing(tmp_path: Path) -> None:
    contributing = Dataset()
    contributing.Manufacturer = "busmap"
    a = save(image(speckle(seed=1), "a", Manufacturer="busmap"), tmp_path / "a")
    b = save(
        image(speckle(seed=2), "b", ContributingEquipmentSequence=Sequence([contributing])), tmp_path / "b"
    )
    assert reasons(one(a, b)) == [Reason.OWN_RESULT, Reason.OWN_RESULT]


def test_gateway_worker_and_writer_agree_on_what_busmap_made() -> None:
    """The gateway may not import the steps of the graph, so it holds the name once more."""
    assert app.node.header.OWN_MANUFACTURER == OWN_MANUFACTURER == MANUFACTURER


def test_secondary_captures_of_ultrasound_are_analysed_where_the_site_allows_it(tmp_path: Path) -> None:
    path = save(image(speckle(), SOPClassUID=SECONDARY_CAPTURE), tmp_path / "a")
    assert reasons(one(path)) == [Reason.SECONDARY_CAPTURE]
    assert len(one(path, accept_secondary_capture=True).instances) == 1
    path = save(image(speckle(), SOPClassUID=SECONDARY_CAPTURE, Modality="CT"), tmp_path / "b")
    assert reasons(one(path, accept_secondary_capture=True)) == [Reason.WRONG_MODALITY]


@pytest.mark.parametrize(
    ("header", "breast"),
    [
        ({"BodyPartExamined": ""}, True),
        ({"BodyPartExamined": "BREAST", "StudyDescription": "US ABDOMEN"}, True),
        ({"BodyPartExamined": "", "StudyDescription": "Mammasonographie beidseits"}, True),
        ({"BodyPartExamined": "", "StudyDescription": "US soft tissue"}, True),
        ({"BodyPartExamined": "", "StudyDescription": "Abdomen und Mamma"}, True),
        ({"BodyPartExamined": "", "StudyDescription": "US abdomen complete"}, False),
        ({"BodyPartExamined": "", "ProtocolName": "Thyroid"}, False),
        ({"BodyPartExamined": "LIVER", "StudyDescription": "US BREAST"}, False),
    ],
)
def test_the_rule_of_the_body_part(tmp_path: Path, header: dict[str, str], breast: bool) -> None:
    study = one(save(image(speckle(), **header), tmp_path / "a"))
    assert reasons(study) == ([] if breast else [Reason.NOT_BREAST])


def test_the_coded_region_of_the_image_comes_before_everything(tmp_path: Path) -> None:
    for code, meaning, expected in (("76752008", "Breast", []), ("69748006", "Thyroid", [Reason.NOT_BREAST])):
        item = Dataset()
        item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code, "SCT", meaning
        ds = image(speckle(), AnatomicRegionSequence=Sequence([item]), BodyPartExamined="CHEST")
        assert reasons(one(save(ds, tmp_path / code))) == expected


def test_headers_are_unicode_whatever_they_were(dicom_us: Path) -> None:
    japanese = one(dicom_us / "synthetic-charset-japanese.dcm").header
    assert "山田" in str(japanese.PatientName)
    assert japanese.SpecificCharacterSet == "ISO_IR 192"
    latin = one(dicom_us / "synthetic-charset-latin1-undeclared.dcm")
    assert not str(latin.header.PatientName).isascii()
    assert latin.header.SpecificCharacterSet == "ISO_IR 192"
    assert any("Latin-1" in warning for warning in latin.warnings)


def test_headers_can_be_written_back(dicom_us: Path, tmp_path: Path) -> None:
    """What results copy must survive the writer: long names, odd characters, hostile strings."""
    for name in (
        "bad/patientname-300-chars",
        "bad/hostile-strings",
        "synthetic-charset-japanese",
        "synthetic-charset-latin1-undeclared",
    ):
        header = one(dicom_us / f"{name}.dcm").header
        header.save_as(tmp_path / "written.dcm", enforce_file_format=True)
        again = read_header(tmp_path / "written.dcm").dataset
        assert again.PatientName == header.PatientName
        assert all(len(group) <= 64 for group in str(again.PatientName).split("="))


def test_missing_type_2_attributes_are_there_and_empty(tmp_path: Path) -> None:
    ds = image(speckle())
    del ds.PatientName, ds.PatientID, ds.PatientBirthDate, ds.PatientSex
    study = one(save(ds, tmp_path / "a"))
    for header in (study.header, study.instances[0].header):
        for keyword in (
            "PatientName",
            "PatientID",
            "StudyID",
            "AccessionNumber",
            "StudyDate",
            "SeriesNumber",
        ):
            assert keyword in header
            assert not header[keyword].value


def test_private_and_unreadable_attributes_do_not_cost_the_image(tmp_path: Path) -> None:
    ds = image(speckle())
    ds.private_block(0x0019, "VENDOR", create=True).add_new(0x01, "LO", "Secret^Name")
    path = save(ds, tmp_path / "a")
    no_sequence = struct.pack("<HH2sH", 0x0040, 0xA730, b"LO", 4) + b"text"
    no_number = struct.pack("<HH2sH", 0x0040, 0xA132, b"FD", 6) + b"123456"
    insert_before_pixels(path, no_number + no_sequence)
    study = one(path)
    assert len(study.instances) == 1
    assert not any(element.tag.is_private for element in study.instances[0].header)
    assert any("(0040,A730)" in warning for warning in study.warnings)


@pytest.mark.parametrize("undefined_length", [False, True])
def test_nested_sequences_are_bounded(tmp_path: Path, undefined_length: bool) -> None:
    path = save(image(speckle()), tmp_path / "deep")
    insert_before_pixels(path, nested(3000, undefined_length=undefined_length))
    assert_named_and_unreadable(path, "nested deeper than 64")
    path = save(image(speckle()), tmp_path / "shallow")
    insert_before_pixels(path, nested(30, undefined_length=undefined_length))
    assert len(one(path).instances) == 1


def test_a_deflate_bomb_is_refused_within_its_bound(tmp_path: Path, dicom_us: Path) -> None:
    good = (dicom_us / "synthetic-breast-deflated.dcm").read_bytes()
    meta = good[: 144 + int.from_bytes(good[140:144], "little")]
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    element = struct.pack("<HH2sHI", 0x0008, 0x0001, b"OB", 0, 600 * 2**20)
    bomb = packer.compress(element) + b"".join(packer.compress(b"\0" * 2**20) for _ in range(600))
    path = tmp_path / "bomb.dcm"
    path.write_bytes(meta + bomb + packer.flush())
    assert path.stat().st_size < 2**20
    tracemalloc.start()
    with pytest.raises(UnreadableHeaderError, match="grows beyond"):
        read_header(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 300 * 2**20
    path.write_bytes(good[:-2000])
    with pytest.raises(UnreadableHeaderError, match="ends too early"):
        read_header(path)


def test_a_declared_length_of_gigabytes_allocates_nothing(tmp_path: Path) -> None:
    path = save(image(speckle()), tmp_path / "a")
    insert_before_pixels(path, struct.pack("<HH2sHI", 0x0042, 0x0011, b"OB", 0, 0xFFFFFFF0))
    tracemalloc.start()
    assert_named_and_unreadable(path, "ends in the middle")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20 * 2**20


def test_a_header_longer_than_its_bound_is_refused(tmp_path: Path) -> None:
    path = save(image(speckle()), tmp_path / "a")
    size = 70 * 2**20
    insert_before_pixels(path, struct.pack("<HH2sHI", 0x0042, 0x0011, b"OB", 0, size) + b"\0" * size)
    assert_named_and_unreadable(path, "64 MiB")


def test_every_cut_of_a_file_has_a_named_outcome(tmp_path: Path) -> None:
    whole = save(image(speckle()), tmp_path / "whole").read_bytes()
    pixels_at = whole.rfind(b"\xe0\x7f\x10\x00OB")
    for length in range(0, pixels_at, 7):
        (tmp_path / "cut").write_bytes(whole[:length])
        try:
            study = one(tmp_path / "cut")
        except NoStudyError:
            continue
        assert study.instances == (), length
        assert study.set_aside, length


def test_input_files_are_found_whatever_their_names(tmp_path: Path) -> None:
    taken = ["a.dcm", "sub/b", "sub/deeper/C.DCM", "1.2.840.113619.2.55"]
    left = ["x.json", "y.tags", ".hidden", ".cache/z.dcm", "DICOMDIR", "sub/picture.png"]
    for name in taken + left:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert {str(path.relative_to(tmp_path)) for path in find_input_files(tmp_path)} == set(taken)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_file_without_permission_is_named(tmp_path: Path) -> None:
    path = save(image(speckle()), tmp_path / "a")
    path.chmod(0)
    with pytest.raises(NoStudyError, match="permissions"):
        load_study([path])


def test_a_vanished_file_is_named(tmp_path: Path) -> None:
    a = save(image(speckle()), tmp_path / "a")
    assert reasons(one(a, tmp_path / "gone.dcm")) == [Reason.UNREADABLE]


def test_headers_hold_no_pixels(tmp_path: Path) -> None:
    path = save(image(np.zeros((50, 200, 200), np.uint8)), tmp_path / "a")
    assert "PixelData" not in one(path).instances[0].header
