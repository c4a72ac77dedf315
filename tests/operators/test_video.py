"""Video syntaxes, in the environment that has the extra `video`; what is said where it is missing."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.encaps import encapsulate, generate_fragments

from operators.decode import decode_frames
from operators.load_study import load_study
from operators.pixel_layout import UndecodableError
from operators.read_header import read_header
from operators.study import Reason

VIDEOS = ("synthetic-lymph-h264.dcm", "synthetic-lymph-hevc.dcm", "synthetic-lymph-mpeg2.dcm")
INSTALLED = importlib.util.find_spec("cv2") is not None
needs_decoder = pytest.mark.skipif(
    not INSTALLED, reason="the extra `video` is not installed: make setup-video"
)
needs_absence = pytest.mark.skipif(INSTALLED, reason="the extra `video` is installed here")
pytestmark = pytest.mark.video


def stream_of(path: Path) -> bytes:
    return b"".join(list(generate_fragments(dcmread(path).PixelData))[1:])


def with_stream(source: Path, target: Path, stream: bytes, fragments: int = 1) -> Path:
    """The object with another stream, in so many fragments of even length."""
    dataset = dcmread(source)
    size = -(-len(stream) // fragments // 2) * 2
    parts = [stream[at : at + size] for at in range(0, len(stream), size)]
    dataset.PixelData = encapsulate(parts, has_bot=False)
    dataset.save_as(target)
    return target


@needs_absence
@pytest.mark.parametrize("name", VIDEOS)
def test_without_the_extra_video_is_set_aside_with_the_remedy(dicom_us: Path, name: str) -> None:
    (study,) = load_study([dicom_us / name])
    (aside,) = study.set_aside
    assert aside.reason is Reason.UNSUPPORTED_TRANSFER_SYNTAX
    assert "extra `video`" in aside.detail
    assert "setup-video" in aside.detail


@needs_decoder
@pytest.mark.parametrize("name", VIDEOS)
@pytest.mark.parametrize("fragments", [1, 7])
def test_pixels_are_those_expected(dicom_us: Path, tmp_path: Path, name: str, fragments: int) -> None:
    expected = json.loads((dicom_us / "expected.json").read_text())[name]
    path = with_stream(dicom_us / name, tmp_path / "a.dcm", stream_of(dicom_us / name), fragments)
    frames = np.stack([pixels for _, pixels in decode_frames(path, read_header(path).dataset)])
    assert list(frames.shape) == expected["decoded_shape"]
    for stats in expected["frame_stats"]:
        frame = frames[stats["frame"]]
        assert abs(frame.mean() - stats["mean"]) <= expected["tolerance"]["mean"]
        assert abs(frame.std() - stats["std"]) <= expected["tolerance"]["std"]
    # Statistics would miss swapped channels; the lossless picture that the video was made from does not.
    original = dcmread(dicom_us / "pydicom-examples_rgb_color.dcm").pixel_array.astype(int)
    for number in (0, 15):
        moved = np.roll(original, 3 * number, 1)
        far, near = (np.abs(frames[number] - one).mean() for one in (moved[..., ::-1], moved))
        assert near < 10
        assert near < far


@needs_decoder
def test_single_frames_are_the_frames_of_the_stream(dicom_us: Path) -> None:
    path = dicom_us / VIDEOS[0]
    header = read_header(path).dataset
    whole = dict(decode_frames(path, header))
    some = dict(decode_frames(path, header, (3, 16)))
    assert list(some) == [3, 16]
    assert all(np.array_equal(some[number], whole[number]) for number in some)


@needs_decoder
@pytest.mark.parametrize("name", VIDEOS)
def test_a_cut_stream_and_what_is_no_video_are_refused(dicom_us: Path, tmp_path: Path, name: str) -> None:
    stream = stream_of(dicom_us / name)
    playlist = b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n" + bytes(100)
    disguised = b"\x47" + playlist
    for content in (stream[: len(stream) // 2], playlist, disguised, b"\0\0\x01" + playlist, bytes(1000)):
        path = with_stream(dicom_us / name, tmp_path / "a.dcm", content)
        with pytest.raises(UndecodableError, match="send it again") as caught:
            list(decode_frames(path, read_header(path).dataset))
        assert caught.value.reason is Reason.PIXELS_UNDECODABLE


@needs_decoder
def test_frames_of_another_size_than_the_header_are_refused(dicom_us: Path, tmp_path: Path) -> None:
    dataset = dcmread(dicom_us / VIDEOS[0])
    dataset.Rows, dataset.Columns = 64, 64
    dataset.save_as(tmp_path / "a.dcm")
    with pytest.raises(UndecodableError, match="320 x 240"):
        list(decode_frames(tmp_path / "a.dcm", read_header(tmp_path / "a.dcm").dataset))


@needs_decoder
def test_a_long_video_streams_with_flat_memory(dicom_us: Path, tmp_path: Path) -> None:
    """300 frames of 0.9 MB: what is held at once must be a few of them, not 276 MB."""
    import cv2

    writer = cv2.VideoWriter(
        str(tmp_path / "a.mpg"), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*"mpg2"), 25, (640, 480)
    )
    for number in range(300):
        writer.write(np.full((480, 640, 3), number % 256, np.uint8))
    writer.release()
    path = tmp_path / "long.dcm"
    with_stream(dicom_us / "synthetic-lymph-mpeg2.dcm", path, (tmp_path / "a.mpg").read_bytes())
    dataset = dcmread(path)
    dataset.Rows, dataset.Columns, dataset.NumberOfFrames = 480, 640, 300
    dataset.save_as(path)
    counted = (
        "import sys, resource; from pathlib import Path; from operators.decode import decode_frames; "
        "from operators.read_header import read_header; path = Path(sys.argv[1]); "
        "header = read_header(path).dataset; frames = decode_frames(path, header); "
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss; "
        "[next(frames) for _ in range(20)]; before = peak(); "
        "print(20 + sum(1 for _ in frames), peak() - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", counted, str(path)], capture_output=True, text=True, check=True, timeout=120
    )
    count, grown_kib = map(int, done.stdout.split())
    assert count == 300
    assert grown_kib < 40 * 1024


@needs_decoder
def test_nothing_is_written_to_the_terminal(dicom_us: Path, tmp_path: Path) -> None:
    shutil.copy(dicom_us / VIDEOS[2], tmp_path / "a.dcm")
    path = with_stream(tmp_path / "a.dcm", tmp_path / "b.dcm", stream_of(tmp_path / "a.dcm")[:20000])
    program = (
        "import sys; from pathlib import Path; from operators.decode import decode_frames\n"
        "from operators.read_header import read_header\n"
        "try:\n    list(decode_frames(Path(sys.argv[1]), read_header(Path(sys.argv[1])).dataset))\n"
        "except ValueError:\n    print('refused')"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, str(path)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert (done.stdout.strip(), done.stderr) == ("refused", "")
