"""app.json and pkg.json by the MAP specification 1.0.0: `python packaging/map/manifests.py OUT`.

Promises: the same files from the same tree. Values come from where they are kept: version and SDK from
pyproject.toml, models from models/bundles, memory from a measurement named below. Where specification and
hosts write one thing in two ways, both are written: keys of 1.0.0 (camelCase) and of 0.1.0 (kebab-case),
HOLOSCAN_DOCS and HOLOSCAN_DOCS_PATH.
"""

from __future__ import annotations

import argparse
import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
ENTRY_POINT = "/usr/local/bin/busmap-map"
APPLICATION, MODELS, DOCS = "/opt/holoscan/app", "/opt/holoscan/models", "/opt/holoscan/docs"
WORK = "/var/holoscan"
API_VERSION = "1.0.0"
SDK = "monai-deploy-app-sdk"
COMMAND = "python3 -m app"

# Variables of application and image. Relative paths would hang on the folder in which a host starts things.
ENVIRONMENT: Mapping[str, str] = {
    "HOLOSCAN_APPLICATION": APPLICATION,
    "HOLOSCAN_INPUT_PATH": f"{WORK}/input",
    "HOLOSCAN_OUTPUT_PATH": f"{WORK}/output",
    "HOLOSCAN_WORKDIR": WORK,
    "HOLOSCAN_MODEL_PATH": MODELS,
    "HOLOSCAN_CONFIG_PATH": f"{WORK}/app.yaml",
    "HOLOSCAN_APP_MANIFEST_PATH": "/etc/holoscan/app.json",
    "HOLOSCAN_PKG_MANIFEST_PATH": "/etc/holoscan/pkg.json",
    "HOLOSCAN_DOCS": DOCS,
    "HOLOSCAN_DOCS_PATH": DOCS,
    "HOLOSCAN_LOGS": f"{WORK}/logs",
    "HOLOSCAN_LOGS_PATH": f"{WORK}/logs",
    "HOLOSCAN_TIMEOUT": "0",
    # Any user id, no home of its own, a read-only root; nothing is imported from the working directory.
    "HOME": "/tmp",  # noqa: S108 - the one folder that every host makes writable
    "PYTHONPATH": APPLICATION,
    "PYTHONSAFEPATH": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
}

# Measured: 626 MiB at the peak of a one-shot run, two threads of the engine (docs/hosts.md).
RESOURCES: Mapping[str, Any] = {"cpu": 2, "gpu": 0, "memory": "1Gi", "sharedMemory": "64Mi"}


def _project(root: Path) -> dict[str, Any]:
    project: dict[str, Any] = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return project


def _pinned(project: Mapping[str, Any], package: str) -> str:
    """The version to which pyproject.toml pins a dependency."""
    pins = {name: version for name, _, version in (one.partition("==") for one in project["dependencies"])}
    return str(pins[package])


def app_manifest(root: Path = ROOT) -> dict[str, Any]:
    """app.json."""
    project = _project(root)
    # Answers as soon as the package can run; a node has /readyz and /livez instead (docs/hosts.md).
    intact = {
        "type": "command",
        "command": [ENTRY_POINT, "show"],
        "initialDelaySeconds": 1,
        "periodSeconds": 10,
        "timeoutSeconds": 5,
        "failureThreshold": 3,
    }
    return both_spellings(
        {
            "apiVersion": API_VERSION,
            "type": "application",
            "version": project["version"],
            "command": COMMAND,
            "environment": dict(ENVIRONMENT),
            "workingDirectory": WORK,
            "input": {"path": "input/", "formats": ["file"]},
            # `format` by the specification, `formats` by its own packager.
            "output": {"path": "output/", "format": "file", "formats": ["file"]},
            "readiness": intact,
            "liveness": dict(intact),
            "sdk": "monai-deploy",
            "sdkVersion": _pinned(project, SDK),
            # None: a folder may hold any number of studies. The work for each has its own bounds
            # (analysis.maximum_frames_per_study), a host's limit comes on top.
            "timeout": 0,
        }
    )


def pkg_manifest(root: Path = ROOT) -> dict[str, Any]:
    """pkg.json."""
    return both_spellings(
        {
            "apiVersion": API_VERSION,
            "version": _project(root)["version"],
            "applicationRoot": APPLICATION,
            "modelRoot": MODELS,
            "models": [
                {"name": metadata.parents[1].name, "path": metadata.parents[1].name}
                for metadata in sorted((root / "models" / "bundles").glob("*/configs/metadata.json"))
            ],
            "resources": dict(RESOURCES),
        }
    )


def both_spellings(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Beside each camelCase key the same value under the kebab-case key of specification 0.1.0."""
    content: dict[str, Any] = {}
    for key, value in manifest.items():
        nested = isinstance(value, Mapping) and key != "environment"
        content[key] = both_spellings(value) if nested else value
        content[re.sub("(?<=[a-z])([A-Z])", lambda match: f"-{match[1].lower()}", key)] = content[key]
    return content


def write_manifests(folder: Path, root: Path = ROOT) -> None:
    """Write both into `folder`, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, manifest in (("app", app_manifest(root)), ("pkg", pkg_manifest(root))):
        (folder / f"{name}.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where the manifests are written")
    write_manifests(parser.parse_args().folder)
