"""A finished run of the published configuration, read back from its folder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.torch import load_file

from models.data.record import DataError
from models.generation.paper.boxes import BoxPrior, fit_box_prior
from models.generation.paper.data import BENIGN, MALIGNANT
from models.generation.paper.network import NetworkSettings, PaperUNet
from models.training.device import best_device

WEIGHTS = "weights.safetensors"
BOXES = "boxes.npz"


@dataclass(frozen=True)
class PaperRun:
    """The trained network in eval mode, on the best device, and what it was trained on.

    side : px of its pictures; devices : entry of each; priors : of the boxes of each class
    """

    network: PaperUNet
    side: int
    devices: dict[str, int]
    priors: dict[int, BoxPrior]


def read_run(folder: Path) -> PaperRun:
    """The run that `models.generation.paper.train` left in `folder`.

    Raises
    ------
    DataError
        The folder holds no finished run of this configuration.
    """
    for name in ("run.json", BOXES, WEIGHTS):
        if not (folder / name).is_file():
            raise DataError(
                f"{name} is missing in {folder}: give the folder of a finished run of this configuration"
            )
    facts = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    sizes = facts["settings"]["network"]
    network = PaperUNet(NetworkSettings(**sizes | {"multipliers": tuple(sizes["multipliers"])}))
    network.load_state_dict(load_file(folder / WEIGHTS))
    with np.load(folder / BOXES) as boxes:
        priors = {
            BENIGN: fit_box_prior(boxes["benign"]),
            MALIGNANT: fit_box_prior(boxes["malignant"]),
        }
    return PaperRun(network.eval().to(best_device()), facts["settings"]["side"], facts["devices"], priors)
