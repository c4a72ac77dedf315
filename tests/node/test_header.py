"""Reading identifiers with bounds: real files pass, cut and hostile ones are refused, never worse."""

from __future__ import annotations

import io
import json
import warnings
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from app.node.header import OWN_MANUFACTURER, RefusedObject, read_identity
from operators.eligibility import OWN_MANUFACTURER as WRITTEN_MANUFACTURER
from tests.node.rig import ultrasound


def encoded() -> bytes:
    stream = io.BytesIO()
    ultrasound("header").save_as(stream, enforce_file_format=True)
    return stream.getvalue()


ENCODED = encoded()


def test_the_maker_is_the_one_that_results_carry() -> None:
    assert OWN_MANUFACTURER == WRITTEN_MANUFACTURER


def test_real_files_are_whole(dicom_us: Path) -> None:
    expected = json.loads((dicom_us / "expected.json").read_text())
    assert expected
    seen = 0
    for path in sorted(dicom_us.glob("*.dcm")):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            syntax = str(dcmread(path, stop_before_pixels=True, specific_tags=[]).file_meta.TransferSyntaxUID)
            # Deflated syntax is never negotiated; a broken file meta group does not travel.
            if syntax == "1.2.840.10008.1.2.1.99" or path.name == "fodicom-GH364.dcm":
                continue
            identity = read_identity(path, syntax)
        assert not identity.made_by_busmap
        seen += 1
    assert seen > 30


@given(keep=st.integers(0, len(ENCODED) - 1))
@hypothesis_settings(max_examples=60, deadline=None)
def test_every_cut_is_refused(tmp_path_factory: pytest.TempPathFactory, keep: int) -> None:
    path = tmp_path_factory.mktemp("cut") / "cut.dcm"
    path.write_bytes(ENCODED[:keep])
    # A cut exactly between two elements looks whole, and is refused for what it lacks; after the identifiers
    # and before the pixels it is an image without pixels, which is set aside later.
    try:
        read_identity(path, ExplicitVRLittleEndian)
    except RefusedObject:
        return
    assert "PixelData" not in dcmread(path)


@given(position=st.integers(132, len(ENCODED) - 1), value=st.integers(0, 255))
@hypothesis_settings(max_examples=150, deadline=None)
def test_flipped_bytes_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, position: int, value: int
) -> None:
    path = tmp_path_factory.mktemp("flip") / "flip.dcm"
    path.write_bytes(ENCODED[:position] + bytes((value,)) + ENCODED[position + 1 :])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            identity = read_identity(path, ExplicitVRLittleEndian)
        except RefusedObject:
            return
    assert len(identity.study_instance_uid) <= 64


def test_deep_nesting_is_kept_and_costs_nothing(tmp_path: Path) -> None:
    path = tmp_path / "deep.dcm"
    opening = b"\x40\x00\x75\x02SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    closing = b"\xfe\xff\x0d\xe0\0\0\0\0" + b"\xfe\xff\xdd\xe0\0\0\0\0"
    path.write_bytes(ENCODED + opening * 3000 + closing * 3000)
    assert read_identity(path, ExplicitVRLittleEndian).sop_instance_uid == ultrasound("header").SOPInstanceUID


def test_damage_behind_the_identifiers_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "damaged.dcm"
    undefined = b"\x40\x00\x75\x02SQ\0\0\xff\xff\xff\xff"
    path.write_bytes(ENCODED + undefined + b"\x99\x00\x99\x00garbage in place of an item")
    assert read_identity(path, ExplicitVRLittleEndian).sop_instance_uid == ultrasound("header").SOPInstanceUID


@pytest.mark.parametrize("announced", [ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_what_is_encoded_otherwise_than_announced_is_kept(tmp_path: Path, announced: str) -> None:
    path = tmp_path / "other.dcm"
    path.write_bytes(ENCODED)
    assert read_identity(path, announced).sop_instance_uid == ultrasound("header").SOPInstanceUID
