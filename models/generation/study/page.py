"""A page of real and generated pictures side by side, chosen and shuffled by a seed.

Promises: nobody picks: the same seed, data and repository give the same page; as many real ones, one a
patient, of the folds that the generator learned from, as generated ones; numbers stand above the pictures and
on none of them; the key names every picture, so that real ones can be attributed.

Files: PNG of the pictures, PNG of their outlines in the same order, Markdown with both and the key below.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from models.data.record import DataError
from models.generation.draw import Row
from models.generation.repository import read_rows
from models.generation.study.arms import generated
from models.generation.study.pin import pin_of
from models.generation.study.privacy import Half

NAME: Final = "real-and-generated"
ROWS, COLUMNS = 6, 8
STRIP_PX = 16  # above each picture, for its number
GAP_PX = 4
Grey = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Tile:
    """A picture and its outline, uint8 (s, s) each, and what it is: for the key."""

    grey: Grey
    mask: Grey
    real: bool
    name: str


def write_page(learned: Half, repository: Path, out: Path, seed: int) -> list[str]:
    """Write the page into `out`; returns the names of the real pictures on it.

    Raises
    ------
    DataError
        There are fewer patients, or fewer generated pictures of lesions, than half a page has places.
    """
    half = ROWS * COLUMNS // 2
    random = np.random.default_rng([seed, 23])
    tiles = [*_real(learned, half, random), *_generated(repository, half, random)]
    shuffled = [tiles[i] for i in random.permutation(len(tiles))]
    out.mkdir(parents=True, exist_ok=True)
    for end, pictures in (
        ("", [tile.grey for tile in shuffled]),
        ("-masks", [tile.mask for tile in shuffled]),
    ):
        sheet(pictures).save(out / f"{NAME}{end}.png", "PNG", optimize=True)
    real = sorted(tile.name for tile in shuffled if tile.real)
    rows = read_rows(repository)
    source = (
        f"the generator {_one_model(rows)} into the repository {pin_of(repository, rows)['pictures'][:12]}"
    )
    (out / f"{NAME}.md").write_text(_page(shuffled, real, source, seed), encoding="utf-8")
    return real


def _real(learned: Half, count: int, random: np.random.Generator) -> list[Tile]:
    """One square a patient."""
    places: dict[str, list[int]] = {}
    for i, record in enumerate(learned.records):
        places.setdefault(record.patient_id, []).append(i)
    patients = sorted(places)
    if len(patients) < count:
        raise DataError(f"{len(patients)} patients were learned from, the page shows {count}")
    views = learned.first_lesion_views()
    tiles = []
    for chosen in random.choice(len(patients), count, replace=False):
        own = places[patients[chosen]]
        place = own[int(random.integers(len(own)))]
        view = int(views[place])
        mask = learned.frames.mask[view] * np.uint8(255)
        tiles.append(Tile(learned.frames.grey[view], mask, real=True, name=learned.records[place].image_id))
    return tiles


def refuse_few(repository: Path) -> list[Row]:
    """The rows of a repository that show lesions, if they fill half a page.

    Raises
    ------
    DataError
        There are fewer.
    """
    rows = [row for row in read_rows(repository) if row.lesions > 0]
    if len(rows) < ROWS * COLUMNS // 2:
        raise DataError(
            f"{repository} holds {len(rows)} pictures of lesions, the page shows {ROWS * COLUMNS // 2}: "
            "draw more with busmap generator sample"
        )
    return rows


def _generated(repository: Path, count: int, random: np.random.Generator) -> list[Tile]:
    rows = refuse_few(repository)
    chosen = [rows[i] for i in random.choice(len(rows), count, replace=False)]
    return [
        Tile(grey, mask * np.uint8(255), real=False, name=f"image {row.index}")
        for row, (grey, mask) in zip(chosen, generated(repository, chosen), strict=True)
    ]


def _one_model(rows: Sequence[Row]) -> str:
    return ", ".join(sorted({row.model[:12] for row in rows}))


def sheet(pictures: Sequence[Grey]) -> Image.Image:
    """Pictures of one size, row by row from the top left, each below its number, from 1."""
    side = pictures[0].shape[0]
    step, down = side + GAP_PX, side + GAP_PX + STRIP_PX
    page = Image.new("L", (COLUMNS * step - GAP_PX, -(-len(pictures) // COLUMNS) * down - GAP_PX), 255)
    pen = ImageDraw.Draw(page)
    for i, picture in enumerate(pictures):
        left, top = i % COLUMNS * step, i // COLUMNS * down
        pen.text((left, top + 2), str(i + 1), fill=0)
        page.paste(Image.fromarray(picture), (left, top + STRIP_PX))
    return page


def _page(tiles: Sequence[Tile], real: Sequence[str], source: str, seed: int) -> str:
    half = len(real)
    rows = [
        f"| {number} | {'real' if tile.real else 'generated'} | {tile.name} |"
        for number, tile in enumerate(tiles, 1)
    ]
    lines = [
        "# Real and generated pictures",
        "",
        f"{half} real squares of 128 px and {half} generated ones, chosen and shuffled by seed {seed} and "
        "not by hand: which is which stands at the foot. Research use; a generated picture shows no patient.",
        "",
        f"Generated: drawn by {source}. Real: BUS-BRA, one picture a patient of the folds "
        "that the generator learned from; burnt-in marks are filled.",
        "",
        f"![numbered pictures, real and generated, shuffled]({NAME}.png)",
        "",
        "The outline of each, in the same order: recorded of the real ones, asked for of the generated ones.",
        "",
        f"![their outlines]({NAME}-masks.png)",
        "",
        "## Key",
        "",
        "| number | is | which |",
        "| --- | --- | --- |",
        *rows,
        "",
        "The real pictures are of BUS-BRA (Gomez-Flores et al., Medical Physics 2024;51(4):3110-3123, "
        "doi:10.1002/mp.16812; data doi:10.5281/zenodo.8231412, CC BY 4.0), cut to squares, marks filled, "
        "scaled to 128 px; NOTICE names them.",
    ]
    return "\n".join(lines) + "\n"
