"""What a training stage leaves: one safetensors file in half precision, to draw from and to train on.

Promises: written whole or not at all; a product's SHA-256 names the model; everything needed to build the
networks again stands in its header. Loaded weights are single precision again. Snapshots hold a flow alone.
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
from models.data.whole import write_whole
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
    return _write(folder / WEIGHTS, halves, header)


def save_snapshot(path: Path, flow: torch.nn.Module, facts: Mapping[str, Any]) -> None:
    """Write a flow alone, in half precision; `facts`: its epochs and what else is known of it."""
    halves = {
        f"flow.{key}": value.detach().half().contiguous().cpu() for key, value in flow.state_dict().items()
    }
    _write(path, halves, {"format": FORMAT, "facts": dict(facts)})


def read_flow(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The flow's weights as they are on disk, of a product or a snapshot, and what the file says of them.

    Raises
    ------
    DataError
        The file is missing, cut short or of another format.
    """
    tensors, header = _read(path)
    return {k.removeprefix("flow."): v for k, v in tensors.items() if k.startswith("flow.")}, header["facts"]


def read_facts(path: Path) -> dict[str, Any]:
    """What a product or a snapshot says of itself.

    Raises
    ------
    DataError
        The file is missing, cut short or of another format.
    """
    facts: dict[str, Any] = _read(path)[1]["facts"]
    return facts


def encoder_digest(state: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 of an autoencoder's encoder in half precision: whether two flows speak of the same latents."""
    digest = hashlib.sha256()
    for key in sorted(state):
        if key.startswith("encoder.") or key in ("latent_mean", "latent_scale"):
            digest.update(state[key].detach().half().cpu().numpy().tobytes())
    return digest.hexdigest()


def save_with_flow(
    product: Path, flow: Mapping[str, torch.Tensor], facts: Mapping[str, Any], out: Path
) -> str:
    """Write `product` into the folder `out` with another flow, in half precision, and `facts` changed.

    Returns the SHA-256; that of the product where nothing differs.
    """
    tensors, header = _read(product / WEIGHTS)
    changed = tensors | {f"flow.{key}": value for key, value in flow.items()}
    return _write(out / WEIGHTS, changed, {**header, "facts": {**header["facts"], **facts}})


def _write(path: Path, tensors: Mapping[str, torch.Tensor], header: Mapping[str, Any]) -> str:
    """Write whole or not at all; returns the SHA-256."""
    content = save(dict(tensors), {"busmap": json.dumps(header, sort_keys=True)})
    write_whole(path, content)
    return hashlib.sha256(content).hexdigest()


def _read(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Tensors as they are on disk, and the header."""
    try:
        with safe_open(path, "pt") as file:
            header = json.loads((file.metadata() or {}).get("busmap", "{}"))
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}): give the folder of a generator") from None
    if header.get("format") != FORMAT:
        raise DataError(f"{path} is of another format: use the busmap that made it")
    return tensors, header


def load_generator(folder: Path, device: torch.device) -> Generator:
    """Load a product.

    Raises
    ------
    DataError
        It is missing, cut short, or made for other vocabularies.
    """
    path = folder / WEIGHTS
    read, header = _read(path)
    tensors = {key: value.float() for key, value in read.items()}
    words = {name: list(entries) for name, entries in VOCABULARIES.items()}
    if header.get("vocabularies") != words:
        raise DataError(f"{path} asks for other things than this busmap: use the busmap that made it")
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
