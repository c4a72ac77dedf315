"""What each host does with the container and reads of it, as checks that any `Container` can be put to.

A contract takes a container, the sample studies and an empty folder of its own. Where packaging/hosts holds
an example for the host, its commands, variables and paths are taken from there. What the hosts do is read off
their sources: monai-deploy-workflow-manager 0.2 (DockerPlugin, ContainerStatusMonitor,
ArgoMetadataRepository), mercure (process/runtime_base, process_series, notification), Argo's executor.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydicom import dcmread

from tests.packaging.hosts import ENTRY_POINT, ROOT, Container, Mount

EXAMPLES = ROOT / "packaging" / "hosts"
TASK_MANAGER_SECONDS = 300.0  # task_timeout_minutes, default 5
Contract = Callable[[Container, Mapping[str, Path], Path], None]


def _output(folder: Path) -> Path:
    output = folder / "output"
    output.mkdir()
    return output


def _objects(output: Path) -> list[Path]:
    """The DICOM files of a result; everything in it lies flat."""
    assert all(path.is_file() for path in output.iterdir())
    assert not [path for path in output.iterdir() if path.name.startswith(".")]
    objects = sorted(output.glob("*.dcm"))
    for path in objects:
        # The gateway of MONAI Deploy does not transcode: every PACS takes this.
        assert dcmread(path, stop_before_pixels=True).file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"
    return objects


def _two_patients(study: Path, folder: Path) -> None:
    """A copy of a study, its images of two patients under one UID."""
    shutil.copytree(study, folder, dirs_exist_ok=True)
    first = dcmread(sorted(folder.iterdir())[0])
    first.PatientID, first.PatientName = "OTHER", "Canary^Clara"
    first.save_as(sorted(folder.iterdir())[0])


def docker_run(container: Container, studies: Mapping[str, Path], folder: Path) -> None:
    """No arguments, no variables: the folders of the specification, the result of the same graph outside.

    Without a result of the same programs beside the studies there is nothing to compare with.
    """
    output = _output(folder)
    mounts = [Mount(studies["jpeg"], "/var/holoscan/input"), Mount(output, "/var/holoscan/output", True)]
    done = container.run([ENTRY_POINT], mounts)
    assert done.returncode == 0, done.stderr
    assert _objects(output)
    if "jpeg result" not in studies:
        return
    assert _facts(output) == json.loads((studies["jpeg result"] / "result.json").read_text()) | _VARYING
    for path in _objects(output):
        assert _said(path) == _said(studies["jpeg result"] / path.name)


def extract(container: Container, studies: Mapping[str, Path], folder: Path) -> None:
    """Each mounted part is copied, and no other."""
    mounts = []
    for part in ("models", "config"):
        (folder / part).mkdir()
        mounts.append(Mount(folder / part, f"/var/run/holoscan/export/{part}", True))
    done = container.run([ENTRY_POINT, "extract"], mounts)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("\n") == len(mounts), "each part has a line, and nothing else was copied"
    assert {path.name for path in (folder / "config").iterdir()} == {"app.json", "pkg.json", "app.yaml"}
    manifest = json.loads((folder / "config" / "pkg.json").read_text())
    for model in manifest["models"]:
        assert (folder / "models" / model["path"] / "models" / "model.onnx").is_file()


def _said(path: Path) -> list[tuple[str, str]]:
    """Every attribute of an object but its time: dates, and pixels, on which the time is drawn."""
    left_out = {"DA", "TM", "DT", "SQ", "OB", "OW"}
    return [
        (one.keyword, _WHEN.sub("", str(one.value)))
        for one in dcmread(path).iterall()
        if one.VR not in left_out
    ]


_WHEN = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d")
_VARYING = {"composed_at": None, "objects": None}  # the time stands in every object, and so in its hash


def _facts(output: Path) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((output / "result.json").read_text())
    return facts | _VARYING


def _docker_task() -> dict[str, Any]:
    workflow = json.loads((EXAMPLES / "workflow-manager" / "docker.json").read_text())
    [task] = [one for one in workflow["tasks"] if one["type"] == "docker"]
    return task


def _task_manager(
    args: Mapping[str, str], artifacts: Mapping[str, Any], source: Path, output: Path
) -> tuple[list[str], list[Mount], dict[str, str]]:
    """Words, mounts and variables of the container that the Docker plug-in makes of a task."""
    [taken], [given] = artifacts["input"], artifacts["output"]
    mounts = [Mount(source, args[taken["name"]]), Mount(output, args[given["name"]], True)]
    variables = {key.removeprefix("env_"): value for key, value in args.items() if key.startswith("env_")}
    return [*args["entrypoint"].split(","), *args["command"].split(",")], mounts, variables


def task_manager(container: Container, studies: Mapping[str, Path], folder: Path) -> None:
    """The workflow of packaging/hosts within the plug-in's five minutes; the studies in sub-folders."""
    source, output = folder / "payload", _output(folder)
    shutil.copytree(studies["jpeg"], source / "dcm" / "1.2.3")
    task = _docker_task()
    words, mounts, variables = _task_manager(task["args"], task["artifacts"], source, output)
    assert task["args"]["task_timeout_minutes"] == f"{TASK_MANAGER_SECONDS / 60:.0f}"
    done = container.run(words, mounts, variables, TASK_MANAGER_SECONDS)
    assert _objects(output), done.stderr


