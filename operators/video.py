"""Frames of video syntaxes (MPEG-2, MPEG-4 AVC, HEVC; PS3.5 8.2), where the extra `video` is installed.

Promises: uint8 RGB, one frame in memory at a time, the stream read from the file as it is needed; a stream
that ends before the last frame wanted, or frames of another size, are an error. The decoder is FFmpeg as
OpenCV brings it, on one thread, with the containers of PS3.5 as the only formats: a stream cannot name
another file or address.
Refuses: what does not begin as a stream of its syntax. A damaged spot inside a stream is not refused: FFmpeg
conceals it and does not say so.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from operators.pixel_layout import PixelLayout, cut_after, syntax_name, undecodable
from operators.read_header import BoundedFile

_FORMATS = "mpegts,mpeg,mpegvideo,h264,hevc,mov,mp4,m4a,3gp,3g2,mj2"
_QUIET = {
    "OPENCV_LOG_LEVEL": "SILENT",
    "OPENCV_FFMPEG_LOGLEVEL": "-8",
    "OPENCV_FFMPEG_CAPTURE_OPTIONS": f"format_whitelist;{_FORMATS}",
}
_MAXIMUM_FRAGMENTS = 2**16
_ITEM, _SEQUENCE_END = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"


def decode_video(
    file: BoundedFile, layout: PixelLayout, wanted: Sequence[int]
) -> Iterator[tuple[int, npt.NDArray[np.uint8]]]:
    """Yield (frame number, RGB of shape (rows, columns, 3)) for the wanted frames.

    `file` stands at the value of Pixel Data; `wanted` are 1-based numbers in ascending order. All frames up
    to the last one wanted are decoded: each rests on those before it.

    Raises
    ------
    UndecodableError
        The stream cannot be opened, ends before the last frame wanted, or holds frames of another size.
    """
    stream = _Stream(file, _fragments(file))
    if not _begins_as_video(stream.read(12)):
        raise undecodable(f"The pixel data is no {syntax_name(layout.transfer_syntax_uid)}; send it again.")
    stream.seek(0)
    capture = _open(stream)
    try:
        if not capture.isOpened():
            raise undecodable(
                f"The video cannot be opened as {syntax_name(layout.transfer_syntax_uid)}; send it again."
            )
        size = tuple(int(capture.get(one)) for one in _dimensions())
        if size != (layout.columns, layout.rows):
            raise undecodable(
                f"The video is {size[0]} x {size[1]} pixels, in the header {layout.columns} x {layout.rows}; "
                "send it again."
            )
        done = 0
        for number in wanted:
            while done < number:
                if not capture.grab():
                    raise cut_after(layout, done)
                done += 1
            whole, picture = capture.retrieve()
            if not whole or picture.shape != (layout.rows, layout.columns, 3):
                raise undecodable(f"Frame {number} of the video cannot be decoded; send it again.")
            yield number, picture[..., ::-1]
    finally:
        capture.release()


def _fragments(file: BoundedFile) -> list[tuple[int, int]]:
    """(offset, length) of each fragment after the offset table (PS3.5 A.4)."""
    found: list[tuple[int, int]] = []
    while len(found) <= _MAXIMUM_FRAGMENTS:
        head = file.read(8)
        if head[:4] != _ITEM or len(head) < 8:
            break
        length = int.from_bytes(head[4:8], "little")
        found.append((file.tell(), min(length, file.remaining())))
        if length > file.remaining():
            break
        file.seek(length, 1)
    return found[1:]


def _begins_as_video(start: bytes) -> bool:
    """MPEG transport stream, ISO base media file, or an MPEG start code: nothing else is tried."""
    start_code = start[:3] == b"\0\0\x01" or start[:4] == b"\0\0\0\x01"
    return start_code or start[:1] == b"\x47" or start[4:8] == b"ftyp"


class _Stream(io.BufferedIOBase):
    """The fragments of a file as one stream, read where they lie."""

    def __init__(self, file: BoundedFile, fragments: Sequence[tuple[int, int]]) -> None:
        self._file, self._fragments = file, fragments
        self._size = sum(length for _, length in fragments)
        self._at = 0

    def readable(self) -> bool:
        """It can be read."""
        return True

    def seekable(self) -> bool:
        """It can be moved in."""
        return True

    def tell(self) -> int:
        """Position in bytes."""
        return self._at

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Move as a file does."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = min(max(base + offset, 0), self._size)
        return self._at

    def read(self, size: int | None = -1, /) -> bytes:
        """Read up to `size` bytes; fewer where the disk fails: the library takes no exception."""
        try:
            return self._read(size)
        except OSError:
            return b""

    def _read(self, size: int | None) -> bytes:
        self._file.lift_budget()  # what is read again is no more memory
        wanted = self._size - self._at if size is None or size < 0 else min(size, self._size - self._at)
        parts, start = [], 0
        for offset, length in self._fragments:
            if wanted and start <= self._at < start + length:
                taken = min(wanted, start + length - self._at)
                self._file.seek(offset + self._at - start)
                parts.append(self._file.read(taken))
                self._at += taken
                wanted -= taken
            start += length
        return b"".join(parts)


def _open(stream: _Stream) -> Any:
    for variable, value in _QUIET.items():  # OpenCV has no other way to be told
        os.environ[variable] = value
    import cv2

    try:
        capture = cv2.VideoCapture(stream, cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
        capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 0)  # Rows and Columns are those of the frame as coded
        return capture
    except cv2.error as error:
        raise undecodable("The video cannot be opened; send it again.") from error


def _dimensions() -> tuple[int, int]:
    import cv2

    return cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT
