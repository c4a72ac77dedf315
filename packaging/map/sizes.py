"""How large each part of the image is.

Promises: every file below the root belongs to exactly one part, so the parts add up to the whole.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from layer import entries
from tree import SITE
from wheels import PYTHON

_LIBRARY = re.compile(r"^(.+?)(?:\.libs|\.cpython-.*|-[^-]*\.dist-info|\.py|\.pth)$")
# Folders whose name is not that of the package.
_NAMES = {
    "_CharLS": "pyjpegls",
    "_cffi_backend": "cffi",
    "markdown_it": "markdown-it-py",
    "rapidjson-stubs": "python-rapidjson",
    "tritongrpcclient": "tritonclient",
    "tritonhttpclient": "tritonclient",
    "tritonclientutils": "tritonclient",
    "tritonshmutils": "tritonclient",
    "jpeg_ls": "pyjpegls",
    "_openjpeg": "pylibjpeg-openjpeg",
    "openjpeg": "pylibjpeg-openjpeg",
    "rle": "pylibjpeg-rle",
    "_gdcm": "python-gdcm",
    "gdcm": "python-gdcm",
    "skimage": "scikit-image",
    "PIL": "pillow",
    "google": "protobuf",
    "grpc": "grpcio",
    "monai": "monai-deploy-app-sdk",
    "holoscan": "holoscan-cu13",
    "nvidia": "nvidia-cuda-runtime",
    "yaml": "pyyaml",
    "_yaml": "pyyaml",
    "rapidjson": "python-rapidjson",
    "_brotli": "brotli",
    "zope": "zope-interface",
    "dateutil": "python-dateutil",
    "dotenv": "python-dotenv",
    "opentelemetry": "opentelemetry-api",
}


def sizes(root: Path) -> dict[str, int]:
    """Bytes of the files of each part, the largest first."""
    counted: Counter[str] = Counter()
    for path in entries(root):
        if path.is_symlink() or not path.is_dir():
            counted[part(path.relative_to(root).as_posix())] += path.lstat().st_size
    return dict(counted.most_common())


def part(name: str) -> str:
    """The part that a file belongs to."""
    for prefix, title in (
        ("opt/holoscan/app/", "busmap: application"),
        ("opt/holoscan/models/", "busmap: models"),
        (f"usr/lib/python{PYTHON}/", "Debian: Python's library"),
        ("usr/share/zoneinfo/", "Debian: time zones"),
    ):
        if name.startswith(prefix):
            return title
    if name.startswith(f"{SITE}/"):
        return _package(name.removeprefix(f"{SITE}/").partition("/")[0])
    return "busmap: pages, manifests, entry point" if _ours(name) else "Debian: C library, Python, programs"


def _ours(name: str) -> bool:
    return name.startswith(("opt/holoscan/", "etc/holoscan/", "usr/local/bin/", "var/holoscan/"))


def _package(top: str) -> str:
    if top == "__pycache__":
        return "bytecode of single modules"
    found = _LIBRARY.match(top)
    name = found[1] if found else top
    return _NAMES.get(name, name).replace("_", "-").lower()


def table(counted: dict[str, int], least: int = 1_000_000) -> str:
    """The parts as a table in MB (10^6 bytes); those under `least` bytes are one line."""
    small = {name: size for name, size in counted.items() if size < least}
    rows = [(name, size) for name, size in counted.items() if size >= least]
    if small:
        rows.append((f"{len(small)} parts under {least / 1e6:g} MB", sum(small.values())))
    lines = ["| part | MB |", "| --- | ---: |", *(f"| {name} | {size / 1e6:.1f} |" for name, size in rows)]
    return "\n".join([*lines, f"| **together** | **{sum(counted.values()) / 1e6:.1f}** |", ""])
