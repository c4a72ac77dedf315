"""`busmap train marks`: the network that finds burnt-in marks, from painted screens to its bundle.

Promises: learns from folds 1 and 2 alone; the bundle says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from models.data.record import Record, data_hash
from models.runtime.manifest import write_manifest
from models.training.bundle import tensor_format, write_metadata
from models.training.export import export
from models.training.mark_net import FOLDS, MarkExport, MarkSettings, train_marks

VERSION = "0.1.0"
THRESHOLD, MINIMUM_PIXELS = 0.5, 6
_SIDE = 64  # of the example; the exported network takes any multiple of 8


def publish_marks(records: Sequence[Record], settings: MarkSettings, folder: Path) -> None:
    """Train on the pictures of `FOLDS` among `records` and write the bundle `folder`."""
    learned = [record for record in records if record.fold in FOLDS]
    network = train_marks([record.grey() for record in learned], settings)
    digest = export(
        MarkExport(network),
        torch.rand(1, 1, _SIDE, _SIDE),
        ["image"],
        ["mark_probability"],
        folder / "models" / "model.onnx",
        any_size=True,
    )
    facts = {
        "data_sha256": data_hash(learned),
        "model_sha256": digest,
        "threshold": THRESHOLD,
        "minimum_pixels": MINIMUM_PIXELS,
        "settings": asdict(settings),
    }
    write_metadata(
        folder,
        name="Breast ultrasound marks",
        changelog={VERSION: "first shipped weights"},
        task="Finding burnt-in callipers and text on B-mode breast ultrasound frames",
        data_format={
            "inputs": {"image": tensor_format(1, _SIDE, {0: "grey"}, (0, 1))},
            "outputs": {"mark_probability": tensor_format(1, _SIDE, {0: "mark"}, (0, 1))},
        },
        busmap=facts,
    )
    text = Path(__file__).with_name("marks_card.md").read_text(encoding="utf-8")
    card = folder / "docs" / "README.md"
    card.parent.mkdir(parents=True, exist_ok=True)
    card.write_text(
        text.format(
            version=VERSION,
            sha256=digest,
            data_sha256=facts["data_sha256"],
            images=len(learned),
            patients=len({record.patient_id for record in learned}),
            settings=", ".join(f"{key} {value}" for key, value in asdict(settings).items()),
        ),
        encoding="utf-8",
    )
    write_manifest(folder)
