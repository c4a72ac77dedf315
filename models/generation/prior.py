"""A joint prior over what is asked for: outlines with size, place and zoom, BI-RADS and histology with them.

Promises: class by class, shape, size, place and zoom are drawn together, from mixtures of Gaussians that
hold no training mask; BI-RADS and histology come with the part of the mixture that the outline came from.
Device is drawn by none of them. Masks lie within the frame.

An outline is the logarithm of its radius at 64 angles around its centroid (its outermost crossing where a
ray crosses it more than once), reduced by principal components.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from sklearn.mixture import GaussianMixture

from models.generation.conditions import BIRADS, CLASSES, HISTOLOGY

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.uint8]

ANGLES = 64
_COMPONENTS = 24
_PARTS = 4
_SMALLEST_PX = 80  # area of a mask
_MARGIN_PX = 1.0
_GAP_PX = 5  # between two lesions
_TRIES = 40
_LEAST_SPREAD = 0.08  # variance added to each standardised feature: no mixture closes in on one mask


@dataclass(frozen=True)
class ClassPrior:
    """The mixture of one class, over standardised features.

    weight (k,), mean (k, d), root (k, d, d) with root @ root.T the covariance; centre, spread (d,);
    birads (k, 6) and histology (k, 11): shares of each vocabulary entry in each part.
    """

    weight: Array
    mean: Array
    root: Array
    centre: Array
    spread: Array
    birads: Array
    histology: Array


@dataclass(frozen=True)
class Drawn:
    """A drawn mask, uint8 (s, s), 0 or 1, and what comes with it."""

    mask: Mask
    zoom: float
    birads: str
    histology: str
    lesions: int


@dataclass(frozen=True)
class Prior:
    """Priors by class; basis (c, 64) of log radii; `tissue_zoom`: range for lesion-free frames."""

    basis: Array
    basis_mean: Array
    classes: Mapping[str, ClassPrior]
    tissue_zoom: tuple[float, float]
    side: int

    def draw(self, lesion_class: str, lesions: int, random: np.random.Generator) -> Drawn:
        """Draw a frame of `lesions` lesions of a class; fewer where no place is left."""
        prior = self.classes[lesion_class]
        part = int(random.choice(len(prior.weight), p=prior.weight))
        mask, zoom = self._lesion(prior, part, random)
        count = 1
        for _ in range(lesions - 1):
            further = self._beside(mask, prior, random)
            if further is not None:
                mask, count = mask | further, count + 1
        return Drawn(
            mask,
            zoom,
            BIRADS[int(random.choice(len(BIRADS), p=prior.birads[part]))],
            HISTOLOGY[int(random.choice(len(HISTOLOGY), p=prior.histology[part]))],
            count,
        )

    def _lesion(self, prior: ClassPrior, part: int, random: np.random.Generator) -> tuple[Mask, float]:
        for _ in range(_TRIES):
            normal = prior.mean[part] + prior.root[part] @ random.standard_normal(len(prior.centre))
            x, y, size, zoom, *scores = prior.centre + prior.spread * normal
            radii = np.exp(size + self.basis_mean + np.asarray(scores) @ self.basis)
            mask = rasterise(x, y, radii, self.side)
            if mask.sum() >= _SMALLEST_PX:
                return mask, float(np.clip(zoom, 0.4, 1.2))
        raise ValueError("the prior draws no mask of visible size: it was fitted to unusable masks")

    def _beside(self, mask: Mask, prior: ClassPrior, random: np.random.Generator) -> Mask | None:
        near = _grown(mask, _GAP_PX)
        for _ in range(_TRIES):
            part = int(random.choice(len(prior.weight), p=prior.weight))
            normal = prior.mean[part] + prior.root[part] @ random.standard_normal(len(prior.centre))
            _, _, size, _, *scores = prior.centre + prior.spread * normal
            shape = self.basis_mean + np.asarray(scores) @ self.basis
            radii = np.exp(size + shape) * random.uniform(0.4, 0.8)
            x, y = random.uniform(0, self.side, 2)
            further = rasterise(x, y, radii, self.side)
            if further.sum() >= _SMALLEST_PX and not (near & further).any():
                return further
        return None


def _grown(mask: Mask, by: int) -> Mask:
    ys, xs = np.nonzero(mask)
    grown = np.zeros_like(mask)
    for dy in range(-by, by + 1):
        for dx in range(-by, by + 1):
            grown[np.clip(ys + dy, 0, len(mask) - 1), np.clip(xs + dx, 0, len(mask) - 1)] = 1
    return grown


def radii_of(mask: Mask) -> tuple[float, float, Array]:
    """Centroid x, y in px and radii in px at `ANGLES` angles of a mask."""
    ys, xs = np.nonzero(mask)
    x, y = float(xs.mean()) + 0.5, float(ys.mean()) + 0.5
    angles = np.arange(ANGLES) * 2 * np.pi / ANGLES
    steps = np.arange(0.0, 1.5 * len(mask), 0.5)
    columns = np.floor(x + steps * np.cos(angles)[:, None]).astype(int)
    rows = np.floor(y + steps * np.sin(angles)[:, None]).astype(int)
    inside = (columns >= 0) & (rows >= 0) & (columns < len(mask)) & (rows < len(mask))
    hit = np.zeros(inside.shape, bool)
    hit[inside] = mask[rows[inside], columns[inside]] > 0
    outermost = np.where(hit.any(1), (hit * steps).max(1), 0.5)
    return x, y, np.maximum(outermost, 0.5)


def rasterise(x: float, y: float, radii: Array, side: int) -> Mask:
    """The outline as mask (side, side), moved and if need be shrunk to lie within the frame."""
    angles = np.arange(4 * len(radii)) * 2 * np.pi / (4 * len(radii))
    periodic = np.append(radii, radii[0])
    smooth = np.interp(
        angles, np.append(np.arange(len(radii)), len(radii)) * 2 * np.pi / len(radii), periodic
    )
    outline = np.stack([smooth * np.cos(angles), smooth * np.sin(angles)], axis=1)
    room = side - 2 * _MARGIN_PX
    outline *= min(1.0, float(room / np.ptp(outline, axis=0).max()))
    low, high = _MARGIN_PX - outline.min(0), side - _MARGIN_PX - outline.max(0)
    outline += np.clip([x, y], low, np.maximum(low, high))
    fine = Image.new("L", (4 * side, 4 * side), 0)
    ImageDraw.Draw(fine).polygon([(4 * px, 4 * py) for px, py in outline], fill=255)
    return (np.asarray(fine.resize((side, side), Image.Resampling.BOX)) > 127).astype(np.uint8)


def fit_prior(
    masks: npt.NDArray[np.uint8],
    labels: npt.NDArray[np.int64],
    zoom: npt.NDArray[np.float32],
    tissue_zoom: tuple[float, float],
    seed: int,
) -> Prior:
    """Fit to masks (n, s, s) of frames with a lesion and their labels, (n, 4)."""
    shapes = [radii_of(mask) for mask in masks]
    logs = np.log(np.stack([radii for _, _, radii in shapes]))
    size = logs.mean(1)
    form = logs - size[:, None]
    mean = form.mean(0)
    components = min(_COMPONENTS, len(form) - 1)
    basis = np.linalg.svd(form - mean, full_matrices=False)[2][:components]
    scores = (form - mean) @ basis.T
    features = np.column_stack([[x for x, _, _ in shapes], [y for _, y, _ in shapes], size, zoom, scores])
    classes = {}
    for name in CLASSES[2:]:
        own = labels[:, 0] == CLASSES.index(name)
        if own.any():
            classes[name] = _fit_class(features[own], labels[own], seed)
    return Prior(basis, mean, classes, tissue_zoom, masks.shape[-1])


def _fit_class(features: Array, labels: npt.NDArray[np.int64], seed: int) -> ClassPrior:
    centre, spread = features.mean(0), features.std(0) + 1e-6
    normal = (features - centre) / spread
    parts = min(_PARTS, max(1, len(normal) // 100))
    mixture = GaussianMixture(parts, reg_covar=_LEAST_SPREAD, random_state=seed).fit(normal)
    share = mixture.predict_proba(normal)
    tables = []
    for column, words in ((2, BIRADS), (3, HISTOLOGY)):
        hot = np.eye(len(words))[labels[:, column]]
        counts = share.T @ hot
        tables.append(counts / counts.sum(1, keepdims=True))
    roots = np.linalg.cholesky(mixture.covariances_)
    return ClassPrior(mixture.weights_, mixture.means_, roots, centre, spread, tables[0], tables[1])


def arrays_of(prior: Prior) -> dict[str, Array]:
    """Everything of a prior as named arrays."""
    arrays = {"basis": prior.basis, "basis_mean": prior.basis_mean}
    for name, part in prior.classes.items():
        arrays |= {f"{name}.{key}": value for key, value in vars(part).items()}
    return arrays


def prior_of(arrays: Mapping[str, Array], tissue_zoom: Sequence[float], side: int) -> Prior:
    """The prior from the arrays of `arrays_of`, in whatever precision they were kept."""
    classes = {}
    for name in CLASSES[2:]:
        own = {
            key.partition(".")[2]: np.asarray(value)
            for key, value in arrays.items()
            if key.startswith(f"{name}.")
        }
        if own:
            for key in ("weight", "birads", "histology"):  # single precision no longer sums to 1
                own[key] = own[key] / own[key].sum(-1, keepdims=True)
            classes[name] = ClassPrior(**own)
    low, high = tissue_zoom
    return Prior(arrays["basis"], arrays["basis_mean"], classes, (low, high), side)
