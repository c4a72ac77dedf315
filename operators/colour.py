"""Which kind of picture colour belongs to: Doppler, elastography, a photograph, or none that is clear.

Promises: told from the hues of the coloured pixels, how they fill the box around them, and how much of the
picture has any colour. Flow is drawn in reds, yellows and blues where it is, pure on grey; elasticity as a
closed box through all hues, green among them; a photograph has some colour nearly everywhere. What fits none
(a green variance map, an elastogram of one hue) stays without a name: "colour".
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from operators.study import Reason

Pixels = npt.NDArray[np.uint8]
Flags = npt.NDArray[np.bool_]

_CLOSED_BOX = 0.70  # share of its box that an elastogram colours
_HUE_SHARE = 0.08  # of the coloured pixels, for a hue to count
_FLOW_SHARE = 0.80  # of them that are red to yellow or blue
_WIDE = 0.60  # share of the region that the box of a photograph's colours spans
_PALE = 0.25  # or share of its bright pixels whose colour is faint
_WHOLE = 0.90  # share of the region from which a box is all of it
_ANY_COLOUR = 0.50  # share of a photograph's bright pixels that have some colour
_TRULY_GREY = 0.20  # share of the bright pixels without any colour, from which the scanner has no tint
_FAINT = 8  # departure from grey, in grey levels, that is some colour; noise of a JPEG stays below
_OUTLIERS = 0.02  # of the coloured pixels on each side that do not stretch the box
_DIM = 40  # grey level below which a hue means nothing


def colour_reason(pixels: Pixels, departure: npt.NDArray[np.int16], threshold: int) -> tuple[Reason, str]:
    """The reason against a coloured region and a word for it.

    `pixels` is uint8 (rows, columns, 3), `departure` int16 (rows, columns) its pixels' distance from grey; at
    least one reaches `threshold`, from which a pixel is coloured.
    """
    bright = pixels.max(axis=2) >= _DIM
    chroma = pixels.max(axis=2).astype(np.int16) - pixels.min(axis=2)
    if float((chroma[bright] < _FAINT).mean()) >= _TRULY_GREY and (chroma >= threshold).any():
        departure = chroma
    coloured = departure >= threshold
    top, bottom, left, right = _box(coloured)
    closed = float(coloured[top:bottom, left:right].mean()) >= _CLOSED_BOX
    extent = (bottom - top) * (right - left) / coloured.size
    faint = float(((departure[bright] >= _FAINT) & ~coloured[bright]).mean())
    some_colour = faint + float(coloured[bright].mean()) >= _ANY_COLOUR
    all_over = some_colour and (extent >= _WIDE or faint >= _PALE)
    hue = _hue(pixels[coloured & bright])
    if not hue.size:
        return Reason.COLOUR, "colour"
    warm = float(((hue < 70) | (hue >= 330)).mean())
    green = float(((hue >= 70) & (hue < 170)).mean())
    blue = float(((hue >= 170) & (hue < 270)).mean())
    hues = sum(share >= _HUE_SHARE for share in (warm, green, blue))
    if closed and green >= _HUE_SHARE and hues >= (2 if extent < _WHOLE else 3):
        return Reason.ELASTOGRAPHY, "elastography"
    if all_over:
        return Reason.PHOTOGRAPH, "a colour photograph"
    if warm + blue >= _FLOW_SHARE:
        return Reason.DOPPLER, "colour or power Doppler"
    return Reason.COLOUR, "Doppler, elastography or a photograph"


def _box(coloured: Flags) -> tuple[int, int, int, int]:
    """Top, bottom, left, right (the ends excluded) of the box that holds nearly all coloured pixels."""
    rows, columns = np.nonzero(coloured)
    top, bottom = np.quantile(rows, (_OUTLIERS, 1 - _OUTLIERS)).astype(int)
    left, right = np.quantile(columns, (_OUTLIERS, 1 - _OUTLIERS)).astype(int)
    return int(top), int(bottom) + 1, int(left), int(right) + 1


def _hue(colours: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Hue in degrees (Smith, Computer Graphics 1978;12(3):12) of RGB values (n, 3)."""
    red, green, blue = colours.astype(np.float32).T
    high = np.maximum(np.maximum(red, green), blue)
    span = np.maximum(high - np.minimum(np.minimum(red, green), blue), 1e-6)
    hue = np.select(
        [high == red, high == green],
        [(green - blue) / span % 6, (blue - red) / span + 2],
        (red - green) / span + 4,
    )
    return (hue * 60).astype(np.float32)
