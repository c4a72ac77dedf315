"""Where training runs and in which precision.

Promises: a GPU if there is one; bfloat16 only where the processor has it in hardware (an emulated one is
slower than single precision).
"""

from __future__ import annotations

import torch


def best_device() -> torch.device:
    """The first CUDA device, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def has_bfloat16(device: torch.device) -> bool:
    """Whether `device` multiplies in bfloat16."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def autocast(device: torch.device, *, low_precision: bool) -> torch.autocast:
    """bfloat16 for what follows, if asked for."""
    return torch.autocast(device.type, torch.bfloat16, enabled=low_precision)
