"""Right pixels from every encoding of the corpus; named refusals; one frame in memory at a time."""

from __future__ import annotations

import contextlib
import io
import tempfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom.encaps import generate_frames
from pydicom.uid import ExplicitVRBigEndian, JPEGBaseline8Bit, RLELossless

from operators.decode import decode_frames
from operators.jpeg_stream import stream_facts
from operators.pixel_layout import UndecodableError
from operators.read_header import UnreadableHeaderError, read_header
from operators.study import Reason
from tests.corpus import UNSUPPORTED, VIDEO, decoded, expectations, pixel_fault
from tests.operators.made_files import compressed, image, jpeg, save, speckle


def test_every_decodable_file_of_the_corpus_has_the_pixels_of_an_independent_decoder(dicom_us: Path) -> None:
    faults = {}
    for name, expected in expectations(dicom_us).items():
        if name not in UNSUPPORTED and (fault := pixel_fault(decoded(dicom_us / name), expected)):
            faults[name] = fault
    assert not faults


def test_subsampled_jpeg_and_htj2k_stay_within_two_grey_levels_of_the_lossless_original(
    dicom_us: Path,
) -> None:
    """Statistics would miss swapped channels; the lossless file of the same picture does not."""
    original = decoded(dicom_us / "synthetic-lymph-jpegls-rgb.dcm").astype(int)
    for kind in ("jpegbaseline-ybr422", "jpegextended", "jpegbaseline-rgb", "htj2k-lossy"):
        name = f"synthetic-lymph-{kind}.dcm"
        assert np.abs(decoded(dicom_us / name) - original).mean() < 4, name
    small = decoded(dicom_us / "synthetic-lymph-bigendian-rgb.dcm").astype(int)
    for name in ("synthetic-lymph-ybrfull-planar0.dcm", "synthetic-lymph-ybrfull-planar1.dcm"):
        assert np.abs(decoded(dicom_us / name) - small).max() <= 3, name


def test_grey_pictures_stored_as_luma_and_chroma_come_out_grey(dicom_us: Path) -> None:
    for name in ("weasis-ybrFull-RLE.dcm", "cornerstone-US-YBR_FULL_422-EVRLE.dcm"):
        spread = np.ptp(decoded(dicom_us / name)[0].astype(int), axis=-1)
        assert (spread <= 16).mean() > 0.98, name


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_what_no_decoder_reads_is_refused_by_name(dicom_us: Path, name: str) -> None:
    with pytest.raises(UndecodableError, match=UNSUPPORTED[name]) as caught:
        decoded(dicom_us / name)
    assert caught.value.reason is Reason.UNSUPPORTED_TRANSFER_SYNTAX


def test_single_frames_are_the_frames_of_the_stream(dicom_us: Path) -> None:
    for name in (
        "synthetic-breast-cine-jpegbaseline-fragmented-nobot.dcm",
        "synthetic-breast-cine-jpegls-eot.dcm",
        "synthetic-lymph-planar1-2frame.dcm",
        "pydicomdata-OBXXXX1A_rle_2frame.dcm",
    ):
        path = dicom_us / name
        header = read_header(path).dataset
        for number, pixels in decode_frames(path, header):
            ((_, single),) = decode_frames(path, header, (number,))
            assert np.array_equal(single, pixels), (name, number)


def test_only_the_frames_asked_for_come_in_order(tmp_path: Path) -> None:
    frames = np.stack([speckle(seed=number) for number in range(9)])
    path = save(image(frames), tmp_path / "a.dcm")
    got = list(decode_frames(path, read_header(path).dataset, (8, 2, 5)))
    assert [number for number, _ in got] == [2, 5, 8]
    assert all(np.array_equal(pixels, frames[number - 1]) for number, pixels in got)
    with pytest.raises(UndecodableError, match="beyond the 9"):
        list(decode_frames(path, read_header(path).dataset, (10,)))


def test_monochrome1_is_inverted_so_that_bright_is_high(tmp_path: Path) -> None:
    path = save(image(speckle(), PhotometricInterpretation="MONOCHROME1"), tmp_path / "a.dcm")
    assert np.array_equal(decoded(path)[0], 255 - speckle())


def test_deep_grey_is_cut_to_its_eight_high_bits(tmp_path: Path) -> None:
    deep = speckle().astype(np.uint16) * 16 + 5
    path = save(image(deep, BitsStored=12, HighBit=11), tmp_path / "a.dcm")
    assert np.array_equal(decoded(path)[0], speckle())


