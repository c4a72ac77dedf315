"""Low-rank adapters: a small file that teaches a frozen generator pictures it has seen few of.

Promises: the base's weights stay as they are on disk and in training; an adapter names the base it was
made for by digest and is refused on any other; loaded, it is added into the weights, so that drawing with
it costs nothing more. Adapted are the attention's projections and the convolutions of the residual
blocks of the flow and, where the pictures are of a device, the embedding of that device.

Source: low-rank adaptation, Hu et al. 2021 (arXiv:2106.09685).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn
from torch.nn.utils.parametrize import (
    is_parametrized,
    register_parametrization,
    remove_parametrizations,
)

from models.data.record import DataError
from models.data.whole import whole_file
from models.generation.conditions import DEVICES, UNKNOWN, VOCABULARIES
from models.generation.flow import FlowNet
from models.generation.product import Generator

ADAPTER: Final = "adapter.safetensors"
FORMAT: Final = 1
_ADAPTED = re.compile(r"unet\..*(attentions\.\d+\.to_(q|k|v|out\.0)|resnets\.\d+\.conv[12])")
DEVICE_FIELD: Final = list(VOCABULARIES).index("device")


@dataclass(frozen=True)
class AdapterSettings:
    """Shape of an adapter.

    rank : of each change of a weight
    scale : by which the changes count
    device : whose embedding is learned, starting from "unknown"; "unknown" where none is
    """

    rank: int = 8
    scale: float = 1.0
    device: str = UNKNOWN


class LowRank(nn.Module):
    """A weight, (o, i, ...) plus scale * up (o, r) @ down (r, i * ...); `up` starts at 0."""

    def __init__(self, weight: torch.Tensor, rank: int, scale: float) -> None:
        super().__init__()
        inner = weight[0].numel()
        self.scale = scale
        self.down = nn.Parameter(torch.randn(rank, inner, device=weight.device) * inner**-0.5)
        self.up = nn.Parameter(torch.zeros(len(weight), rank, device=weight.device))

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """The changed weight."""
        return weight + self.scale * (self.up @ self.down).reshape(weight.shape)


class OneRow(nn.Module):
    """A table of embeddings (n, d) of which one row is another."""

    chosen: torch.Tensor

    def __init__(self, table: torch.Tensor, row: int) -> None:
        super().__init__()
        chosen = torch.zeros(len(table), 1, dtype=torch.bool, device=table.device)
        chosen[row] = True
        self.register_buffer("chosen", chosen, persistent=False)
        self.row = nn.Parameter(table[DEVICES.index(UNKNOWN)].detach().clone())

    def forward(self, table: torch.Tensor) -> torch.Tensor:
        """The changed table."""
        return torch.where(self.chosen, self.row, table)


def add_adapter(network: FlowNet, settings: AdapterSettings) -> FlowNet:
    """Freeze a network and give it what an adapter of these settings trains; returns the network.

    Raises
    ------
    DataError
        The device is in no vocabulary.
    """
    if settings.device not in DEVICES:
        raise DataError(f"device {settings.device!r} is not known to the generator: {', '.join(DEVICES)}")
    network.requires_grad_(False)
    for name, module in list(network.named_modules()):
        if _ADAPTED.fullmatch(name):
            weight = module.get_parameter("weight")
            register_parametrization(module, "weight", LowRank(weight, settings.rank, settings.scale))
    if settings.device != UNKNOWN:
        table = network.fields[DEVICE_FIELD]
        row = OneRow(table.get_parameter("weight"), DEVICES.index(settings.device))
        register_parametrization(table, "weight", row)
    return network


@torch.no_grad()
def from_unknown(network: FlowNet, device: str) -> None:
    """Let the embedding of a device never seen start from that of "unknown", as an adapter's does."""
    table = network.fields[DEVICE_FIELD].get_parameter("weight")
    table[DEVICES.index(device)] = table[DEVICES.index(UNKNOWN)]


def merge_adapter(network: FlowNet) -> FlowNet:
    """Add an adapter into the weights, for good; returns the network."""
    for _, module in _adapted(network):
        remove_parametrizations(module, "weight")
    return network


def _adapted(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name, module in list(network.named_modules()):
        if is_parametrized(module, "weight"):
            yield name, module


def _learned(network: nn.Module) -> dict[str, nn.Parameter]:
    """What an adapter has learned, by module and part."""
    return {
        f"{name}.{part}": value
        for name, module in _adapted(network)
        for part, value in module.parametrizations["weight"][0].named_parameters()  # type: ignore[index]
    }


def save_adapter(
    path: Path, network: nn.Module, settings: AdapterSettings, base: str, facts: Mapping[str, Any]
) -> str:
    """Write what `network` has learned, in half precision, whole or not at all; returns its SHA-256.

    `base`: digest of the generator it was made for. `facts`: what the file says of its training.
    """
    halves = {name: value.detach().half().contiguous().cpu() for name, value in _learned(network).items()}
    header = {"format": FORMAT, "base": base, "settings": asdict(settings), "facts": dict(facts)}
    with whole_file(path) as unfinished:
        save_file(halves, unfinished, {"busmap_adapter": json.dumps(header, sort_keys=True)})
    return hashlib.sha256(path.read_bytes()).hexdigest()


def with_adapter(generator: Generator, path: Path) -> Generator:
    """The generator with an adapter added into its weights; `generator` itself is used up.

    Raises
    ------
    DataError
        The file cannot be read, is no adapter, or was made for another generator.
    """
    try:
        with safe_open(path, "pt") as file:
            header = json.loads((file.metadata() or {}).get("busmap_adapter", "{}"))
            tensors = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}): give the file of an adapter") from None
    if header.get("format") != FORMAT:
        raise DataError(f"{path} is no adapter of this version: give what `busmap generator adapt` wrote")
    if header["base"] != generator.digest:
        raise DataError(
            f"{path} was made for the generator {header['base'][:12]}, not for {generator.digest[:12]}: "
            "give that generator, or adapt this one"
        )
    network = add_adapter(generator.flow, AdapterSettings(**header["settings"]))
    learned = _learned(network)
    if {name: value.shape for name, value in learned.items()} != {k: v.shape for k, v in tensors.items()}:
        raise DataError(f"{path} does not hold what its header says: copy it again")
    with torch.no_grad():
        for name, value in learned.items():
            value.copy_(tensors[name])
    merged = merge_adapter(network).eval().requires_grad_(False)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    facts = {**generator.facts, "adapter": header["facts"]}
    return replace(generator, flow=merged, facts=facts, adapter=digest)
