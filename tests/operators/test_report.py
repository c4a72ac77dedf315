"""The structured report: read back code by code, by highdicom, dciodvfy and Orthanc."""

from __future__ import annotations

import copy
import dataclasses
import io
import json
import subprocess
from pathlib import Path

import highdicom
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from app.send import send
from operators.compose_report import compose_report
from operators.report.composed import ComposedReport, ObjectKind, Predecessor
from operators.report.wording import RESEARCH_USE, source_text
from operators.study import Reason, SetAside
from tests.orthanc import running_orthanc
from tests.programs import program

TWO_VIEWS = "benign, two views"
NOT_BREAST = "not breast ultrasound"
# What dciodvfy says of any private coding scheme, and of a side that the source does not state.
KNOWN_REMARKS = ("Unrecognized defined term = <99BUSMAP>", "only permitted to be empty when actually unknown")


def _children(item: Dataset, *names: str) -> list[Dataset]:
    """Content items whose concept name has one of the code values."""
    return [one for one in item.ContentSequence if one.ConceptNameCodeSequence[0].CodeValue in names]


def _groups(sr: Dataset) -> list[Dataset]:
    (measurements,) = _children(sr, "126010")
    return _children(measurements, "125007")


def _lesion_groups(sr: Dataset) -> list[Dataset]:
    groups = _groups(sr)
    assert all(_children(group, "111030") for group in groups), "OHIF opens no group without an outline"
    return groups


def _summary_code(sr: Dataset) -> str:
    (study,) = _children(sr, "C0034375")
    (summary,) = _children(study, "111017")
    return str(summary.ConceptCodeSequence[0].CodeValue)


def _number(group: Dataset, code: str) -> tuple[float, str]:
    (item,) = _children(group, code)
    value = item.MeasuredValueSequence[0]
    return float(value.NumericValue), value.MeasurementUnitsCodeSequence[0].CodeValue


def _written(dataset: Dataset) -> Dataset:
    """The data set as a PACS would read it."""
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    stream.seek(0)
    return dcmread(stream)


def test_a_lesion_of_two_views_is_two_groups_of_one_tracking_uid(analysed, context):
    result = analysed(TWO_VIEWS)
    sr = _written(compose_report(result, context).objects[0].dataset)
    assert sr.SOPClassUID == "1.2.840.10008.5.1.4.1.1.88.34"
    assert (sr.ConceptNameCodeSequence[0].CodeValue, sr.Modality, sr.SeriesNumber) == ("126000", "SR", 9001)
    assert sr.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    assert (sr.CompletionFlag, sr.VerificationFlag, sr.PreliminaryFlag) == (
        "COMPLETE",
        "UNVERIFIED",
        "PRELIMINARY",
    )
    groups = _lesion_groups(sr)
    assert len(groups) == 2
    assert {_children(group, "112040")[0].UID for group in groups} == {_children(groups[0], "112040")[0].UID}
    (lesion,) = result.lesions
    for group, view in zip(groups, lesion.views, strict=True):
        assert _children(group, "121071")[0].ConceptCodeSequence[0].CodeValue == "4147007"
        assert _children(group, "363698007")[0].ConceptCodeSequence[0].CodeValue == "76752008"
        probability, unit = _number(group, "111047")
        assert (probability, unit) == (round(lesion.assessment.probability * 100, 1), "%")
        assert _number(group, "PROBLOW")[0] <= probability <= _number(group, "PROBHIGH")[0]
        category = _children(group, "CAT")[0]
        assert category.ConceptNameCodeSequence[0].CodingSchemeDesignator == "99BUSMAP"
        assert category.ConceptCodeSequence[0].CodeValue.startswith("CAT")
        parameters = [item.TextValue for item in _children(group, "111002")]
        assert all(any(model.sha256 in text for text in parameters) for model in result.models)
        (region,) = _children(group, "111030")
        assert region.GraphicType == "POLYLINE"
        points = np.reshape(region.GraphicData, (-1, 2))
        np.testing.assert_allclose(points[0], points[-1])
        np.testing.assert_allclose(points[:-1], view.outline, atol=0.01)
        reference = region.ContentSequence[0].ReferencedSOPSequence[0]
        assert reference.ReferencedSOPInstanceUID == view.frame.instance.sop_instance_uid
        assert not _children(group, "103339001"), "no calibration, no millimetres"
    evidence = sr.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0]
    assert {item.ReferencedSOPInstanceUID for item in evidence.ReferencedSOPSequence} == {
        one.sop_instance_uid for one in result.study.instances
    }
    assert "111005" not in str(sr), "a BI-RADS assessment is a person's"


def test_the_report_says_what_it_is_in_words(analysed, context):
    sr = compose_report(analysed(TWO_VIEWS), context).objects[0].dataset
    (remarks,) = _children(sr, "C0034375")
    words = " ".join(item.get("TextValue", "") for item in remarks.ContentSequence)
    assert "AI result, not verified" in words
    assert RESEARCH_USE in words
    assert "Result 1" in words