@pytest.mark.parametrize("rows", [64, 65])
def test_big_endian_words_hold_swapped_bytes_even_where_frames_have_an_odd_length(
    tmp_path: Path, rows: int
) -> None:
    frames = np.stack([speckle(rows, 65, seed) for seed in range(3)])
    ds = image(frames)
    words = np.frombuffer(ds.PixelData, "<u2").astype(">u2").tobytes()
    ds.PixelData = words
    path = save(ds, tmp_path / "little.dcm")
    ds.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    ds["PixelData"].VR = "OW"
    ds.save_as(tmp_path / "big.dcm", enforce_file_format=True)
    path = tmp_path / "big.dcm"
    assert np.array_equal(decoded(path), frames)


def test_full_chroma_declared_as_422_is_read_for_what_it_is(tmp_path: Path) -> None:
    colour = np.stack([speckle(seed=seed) for seed in range(3)], axis=-1)
    ycc = np.asarray(Image.fromarray(colour).convert("YCbCr"))
    path = save(image(ycc, PhotometricInterpretation="YBR_FULL_422"), tmp_path / "a.dcm")
    assert np.abs(decoded(path)[0].astype(int) - colour).max() <= 3


def test_a_jpeg_that_says_ycc_inside_is_not_shown_in_green(tmp_path: Path) -> None:
    """The header says RGB, the JFIF marker YCbCr: viewers that trust the header show green for black."""
    colour = np.zeros((64, 64, 3), np.uint8)
    colour[:, 32:] = (200, 40, 40)
    path = save(compressed(image(colour), [jpeg(colour)], JPEGBaseline8Bit), tmp_path / "a.dcm")
    assert np.abs(decoded(path)[0].astype(int) - colour).max() <= 6


def test_eight_bit_entries_in_sixteen_bit_palette_words_are_not_shown_black(tmp_path: Path) -> None:
    ds = image(speckle(), PhotometricInterpretation="PALETTE COLOR")
    for colour in ("Red", "Green", "Blue"):
        setattr(ds, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, 16])
        setattr(ds, f"{colour}PaletteColorLookupTableData", np.arange(256, dtype="<u2").tobytes())
    path = save(ds, tmp_path / "a.dcm")
    assert np.array_equal(decoded(path)[0][..., 1], speckle())


def test_a_palette_that_is_missing_is_a_named_refusal(tmp_path: Path) -> None:
    path = save(image(speckle(), PhotometricInterpretation="PALETTE COLOR"), tmp_path / "a.dcm")
    with pytest.raises(UndecodableError, match="palette"):
        decoded(path)


def test_a_stream_larger_than_its_header_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    """A bomb: a few kilobytes of JPEG that would open into a picture the header does not mention."""
    big = jpeg(np.zeros((9000, 9000), np.uint8))
    path = save(compressed(image(speckle()), [big], JPEGBaseline8Bit), tmp_path / "a.dcm")
    tracemalloc.start()
    with pytest.raises(UndecodableError, match="9000 x 9000"):
        decoded(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20 * 2**20


def test_uncompressed_fragments_of_another_length_are_refused(tmp_path: Path) -> None:
    ds = compressed(image(speckle()), [speckle().tobytes()[:-2]], "1.2.840.10008.1.2.1.98")
    with pytest.raises(UndecodableError, match="Frame 1 has 4094 bytes"):
        decoded(save(ds, tmp_path / "a.dcm"))


def test_rle_too_short_for_its_picture_is_refused(tmp_path: Path) -> None:
    ds = compressed(image(speckle()), [b"\x01\0\0\0" + b"\x40\0\0\0" + b"\0" * 58], RLELossless)
    ds.Rows = ds.Columns = 5000
    with pytest.raises(UndecodableError, match="too short"):
        decoded(save(ds, tmp_path / "a.dcm"))


def test_a_damaged_frame_is_an_error_and_names_the_frame(tmp_path: Path) -> None:
    frames = np.stack([speckle(seed=seed) for seed in range(3)])
    streams = [jpeg(frame) for frame in frames]
    streams[1] = streams[1][: len(streams[1]) // 2]
    path = save(compressed(image(frames), streams, JPEGBaseline8Bit), tmp_path / "a.dcm")
    with pytest.raises(UndecodableError, match="Frame 2"):
        decoded(path)


def test_fewer_whole_frames_than_declared_is_an_error(tmp_path: Path) -> None:
    frames = np.stack([speckle(seed=seed) for seed in range(3)])
    path = save(
        compressed(image(frames), [jpeg(frame) for frame in frames], JPEGBaseline8Bit), tmp_path / "a"
    )
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * 0.7)])
    with pytest.raises(UndecodableError, match="cut"):
        decoded(path)


