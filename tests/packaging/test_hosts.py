"""The contracts of the hosts, in a root laid out like the image's; the examples beside them."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from app.errors import SettingsError
from app.hosts import ARGO, CONTAINER, MERCURE, find_host, input_folder, output_folder
from app.settings import Settings
from tests.packaging.contracts import CONTRACTS, EXAMPLES, Contract
from tests.packaging.hosts import ROOT, Container

# The fields of mercure's Module and Rule (app/common/types.py), which are refused or lost by other names.
MODULE = {
    "docker_tag", "additional_volumes", "environment", "docker_arguments", "settings", "contact", "comment",
    "constraints", "resources", "requires_root", "requires_persistence", "persistence_folder_name",
}  # fmt: skip
RULE = {
    "rule", "target", "disabled", "fallback", "contact", "comment", "tags", "action", "action_trigger",
    "study_trigger_condition", "study_force_completion_action", "study_trigger_series", "priority",
    "processing_module", "processing_settings", "processing_retain_images", "notification_email",
    "notification_webhook", "notification_payload", "notification_trigger_reception",
    "notification_trigger_completion", "notification_trigger_completion_on_request",
    "notification_trigger_error",
}  # fmt: skip
# What the Docker plug-in of the Workflow Manager cannot do without (Docker/Keys.cs).
REQUIRED = {"server_url", "entrypoint", "command", "container_image", "temp_storage_container_path"}


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda one: one.__name__)
def test_the_contract_of(
    contract: Contract, container: Container, studies: Mapping[str, Path], tmp_path: Path
):
    contract(container, studies, tmp_path)


def _image() -> str:
    return f"busmap:{tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']['version']}"


def test_the_mercure_example_is_one_that_mercure_reads():
    example = json.loads((EXAMPLES / "mercure" / "busmap.json").read_text())
    [module], [rule] = example["modules"].values(), example["rules"].values()
    assert set(module) <= MODULE
    assert set(rule) <= RULE
    assert rule["processing_module"] in example["modules"]
    assert module["docker_tag"] == _image()
    assert module["requires_root"] is False
    for text in ("environment", "docker_arguments"):  # JSON in a string
        assert isinstance(json.loads(module[text] or "{}"), dict)
    Settings(**module["settings"]["busmap"])


@pytest.mark.parametrize("name", ["docker", "argo"])
def test_the_workflows_hold_together(name):
    workflow = json.loads((EXAMPLES / "workflow-manager" / f"{name}.json").read_text())
    tasks = {task["id"]: task for task in workflow["tasks"]}
    for task in tasks.values():
        assert {one["name"] for one in task.get("task_destinations", [])} <= set(tasks)
        assert {one["name"] for one in task.get("export_destinations", [])} <= set(
            workflow["informatics_gateway"]["export_destinations"]
        )
    [result] = tasks["busmap"]["artifacts"]["output"]
    [exported] = tasks["export"]["artifacts"]["input"]
    assert exported["value"] == f"{{{{ context.executions.busmap.artifacts.{result['name']} }}}}"
    args = tasks["busmap"]["args"]
    if name == "docker":
        assert args.keys() >= REQUIRED
        assert args["container_image"] == _image()
        # Each artifact's name is an argument whose value is the place in the container.
        assert {
            one["name"] for key in ("input", "output") for one in tasks["busmap"]["artifacts"][key]
        } <= set(args)


def test_the_argo_template_fits_its_workflow_and_the_measured_resources(manifests):
    template = yaml.safe_load((EXAMPLES / "argo" / "workflow-template.yaml").read_text())
    [step] = template["spec"]["templates"]
    workflow = json.loads((EXAMPLES / "workflow-manager" / "argo.json").read_text())
    [task] = [one for one in workflow["tasks"] if one["type"] == "argo"]
    assert template["kind"] == "WorkflowTemplate"
    assert template["apiVersion"] == "argoproj.io/v1alpha1"
    assert template["spec"]["entrypoint"] == step["name"]
    assert template["metadata"]["name"] == task["args"]["workflow_template_name"]
    for way, key in (("input", "inputs"), ("output", "outputs")):
        assert [one["name"] for one in task["artifacts"][way]] == [
            one["name"] for one in step[key]["artifacts"]
        ]
    pod = step["container"]
    assert pod["image"] == _image()
    assert pod["command"] == [manifests.ENTRY_POINT]
    assert pod["resources"]["requests"]["memory"] == manifests.RESOURCES["memory"]
    assert {mount["name"] for mount in pod["volumeMounts"]} == {one["name"] for one in step["volumes"]}
    assert pod["securityContext"]["readOnlyRootFilesystem"] is True


@pytest.mark.parametrize(
    ("environment", "host", "source", "target"),
    [
        ({"HOLOSCAN_INPUT_PATH": "/a", "HOLOSCAN_OUTPUT_PATH": "/b"}, CONTAINER, "/a", "/b"),
        (
            {"MERCURE_IN_DIR": "/tmp/data", "MERCURE_OUT_DIR": "/tmp/output"},
            MERCURE,
            "/tmp/data",
            "/tmp/output",
        ),
        ({"MONAI_INPUTPATH": "/a", "MONAI_OUTPUTPATH": "/b", "ARGO_NODE_ID": "1"}, ARGO, "/a", "/b"),
    ],
)
def test_a_host_is_known_by_its_variables_and_heard_over_the_images(environment, host, source, target):
    assert find_host(environment) is host
    # With the image's own defaults beside it, which say nothing.
    for defaults in (
        {},
        {"HOLOSCAN_INPUT_PATH": "/var/holoscan/input/", "HOLOSCAN_OUTPUT_PATH": "/var/holoscan/output"},
    ):
        assert str(input_folder(None, {**defaults, **environment})) == source
        assert str(output_folder(None, {**defaults, **environment})) == target
    assert input_folder(Path("/flag"), environment) == Path("/flag")


@pytest.mark.parametrize(
    ("task", "found"),
    [
        ({}, {}),
        ({"process": {}}, {}),
        ({"process": {"settings": {"other": 1}}}, {}),
        ({"process": {"settings": {"busmap": {"log_level": "error"}}}}, {"log_level": "error"}),
        (
            {"process": [{"settings": {}}, {"settings": {"busmap": {"log_level": "error"}}}]},
            {"log_level": "error"},
        ),
    ],
)
def test_settings_come_from_the_step_of_mercures_task(tmp_path, task, found):
    assert MERCURE.settings(tmp_path) == {}
    (tmp_path / "task.json").write_text(json.dumps(task))
    assert MERCURE.settings(tmp_path) == found


@pytest.mark.parametrize("content", ["{", "[]", '{"process": {"settings": {"busmap": 1}}}', '{"process": 1}'])
def test_a_task_that_cannot_be_read_is_told(tmp_path, content):
    (tmp_path / "task.json").write_text(content)
    with pytest.raises(SettingsError):
        MERCURE.settings(tmp_path)


def test_every_host_has_its_place_in_the_page():
    page = (ROOT / "docs" / "hosts.md").read_text()
    for word in (
        *MERCURE.markers,
        *ARGO.markers,
        "MONAI_INPUTPATH",
        "metadata.json",
        "__mercure_notification",
    ):
        assert word in page