def task_manager_of_old(container: Container, studies: Mapping[str, Path], folder: Path) -> None:
    """A workflow with the MONAI_ variables alone, a shell as entry point and no usable study.

    The plug-in takes whatever ends for a success and sends all it finds: there must be nothing.
    """
    source, output = folder / "payload", _output(folder)
    source.mkdir()
    (source / "letter.dcm").write_text("Dear colleague")
    args = {
        "entrypoint": "/bin/sh,-c",
        "command": "python3 -m app",
        "env_MONAI_INPUTPATH": "/var/monai/input/",
        "env_MONAI_OUTPUTPATH": "/var/monai/output/",
    }
    artifacts = {
        "input": [{"name": "env_MONAI_INPUTPATH"}],
        "output": [{"name": "env_MONAI_OUTPUTPATH", "mandatory": True}],
    }
    words, mounts, variables = _task_manager(args, artifacts, source, output)
    done = container.run(words, mounts, variables, TASK_MANAGER_SECONDS)
    assert done.returncode == 3
    assert "busmap: input-no-study: No DICOM study can be named from 1 file." in done.stderr
    assert list(output.iterdir()) == []


def task_manager_kills(container: Container, studies: Mapping[str, Path], folder: Path) -> None:
    """After its time the plug-in kills the container: what it finds then is nothing."""
    output = _output(folder)
    task = _docker_task()
    words, mounts, variables = _task_manager(task["args"], task["artifacts"], studies["jpeg"], output)
    process = subprocess.Popen(
        container.command(words, mounts, variables), stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stderr is not None
    assert any("analysing study 1" in line for line in process.stderr)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert list(output.iterdir()) == []


def _mercure(container: Container, source: Path, output: Path) -> subprocess.CompletedProcess[str]:
    """What mercure's processor does with the module of packaging/hosts."""
    module = json.loads((EXAMPLES / "mercure" / "busmap.json").read_text())["modules"]["busmap"]
    manifest = container.run(["cat", "/etc/monai/app.json"])
    assert manifest.returncode != 0, "mercure would take the image for an old MAP and ask for root"
    places = {"in": "/tmp/data", "out": "/tmp/output"}
    variables = {
        **json.loads(module["environment"] or "{}"),
        "MERCURE_IN_DIR": places["in"],
        "MERCURE_OUT_DIR": places["out"],
        "MONAI_INPUTPATH": places["in"],
        "MONAI_OUTPUTPATH": places["out"],
        "HOLOSCAN_INPUT_PATH": places["in"],
        "HOLOSCAN_OUTPUT_PATH": places["out"],
    }
    process = {"module_name": "busmap", "module_config": module, "settings": module["settings"]}
    (source / "task.json").write_text(json.dumps({"id": "1", "info": {}, "process": process}))
    return container.run(
        [ENTRY_POINT], [Mount(source, places["in"]), Mount(output, places["out"], True)], variables
    )


def mercure(container: Container, studies: Mapping[str, Path], folder: Path) -> None:
    """The names of its files, task.json with settings, flat results, result.json with its message."""
    source, output = folder / "in", _output(folder)
    source.mkdir()
    for number, path in enumerate(sorted(studies["benign"].iterdir())):
        name = f"{dcmread(path).SeriesInstanceUID}#{number}"
        shutil.copy(path, source / f"{name}.dcm")
        (source / f"{name}.tags").write_text(json.dumps({"Modality": "US"}))
    done = _mercure(container, source, output)
    assert done.returncode == 0, done.stderr
    assert _objects(output)
    facts = json.loads((output / "result.json").read_text())
    settings = json.loads((source / "task.json").read_text())["process"]["settings"]["busmap"]
    assert facts["malignant_prevalence"] == settings["report"]["malignant_prevalence_percent"] / 100
    notification = facts.get("__mercure_notification")
    assert facts["headline"] in notification["text"]
    assert "not verified" in notification["text"]
    assert notification["requested"] is bool(facts["lesions"])


def mercure_fails(container: Container, studies: Mapping[str, Path], folder: Path) -> None:
    """A status other than 0 brings the task to mercure's error folder; no result lies beside it."""
    source, output = folder / "in", _output(folder)
    _two_patients(studies["benign"], source)
    done = _mercure(container, source, output)
    assert done.returncode == 3
    assert "busmap: input-mixed-patients: " in done.stderr
    assert list(output.iterdir()) == []


def _argo(container: Container, source: Path, output: Path) -> subprocess.CompletedProcess[str]:
    """The pod of the workflow template of packaging/hosts."""
    template = yaml.safe_load((EXAMPLES / "argo" / "workflow-template.yaml").read_text())
    [step] = template["spec"]["templates"]
    pod = step["container"]
    [taken], [given] = step["inputs"]["artifacts"], step["outputs"]["artifacts"]
    variables = {
        **{one["name"]: one["value"] for one in pod["env"]},
        "ARGO_CONTAINER_NAME": "main",
        "ARGO_TEMPLATE": json.dumps(step),
    }
    mounts = [Mount(source, taken["path"]), Mount(output, given["path"], True)]
    return container.run([*pod["command"], *pod["args"]], mounts, variables)


def argo(container: Container, studies: Mapping[str, Path], folder: Path) -> None:
    """Two studies, one of them of two patients: the other's result, a status, metadata.json that tells."""
    source, output = folder / "in", _output(folder)
    shutil.copytree(studies["jpeg"], source / "good")
    _two_patients(studies["benign"], source / "bad")
    done = _argo(container, source, output)
    assert done.returncode == 14
    assert done.stderr.splitlines()[-1].startswith("busmap: studies-failed: 1 of 2 studies ")
    assert "Canary" not in done.stderr
    assert {dcmread(path).StudyInstanceUID for path in _objects(output)} == {
        dcmread(path).StudyInstanceUID for path in studies["jpeg"].iterdir()
    }
    metadata = _flat(output)
    assert (metadata["analysed"], metadata["failed"]) == (1, 1)
    assert metadata["exception"] == "studies-failed"
    assert "two patients" in metadata["exception_message"]
    [failed] = json.loads((output / "result.json").read_text())["failed"]
    assert failed["code"] == "input-mixed-patients"


def argo_fails(container: Container, studies: Mapping[str, Path], folder: Path) -> None:
    """No result at all: a status, and metadata.json with the exception and nothing else."""
    output = _output(folder)
    (folder / "in").mkdir()
    done = _argo(container, folder / "in", output)
    assert done.returncode == 3
    assert [path.name for path in output.iterdir()] == ["metadata.json"]
    metadata = _flat(output)
    assert (metadata["status"], metadata["exception"]) == ("failed", "input-no-study")
    assert "DICOM" in metadata["exception_message"]


def _flat(output: Path) -> dict[str, Any]:
    metadata: dict[str, Any] = json.loads((output / "metadata.json").read_text())
    assert not any(isinstance(value, dict | list) for value in metadata.values())
    return metadata


CONTRACTS: tuple[Contract, ...] = (
    docker_run,
    extract,
    task_manager,
    task_manager_of_old,
    task_manager_kills,
    mercure,
    mercure_fails,
    argo,
    argo_fails,
)
