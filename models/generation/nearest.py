"""How near two pictures are, and which is the nearest: in pixels and in features.

Promises: a distance is the same both ways, 0 between a picture and itself, its mirror image or (in pixels)
a small shift of it, and does not change with brightness or contrast; 2 at most. Shifts wrap around, so that
they lose nothing and can be undone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from models.data.record import DataError
from models.generation.kid import Embedder
from models.training.run import write_arrays

SIDE = 64  # px at which pixels are compared
SHIFTS = (-2, -1, 0, 1, 2)  # px of these, in both directions
Grey = npt.NDArray[np.uint8]
Distances = npt.NDArray[np.float32]
Positions = npt.NDArray[np.int64]
_CHUNK = 256


def pixel_vectors(pictures: Grey) -> torch.Tensor:
    """Pictures, uint8 (n, s, s), as vectors (n, 64 * 64) of mean 0 and length 1 (0 of a flat picture)."""
    small = F.interpolate(torch.from_numpy(pictures).float().unsqueeze(1), size=(SIDE, SIDE), mode="area")
    vectors = small.flatten(1)
    return F.normalize(vectors - vectors.mean(1, keepdim=True), eps=1e-3)


def feature_vectors(pictures: Grey, embed: Embedder) -> torch.Tensor:
    """Features (n, d) of length 1, of pictures and their mirror images together."""
    parts = []
    for start in range(0, len(pictures), _CHUNK):
        grey = torch.from_numpy(pictures[start : start + _CHUNK]).float().unsqueeze(1) / 255
        parts.append((embed(grey) + embed(grey.flip(3))).cpu())
    return F.normalize(torch.cat(parts))


@dataclass(frozen=True)
class Nearest:
    """Distance (n,) of each picture to the nearest of others, and its position among them (n,)."""

    distance: Distances
    position: Positions


def nearest_pixels(of: torch.Tensor, among: torch.Tensor) -> Nearest:
    """Nearest by pixels, over small shifts and the mirror."""
    return _nearest(of, among, moved=True)


def nearest_features(of: torch.Tensor, among: torch.Tensor) -> Nearest:
    """Nearest by features."""
    return _nearest(of, among, moved=False)


def all_pixels(vectors: torch.Tensor) -> Distances:
    """Distances (n, n) by pixels of all pictures to each other."""
    return torch.cat([_distance(alike) for alike in _likeness(vectors, vectors, moved=True)]).numpy()


def all_features(vectors: torch.Tensor) -> Distances:
    """Distances (n, n) by features, likewise."""
    return torch.cat([_distance(alike) for alike in _likeness(vectors, vectors, moved=False)]).numpy()


def _nearest(of: torch.Tensor, among: torch.Tensor, *, moved: bool) -> Nearest:
    best = [alike.max(1) for alike in _likeness(of, among, moved=moved)]
    distance = _distance(torch.cat([one.values for one in best]))
    return Nearest(distance.numpy(), torch.cat([one.indices for one in best]).numpy())


def _likeness(of: torch.Tensor, among: torch.Tensor, *, moved: bool) -> Iterator[torch.Tensor]:
    """Products of vectors, rows of `of` part by part: 1 of the same."""
    for part in of.split(_CHUNK):
        alike = torch.full((len(part), len(among)), -1.0)
        for variant in _moved(part) if moved else (part,):
            alike = torch.maximum(alike, variant @ among.T)
        yield alike


def _distance(alike: torch.Tensor) -> torch.Tensor:
    return (2 - 2 * alike).clamp(min=0).sqrt()


def _moved(vectors: torch.Tensor) -> list[torch.Tensor]:
    squares = vectors.reshape(-1, SIDE, SIDE)
    both = (squares, squares.flip(2))
    return [
        square.roll((down, across), (1, 2)).flatten(1)
        for square in both
        for down in SHIFTS
        for across in SHIFTS
    ]


@dataclass(frozen=True)
class NearIndex:
    """The pictures that a generator learned from, and how near to them a drawn one may come.

    vectors : (n, 64 * 64), of `pixel_vectors`; thresholds : by "lesion" and "tissue"; digest : SHA-256
    """

    vectors: torch.Tensor
    thresholds: Mapping[str, float]
    digest: str

    def too_near(self, picture: Grey, *, lesion: bool) -> bool:
        """Whether a picture, uint8 (s, s), lies nearer to a training picture than real ones do."""
        found = nearest_pixels(pixel_vectors(picture[None]), self.vectors)
        return bool(found.distance[0] < self.thresholds["lesion" if lesion else "tissue"])


def save_index(vectors: torch.Tensor, thresholds: Mapping[str, float], path: Path) -> None:
    """Write an index, whole or not at all. It holds real pictures in small: it is not passed on."""
    values = {kind: np.array(thresholds[kind]) for kind in ("lesion", "tissue")}
    write_arrays(path, {"vectors": vectors.half().numpy(), **values})


def load_index(path: Path) -> NearIndex:
    """Read an index.

    Raises
    ------
    DataError
        It is missing, cut short, empty or none.
    """
    try:
        with np.load(path) as arrays:
            vectors = torch.from_numpy(arrays["vectors"].astype(np.float32))
            thresholds = {kind: float(arrays[kind]) for kind in ("lesion", "tissue")}
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except (OSError, ValueError, KeyError, TypeError, EOFError, IndexError, BadZipFile) as error:
        raise DataError(
            f"{path} is no index of training pictures ({error}): busmap generator index"
        ) from None
    if vectors.ndim != 2 or not len(vectors) or vectors.shape[1] != SIDE**2:
        raise DataError(
            f"{path} is no index of training pictures (vectors of {tuple(vectors.shape)}, not of "
            f"{SIDE**2} values each): busmap generator index"
        )
    if not (torch.isfinite(vectors).all() and np.isfinite([*thresholds.values()]).all()):
        raise DataError(f"{path} holds values that are no numbers: busmap generator index")
    return NearIndex(vectors, thresholds, digest)
