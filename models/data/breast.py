"""BrEaST-Lesions-USG in the layout its users download: one flat folder of pictures and masks, one table.

Promises: one record a case, with the published pixel size. Only the tumour outline is the reference; the
outlines of other suspicious areas are not. Refuses a folder with files missing, naming the first one.

Source: Pawlowska et al., Scientific Data 2024;11:148, doi:10.1038/s41597-024-02984-z.
"""

from __future__ import annotations

import csv
from pathlib import Path

from models.data.record import DataError, Record, check_files

PICTURES = "BrEaST-Lesions_USG-images_and_masks"


def read_breast(root: Path) -> tuple[Record, ...]:
    """All cases, sorted by image id; the normal ones (no lesion) have no mask and are not malignant.

    Raises
    ------
    DataError
        The table or a picture is missing.
    """
    table = root / "BrEaST-clinical.csv"
    if not table.is_file():
        raise DataError(f"{table.name} is missing in {root}: give the folder in which BrEaST was unpacked")
    pictures = root / PICTURES
    with table.open(encoding="utf-8-sig", newline="") as lines:
        rows = list(csv.DictReader(lines))
    records = []
    for row in sorted(rows, key=lambda row: int(row["CaseID"])):
        mask = row["Mask_tumor_filename"]
        normal = row["Classification"] == "normal"
        records.append(
            Record(
                image_id=f"case{int(row['CaseID']):03d}",
                patient_id=f"breast-{int(row['CaseID']):03d}",
                fold=None,
                malignant=row["Classification"] == "malignant",
                device="unknown",
                birads=row["BIRADS"],
                histology=row["Diagnosis"],
                verification=row["Verification"],
                image_path=pictures / row["Image_filename"],
                mask_path=None if normal else pictures / mask,
                mm_per_pixel=float(row["Pixel_size"]) * 10,
            )
        )
    check_files(records)
    return tuple(records)
