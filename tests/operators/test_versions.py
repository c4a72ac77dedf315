"""Results that replace each other: what they say, what they name, and the UIDs that tell them apart."""

from __future__ import annotations

import dataclasses
import uuid
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.uid import UID

from operators.compose_report import compose_report
from operators.findings import ModelIdentity, StudyResult
from operators.report.canvas import Canvas
from operators.report.composed import Predecessor, ReportContext
from operators.report.uids import derive_uid, result_key
from operators.report.wording import number_text
from operators.site import Source
from operators.study import Frame, Instance, Reason, Region, SetAside, Study

MALIGNANT = "malignant, two views"
AT = datetime(2026, 5, 4, 12, 30, 15, tzinfo=UTC)


def second(at: datetime, first_at: datetime) -> ReportContext:
    """The context of a result 2 that replaces one of `first_at`."""
    earlier = Predecessor(1, first_at, "1.2.840.10008.5.1.4.1.1.88.34", "1.2.3.4", "1.2.3.5")
    return ReportContext(at, 2, earlier)


@pytest.mark.parametrize(
    ("hours", "before", "words"),
    [
        (0, timedelta(minutes=28, seconds=15), "Result 2, 2026-05-04 12:30, replaces result 1 of 12:02"),
        (2, timedelta(minutes=28, seconds=15), "Result 2, 2026-05-04 14:30, replaces result 1 of 14:02"),
        (0, timedelta(days=1), "Result 2, 2026-05-04 12:30, replaces result 1 of 2026-05-03 12:30"),
        (12, timedelta(hours=1), "Result 2, 2026-05-05 00:30, replaces result 1 of 2026-05-04 23:30"),
    ],
)
def test_the_replaced_result_is_named_by_its_time(hours: int, before: timedelta, words: str) -> None:
    zone = timezone(timedelta(hours=hours))
    assert number_text(second(AT.astimezone(zone), AT - before)) == words


def test_report_captures_and_page_say_what_they_replace(analysed, monkeypatch):
    result = analysed(MALIGNANT)
    header = result.study.header.copy()
    header.TimezoneOffsetFromUTC = "+0200"
    result = dataclasses.replace(result, study=dataclasses.replace(result.study, header=header))
    drawn: list[str] = []
    draw = Canvas.text

    def seen(canvas, words, *args, **kwargs):
        drawn.append(words)
        return draw(canvas, words, *args, **kwargs)

    monkeypatch.setattr(Canvas, "text", seen)
    report = compose_report(result, second(AT, AT - timedelta(minutes=28)))
    said = "Result 2, 2026-05-04 14:30, replaces result 1 of 14:02"
    sr, *captures = (one.dataset for one in report.objects)
    assert said in sr.to_json()
    assert drawn.count(said) == len(captures) >= 2
    assert said in report.page
    [study] = sr.PredecessorDocumentsSequence
    [series] = study.ReferencedSeriesSequence
    [document] = series.ReferencedSOPSequence
    assert study.StudyInstanceUID == result.study.study_instance_uid
    assert (series.SeriesInstanceUID, document.ReferencedSOPInstanceUID) == ("1.2.3.5", "1.2.3.4")


UNKNOWN = st.just((None, None))
SIDES = UNKNOWN | st.tuples(st.sampled_from("LR"), st.sampled_from(Source))
HOURS = UNKNOWN | st.tuples(st.integers(1, 12), st.sampled_from(Source))
# What a result depends on, each part by itself.
PARTS = st.fixed_dictionaries(
    {
        "study": st.text(min_size=1),
        "inputs": st.dictionaries(st.text("0123456789."), st.text("0123456789abcdef"), max_size=3),
        "aside": st.lists(st.sampled_from(Reason), max_size=2),
        "model": st.text(),
        "settings": st.text(),
        "warnings": st.lists(st.text(), max_size=3),
        "sites": st.lists(st.tuples(SIDES, HOURS), max_size=3),
        "reader": st.none() | st.sampled_from(["tesseract 5.3.0 (eng)", "tesseract 5.3.0 (por)"]),
        "number": st.integers(1, 99),
        "predecessor": st.none() | st.text(min_size=1),
    }
)


def key_of(parts: dict) -> str:
    instances = tuple(
        Instance(Path("x"), digest, "1.2", name, "1.3", "1.4", "1.2", 8, 8, 1, Dataset())
        for name, digest in parts["inputs"].items()
    )
    study = Study(parts["study"], instances, (), Dataset())
    cine = Instance(Path("x"), "0", "1.2", "1.1", "1.3", "1.4", "1.2", 8, 8, 9, Dataset())
    frames = tuple(
        Frame(cine, number, Region(0, 0, 7, 7), side, hour, side_source, hour_source)
        for number, ((side, side_source), (hour, hour_source)) in enumerate(parts["sites"], start=1)
    )
    model = ModelIdentity("lesion", "1", parts["model"], "onnxruntime", "FP32")
    result = StudyResult(
        study=study,
        frames=frames,
        lesions=(),
        set_aside=tuple(SetAside(one, "detail", "1.2.3") for one in parts["aside"]),
        models=(model,),
        settings_digest=parts["settings"],
        warnings=tuple(parts["warnings"]),
        screen_reader=parts["reader"],
    )
    named = parts["predecessor"]
    earlier = Predecessor(1, AT, "1.2", named, "1.3") if named else None
    return result_key(result, ReportContext(AT, parts["number"], earlier))


@given(PARTS, PARTS)
@hypothesis_settings(max_examples=100, deadline=None)
def test_results_share_uids_only_where_all_they_depend_on_is_the_same(one, other):
    for kind in ("sr", "sr-series", "capture"):
        first, again = derive_uid(kind, key_of(one)), derive_uid(kind, key_of(one))
        assert first == again
        assert len(first) <= 64
        assert UID(first).is_valid
        assert uuid.UUID(int=int(first.removeprefix("2.25."))).version == 5
        alike = {**one, "aside": sorted(one["aside"])} == {**other, "aside": sorted(other["aside"])}
        assert (derive_uid(kind, key_of(other)) == first) == alike


@given(PARTS, st.data())
@hypothesis_settings(max_examples=100, deadline=None)
def test_any_single_change_makes_other_uids(parts, data):
    name = data.draw(st.sampled_from(sorted(parts)))
    changed = {**parts, name: data.draw(PARTS)[name]}
    if name == "aside" and sorted(changed[name]) == sorted(parts[name]):
        return
    assert (key_of(changed) == key_of(parts)) == (changed == parts)
    assert (derive_uid("sr", key_of(changed)) == derive_uid("sr", key_of(parts))) == (changed == parts)
