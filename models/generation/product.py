"""What a training stage leaves: one safetensors file in half precision, to draw from and to train on.

Promises: written whole or not at all; its SHA-256 names the model; everything needed to build the
networks again stands in its header. Loaded weights are single precision again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from models.data.record import DataError
from models.generation.autoencoder import Autoencoder, AutoencoderSettings
from models.generation.conditions import VOCABULARIES
from models.generation.flow import FlowNet, FlowSettings
from models.generation.prior import Prior, arrays_of, prior_of

WEIGHTS = "generator.safetensors"
FORMAT = 1


@dataclass(frozen=True)
class Generator:
    """Everything that draws images. `facts`: what the file says of its training. `digest`: its SHA-256.

    `adapter`: SHA-256 of the adapter in its weights, empty where there is none.
    """

    autoencoder: Autoencoder
    flow: FlowNet
    prior: Prior
    facts: Mapping[str, Any]
    digest: str
    device: torch.device
    adapter: str = ""


def save_product(
    folder: Path,
    autoencoder: tuple[Autoencoder, AutoencoderSettings],
    flow: tuple[torch.nn.Module, FlowSettings],
    prior: Prior,
    facts: Mapping[str, Any],
) -> str:
    """Write `folder`/generator.safetensors; returns its SHA-256."""
    tensors = {f"autoencoder.{key}": value for key, value in autoencoder[0].state_dict().items()}
    tensors |= {f"flow.{key}": value for key, value in flow[0].state_dict().items()}
    halves = {key: value.detach().half().contiguous().cpu() for key, value in tensors.items()}
    halves |= {
        f"prior.{key}": torch.from_numpy(np.ascontiguousarray(value, np.float32))
        for key, value in arrays_of(prior).items()
    }
    header = {
        "format": FORMAT,
        "autoencoder": asdict(autoencoder[1]),
        "flow": asdict(flow[1]),
        "vocabularies": VOCABULARIES,
        "tissue_zoom": prior.tissue_zoom,
        "side": prior.side,
        "facts": dict(facts),
    }
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / f"{WEIGHTS}.partial"
    unfinished.write_bytes(save(halves, {"busmap": json.dumps(header, sort_keys=True)}))
    unfinished.replace(folder / WEIGHTS)
    return hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()


def load_generator(folder: Path, device: torch.device) -> Generator:
    """Load a product.

    Raises
    ------
    DataError
        It is missing, cut short, or made for other vocabularies.
    """
    path = folder / WEIGHTS
    try:
        with safe_open(path, "pt") as file:
            header = json.loads((file.metadata() or {}).get("busmap", "{}"))
            tensors = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}): give the folder of a generator") from None
    words = {name: list(entries) for name, entries in VOCABULARIES.items()}
    if header.get("format") != FORMAT or header.get("vocabularies") != words:
        raise DataError(f"{path} is of another format or asks for other things: use the busmap that made it")
    first, flow = header["autoencoder"], header["flow"]
    autoencoder = Autoencoder(AutoencoderSettings(**{**first, "widths": tuple(first["widths"])}))
    network = FlowNet(FlowSettings(**{**flow, "widths": tuple(flow["widths"])}))
    for name, module in (("autoencoder", autoencoder), ("flow", network)):
        own = {k.removeprefix(f"{name}."): v for k, v in tensors.items() if k.startswith(f"{name}.")}
        module.load_state_dict(own)
        module.to(device, memory_format=torch.channels_last).eval().requires_grad_(False)
    arrays = {
        key.removeprefix("prior."): value.double().numpy()
        for key, value in tensors.items()
        if key.startswith("prior.")
    }
    prior = prior_of(arrays, header["tissue_zoom"], header["side"])
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Generator(autoencoder, network, prior, header["facts"], digest, device)
