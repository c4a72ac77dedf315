"""The manifests as hosts and holoscan-cli read them."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest
from holoscan_cli.common import dockerutils
from holoscan_cli.common.constants import DefaultValues, EnvironmentVariables
from holoscan_cli.common.utils import get_requested_gpus
from holoscan_cli.packager.manifest_files import ApplicationManifest, PackageManifest
from holoscan_cli.runner.resources import get_shared_memory_size

from models.runtime.bundle import SHIPPED, read_bundle
from tests.packaging.hosts import ROOT

# Fields and their types, by the tables of the MAP specification 1.0.0.
PROBE = {
    "type": "object",
    "required": ["type", "command"],
    "properties": {
        "type": {"const": "command"},
        "command": {"type": "array", "items": {"type": "string"}, "minItems": 1},
        "initialDelaySeconds": {"type": "integer", "minimum": 0},
        "periodSeconds": {"type": "integer", "minimum": 1},
        "timeoutSeconds": {"type": "integer", "minimum": 1},
        "failureThreshold": {"type": "integer", "minimum": 1},
    },
}
VERSION = {"type": "string", "pattern": r"^\d+\.\d+\.\d+$"}
ABSOLUTE = {"type": "string", "pattern": "^/"}
APP = {
    "type": "object",
    "required": ["command", "input", "output", "type", "apiVersion", "version", "sdk", "sdkVersion"],
    "properties": {
        "apiVersion": {"const": "1.0.0"},
        "type": {"enum": ["application", "service"]},
        "version": VERSION,
        "sdkVersion": VERSION,
        "command": {"type": "string", "minLength": 1},
        "environment": {"type": "object", "additionalProperties": {"type": "string"}},
        "workingDirectory": ABSOLUTE,
        "input": {
            "type": "object",
            "required": ["formats"],
            "properties": {"path": {"const": "input/"}, "formats": {"type": "array", "minItems": 1}},
        },
        "output": {
            "type": "object",
            "required": ["format"],
            "properties": {"path": {"const": "output/"}},
        },
        "timeout": {"type": "integer", "minimum": 0},
        "readiness": PROBE,
        "liveness": PROBE,
    },
}
SIZE = {"type": "string", "pattern": r"^\d+(\.\d)?(Mi|Gi)$"}
PKG = {
    "type": "object",
    "required": ["applicationRoot", "modelRoot", "models", "resources", "apiVersion", "version"],
    "properties": {
        "apiVersion": {"const": "1.0.0"},
        "version": VERSION,
        "applicationRoot": ABSOLUTE,
        "modelRoot": ABSOLUTE,
        "models": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name"],
                "properties": {"name": {"type": "string", "pattern": r"^\S+$", "maxLength": 128}},
            },
        },
        "resources": {
            "type": "object",
            "properties": {
                "cpu": {"type": "number", "exclusiveMinimum": 0},
                "gpu": {"type": "number", "minimum": 0},
                "memory": SIZE,
                "sharedMemory": SIZE,
            },
        },
    },
}


@pytest.fixture(scope="module")
def app(written: Path) -> dict:
    """app.json as it is written."""
    return json.loads((written / "app.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def pkg(written: Path) -> dict:
    """pkg.json as it is written."""
    return json.loads((written / "pkg.json").read_text(encoding="utf-8"))


def test_they_hold_what_the_specification_asks_for(app, pkg):
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.validate(app, APP)
    jsonschema.validate(pkg, PKG)


def test_every_variable_of_the_specification_and_of_its_packager_is_set(app):
    of_the_packager = {value for name, value in vars(EnvironmentVariables).items() if name.isupper()}
    assert len(of_the_packager) == 10
    assert {*of_the_packager, "HOLOSCAN_DOCS", "HOLOSCAN_LOGS"} <= set(app["environment"])
    # Two of the specification's defaults end in .config; its text and its packager say .json.
    assert app["environment"]["HOLOSCAN_APP_MANIFEST_PATH"] == DefaultValues.APP_MANIFEST_PATH
    assert app["environment"]["HOLOSCAN_PKG_MANIFEST_PATH"] == DefaultValues.PKG_MANIFEST_PATH
    assert app["environment"]["HOLOSCAN_CONFIG_PATH"] == str(DefaultValues.HOLOSCAN_CONFIG_PATH)
    assert app["environment"]["HOLOSCAN_MODEL_PATH"] == str(DefaultValues.MODELS_DIR)


def test_examples_and_pages_name_the_version_of_the_project():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    files = [*(ROOT / "docs").rglob("*.md"), *(f for f in (ROOT / "packaging").rglob("*") if f.is_file())]
    named = [
        (file.relative_to(ROOT).as_posix(), *found)
        for file in files
        for found in re.findall(r"\b(busmap:|busmap-(?=\d)|appVersion: )(\d+\.\d+\.\d+)", file.read_text())
    ]
    assert len(named) >= 8
    assert [one for one in named if one[-1] != version] == []


def test_values_are_those_of_the_project(app, pkg):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert app["version"] == pkg["version"] == project["version"]
    assert f"monai-deploy-app-sdk=={app['sdkVersion']}" in project["dependencies"]
    for model in pkg["models"]:
        read_bundle(SHIPPED / model["path"])
    assert {model["path"] for model in pkg["models"]} == {
        path.name for path in SHIPPED.iterdir() if (path / "configs").is_dir()
    }


def test_hosts_of_the_first_specification_read_the_same(app, pkg):
    app_keys = {
        "apiVersion": "api-version",
        "sdkVersion": "sdk-version",
        "workingDirectory": "working-directory",
    }
    pkg_keys = {"apiVersion": "api-version", "applicationRoot": "application-root", "modelRoot": "model-root"}
    for manifest, keys in ((app, app_keys), (pkg, pkg_keys)):
        for new, old in keys.items():
            assert manifest[old] == manifest[new]
    assert app["readiness"]["initial-delay-seconds"] == app["readiness"]["initialDelaySeconds"]
    assert pkg["resources"]["shared-memory"] == pkg["resources"]["sharedMemory"]
    assert not any("-" in name for name in app["environment"])


def test_holoscan_cli_knows_the_fields_and_reads_the_resources(app, pkg):
    assert set(ApplicationManifest().data) <= set(app)
    # `platformConfig` tells GPUs of different kinds apart, and there is none.
    assert set(PackageManifest().data) - set(pkg) == {"platformConfig"}
    assert get_requested_gpus(pkg) == 0
    assert get_shared_memory_size(pkg, False, False, None, "config") == 64 * 2**20


def test_holoscan_run_mounts_and_sets_what_the_application_reads(app, pkg, tmp_path, monkeypatch):
    """The runner of holoscan-cli 4.2.0 up to the call of Docker, which is what it would ask Docker for."""
    asked = {}

    class Docker:
        class container:
            @staticmethod
            def create(image, **options):
                asked.update(options, image=image)
                raise InterruptedError

    monkeypatch.setattr(dockerutils, "docker", Docker)
    monkeypatch.setattr(dockerutils, "get_gpu_count", lambda: 0)
    monkeypatch.setattr(dockerutils, "run_cmd_output", lambda *_: "video:x:44:")
    with pytest.raises(InterruptedError):
        dockerutils.docker_run(
            None, "busmap:0.2.0", tmp_path / "in", tmp_path / "out", app, pkg, False, [], False, "host",
            None, False, None, tmp_path / "site.yaml", False, "1000:1000", False, [], None,
        )  # fmt: skip
    assert asked["command"] == []  # for its own SDK alone it would add a flag
    assert asked["workdir"] == "/var/holoscan"
    mounts = {source.name: target for source, target in ((Path(one), two) for one, two in asked["volumes"])}
    assert Path(mounts["in"]) == Path(asked["envs"]["HOLOSCAN_INPUT_PATH"]) == Path("/var/holoscan/input")
    assert Path(mounts["out"]) == Path(asked["envs"]["HOLOSCAN_OUTPUT_PATH"]) == Path("/var/holoscan/output")
    assert mounts["site.yaml"] == asked["envs"]["HOLOSCAN_CONFIG_PATH"] == "/var/holoscan/app.yaml"
