"""The Helm chart, rendered by Helm's own engine and held against Kubernetes' schemas and our settings."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from app.cli import app
from app.settings import load_settings
from app.web.metrics import FAMILIES

helm = pytest.importorskip("helm_python", reason="make setup-chart")
kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="make setup-chart")

CHART = Path(__file__).parents[2] / "packaging" / "scale-out" / "busmap"
KUBERNETES = ("1.27", "1.32", "1.37")  # the oldest that Chart.yaml allows, and newer ones
OF_OTHERS = ("keda.sh/v1alpha1", "monitoring.coreos.com/v1")  # no schema of Kubernetes' own
EVERYTHING: dict[str, Any] = {
    "image": {"digest": "sha256:" + "a" * 64, "pullSecrets": ["registry"]},
    "settings": {
        "delivery": {"destinations": [{"name": "pacs", "ae_title": "PACS", "host": "pacs", "port": 104}]},
        "gateway": {"ae_title": "BREAST"},
    },
    "spool": {"storageClass": "nfs"},
    "worker": {"gpu": {"enabled": True}},
    "autoscaling": {"enabled": True},
    "podMonitor": {"enabled": True},
    "networkPolicy": {"scanners": ["10.0.0.0/8"], "destinations": [{"cidr": "10.1.0.5/32", "port": 104}]},
}


def render(values: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    """The manifests by kind and name, as `helm template breast` writes them."""
    with helm.Chart.load(CHART) as chart:
        files = chart.render(values, name="breast", namespace="radiology")
    manifests = [one for text in files.values() for one in yaml.safe_load_all(text) if isinstance(one, dict)]
    found = {(one["kind"], one["metadata"]["name"]): one for one in manifests}
    assert len(found) == len(manifests)
    return found


def pods(manifests: dict[tuple[str, str], dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {
        name.removeprefix("breast-"): one["spec"]["template"]["spec"]
        for (kind, name), one in manifests.items()
        if kind == "Deployment"
    }


@pytest.mark.parametrize("values", [{}, EVERYTHING], ids=["defaults", "everything"])
@pytest.mark.parametrize("version", KUBERNETES)
def test_manifests_fit_the_schemas_of_kubernetes(values: dict[str, Any], version: str) -> None:
    own = [one for one in render(values).values() if one["apiVersion"] not in OF_OTHERS]
    assert {"ConfigMap", "Deployment", "NetworkPolicy", "PersistentVolumeClaim", "Service"} <= {
        one["kind"] for one in own
    }
    for manifest in own:
        kubernetes_validate.validate(manifest, version, strict=True)


def test_the_schemas_can_refuse() -> None:
    deployment = render({})["Deployment", "breast-worker"]
    deployment["spec"]["template"]["spec"]["containers"][0]["readinesProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, KUBERNETES[-1], strict=True)


def test_helm_finds_nothing_to_mend() -> None:
    found = helm.lint(str(CHART), strict=True)
    assert [one for one in found["messages"] if one["severity"] > 1] == found["errors"] == []


def test_gateways_and_workers_run_as_little_as_they_may() -> None:
    for component, pod in pods(render(EVERYTHING)).items():
        [container] = pod["containers"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {"cpu", "memory"} <= container["resources"]["limits"].keys()
        assert container["livenessProbe"]["httpGet"]["path"] == "/livez"
        assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
        # What busmap writes lies on volumes: the spool that all share, and a folder of the pod's own.
        settings = _settings(render(EVERYTHING))
        mounts = {one["mountPath"]: one["name"] for one in container["volumeMounts"]}
        assert mounts[settings["state_folder"]] == "spool"
        assert mounts[settings["run_folder"]] == mounts["/tmp"] == "own"
        assert container["args"] == ["busmap", component]


def _settings(manifests: dict[tuple[str, str], dict[str, Any]]) -> dict[str, Any]:
    return dict(yaml.safe_load(manifests["ConfigMap", "breast-settings"]["data"]["busmap.yaml"]))


@pytest.mark.parametrize("values", [{}, EVERYTHING], ids=["defaults", "everything"])
def test_busmap_takes_the_settings_and_the_commands(
    values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifests = render(values)
    path = tmp_path / "busmap.yaml"
    path.write_text(yaml.safe_dump(_settings(manifests)))
    monkeypatch.setenv("BUSMAP_CONFIG", "")
    settings = load_settings(path)
    verbs = get_command(app)
    for component, pod in pods(manifests).items():
        [container] = pod["containers"]
        assert container["args"][1] in verbs.commands  # type: ignore[attr-defined]
        ports = {one["name"]: one["containerPort"] for one in container["ports"]}
        assert ports["web"] == settings.web.port
        assert component == "worker" or ports["dicom"] == settings.gateway.port
    assert settings.web.host == "0.0.0.0"


def test_the_password_of_the_database_is_in_a_secret_alone() -> None:
    for pod in pods(render({})).values():
        [url] = [one for one in pod["containers"][0]["env"] if one["name"] == "BUSMAP_DATABASE_URL"]
        assert url["valueFrom"] == {"secretKeyRef": {"name": "busmap-database", "key": "url"}}
    assert "postgresql://" not in yaml.safe_dump([*render({}).values()])


def test_workers_grow_with_the_queue_and_only_where_asked() -> None:
    assert ("ScaledObject", "breast-worker") not in render({})
    assert render({})["Deployment", "breast-worker"]["spec"]["replicas"] == 2
    manifests = render(EVERYTHING)
    assert "replicas" not in manifests["Deployment", "breast-worker"]["spec"]  # KEDA's to say
    scaled = manifests["ScaledObject", "breast-worker"]["spec"]
    assert scaled["scaleTargetRef"] == {"name": "breast-worker"}
    query = scaled["triggers"][0]["metadata"]["query"]
    assert set(re.findall(r"busmap_\w+", query)) <= set(FAMILIES)
    assert 'namespace="radiology"' in query


def test_networks_are_closed_but_for_what_is_named() -> None:
    manifests = render(EVERYTHING)
    gateway = manifests["NetworkPolicy", "breast-gateway"]["spec"]
    worker = manifests["NetworkPolicy", "breast-worker"]["spec"]
    assert gateway["policyTypes"] == worker["policyTypes"] == ["Ingress", "Egress"]
    assert {port["port"] for rule in worker["ingress"] for port in rule["ports"]} == {8080}
    assert {port["port"] for rule in worker["egress"] for port in rule["ports"]} == {53, 104, 5432}
    assert {port["port"] for rule in gateway["egress"] for port in rule["ports"]} == {53, 5432}
    [scanners] = [rule for rule in gateway["ingress"] if rule["ports"][0]["port"] == 11112]
    assert scanners["from"] == [{"ipBlock": {"cidr": "10.0.0.0/8"}}]


def test_a_pool_with_gpus_is_asked_for_by_workers_alone() -> None:
    found = pods(render(EVERYTHING))
    limits = found["worker"]["containers"][0]["resources"]["limits"]
    assert limits["nvidia.com/gpu"] == 1
    assert found["worker"]["tolerations"][0]["key"] == "nvidia.com/gpu"
    assert "nodeSelector" not in found["gateway"]
    assert "nodeSelector" not in pods(render({}))["worker"]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"gateway": {"replcas": 1}}, "replcas"),
        ({"podSecurity": {"userId": 0}}, "userId"),
        ({"image": {"digest": "latest"}}, "digest"),
        ({"settings": {"run_folder": "/x"}}, "settings.run_folder is set by the chart"),
        ({"settings": {"database_url": "postgresql://x"}}, "settings.database_url is set by the chart"),
        ({"settings": {"gateway": {"port": 104}}}, "gateway.service.port"),
        ({"settings": EVERYTHING["settings"]}, "networkPolicy.destinations is empty"),
    ],
)
def test_wrong_values_are_refused_by_name(values: dict[str, Any], words: str) -> None:
    with pytest.raises(helm.HelmError, match=re.escape(words)):
        render(values)
