"""What every process of busmap does before it imports the MONAI Deploy SDK.

Promises: holoscan finds libcudart on a machine without CUDA, keeps quiet on stderr, and leaves the log
set-up to us. Safe to call more than once.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import warnings
from pathlib import Path


def prepare_process() -> None:
    """Preload libcudart from its wheel and silence what holoscan says of stack size and missing GPUs.

    holoscan-cu13 links libcudart.so.13 but does not declare the wheel that carries it, and the loader does
    not look into site-packages: loaded here with global symbols, the later import finds it.
    """
    os.environ.setdefault("HOLOSCAN_LOG_LEVEL", "OFF")
    warnings.filterwarnings("ignore", message="Current stack size", category=RuntimeWarning)
    spec = importlib.util.find_spec("nvidia")
    for folder in spec.submodule_search_locations or () if spec else ():
        library = Path(folder) / "cu13" / "lib" / "libcudart.so.13"
        if library.exists():
            ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
            return