def test_side_and_clock_are_coded_where_the_source_states_them(analysed, context):
    result = analysed(TWO_VIEWS)
    lesion = dataclasses.replace(result.lesions[0], laterality="L", clock_hour=10)
    report = compose_report(dataclasses.replace(result, lesions=(lesion,)), context)
    (site,) = _children(_lesion_groups(report.objects[0].dataset)[0], "363698007")
    said = {item.ConceptCodeSequence[0].CodeValue for item in site.ContentSequence}
    assert said == {"7771000", "129781005"}
    assert "left breast, 10 o'clock" in report.page.replace("&#39;", "'")


def test_a_calibrated_image_has_millimetres(analysed, context):
    result = analysed("calibrated")
    group = _lesion_groups(compose_report(result, context).objects[0].dataset)[0]
    long_axis, unit = _number(group, "103339001")
    assert unit == "mm"
    assert 1 < long_axis < 60
    assert _number(group, "103340004")[0] <= long_axis
    assert _number(group, "42798000")[1] == "mm2"


def test_a_cine_names_its_frame(analysed, context):
    result = analysed("cine of 30 frames")
    groups = _lesion_groups(compose_report(result, context).objects[0].dataset)
    assert len(groups) <= 3 * len(result.lesions), "a few groups a lesion, not one a frame"
    given = [
        (
            _children(group, "112040")[0].UID,
            _children(group, "111030")[0].ContentSequence[0].ReferencedSOPSequence[0].ReferencedFrameNumber,
        )
        for group in groups
    ]
    assert len({uid for uid, _ in given}) == len(result.lesions)
    assert [number for _, number in given] == [
        view.frame.frame_number for lesion in result.lesions for view in lesion.views
    ]
    for lesion in result.lesions:
        assert f"frame {lesion.key_view.frame.frame_number} (seen on" in source_text(lesion)


def test_nothing_usable_is_said_with_the_reason(analysed, context):
    report = compose_report(analysed(NOT_BREAST), context)
    sr = report.objects[0].dataset
    assert _summary_code(sr) == "111245"
    (remarks,) = _children(sr, "C0034375")
    assert any("does not look like" in item.get("TextValue", "") for item in remarks.ContentSequence)
    assert report.summary["status"] == "nothing-usable"
    assert [one.kind for one in report.objects] == [
        ObjectKind.STRUCTURED_REPORT,
        ObjectKind.SUMMARY_CAPTURE,
    ]


def test_no_lesion_is_said(analysed, context):
    result = dataclasses.replace(analysed(TWO_VIEWS), lesions=())
    report = compose_report(result, context)
    assert _summary_code(report.objects[0].dataset) == "111241"
    sr = report.objects[0].dataset
    assert not _children(sr, "126010"), "nothing measured, no measurements"
    assert sr.ConceptNameCodeSequence[0].CodeValue == "24601-7", "OHIF shows this title as text"
    assert report.summary["status"] == "no-findings"
    assert "does not exclude" in report.summary["headline"]


def test_the_same_result_is_the_same_bytes(analysed, context):
    def composed(digest: str, number: int = 1) -> dict[str, bytes]:
        out = {}
        changed = dataclasses.replace(context, result_number=number)
        for one in compose_report(analysed(TWO_VIEWS, digest), changed).objects:
            stream = io.BytesIO()
            one.dataset.save_as(stream, enforce_file_format=True)
            out[one.sop_instance_uid] = stream.getvalue()
        return out

    first = composed("aaaaaaaaaaaa")
    assert composed("aaaaaaaaaaaa") == first
    assert not set(composed("bbbbbbbbbbbb")) & set(first), "other settings are another result"
    assert not set(composed("aaaaaaaaaaaa", 2)) & set(first), "a later result is another result"


def test_a_later_result_names_the_one_it_replaces(analysed, context):
    earlier = compose_report(analysed(TWO_VIEWS), context).objects[0].dataset
    predecessor = Predecessor(
        1, context.composed_at, earlier.SOPClassUID, earlier.SOPInstanceUID, earlier.SeriesInstanceUID
    )
    later = compose_report(
        analysed(TWO_VIEWS), dataclasses.replace(context, result_number=2, predecessor=predecessor)
    )
    sr = later.objects[0].dataset
    named = sr.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert named.ReferencedSOPInstanceUID == earlier.SOPInstanceUID
    assert later.summary["replaces"] == 1


def test_highdicom_reads_the_report_back(analysed, context):
    for sop_class in ("comprehensive-3d", "comprehensive"):
        changed = dataclasses.replace(context, sr_sop_class=sop_class)
        written = _written(compose_report(analysed(TWO_VIEWS), changed).objects[0].dataset)
        stream = io.BytesIO()
        written.save_as(stream, enforce_file_format=True)
        stream.seek(0)
        document = highdicom.sr.srread(stream)
        groups = document.content.get_planar_roi_measurement_groups()
        assert len(groups) == 2
        (probability,) = groups[0].get_measurements(name=Code("111047", "DCM", "Probability of cancer"))
        assert 0 <= probability.value <= 100


