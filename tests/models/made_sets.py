"""Tiny data sets in the published layouts, drawn from a seed."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from PIL import Image

DEVICES = ("LOGIQ 7 @ linear 12L", "TOSHIBA Aplio", "U-Systems")


def made_picture(random: np.random.Generator, rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Speckle with a dark ellipse, uint8, and the ellipse's mask, bool."""
    speckle = np.clip(90 + 30 * random.standard_normal((rows, columns)), 1, 255)
    y, x = np.ogrid[:rows, :columns]
    centre_y, centre_x = random.uniform(0.4, 0.6, 2) * (rows, columns)
    height, width = random.uniform(0.12, 0.25, 2) * (rows, columns)
    mask = ((y - centre_y) / height) ** 2 + ((x - centre_x) / width) ** 2 <= 1
    speckle[mask] *= 0.4
    return speckle.astype(np.uint8), mask


def make_busbra(root: Path, patients: int = 30, seed: int = 0, size: tuple[int, int] = (96, 128)) -> Path:
    """BUS-BRA's layout: every third patient malignant, folds 1 to 5 in turn, odd patients with two views."""
    random = np.random.default_rng(seed)
    (root / "Images").mkdir(parents=True)
    (root / "Masks").mkdir()
    images, folds = [], []
    for patient in range(1, patients + 1):
        pathology = "malignant" if patient % 3 == 0 else "benign"
        for side in ("left", "right") if patient % 2 else ("single",):
            name = f"{patient:04d}-{side[0]}"
            grey, mask = made_picture(random, *size)
            Image.fromarray(grey).save(root / "Images" / f"bus_{name}.png")
            Image.fromarray(mask).save(root / "Masks" / f"mask_{name}.png")
            images.append(
                {
                    "ID": f"bus_{name}",
                    "Case": patient,
                    "Histology": "made",
                    "Pathology": pathology,
                    "BIRADS": 4,
                    "Device": DEVICES[patient % 3],
                    "Width": size[1],
                    "Height": size[0],
                    "Side": side,
                    "BBOX": "[1, 1, 1, 1]",
                }
            )
            folds.append({"ID": f"bus_{name}", "Pathology": pathology, "kFold": 1 + patient % 5})
    write_table(root / "bus_data.csv", images)
    write_table(root / "5-fold-cv.csv", folds)
    return root


def make_breast(root: Path) -> Path:
    """BrEaST's layout: a benign, a malignant and a normal case."""
    random = np.random.default_rng(1)
    pictures = root / "BrEaST-Lesions_USG-images_and_masks"
    pictures.mkdir(parents=True)
    cases = []
    for case, kind in ((10, "benign"), (2, "malignant"), (45, "normal")):
        grey, mask = made_picture(random, 80, 100)
        Image.fromarray(grey).save(pictures / f"case{case:03d}.png")
        tumour = ""
        if kind != "normal":
            tumour = f"case{case:03d}_tumor.png"
            Image.fromarray(mask).save(pictures / tumour)
        cases.append(
            {
                "CaseID": case,
                "Image_filename": f"case{case:03d}.png",
                "Mask_tumor_filename": tumour,
                "Mask_other_filename": "",
                "Pixel_size": "0.0072",
                "BIRADS": {"benign": "3", "malignant": "4c", "normal": "1"}[kind],
                "Verification": "confirmed by biopsy",
                "Diagnosis": kind,
                "Classification": kind,
            }
        )
    write_table(root / "BrEaST-clinical.csv", cases)
    return root


def write_table(path: Path, rows: list[dict]) -> None:
    """A CSV with a byte order mark, as some of the published tables have."""
    with path.open("w", encoding="utf-8-sig", newline="") as lines:
        writer = csv.DictWriter(lines, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
