"""What a scanner draws over or beside a B-mode picture: flow, elasticity, tracings, needles. Drawn only."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter
from scipy import ndimage

from models.data.drawn import smooth_noise, speckled

Pixels = npt.NDArray[np.uint8]


def b_mode(seed: int = 0, rows: int = 240, columns: int = 320) -> Pixels:
    """Layered speckle, uint8 (rows, columns)."""
    random = np.random.default_rng(seed)
    layers = smooth_noise((rows, columns), random, 18) + 1.5 * smooth_noise((rows, 1), random, 8)
    return speckled(-24 + 5 * layers, random)


def colour(grey: Pixels) -> Pixels:
    """Grey as RGB."""
    return np.repeat(grey[..., None], 3, axis=2)


def flow(grey: Pixels, seed: int = 0, *, power: bool = False) -> Pixels:
    """Colour Doppler (red and blue) or power Doppler (red to yellow) in vessels of a box."""
    rows, columns = grey.shape
    random = np.random.default_rng(seed)
    field = smooth_noise(grey.shape, random, 0.03 * columns)
    box = np.zeros(grey.shape, bool)
    box[rows // 5 : 4 * rows // 5, columns // 4 : 3 * columns // 4] = True
    vessel = box & (np.abs(field) > 0.8)
    strength = np.clip(np.abs(field) / 2, 0.4, 1)[..., None]
    one = np.array([255, 60, 20]) * strength
    other = np.stack([np.full(grey.shape, 255.0), 220 * strength[..., 0], np.full(grey.shape, 20.0)], axis=-1)
    hue = np.where((field > 0)[..., None], one, other if power else np.array([20, 70, 255]) * strength)
    return np.where(vessel[..., None], hue, colour(grey)).astype(np.uint8)


def elastogram(grey: Pixels, seed: int = 0, blend: float = 0.6) -> Pixels:
    """Elasticity from blue over green to red, blended over a box."""
    rows, columns = grey.shape
    value = smooth_noise(grey.shape, np.random.default_rng(seed), 0.05 * columns)
    turn = np.clip((value + 2) / 4, 0, 1)
    rainbow = np.stack([np.clip(1.5 - np.abs(4 * turn - peak), 0, 1) for peak in (3, 2, 1)], axis=-1) * 255
    result = colour(grey).astype(float)
    box = slice(rows // 6, 5 * rows // 6), slice(columns // 5, 4 * columns // 5)
    result[box] = (1 - blend) * result[box] + blend * rainbow[box]
    return result.astype(np.uint8)


def with_needle(grey: Pixels, seed: int = 0) -> Pixels:
    """A bright oblique needle from one side, 40 to 90% of the picture long."""
    random = np.random.default_rng(seed)
    rows, columns = grey.shape
    angle, length = np.deg2rad(random.uniform(20, 55)), random.uniform(0.55, 0.9) * max(grey.shape)
    left = random.uniform() < 0.5
    x, y, way = (-4, random.uniform(0.1, 0.35) * rows, 1) if left else (columns + 4, 0.2 * rows, -1)
    canvas = Image.new("L", (columns, rows), 0)
    ends = (x, y, x + way * length * np.cos(angle), y + length * np.sin(angle))
    ImageDraw.Draw(canvas).line(ends, fill=255, width=int(random.integers(2, 5)))
    line = np.asarray(canvas.filter(ImageFilter.GaussianBlur(0.8)), float) / 255
    return np.clip(grey + 200 * line, 0, 255).astype(np.uint8)


def side_by_side(left: Pixels, right: Pixels, gap: int = 6) -> Pixels:
    """Two pictures of equal height beside each other on black."""
    border = np.zeros((left.shape[0], gap, *left.shape[2:]), np.uint8)
    return np.concatenate([left, border, right], axis=1)


def jpeg_like(pixels: Pixels) -> Pixels:
    """A little blur across colours, as chroma subsampling leaves."""
    soft = ndimage.uniform_filter(pixels.astype(float), (2, 2, 0))
    return (0.7 * pixels + 0.3 * soft).astype(np.uint8)