def test_a_cine_streams_with_flat_memory(tmp_path: Path) -> None:
    """120 frames of 0.9 MB: what is held at once must be a few of them, not 110 MB."""
    ds = image(np.zeros((1, 480, 640, 3), np.uint8))
    frame = np.stack([speckle(480, 640, seed) for seed in range(3)], axis=-1)
    ds = compressed(ds, [jpeg(frame)] * 120, JPEGBaseline8Bit, "YBR_FULL")
    ds.NumberOfFrames = 120
    path = save(ds, tmp_path / "cine.dcm")
    header = read_header(path).dataset
    tracemalloc.start()
    count = sum(pixels.shape == (480, 640, 3) for _, pixels in decode_frames(path, header))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 120
    assert peak < 20 * 2**20


def test_the_largest_cine_of_the_corpus_streams_with_flat_memory(dicom_us: Path) -> None:
    expected = expectations(dicom_us)
    sizes = {
        name: one["frames"] * one["rows"] * one["columns"]
        for name, one in expected.items()
        if name not in UNSUPPORTED
    }
    name = max(sizes, key=sizes.__getitem__)
    frame_bytes = sizes[name] // expected[name]["frames"] * 3
    header = read_header(dicom_us / name).dataset
    tracemalloc.start()
    count = sum(1 for _ in decode_frames(dicom_us / name, header))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == expected[name]["frames"] > 50
    assert peak < 12 * frame_bytes


def test_uncompressed_cines_are_read_frame_by_frame(tmp_path: Path) -> None:
    frames = np.zeros((200, 300, 400), np.uint8)
    path = save(image(frames), tmp_path / "cine.dcm")
    header = read_header(path).dataset
    tracemalloc.start()
    assert sum(1 for _ in decode_frames(path, header)) == 200
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 * 2**20


def test_stream_facts_agree_with_the_header_of_every_compressed_file(dicom_us: Path) -> None:
    seen = 0
    for name, expected in expectations(dicom_us).items():
        if ".1.2.4." not in expected["transfer_syntax_uid"] or name in {*UNSUPPORTED, *VIDEO}:
            continue
        from pydicom import dcmread

        ds = dcmread(dicom_us / name)
        facts = stream_facts(next(generate_frames(ds.PixelData, number_of_frames=expected["frames"])))
        assert facts is not None
        assert (facts.columns, facts.rows) == (expected["columns"], expected["rows"]), name
        seen += 1
    assert seen > 20


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=80), st.sampled_from([b"", b"\xff\xd8", b"\xff\xd8\xff\xe0", b"\xff\x4f\xff\x51"]))
def test_stream_facts_never_fail_on_foreign_bytes(data: bytes, start: bytes) -> None:
    facts = stream_facts(start + data)
    assert facts is None or facts.components >= 0


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 400), st.integers(0, 255))
def test_a_changed_byte_gives_pixels_or_a_named_refusal(place: int, value: int) -> None:
    """Whatever a disk or a wire does to a header or a frame, nothing but our own errors may come out."""
    ds = image(np.stack([speckle(32, 32), speckle(32, 32, 1)]))
    ds = compressed(ds, [jpeg(speckle(32, 32)), jpeg(speckle(32, 32, 1))], JPEGBaseline8Bit)
    buffer = io.BytesIO()
    ds.file_meta.MediaStorageSOPClassUID, ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPClassUID, "1.2.3"
    ds["PixelData"].VR, ds["PixelData"].is_undefined_length = "OB", True
    ds.save_as(buffer, enforce_file_format=True)
    data = bytearray(buffer.getvalue())
    data[(128 + place * 7) % len(data)] = value
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.dcm"
        path.write_bytes(data)
        with contextlib.suppress(UndecodableError, UnreadableHeaderError):
            for _, pixels in decode_frames(path, read_header(path).dataset):
                assert pixels.dtype == np.uint8
