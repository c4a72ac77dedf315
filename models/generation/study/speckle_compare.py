"""Ways to make speckle, compared on the patients that a generator set aside.

Promises: every way rebuilds the same frames from the same latents, so that ways differ in speckle alone; no
picture of the folds that the study judges is read; pictures learned from fit the scatterers, and no other.

Files: speckle.json (every figure), speckle.png (the same eight frames, real and in each way).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from scipy import stats

from models.data.whole import whole_file, write_whole
from models.generation.distances import kernel, kid_of_kernels
from models.generation.halves import half_interval, patient_halves
from models.generation.kid import FEATURES, Embedder
from models.generation.product import Generator
from models.generation.study.privacy import Half
from models.generation.study.probe import features_of
from models.generation.study.scatterers import Grey, spreads
from models.generation.study.speckle import speckle_of
from models.generation.study.speckle_ways import WAYS, fitted, made
from models.generation.study.tune import frames_aside
from models.training.run import begin_run

FILE: Final = "speckle.json"
PICTURE: Final = "speckle.png"
STATISTICS: Final = ("shape", "down", "across", "spread")
MOVED: Final = "moved"  # by how much a frame differs from the silenced one: root mean square, grey levels
AREA: Final = 0.90  # the AUC that docs/protocol-generator.md plans with
_SHOWN = 8
_STRIP_PX = 16
Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Measured:
    """Frames and what is measured of each: features (n, d); statistics (n,) by name, NaN without a window."""

    grey: Grey
    features: npt.NDArray[np.float32]
    statistics: Mapping[str, Floats]


@dataclass(frozen=True)
class Figure:
    """A distance to real frames: of all, by half (h,), and between halves of different patients (h,)."""

    value: float
    by_half: Floats
    apart: Floats


def compare_speckle(
    generator: Generator,
    learned: Half,
    out: Path,
    count: int,
    seed: int,
    say: Callable[[str], None] = lambda line: None,
) -> list[str]:
    """Compare into `out` on `count` frames; returns the names of the real pictures shown.

    Raises
    ------
    RunDiffersError
        `out` holds a comparison for another generator, or with other frames or seed.
    DataError
        Fewer than two patients were set aside, or the generator learned from pictures without tissue.
    """
    chosen = frames_aside(learned, count)
    patients = learned.owners(chosen)
    about = {
        "model": generator.digest,
        "frames": len(chosen),
        "patients": len(set(patients)),
        "seed": seed,
        "features": FEATURES,
    }
    begin_run(out, about, "run.json")
    fits = fitted(generator, learned, seed)
    pictures = made(generator, learned, chosen, fits, seed)
    embed, masks = Embedder(generator.device), learned.frames.mask[chosen] > 0
    quiet = pictures["silenced"]
    real = _measured(learned.frames.grey[chosen], masks, quiet, embed)
    ways = {name: _measured(grey, masks, quiet, embed) for name, grey in pictures.items()}
    halves = [
        half
        for half in patient_halves(patients, np.random.default_rng([seed, 17]))
        if len(patients) - len(half) > 1
    ]
    figures = {name: _figures(real, one, halves) for name, one in (("real", real), *ways.items())}
    for name in WAYS:
        say(f"{name}: KID {_shown(figures[name]['kid'])}")
    content = {
        **about,
        "halves": len(halves),
        "scattering": {way: {name: asdict(fit) for name, fit in own.items()} for way, own in fits.items()},
        "real": {"statistics": _statistics(real, real, halves), **_yardstick(figures["real"])},
        "ways": {
            name: {"statistics": _statistics(one, real, halves), **_rows(figures[name], figures["drawn"])}
            for name, one in ways.items()
        },
        "least_kid": min(WAYS, key=lambda name: figures[name]["kid"].value),
        "usefulness": _usefulness(learned),
    }
    shown = _shown_places(patients, seed)
    _sheet({"real": real.grey[shown], **{name: pictures[name][shown] for name in WAYS}}, out / PICTURE)
    write_whole(out / FILE, json.dumps(content, indent=1) + "\n")
    return sorted(learned.records[learned.frames.source[chosen[i]]].image_id for i in shown)


def _measured(grey: Grey, masks: npt.NDArray[np.bool_], quiet: Grey, embed: Embedder) -> Measured:
    found = [speckle_of(*pair) for pair in zip(grey, masks, strict=True)]
    rows = np.array([(np.nan,) * 3 if one is None else (one.shape, one.down, one.across) for one in found])
    rows[~np.isfinite(rows)] = np.nan
    statistics = dict(zip(STATISTICS, (*rows.T, spreads(grey)), strict=True))
    moved = np.sqrt(np.square(grey.astype(np.float64) - quiet).mean((1, 2)))
    return Measured(grey, features_of(list(grey), embed), {**statistics, MOVED: moved})


def _figures(real: Measured, made: Measured, halves: Sequence[Places]) -> dict[str, Figure]:
    """KID and, of each statistic, the Kolmogorov-Smirnov distance."""
    of_real, of_made = (kernel(one.features, one.features) for one in (real, made))
    between = kernel(real.features, made.features)

    def features(one: Places, other: Places) -> float:
        parts = of_real[np.ix_(one, one)], of_made[np.ix_(other, other)], between[np.ix_(one, other)]
        return kid_of_kernels(*parts)

    def statistic(name: str) -> Callable[[Places, Places], float]:
        def distance(one: Places, other: Places) -> float:
            return _apart(real.statistics[name][one], made.statistics[name][other])

        return distance

    places = np.arange(len(real.grey))

    def figure(distance: Callable[[Places, Places], float]) -> Figure:
        by_half = np.array([distance(half, half) for half in halves])
        others = np.array([distance(half, np.setdiff1d(places, half)) for half in halves])
        return Figure(distance(places, places), by_half, others)

    return {"kid": figure(features), **{f"ks_{name}": figure(statistic(name)) for name in STATISTICS}}


def _apart(one: Floats, other: Floats) -> float:
    """Kolmogorov-Smirnov distance of what could be measured; 1 where that is nothing."""
    one, other = one[np.isfinite(one)], other[np.isfinite(other)]
    if not len(one) or not len(other):
        return 1.0
    return float(stats.ks_2samp(one, other, method="asymp").statistic)


def _statistics(made: Measured, real: Measured, halves: Sequence[Places]) -> dict[str, Any]:
    """Medians, those minus the real frames' own, and how many frames could be measured."""
    rows = {}
    for name in (*STATISTICS, MOVED):
        own, true = made.statistics[name], real.statistics[name]
        value, beside = _median(own), _median(own) - _median(true)
        by_half = np.array([_median(own[half]) for half in halves])
        true_by_half = np.array([_median(true[half]) for half in halves])
        rows[name] = {
            "frames": int(np.isfinite(own).sum()),
            "median": value,
            "interval": half_interval(value, by_half),
            "minus_real": beside,
            "minus_real_interval": half_interval(beside, by_half - true_by_half),
        }
    return rows


