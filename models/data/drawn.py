"""Pictures of what is not breast ultrasound, drawn: what the gate is fitted against and what tests show it.

Promises: every picture comes from the generator handed in, so the same seed draws the same; nothing is copied
from a real picture. They stand in for kinds of which no real picture may be fitted on: they are like them in
what a shallow look sees, and no rate measured on them is claimed for the real kind.

Speckle is the magnitude of filtered complex noise (Wagner et al., IEEE Trans. Sonics Ultrason. 1983;30:156),
log-compressed; "dead leaves" are overlapping shapes whose sizes follow a power law, as in photographs
(Lee, Mumford & Huang, Int. J. Comput. Vis. 2001;41:35).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

Grey = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Random = np.random.Generator
Painter = Callable[[Random], Grey]

_WORDS = (
    "Patient", "Study", "Report", "Left", "Right", "Findings", "1.84 cm", "Page 2", "Normal", "Series",
    "Exam", "42", "Comment", "Physician", "Dist", "Total", "OK", "Cancel", "File", "Edit", "View",
)  # fmt: skip


def speckled(echo_db: Floats, random: Random, grain: float = 1.5, dynamic_db: float = 50.0) -> Grey:
    """Speckle over a map of echo strength, float (rows, columns) in dB below white: uint8 (rows, columns).

    `grain` is the lateral width of a speckle in pixels; axially it is 0.6 of that.
    """
    parts = random.normal(size=(2, *echo_db.shape))
    real, imaginary = (ndimage.gaussian_filter(part, (0.6 * grain, grain)) for part in parts)
    envelope = np.hypot(real, imaginary)
    level = 20 * np.log10(envelope / envelope.mean() + 1e-4) + echo_db
    return to_grey(1 + level / dynamic_db)


def to_grey(value: Floats) -> Grey:
    """0..1 (cut) as uint8."""
    return np.rint(np.clip(value, 0, 1) * 255).astype(np.uint8)


def smooth_noise(shape: tuple[int, int], random: Random, sigma: float) -> Floats:
    """Noise of mean 0 and deviation 1, filtered to features of about `sigma` pixels."""
    noise = ndimage.gaussian_filter(random.normal(size=shape), sigma, mode="reflect")
    return (noise - noise.mean()) / (noise.std() + 1e-12)


def noise(random: Random) -> Grey:
    """Noise: white or coloured, normal or uniform, of any contrast."""
    shape = _shape(random)
    sigma = float(random.choice([0.0, 0.0, 0.7, 1.5, 4.0, 12.0]))
    field = random.normal(size=shape) if random.uniform() < 0.6 else random.uniform(-1.7, 1.7, shape)
    if sigma:
        field = ndimage.gaussian_filter(field, sigma)
        field = field / (field.std() + 1e-9)
    return to_grey(random.uniform(0.2, 0.7) + random.uniform(0.05, 0.35) * field)


def text_page(random: Random) -> Grey:
    """A page or screen of text, light or dark."""
    rows, columns = _shape(random)
    dark = random.uniform() < 0.5
    paper, ink = (int(random.integers(0, 40)), 230) if dark else (int(random.integers(190, 256)), 20)
    picture = Image.new("L", (columns, rows), paper)
    draw = ImageDraw.Draw(picture)
    size = int(random.integers(9, 22))
    font = ImageFont.load_default(size=size)
    for top in range(4, rows - size, round(size * random.uniform(1.2, 2.2))):
        words = random.choice(_WORDS, int(random.integers(1, 12)))
        draw.text((int(random.integers(2, 30)), top), " ".join(words), fill=ink, font=font)
    return np.asarray(picture)


def screen(random: Random) -> Grey:
    """Windows, buttons, tables and lines of a computer's screen."""
    rows, columns = _shape(random)
    picture = Image.new("L", (columns, rows), int(random.integers(0, 256)))
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(size=int(random.integers(9, 16)))
    for _ in range(int(random.integers(6, 30))):
        left, top = int(random.integers(0, columns)), int(random.integers(0, rows))
        right, bottom = left + int(random.integers(15, columns)), top + int(random.integers(8, rows // 2))
        fill, edge = (int(shade) for shade in random.integers(0, 256, 2))
        draw.rectangle((left, top, right, bottom), fill=fill, outline=edge)
        draw.text((left + 3, top + 2), str(random.choice(_WORDS)), fill=255 - fill, font=font)
    return np.asarray(picture)


def dead_leaves(random: Random) -> Grey:
    """Overlapping shaded shapes of all sizes: the statistics of a photograph."""
    rows, columns = _shape(random)
    picture = Image.new("L", (columns, rows), 128)
    draw = ImageDraw.Draw(picture)
    smallest, largest = 3.0, 0.5 * min(rows, columns)
    for _ in range(int(random.integers(200, 900))):
        radius = (smallest**-2 - random.uniform() * (smallest**-2 - largest**-2)) ** -0.5
        x, y = random.uniform(0, columns), random.uniform(0, rows)
        box = (x - radius, y - radius * random.uniform(0.4, 1), x + radius, y + radius)
        shade = int(random.integers(0, 256))
        draw.ellipse(box, fill=shade) if random.uniform() < 0.6 else draw.rectangle(box, fill=shade)
    value = np.asarray(picture) / 255 + 0.06 * smooth_noise((rows, columns), random, 1.0)
    light = smooth_noise((rows, columns), random, 0.3 * min(rows, columns))
    return to_grey(ndimage.gaussian_filter(value * (1 + 0.2 * light), random.uniform(0, 1.2)))


def computed_tomography(random: Random) -> Grey:
    """A slice as of computed tomography: ellipses with a dense rim and organs in them, air around."""
    rows, columns = _shape(random)
    y, x = np.mgrid[-1 : 1 : rows * 1j, -1 : 1 : columns * 1j]
    value = np.zeros((rows, columns))
    wide, high = random.uniform(0.55, 0.95, 2)
    value[_ellipse(x, y, 0, 0, wide, high)] = random.uniform(0.35, 0.6)
    if random.uniform() < 0.6:
        rim = _ellipse(x, y, 0, 0, wide * 0.95, high * 0.95)
        value[rim] = random.uniform(0.8, 1)
        value[_ellipse(x, y, 0, 0, wide * 0.87, high * 0.87)] = random.uniform(0.3, 0.5)
    for _ in range(int(random.integers(2, 12))):
        cx, cy = random.uniform(-0.55, 0.55, 2) * (wide, high)
        a, b = random.uniform(0.04, 0.3, 2)
        value[_ellipse(x, y, cx, cy, a, b) & (value > 0)] = random.choice([0.02, 0.25, 0.4, 0.5, 0.6, 0.95])
    value = ndimage.gaussian_filter(value, random.uniform(0.5, 1.5))
    return to_grey(value + random.uniform(0.005, 0.04) * random.normal(size=value.shape))


def rendered_volume(random: Random) -> Grey:
    """A shaded surface on black, as 3D ultrasound is rendered."""
    rows, columns = _shape(random)
    height = sum(
        weight * smooth_noise((rows, columns), random, sigma)
        for weight, sigma in ((30.0, 40.0), (8.0, 14.0), (1.5, 4.0))
    )
    slope_y, slope_x = np.gradient(height)
    light = random.normal(size=2)
    facing = (1 - 0.5 * (slope_x * light[0] + slope_y * light[1])) / np.sqrt(1 + slope_x**2 + slope_y**2)
    inside = smooth_noise((rows, columns), random, 45.0) > random.uniform(-1.5, 0)
    depth = 0.65 + 0.15 * height / (np.abs(height).max() + 1e-9)
    return to_grey(ndimage.gaussian_filter(np.where(inside, facing * depth, 0.02), 1.0))


def m_mode(random: Random) -> Grey:
    """One line of echoes over time: layers that move up and down together."""
    rows, columns = _shape(random)
    time = np.arange(columns) / columns * random.uniform(3, 14) * 2 * np.pi
    line = ndimage.gaussian_filter1d(random.gamma(0.5, 1, rows * 2), random.uniform(1, 4))
    moved = np.empty((rows, columns))
    phase, size = random.uniform(0, 2, 2), random.uniform(0.01, 0.06) * rows
    depth = np.arange(rows)
    for column in range(columns):
        shift = size * (np.sin(time[column] + phase[0]) + 0.4 * np.sin(2 * time[column] + phase[1]))
        moved[:, column] = np.interp(depth + shift + rows / 4, np.arange(rows * 2), line)
    level = 20 * np.log10(moved / moved.mean() + 1e-2)
    texture = 20 * np.log10(np.abs(1 + 0.3 * random.normal(size=moved.shape)) + 0.05)
    return to_grey(0.6 + (level + 0.5 * texture) / random.uniform(35, 55))


def spectrum(random: Random) -> Grey:
    """A Doppler spectrum: velocities over time about a baseline, on black."""
    rows, columns = _shape(random)
    beat = (np.arange(columns) / columns * random.uniform(3, 12) + random.uniform()) % 1
    pulse = np.exp(-((beat - 0.15) ** 2) / 0.006) + random.uniform(0.1, 0.4) * np.exp(-2 * beat)
    baseline = random.uniform(0.55, 0.9) * rows
    peak = baseline - pulse / pulse.max() * baseline * random.uniform(0.5, 0.95)
    depth = np.arange(rows)[:, None]
    inside = (depth < baseline) & (depth > peak[None])
    edge = np.exp(-np.abs(depth - peak[None]) / (0.06 * rows)) + random.uniform(0.05, 0.3)
    value = np.where(inside, edge, 0.01) * random.rayleigh(0.8, (rows, columns))
    value = ndimage.gaussian_filter(value, (0.8, 1.0))
    value[int(baseline)] = 0.8
    return to_grey(value)


def test_object(random: Random) -> Grey:
    """A quality-assurance phantom: even speckle with rows of round targets and bright threads."""
    rows, columns = _shape(random)
    echo = np.full((rows, columns), random.uniform(-25, -10))
    y, x = np.mgrid[:rows, :columns]
    step = random.uniform(0.15, 0.3) * rows
    for top in np.arange(step / 2, rows, step):
        for left in np.arange(step / 2, columns, step):
            if random.uniform() < 0.5:
                radius = random.uniform(0.1, 0.35) * step
                target = (x - left) ** 2 + (y - top) ** 2 < radius**2
                echo[target] = random.choice([-60.0, -40.0, echo[0, 0] + 8])
            else:
                echo[(x - left) ** 2 + 4 * (y - top) ** 2 < random.uniform(2, 6) ** 2] = 0
    echo -= random.uniform(0, 20) * (y / rows)
    return speckled(echo, random, random.uniform(1, 3), random.uniform(45, 70))


def organ_in_sector(random: Random) -> Grey:
    """A fan-shaped picture of a curved or phased probe with chambers, an oval organ or an interface."""
    rows, columns = _shape(random)
    y, x = np.mgrid[0 : 1 : rows * 1j, -0.6 : 0.6 : columns * 1j]
    apex = random.uniform(0, 0.5)
    angle, depth = np.arctan2(x, y + apex), np.hypot(x, y + apex) - apex
    fan = (np.abs(angle) < random.uniform(0.5, 0.8)) & (depth > random.uniform(0, 0.08)) & (depth < 1)
    shape = (rows, columns)
    echo = -22 + 5 * smooth_noise(shape, random, 25) + 4 * smooth_noise(shape, random, 6)
    for _ in range(int(random.integers(0, 4))):
        chamber = _turned_ellipse(x, y, random, (0.05, 0.3))
        echo[ndimage.binary_dilation(chamber, iterations=int(random.integers(2, 8)))] += random.uniform(0, 9)
        echo[chamber] = random.uniform(-70, -45)
    if random.uniform() < 0.5:
        organ = _turned_ellipse(x, y, random, (0.12, 0.4))
        echo[organ] = random.uniform(-34, -22) + 2 * smooth_noise(shape, random, 10)[organ]
        echo[ndimage.binary_erosion(organ, iterations=round(0.06 * rows))] += random.uniform(0, 16)
    if random.uniform() < 0.5:
        bow = np.abs(depth - random.uniform(0.3, 0.85) - 0.2 * angle**2 * random.uniform(-1, 1))
        echo[bow < 0.012] = -2
    echo -= random.uniform(0, 15) * depth
    grey = speckled(echo, random, random.uniform(1.0, 3.5), random.uniform(45, 65))
    grey[~fan] = 0
    return grey


def _shape(random: Random) -> tuple[int, int]:
    """Rows and columns as of usual pictures."""
    rows = int(random.integers(220, 420))
    return rows, int(rows * random.uniform(0.7, 1.5))


def _ellipse(x: Floats, y: Floats, cx: float, cy: float, a: float, b: float) -> Flags:
    return ((x - cx) / a) ** 2 + ((y - cy) / b) ** 2 < 1


def _turned_ellipse(x: Floats, y: Floats, random: Random, size: tuple[float, float]) -> Flags:
    turn = random.uniform(0, np.pi)
    cx, cy = random.uniform(-0.3, 0.3), random.uniform(0.2, 0.85)
    along = (x - cx) * np.cos(turn) + (y - cy) * np.sin(turn)
    across = (y - cy) * np.cos(turn) - (x - cx) * np.sin(turn)
    a, b = random.uniform(*size, 2)
    return (along / a) ** 2 + (across / b) ** 2 < 1


PAINTERS: dict[str, Painter] = {
    "noise": noise,
    "text": text_page,
    "screen": screen,
    "photograph": dead_leaves,
    "tomography": computed_tomography,
    "volume": rendered_volume,
    "m-mode": m_mode,
    "spectrum": spectrum,
    "phantom": test_object,
    "other-organ": organ_in_sector,
}
