"""The gate in its bundle: the file, its digest in the metadata, its card; and a new gate beside kept weights.

Promises: weights and gate are named by digests of their own, so that either can change without the other
doing so unseen.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from models.data.record import Record
from models.runtime.bundle import read_bundle
from models.runtime.components import ComponentRule
from models.runtime.gate import CERTAINTY, Gate, save_gate
from models.runtime.lesion import LesionModel
from models.runtime.manifest import write_manifest
from models.runtime.onnx_runtime import OnnxRuntimeEngine
from models.training.bundle import replace_gate_facts
from models.training.fit_gate import SHARE, VARIED_SHARE, fit_gate
from models.training.fit_kinds import PHOTOGRAPHS, fit_kinds

LESION_CHANGELOG = {
    "0.1.0": "first shipped weights",
    "0.2.0": "weights as before; the gate measures over all features and names what it refuses",
}
_CARD = Path(__file__).with_name("gate_card.md")


def write_gate(gate: Gate, folder: Path) -> str:
    """Write `models/gate.npz` and `docs/gate.md` of a bundle and return the SHA-256 of the former."""
    sha256 = save_gate(gate, folder / "models" / "gate.npz")
    facts = {
        "sha256": sha256,
        "threshold": f"{gate.threshold:.3f}",
        "share": f"{SHARE:.0%}",
        "varied_share": f"{VARIED_SHARE:.0%}",
        "kinds": ", ".join(gate.kinds.names) if gate.kinds else "none",
        "photographs": ", ".join(Path(name).stem for name in PHOTOGRAPHS),
        "certainty": f"{CERTAINTY:.0%}",
    }
    card = folder / "docs" / "gate.md"
    card.parent.mkdir(parents=True, exist_ok=True)
    card.write_text(_CARD.read_text(encoding="utf-8").format(**facts), encoding="utf-8")
    return sha256


def refit(records: Sequence[Record], folder: Path, seed: int, threads: int = 1) -> Gate:
    """Fit the gate anew for the weights of the lesion bundle in `folder`, and enter it there.

    Raises
    ------
    ModelError
        The bundle cannot be read.
    """
    bundle = read_bundle(folder)
    rule = ComponentRule(**bundle.fact("rule"))
    model = LesionModel(OnnxRuntimeEngine(bundle.weights, threads), int(bundle.fact("side")), rule, None)
    gate = replace(fit_gate(records, model, seed), kinds=fit_kinds(model, seed))
    replace_gate_facts(folder, LESION_CHANGELOG, {"gate_sha256": write_gate(gate, folder)})
    card = folder / "docs" / "README.md"
    title = re.compile(r"(?<=, version )[\d.]+", re.MULTILINE)
    version = list(LESION_CHANGELOG)[-1]
    card.write_text(title.sub(version, card.read_text(encoding="utf-8"), count=1), encoding="utf-8")
    write_manifest(folder)
    return gate
