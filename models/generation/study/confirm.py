"""Confirmation: the arms named in docs/protocol-generator.md score fold 5 and BrEaST, once.

Promises: by the weights that the study stored, nothing is trained; all scores are written at once. The study
is marked as confirmed before they are, and a study or folder that was confirmed is refused, so that no second
look goes unnoticed. Lesions on annotated outlines, as
in the study; pictures without a lesion are left out. Scores only, no figure.

Files: confirm.parquet (a logit for each image, arm and seed), frozen.parquet (the logits that these arms gave
in the study, of patients of neither set: thresholds are frozen on them), confirm.json (weights, data, day);
in the folder of the study CONFIRMED (day, weights, and where the scores are).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from pydantic import Field

from models.data.facts import Facts, read_facts
from models.data.prediction import write_rows
from models.data.record import DataError, Record, data_hash
from models.data.whole import write_whole
from models.diagnosis import train as diagnosis
from models.diagnosis.network import DiagnosisNet
from models.generation.manifest import sha256_of
from models.generation.study.arms import real
from models.generation.study.run import KINDS
from models.training.device import best_device

ARMS: Final = ("real", "gen-10", "both")
FILE: Final = "confirm.parquet"
FROZEN: Final = "frozen.parquet"
FACTS: Final = "confirm.json"
CONFIRMED: Final = "CONFIRMED"  # in the folder of the study
FOLD: Final = 5  # of BUS-BRA


def confirm(study: Path, sets: Mapping[str, Sequence[Record]], out: Path) -> None:
    """Score `sets` of records, by name, with the stored arms of `study` into the new folder `out`.

    Raises
    ------
    DataError
        The study was confirmed already, `out` holds scores, or an arm of the study is missing.
    """
    if (study / CONFIRMED).exists():
        raise DataError(_confirmed(study))
    if (out / FILE).exists() or (out / FACTS).exists():
        raise DataError(
            f"{out} holds a confirmation already: these patients are scored once, so judge what is there"
        )
    weights = _weights(study)
    frozen = [row for path in weights.values() for row in _judged(path.with_name("rows.parquet"))]
    shown = {name: [r for r in records if r.mask_path is not None] for name, records in sets.items()}
    crops = {
        name: np.stack([diagnosis.wide_crop(*pair) for pair in real(own)]) for name, own in shown.items()
    }
    rows: list[dict[str, Any]] = []
    for (arm, seed), path in weights.items():
        network = DiagnosisNet(pretrained=False)
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        network = network.to(best_device()).eval().requires_grad_(False)
        for name, records in shown.items():
            logits = diagnosis.logits_of(network, crops[name])
            rows += [
                _row(name, record, arm, seed, float(logit))
                for record, logit in zip(records, logits, strict=True)
            ]
    facts = {
        "day": datetime.now(UTC).strftime("%Y-%m-%d"),
        "generator": _facts(study)["generator"],
        "weights": {f"{arm}-seed{seed}": sha256_of(path) for (arm, seed), path in weights.items()},
        "sets": {
            name: {
                "data_hash": data_hash(own),
                "images": len(own),
                "left_out_without_lesion": len(sets[name]) - len(own),
            }
            for name, own in shown.items()
        },
    }
    out.mkdir(parents=True, exist_ok=True)
    _mark(study, out, facts)
    write_rows(frozen, out / FROZEN)
    write_whole(out / FACTS, json.dumps(facts, indent=1) + "\n")
    write_rows(rows, out / FILE)


def _mark(study: Path, out: Path, facts: Mapping[str, Any]) -> None:
    """Mark the study as confirmed; of two confirmations at once, one is refused here."""
    about = {"day": facts["day"], "out": str(out.resolve()), "weights": facts["weights"]}
    try:
        with (study / CONFIRMED).open("x", encoding="utf-8") as file:
            file.write(json.dumps(about, indent=1) + "\n")
    except FileExistsError:
        raise DataError(_confirmed(study)) from None


def _confirmed(study: Path) -> str:
    """Why a study is refused that was confirmed before."""
    try:
        about = json.loads((study / CONFIRMED).read_text(encoding="utf-8"))
        where, day = about["out"], about["day"]
    except (OSError, ValueError, KeyError, TypeError):
        where, day = "a folder that it does not name", "an unknown day"
    return (
        f"{study / CONFIRMED} says that this study was confirmed on {day} into {where}: these patients are "
        f"scored once, so judge what is there (busmap validate generator). Only where that run was killed "
        f"before it wrote {FILE} may {CONFIRMED} be deleted"
    )


class _Settings(Facts):
    seeds: list[int] = Field(min_length=1)


class _Study(Facts):
    generator: str
    settings: _Settings


def _facts(study: Path) -> dict[str, Any]:
    return read_facts(study / "study.json", _Study, "give the --out of busmap generator study")


def _weights(study: Path) -> dict[tuple[str, int], Path]:
    """The stored weights of the arms, by arm and seed; every one of them must be done."""
    settings = _facts(study)["settings"]
    found = {}
    for arm in ARMS:
        for seed in settings["seeds"]:
            folder = study / KINDS[0] / f"{arm}-seed{seed}"
            if not all((folder / name).exists() for name in ("rows.parquet", "weights.pt")):
                raise DataError(
                    f"{study}: the arm {arm}, seed {seed}, is not done: finish busmap generator study first"
                )
            found[arm, int(seed)] = folder / "weights.pt"
    return found


def _judged(path: Path) -> list[dict[str, Any]]:
    """What an arm and seed scored in the study."""
    try:
        return pq.read_table(path).to_pylist()
    except (OSError, pa.ArrowInvalid):
        raise DataError(f"{path} cannot be read: run busmap generator study again") from None


def _row(name: str, record: Record, arm: str, seed: int, logit: float) -> dict[str, Any]:
    return {
        "set": name,
        "arm": arm,
        "seed": seed,
        "image_id": record.image_id,
        "patient_id": record.patient_id,
        "device": record.device,
        "malignant": record.malignant,
        "logit": logit,
    }
