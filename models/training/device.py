"""Where training runs and in which precision.

Promises: a GPU if there is one; bfloat16 only where the processor has it in hardware (an emulated one is
slower than single precision).
"""

from __future__ import annotations

import time

import torch


def best_device(*, gpu: bool = True) -> torch.device:
    """The first CUDA device if there is one and it is wanted (`gpu`), else the CPU."""
    return torch.device("cuda" if gpu and torch.cuda.is_available() else "cpu")


def device_of(network: torch.nn.Module) -> torch.device:
    """Where a network lies: what it is asked has to lie there too."""
    return next(network.parameters()).device


def seconds_now(device: torch.device) -> float:
    """The clock, once all that was asked of `device` is done: a GPU answers before it has finished."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def device_name(device: torch.device) -> str:
    """What a record says of a device: "cpu", or the GPU's name."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def has_bfloat16(device: torch.device) -> bool:
    """Whether `device` multiplies in bfloat16."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def autocast(device: torch.device, *, low_precision: bool) -> torch.autocast:
    """bfloat16 for what follows, if asked for."""
    return torch.autocast(device.type, torch.bfloat16, enabled=low_precision)