def test_times_are_those_of_the_images_zone(analysed, context):
    result = analysed(TWO_VIEWS)
    header = copy.deepcopy(result.study.header)
    header.TimezoneOffsetFromUTC = "-0500"
    study = dataclasses.replace(result.study, header=header)
    for one in compose_report(dataclasses.replace(result, study=study), context).objects:
        assert one.dataset.TimezoneOffsetFromUTC == "-0500"
        assert (one.dataset.ContentDate, one.dataset.ContentTime) == ("20260504", "073015")


def test_images_never_looked_at_are_no_success(analysed, context):
    result = analysed(TWO_VIEWS)
    left = SetAside(Reason.IMAGE_LIMIT, "More images than the limit allows.", "1.2.3")
    report = compose_report(dataclasses.replace(result, lesions=(), set_aside=(left,)), context)
    assert _summary_code(report.objects[0].dataset) == "111243"


def test_patient_and_study_are_the_sources(analysed, context):
    result = analysed(TWO_VIEWS)
    source = result.study.header
    for one in compose_report(result, context).objects:
        for keyword in ("PatientName", "PatientID", "StudyInstanceUID", "AccessionNumber", "StudyID"):
            assert one.dataset.get(keyword) == source.get(keyword), keyword
        assert one.dataset.Manufacturer == "busmap"
        assert one.dataset.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"


def complaints(report: ComposedReport, folder: Path) -> list[str]:
    """What dciodvfy finds in the objects of a report, but for the known remarks."""
    dciodvfy = program("dciodvfy")
    remarks: list[str] = []
    for one in report.objects:
        path = folder / f"{one.sop_instance_uid}.dcm"
        one.dataset.save_as(path, enforce_file_format=True)
        said = subprocess.run(
            [dciodvfy, "-new", str(path)], capture_output=True, text=True, check=False
        ).stderr
        remarks += [line for line in said.splitlines() if line.startswith(("Error", "Warning"))]
    return [line for line in remarks if not any(known in line for known in KNOWN_REMARKS)]


@pytest.mark.peers
@pytest.mark.parametrize("name", [TWO_VIEWS, "calibrated", "cine of 30 frames", "colour JPEG", NOT_BREAST])
def test_dciodvfy_finds_nothing(analysed, context, name, tmp_path):
    for sop_class in ("comprehensive-3d", "comprehensive"):
        changed = dataclasses.replace(context, sr_sop_class=sop_class)
        assert complaints(compose_report(analysed(name), changed), tmp_path) == []


@pytest.mark.peers
def test_orthanc_gives_back_what_it_was_sent(analysed, context, tmp_path):
    paths = []
    for index, one in enumerate(compose_report(analysed(TWO_VIEWS), context).objects):
        paths.append(tmp_path / f"{index}.dcm")
        one.dataset.save_as(paths[-1], enforce_file_format=True)
    with running_orthanc(tmp_path / "orthanc") as orthanc:
        sent = send(paths, "127.0.0.1", orthanc.dicom_port, orthanc.ae_title)
        assert all(outcome.stored for outcome in sent)
        instances = orthanc.json("/instances")
        assert len(instances) == len(paths)
        given = {}
        for instance in instances:
            dataset = dcmread(io.BytesIO(orthanc.get(f"/instances/{instance}/file")))
            given[dataset.SOPInstanceUID] = dataset
    for path in paths:
        dataset = dcmread(path)
        assert given[dataset.SOPInstanceUID] == dataset


def test_the_facts_are_json_and_the_page_escapes(analysed, context):
    result = dataclasses.replace(analysed(TWO_VIEWS), warnings=("<script>alert(1)</script>",))
    report = compose_report(result, context)
    assert json.loads(json.dumps(report.summary))["lesions"][0]["views"][0]["outline"]
    assert "<script>" not in report.page
    assert "&lt;script&gt;" in report.page
    assert RESEARCH_USE in report.page
    assert report.page.count("data:image/png;base64,") == len(report.objects) - 1


def test_a_failed_write_leaves_nothing(analysed, context, tmp_path):
    from operators.write_results import write_results

    report = compose_report(analysed(NOT_BREAST), context)
    broken = dataclasses.replace(report, summary={**report.summary, "frames_analysed": object()})
    with pytest.raises(TypeError):
        write_results(broken, tmp_path / "result")
    assert list(tmp_path.iterdir()) == []
    write_results(report, tmp_path / "result")
    names = sorted(path.name for path in (tmp_path / "result").iterdir())
    assert names == [
        "01-structured-report.dcm",
        "02-summary-capture.dcm",
        "metadata.json",
        "report.html",
        "result.json",
    ]
    with pytest.raises(OSError, match="not empty"):
        write_results(report, tmp_path / "result")
    assert sorted(path.name for path in Path(tmp_path).iterdir()) == ["result"]
