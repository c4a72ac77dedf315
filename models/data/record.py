"""One image of a public data set, and what is known of it.

Promises: immutable records with the patient named, so that every split can go by patient, and a hash
over tables and pictures that identifies the data. Refuses pictures that are missing or do not fit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image


class DataError(ValueError):
    """A data set is not as published. The message names the file and the remedy."""

    code = "data-unusable"
    exit_status = 10


@dataclass(frozen=True)
class Record:
    """One image: whose it is, what it shows, where it lies. `mm_per_pixel` is None where unpublished."""

    image_id: str
    patient_id: str
    fold: int | None
    malignant: bool
    device: str
    birads: str
    histology: str
    verification: str
    image_path: Path
    mask_path: Path | None
    mm_per_pixel: float | None

    def grey(self) -> npt.NDArray[np.uint8]:
        """The picture, uint8 (rows, columns)."""
        with Image.open(self.image_path) as picture:
            return np.asarray(picture.convert("L"))

    def mask(self) -> npt.NDArray[np.bool_]:
        """The lesion's outline filled, bool (rows, columns); all False without a lesion."""
        grey = self.grey()
        if self.mask_path is None:
            return np.zeros(grey.shape, bool)
        with Image.open(self.mask_path) as picture:
            mask = np.asarray(picture.convert("L")) > 127
        if mask.shape != grey.shape:
            raise DataError(
                f"{self.mask_path.name} is {mask.shape}, its picture {grey.shape}: download both again"
            )
        return mask


def check_files(records: Sequence[Record]) -> None:
    """Raise DataError naming the first file that a record lacks."""
    for record in records:
        for path in (record.image_path, record.mask_path):
            if path is not None and not path.is_file():
                raise DataError(
                    f"{path.name} is missing in {path.parent}: the data set is incomplete, unpack it again"
                )


def data_hash(records: Sequence[Record]) -> str:
    """SHA-256 over ids, labels and file contents: the same data give the same hash wherever they lie."""
    digest = hashlib.sha256()
    for record in sorted(records, key=lambda item: item.image_id):
        digest.update(f"{record.image_id}|{record.patient_id}|{record.fold}|{record.malignant}".encode())
        for path in (record.image_path, record.mask_path):
            if path is not None:
                digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
