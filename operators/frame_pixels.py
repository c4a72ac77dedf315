"""Read the pixels of frames, one picture at a time: what every later step does instead of holding them.

Promises: at most one decoded picture in memory, whatever the length of a cine; each frame comes as grey,
the inside of its region alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from operators.colour import Pixels
from operators.decode import decode_frames
from operators.study import Frame
from operators.tissue import crop, luma, unusable


def stream_pixels(frames: Sequence[Frame], *, judge: bool = False) -> Iterator[tuple[Frame, Pixels]]:
    """Yield each frame with its grey pixels, uint8 (region.rows, region.columns), in reading order.

    Parameters
    ----------
    judge : bool
        Whether frames that show no tissue, or colour, are left out: for frames that `select_frames` did
        not look at.

    Raises
    ------
    UndecodableError
        A frame is damaged, or the file has changed since it was selected.
    """
    ordered = sorted(frames, key=lambda frame: frame.key)
    for _, group in itertools.groupby(ordered, key=lambda frame: frame.instance.sop_instance_uid):
        wanted = list(group)
        instance = wanted[0].instance
        numbers = [frame.frame_number for frame in wanted]
        for number, pixels in decode_frames(instance.path, instance.header, numbers):
            for frame in wanted:
                if frame.frame_number != number:
                    continue
                inside = crop(pixels, frame.region)
                if not (judge and unusable(inside)):
                    yield frame, np.array(luma(inside))  # a copy: the picture itself is let go
