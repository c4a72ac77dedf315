"""BUS-BRA in the layout its users download: Images/, Masks/, bus_data.csv, 5-fold-cv.csv.

Promises: one record an image, folds by patient as published (`kFold`, which never splits a patient).
The published `valid_k` columns split by image and leak patients between training and validation: they
are not read. Refuses a folder with files missing, naming the first one.

Source: Gomez-Flores et al., Medical Physics 2024;51(4):3110-3123, doi:10.1002/mp.16812.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from models.data.record import DataError, Record, check_files

DEVELOPMENT_FOLDS = (1, 2, 3, 4)
CONFIRMATION_FOLD = 5


def read_busbra(root: Path) -> tuple[Record, ...]:
    """All images, sorted by image id.

    Raises
    ------
    DataError
        A table or a picture is missing, or the tables do not fit each other.
    """
    tables = [root / "bus_data.csv", root / "5-fold-cv.csv"]
    for table in tables:
        if not table.is_file():
            raise DataError(
                f"{table.name} is missing in {root}: give the folder in which BUS-BRA was unpacked"
            )
    folds = {row["ID"]: int(row["kFold"]) for row in _rows(tables[1])}
    records = tuple(_record(root, row, folds) for row in sorted(_rows(tables[0]), key=lambda row: row["ID"]))
    check_files(records)
    return records


def _rows(table: Path) -> list[dict[str, str]]:
    with table.open(encoding="utf-8-sig", newline="") as lines:
        return list(csv.DictReader(lines))


def _record(root: Path, row: Mapping[str, str], folds: Mapping[str, int]) -> Record:
    image_id = row["ID"]
    if image_id not in folds:
        raise DataError(f"5-fold-cv.csv lacks {image_id}: download both tables again")
    return Record(
        image_id=image_id,
        patient_id=f"busbra-{int(row['Case']):04d}",
        fold=folds[image_id],
        malignant=row["Pathology"] == "malignant",
        device=row["Device"].split(" @")[0],
        birads=row["BIRADS"],
        histology=row["Histology"],
        verification="biopsy",
        image_path=root / "Images" / f"{image_id}.png",
        mask_path=root / "Masks" / f"{image_id.replace('bus_', 'mask_')}.png",
        mm_per_pixel=None,
    )
