"""Prediction rows made at random, consistent as the product writes them."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from models.data.prediction import Prediction


def made_rows(seed: int = 0, patients: int = 120) -> list[Prediction]:
    """One to two images a patient, a third malignant, some lesions missed, some images abstained from."""
    random = np.random.default_rng(seed)
    rows = []
    for patient in range(patients):
        malignant = patient % 3 == 0
        for view in range(1 + patient % 2):
            logit = float(random.normal(1.5 if malignant else -1.5, 1.5))
            abstained = bool(random.random() < 0.05)
            lesions = int(random.random() > 0.06)
            found = bool(lesions) and not abstained
            rows.append(
                Prediction(
                    image_id=f"image-{patient:04d}-{view}",
                    patient_id=f"patient-{patient:04d}",
                    fold=1 + patient % 4,
                    device=("Logiq", "Aplio")[patient % 5 == 0],
                    malignant=malignant,
                    has_lesion=True,
                    found=found,
                    lesions=lesions,
                    dice=float(random.uniform(0.6, 1)) if found else 0.0,
                    logit=logit if lesions else None,
                    probability=float(1 / (1 + np.exp(-logit))) if found else 0.0,
                    abstained=abstained,
                    birads="4",
                    histology="made",
                    verification="biopsy",
                    model_sha256="0" * 64,
                )
            )
    return rows


def write_parquet(rows: list[Prediction], path: Path) -> Path:
    """Write the rows as they are, whatever is wrong with them."""
    pq.write_table(pa.Table.from_pylist([asdict(row) for row in rows]), path)
    return path