def _median(values: Floats) -> float:
    """Median of what could be measured; 0 where that is nothing."""
    measured = values[np.isfinite(values)]
    return float(np.median(measured)) if len(measured) else 0.0


def _rows(figures: Mapping[str, Figure], drawn: Mapping[str, Figure]) -> dict[str, Any]:
    return {
        name: {
            "value": one.value,
            "interval": half_interval(one.value, one.by_half),
            "minus_drawn": one.value - drawn[name].value,
            "minus_drawn_interval": half_interval(
                one.value - drawn[name].value, one.by_half - drawn[name].by_half
            ),
            "other_patients": _spread_of(one),
        }
        for name, one in figures.items()
    }


def _yardstick(figures: Mapping[str, Figure]) -> dict[str, Any]:
    """Real frames against real frames of other patients: half against half."""
    return {name: {"other_patients": _spread_of(one)} for name, one in figures.items()}


def _spread_of(figure: Figure) -> dict[str, float]:
    low, high = np.quantile(figure.apart, (0.025, 0.975))
    return {"mean": float(figure.apart.mean()), "low": float(low), "high": float(high)}


def _usefulness(learned: Half) -> dict[str, Any]:
    """What an arm judged on these patients could tell: the standard error of its AUC."""
    classes = {record.patient_id: record.malignant for record in learned.records}
    malignant = sum(classes[patient] for patient in learned.aside & set(classes))
    benign = len(learned.aside & set(classes)) - malignant
    error = auc_error(AREA, malignant, benign) if malignant and benign else None
    return {"malignant": malignant, "benign": benign, "area": AREA, "standard_error": error}


def auc_error(area: float, malignant: int, benign: int) -> float:
    """Standard error of an AUC, Hanley & McNeil 1982 (doi:10.1148/radiology.143.1.7063747)."""
    above, below = area / (2 - area) - area**2, 2 * area**2 / (1 + area) - area**2
    variance = area * (1 - area) + (malignant - 1) * above + (benign - 1) * below
    return float(np.sqrt(variance / (malignant * benign)))


def _shown(figure: Figure) -> str:
    low, high = half_interval(figure.value, figure.by_half)
    return f"{figure.value:.4f} ({low:.4f} to {high:.4f})"


def _shown_places(patients: Sequence[str], seed: int) -> Places:
    """One frame each of up to eight patients, by the seed."""
    random = np.random.default_rng([seed, 31])
    names = np.unique(patients)
    drawn = random.choice(names, min(_SHOWN, len(names)), replace=False)
    return np.array([random.choice(np.flatnonzero(np.asarray(patients) == name)) for name in drawn])


def _sheet(rows: Mapping[str, Grey], path: Path) -> None:
    """Frames row by row, the name of each row above it and on none of them."""
    count, side = len(rows["real"]), rows["real"].shape[-1]
    step = side + _STRIP_PX
    page = Image.new("L", (count * side, len(rows) * step), 255)
    pen = ImageDraw.Draw(page)
    for row, (name, pictures) in enumerate(rows.items()):
        pen.text((2, row * step + 2), name, fill=0)
        page.paste(Image.fromarray(np.concatenate(pictures, axis=1)), (0, row * step + _STRIP_PX))
    with whole_file(path) as unfinished:
        page.save(unfinished, "PNG", optimize=True)
