"""Pictures with boxes, class and device as the published training sees them.

Promises: every random change comes from the generator that is passed in. Boxes are shares of the picture's
width and height, (left, top, right, bottom), and follow crop and flip. Burnt-in marks are suppressed, as
for every network of this project (the published training keeps them).

Source: BUSGen, arXiv 2501.06869, and its released data code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from scipy import ndimage

from models.data.record import DataError, Record
from models.generation.paper.network import DEVICE_ENTRIES
from models.runtime.preprocess import suppress_marks

NOTHING_SAID = 0  # of class and of device: also what "no lesion" is called by the publication
BENIGN, MALIGNANT = 1, 2
_CROP_TRIES = 100
_SPECK_PX = 16  # a part of a mask smaller than this is a slip of the pen, no lesion


@dataclass(frozen=True)
class Picture:
    """A picture and what the network is told of it.

    `grey` uint8 (rows, columns); `boxes` float32 (k, 4) in 0..1; `labels` int64 (2,), class and device.
    """

    grey: torch.Tensor
    boxes: torch.Tensor
    labels: torch.Tensor


def device_entries(records: Sequence[Record]) -> dict[str, int]:
    """Device name -> entry, 1 to 19, by name.

    Raises
    ------
    DataError
        More devices than the network has entries for.
    """
    names = sorted({record.device for record in records})
    if len(names) >= DEVICE_ENTRIES:
        raise DataError(
            f"{len(names)} devices, and the paper's network tells {DEVICE_ENTRIES - 1} apart: "
            "train on fewer devices"
        )
    return {name: entry for entry, name in enumerate(names, start=1)}


def read_picture(record: Record, devices: dict[str, int]) -> Picture:
    """The picture of `record` without marks, and a box around each lesion of its mask."""
    kind = NOTHING_SAID if record.mask_path is None else MALIGNANT if record.malignant else BENIGN
    labels = [kind, devices[record.device]]
    return Picture(
        grey=torch.tensor(suppress_marks(record.grey())),
        boxes=torch.from_numpy(boxes_of(record.mask())),
        labels=torch.tensor(labels),
    )


def boxes_of(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
    """A box around each connected part of a mask, float32 (k, 4), as shares of width and height."""
    parts, count = ndimage.label(mask, structure=np.ones((3, 3)))
    sizes = np.bincount(parts.ravel(), minlength=count + 1)
    rows, columns = mask.shape
    boxes = [
        (across.start / columns, down.start / rows, across.stop / columns, down.stop / rows)
        for part, (down, across) in enumerate(ndimage.find_objects(parts), start=1)
        if sizes[part] >= _SPECK_PX
    ]
    return np.array(boxes, np.float32).reshape(-1, 4)


def draw_boxes(boxes: torch.Tensor, side: int) -> torch.Tensor:
    """The box map: float (1, side, side), 1 inside any of the boxes (k, 4), 0 elsewhere."""
    drawn = torch.zeros(1, side, side)
    for left, top, right, bottom in (boxes * side).int().tolist():
        drawn[:, top:bottom, left:right] = 1
    return drawn


def changed(picture: Picture, side: int, random: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """A random square of the picture, mirrored half of the time.

    Returns
    -------
    float (3, side, side) in -1..1, three equal channels; and its box map, float (1, side, side)
    """
    picture = random_square(picture, random)
    square = picture.grey[None, None].float() / 127.5 - 1
    square = F.interpolate(square, size=(side, side), mode="bilinear", antialias=True, align_corners=False)
    drawn = draw_boxes(picture.boxes, side)
    if torch.rand((), generator=random) < 0.5:
        square, drawn = square.flip(-1), drawn.flip(-1)
    return square[0].expand(3, -1, -1).clamp(-1, 1), drawn


def random_square(picture: Picture, random: torch.Generator) -> Picture:
    """A square that holds all boxes; the central one where there is no box, or no square holds them."""
    rows, columns = picture.grey.shape
    scale = torch.tensor([columns, rows, columns, rows])
    if len(picture.boxes):
        corners = (picture.boxes * scale).int()
        left, top = corners[:, :2].amin(0).tolist()
        right, bottom = corners[:, 2:].amax(0).tolist()
        for _ in range(_CROP_TRIES):
            x, y = _below(left, random), _below(top, random)
            smallest, largest = max(right - x, bottom - y), min(columns - x, rows - y)
            if smallest < largest:
                return _square(picture, x, y, smallest + _below(largest - smallest, random))
    edge = min(rows, columns)
    return _square(picture, (columns - edge) // 2, (rows - edge) // 2, edge)


def _below(bound: int, random: torch.Generator) -> int:
    """A whole number from 0 to bound - 1; 0 where there is none."""
    return int(torch.randint(max(1, bound), (), generator=random))


def _square(picture: Picture, x: int, y: int, edge: int) -> Picture:
    rows, columns = picture.grey.shape
    scale = torch.tensor([columns, rows, columns, rows])
    moved = (picture.boxes * scale - torch.tensor([x, y, x, y])) / edge
    return replace(picture, grey=picture.grey[y : y + edge, x : x + edge], boxes=moved.clamp(0, 1))
