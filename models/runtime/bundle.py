"""A model as it ships: a MONAI bundle with ONNX weights, checked before it is used.

Promises: weights whose bytes are not those their metadata name are refused; a message names the file and
what to do. Reads `configs/metadata.json`, `models/model.onnx` and what lies beside them.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.runtime.engine import ModelError

SHIPPED = Path(__file__).resolve().parent.parent / "bundles"
LESION, DIAGNOSIS, MARKS = "breast_us_lesion", "breast_us_diagnosis", "breast_us_marks"


def bundle_folders(root: Path | None = None) -> tuple[Path, Path, Path]:
    """Folders of the bundles for lesions, diagnosis and burnt-in marks below `root`, or of those that ship.

    A root without a bundle for burnt-in marks is completed by the one that ships.
    """
    root = root or SHIPPED
    marks = root if (root / MARKS).is_dir() else SHIPPED
    return root / LESION, root / DIAGNOSIS, marks / MARKS


@dataclass(frozen=True)
class Bundle:
    """A checked bundle. `facts` is the section `busmap` of its metadata: what the runtime needs to know."""

    folder: Path
    name: str
    version: str
    sha256: str
    facts: dict[str, Any]

    @property
    def weights(self) -> Path:
        """The ONNX file."""
        return self.folder / "models" / "model.onnx"

    def fact(self, key: str) -> Any:
        """One entry of `facts`.

        Raises
        ------
        ModelError
            The metadata lack it.
        """
        try:
            return self.facts[key]
        except KeyError:
            raise ModelError(
                f"{self.folder.name}: metadata.json has no busmap.{key}; reinstall the model bundle"
            ) from None


def read_bundle(folder: Path) -> Bundle:
    """Read and verify a bundle.

    Raises
    ------
    ModelError
        A file is missing or damaged, or the weights are not the ones that the metadata name.
    """
    metadata = folder / "configs" / "metadata.json"
    try:
        content = json.loads(metadata.read_text(encoding="utf-8"))
        facts = dict(content["busmap"])
        expected, name, version = facts["model_sha256"], content["name"], content["version"]
        with (folder / "models" / "model.onnx").open("rb") as stream:
            actual = hashlib.file_digest(stream, "sha256").hexdigest()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"model bundle {folder.name} cannot be read ({type(error).__name__}: {error}); "
            "reinstall it, or let analysis.model_folder name a folder of complete bundles"
        ) from None
    if actual != expected:
        raise ModelError(
            f"model bundle {folder.name}: the weights are not the ones its metadata name (SHA-256 "
            f"{actual[:12]} instead of {str(expected)[:12]}); reinstall it"
        )
    return Bundle(folder, str(name), str(version), actual, facts)
