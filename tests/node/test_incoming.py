"""The file that a transfer makes: a DICOM file, whatever the sizes of the fragments."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom.dsutils import encode

from app.node.header import read_identity
from app.node.incoming import IncomingFile
from tests.node.rig import ultrasound

IMAGE = ultrasound("incoming")
ENCODED = encode(IMAGE, is_implicit_vr=False, is_little_endian=True) or b""


@given(cuts=st.lists(st.integers(0, len(ENCODED)), max_size=6).map(sorted))
@settings(max_examples=40, deadline=None)
def test_fragments_make_the_file_and_its_digests(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("incoming")
    syntax = str(ExplicitVRLittleEndian)
    file = IncomingFile(folder, str(IMAGE.SOPClassUID), str(IMAGE.SOPInstanceUID), syntax)
    for start, end in zip([0, *cuts], [*cuts, len(ENCODED)], strict=True):
        file.write(memoryview(ENCODED)[start:end])
    received = file.finish()
    whole = received.path.read_bytes()
    assert received.size_bytes == len(whole)
    assert received.file_sha256 == hashlib.sha256(whole).hexdigest()
    assert received.content_sha256 == hashlib.sha256(syntax.encode() + b"\0" + ENCODED).hexdigest()
    read = dcmread(received.path)
    assert read.file_meta.TransferSyntaxUID == syntax
    assert read.file_meta.MediaStorageSOPInstanceUID == IMAGE.SOPInstanceUID
    assert read.PixelData == IMAGE.PixelData
    assert read_identity(received.path, syntax).sop_instance_uid == IMAGE.SOPInstanceUID
    file.discard()
    assert not received.path.exists()


def test_what_is_given_up_leaves_nothing(tmp_path: Path) -> None:
    file = IncomingFile(tmp_path, "1.2", "1.2.3", str(ExplicitVRLittleEndian))
    file.write(memoryview(b"begun"))
    file.discard()
    assert not list(tmp_path.iterdir())
