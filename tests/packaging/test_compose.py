"""The compose file of the appliance: the Compose Specification's schema, what it grants, what it mounts."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from app.settings import Settings, load_settings
from tests.packaging.hosts import ROOT

APPLIANCE = ROOT / "packaging" / "appliance"
SCHEMA = Path(__file__).with_name("compose-spec.json")


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((APPLIANCE / "compose.yaml").read_text())
    return loaded


def _services(compose: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return list(compose["services"].items())


def test_the_file_keeps_to_the_compose_specification(compose: dict[str, Any]) -> None:
    validator = Draft202012Validator(json.loads(SCHEMA.read_text()))
    assert [error.message for error in validator.iter_errors(compose)] == []
    broken = {**compose, "services": {"busmap": {"imag": "x"}}}
    assert list(validator.iter_errors(broken)), "the schema refuses what it does not know"


def test_docker_compose_reads_it_where_it_is_installed() -> None:
    try:
        found = subprocess.run(["docker", "compose", "version"], check=False, capture_output=True)
    except FileNotFoundError:
        pytest.skip("docker is not installed")
    if found.returncode:
        pytest.skip("docker has no compose plug-in here")
    profiles = [flag for name in ("orthanc", "ohif", "metrics") for flag in ("--profile", name)]
    command = ["docker", "compose", "-f", str(APPLIANCE / "compose.yaml"), *profiles, "config", "--quiet"]
    answer = subprocess.run(command, check=False, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr


def test_no_service_has_rights_or_the_engine_s_socket(compose: dict[str, Any]) -> None:
    for name, service in _services(compose):
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        granted = {"cap_add", "privileged", "devices", "pid", "ipc", "network_mode", "userns_mode"} & set(
            service
        )
        assert not granted, name
        assert not [one for one in service.get("volumes", []) if "docker.sock" in one], name
        assert service["mem_limit"], name
        assert 0 < service["pids_limit"] <= 512, name


def test_the_node_is_an_ordinary_user_on_a_read_only_root(compose: dict[str, Any]) -> None:
    node = compose["services"]["busmap"]
    assert node["read_only"] is True
    assert node["user"].split(":")[0] not in ("0", "root")
    assert all(":ro" in one for one in node["volumes"] if one.startswith("."))
    assert "noexec" in node["tmpfs"][0]
    assert node["pull_policy"] == "never"
    # The entry point's own verb: no curl, no shell.
    assert node["healthcheck"]["test"] == ["CMD", "busmap-map", "probe", "ready"]


def test_only_the_dicom_port_of_the_node_leaves_the_host(compose: dict[str, Any]) -> None:
    published = [(name, port) for name, service in _services(compose) for port in service.get("ports", [])]
    outside = [
        (name, port.rpartition(":")[2]) for name, port in published if not port.startswith("127.0.0.1:")
    ]
    assert outside == [("busmap", "11112")]


def test_companions_come_by_their_profile_alone(compose: dict[str, Any]) -> None:
    assert {name: service.get("profiles") for name, service in _services(compose)} == {
        "busmap": None,
        "orthanc": ["orthanc"],
        "ohif": ["ohif"],
        "prometheus": ["metrics"],
        "grafana": ["metrics"],
    }


def test_what_is_mounted_is_there(compose: dict[str, Any]) -> None:
    for name, service in _services(compose):
        for one in service.get("volumes", []):
            source = one.split(":")[0]
            known = (APPLIANCE / source).exists() if source.startswith(".") else source in compose["volumes"]
            assert known, (name, one)


def test_the_node_takes_the_settings(compose: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    node = compose["services"]["busmap"]
    for name, value in node["environment"].items():
        monkeypatch.setenv(name, value)
    settings: Settings = load_settings(APPLIANCE / "busmap.yaml")
    monkeypatch.delenv("BUSMAP_CONFIG")
    companion = json.loads((APPLIANCE / "orthanc" / "orthanc.json").read_text())
    [destination] = settings.delivery.destinations
    assert (destination.ae_title, destination.port) == (companion["DicomAet"], companion["DicomPort"])
    assert companion["DicomModalities"]["busmap"] == {
        "AET": settings.gateway.ae_title,
        "Host": "busmap",
        "Port": settings.gateway.port,
    }
    assert any(port.endswith(f":{settings.gateway.port}") for port in node["ports"])
    assert any(port.endswith(f":{settings.web.port}") for port in node["ports"])
