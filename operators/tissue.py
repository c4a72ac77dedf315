"""First look at the pixels of a region: is it grey, and is there tissue in it at all?

Promises: luma as the models were trained on (ITU-R BT.601, as Pillow converts), a verdict with a reason for
a region that is black, flat, text only, coloured, a tracing over time, or shows a needle. Deterministic,
without a network; what is no ultrasound at all, or of another organ, is the gate's to see.
A tint that only depends on brightness (the blue-grey of some scanners) is not colour; a pixel whose colour
departs from the tint of its brightness is.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

from models.runtime.preprocess import suppress_marks
from operators.colour import Pixels, colour_reason
from operators.needle import shows_needle
from operators.regions import textured_blocks
from operators.screens import screen_reason
from operators.study import Reason, Region
from operators.tracing import is_m_mode, is_spectrum

# Share of a region's pixels that may be coloured before it is not B-mode: callipers, a focus mark, a label.
MAXIMUM_COLOURED_SHARE = 0.01
# Departure from the tint that counts as coloured, in grey levels; JPEG chroma stays below.
COLOUR_DEPARTURE = 32
# Share of 8 x 8 blocks that must look like speckle.
MINIMUM_TEXTURED_SHARE = 0.10
# A stronger tint is an overlay: bright Doppler can own all pixels of its brightness.
MAXIMUM_TINT = 64
_LUMA_BINS = 32


def crop(pixels: Pixels, region: Region) -> Pixels:
    """The region of a whole picture: a view, uint8 (rows, columns) or (rows, columns, 3)."""
    return pixels[region.min_y0 : region.max_y1 + 1, region.min_x0 : region.max_x1 + 1]


def luma(pixels: Pixels) -> Pixels:
    """Grey of a picture, uint8 (rows, columns); grey pictures come back as they are."""
    if pixels.ndim == 2:
        return pixels
    if np.array_equal(pixels[..., 0], pixels[..., 1]) and np.array_equal(pixels[..., 1], pixels[..., 2]):
        return np.ascontiguousarray(pixels[..., 0])
    return np.asarray(Image.fromarray(np.ascontiguousarray(pixels)).convert("L"))


def departure(pixels: Pixels) -> npt.NDArray[np.int16]:
    """How far each pixel's colour departs from the tint of the region at its brightness, in grey levels.

    `pixels` is uint8 (rows, columns) or (rows, columns, 3) RGB; the result is int16 (rows, columns), all 0
    where nothing has a colour.
    """
    if pixels.ndim == 2:
        return np.zeros(pixels.shape, np.int16)
    red, green, blue = (pixels[..., channel].astype(np.int16).ravel() for channel in range(3))
    chroma = np.stack((red - green, blue - green))
    found = np.zeros(red.size, np.int16)
    if (np.abs(chroma) >= COLOUR_DEPARTURE // 2).any():
        bins = luma(pixels).ravel() // (256 // _LUMA_BINS)
        for level in np.unique(bins):
            here = bins == level
            tint = np.median(chroma[:, here], axis=1, keepdims=True).astype(np.int16)
            tint = tint.clip(-MAXIMUM_TINT, MAXIMUM_TINT)
            found[here] = np.abs(chroma[:, here] - tint).max(axis=0)
    return found.reshape(pixels.shape[:2])


def without_tissue(grey: Pixels) -> tuple[Reason, str] | None:
    """Why a grey region holds nothing to analyse; None where it looks like speckle."""
    if not grey.size or grey.max() < 8:
        return Reason.NO_TISSUE, "The picture is black."
    blocks = textured_blocks(grey)
    if not blocks.size or blocks.mean() < MINIMUM_TEXTURED_SHARE:
        flat = Reason.NO_TISSUE, "The picture shows no tissue: it is flat, or nearly empty."
        return screen_reason(grey) or flat
    return screen_reason(grey)


def not_grey(pixels: Pixels) -> tuple[Reason, str] | None:
    """Why a region is not plain B-mode: what its colour belongs to; None where it is grey."""
    found = departure(pixels)
    share = float((found >= COLOUR_DEPARTURE).mean())
    if share <= MAXIMUM_COLOURED_SHARE:
        return None
    reason, name = colour_reason(pixels, found, COLOUR_DEPARTURE)
    return reason, f"Colour over {share:.1%} of the region ({name}); only plain B-mode is analysed."


def unusable(pixels: Pixels) -> tuple[Reason, str] | None:
    """Why the pixels of a region, grey or RGB, are not analysed; None where they may be.

    Black or text first: of a coloured text screen nobody expects to read of Doppler.
    """
    grey = luma(pixels)
    return without_tissue(grey) or not_grey(pixels) or _other_use(grey)


def _other_use(grey: Pixels) -> tuple[Reason, str] | None:
    """M-mode, spectrum or needle in a grey region; None where it is plain B-mode."""
    if is_spectrum(grey):
        return Reason.SPECTRUM, "A Doppler spectrum; only plain B-mode is analysed."
    if is_m_mode(grey):
        return Reason.M_MODE, "An M-mode tracing; only plain B-mode is analysed."
    # Marks are taken away only where a line is seen at all: few pictures have one.
    if shows_needle(grey) and shows_needle(suppress_marks(grey)):
        return Reason.NEEDLE, "A needle is in view; pictures of an intervention are not analysed."
    return None
