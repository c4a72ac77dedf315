"""BUS-BRA in the layout its users download: Images/, Masks/, bus_data.csv, 5-fold-cv.csv.

Promises: one record an image, folds by patient as published (`kFold`, which never splits a patient).
The published `valid_k` columns split by image and leak patients between training and validation: they
are not read. Refuses a folder with files missing, naming the first one.

Source: Gomez-Flores et al., Medical Physics 2024;51(4):3110-3123, doi:10.1002/mp.16812.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

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
    rows = pd.read_csv(tables[0]).merge(pd.read_csv(tables[1])[["ID", "kFold"]], on="ID", how="left")
    if rows["kFold"].isna().any():
        raise DataError(
            f"5-fold-cv.csv lacks {rows.loc[rows['kFold'].isna(), 'ID'].iloc[0]}: download both tables again"
        )
    records = tuple(
        Record(
            image_id=str(row.ID),
            patient_id=f"busbra-{int(row.Case):04d}",
            fold=int(row.kFold),
            malignant=row.Pathology == "malignant",
            device=str(row.Device).split(" @")[0],
            birads=str(row.BIRADS),
            histology=str(row.Histology),
            verification="biopsy",
            image_path=root / "Images" / f"{row.ID}.png",
            mask_path=root / "Masks" / f"{str(row.ID).replace('bus_', 'mask_')}.png",
            mm_per_pixel=None,
        )
        for row in rows.sort_values("ID").itertuples()
    )
    check_files(records)
    return records
