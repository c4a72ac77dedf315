"""The hosts that run busmap on a folder, each with what it sets, reads and expects.

A host is known by a variable that it alone sets. Promises: what differs between hosts is in this module, one
value of `Host` a host, and written down in docs/hosts.md. A host without a value here (docker run, the Docker
plug-in of MONAI Deploy, holoscan run) is `CONTAINER`: nothing at all is written on a failure.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.errors import Failure, SettingsError
from app.files import write_whole

RESULT, METADATA = "result.json", "metadata.json"
# The first that says something counts; hosts: MONAI Deploy, mercure, MONAI Deploy by the specification 0.1.0.
INPUT_VARIABLES = ("HOLOSCAN_INPUT_PATH", "MERCURE_IN_DIR", "MONAI_INPUTPATH")
OUTPUT_VARIABLES = ("HOLOSCAN_OUTPUT_PATH", "MERCURE_OUT_DIR", "MONAI_OUTPUTPATH")
# What the package sets itself, so that a host which knows another name only is heard.
_DEFAULTS = {"HOLOSCAN_INPUT_PATH": "/var/holoscan/input", "HOLOSCAN_OUTPUT_PATH": "/var/holoscan/output"}
_TASK_FILE, _OUR_KEY = "task.json", "busmap"


def _no_settings(_: Path) -> Mapping[str, Any]:
    return {}


def _as_it_is(_: Path) -> None:
    return None


def _nothing(_: Path, __: Failure) -> None:
    return None


@dataclass(frozen=True)
class Host:
    """What is particular to a host.

    `markers`: variables any of which tells it. `settings(input)`: what it says of settings in the input
    folder, over all other sources. `finish(result)`: adds what it reads to a complete result folder before
    that is published. `failed(output, failure)`: leaves what it reads where nothing was analysed.
    """

    name: str
    markers: tuple[str, ...] = ()
    settings: Callable[[Path], Mapping[str, Any]] = _no_settings
    finish: Callable[[Path], None] = _as_it_is
    failed: Callable[[Path, Failure], None] = _nothing


def _mercure_settings(source: Path) -> Mapping[str, Any]:
    """The settings under `busmap` in the settings of this step in task.json.

    `process` is one step, or the list of a rule's steps; ours is then the one with our key.
    """
    path = source / _TASK_FILE
    if not path.is_file():
        return {}
    try:
        process = json.loads(path.read_bytes()).get("process") or {}
        steps = process if isinstance(process, list) else [process]
        ours = [found for one in steps if (found := (one.get("settings") or {}).get(_OUR_KEY)) is not None]
    except (OSError, ValueError, AttributeError) as error:
        raise SettingsError(
            f"{_TASK_FILE} of the input cannot be read ({type(error).__name__}): see the rule in mercure"
        ) from None
    if any(not isinstance(one, dict) for one in ours):
        raise SettingsError(
            f"`{_OUR_KEY}` in the module's settings is no object: write sections, as in docs/settings.md"
        )
    return ours[0] if ours else {}


def _mercure_notification(result: Path) -> None:
    """Put the words of mercure's message into result.json, asked for where there is something to see."""
    path = result / RESULT
    facts = json.loads(path.read_bytes())
    studies: Sequence[Mapping[str, Any]] = facts.get("studies", [facts])
    lines = [one["headline"] for one in studies]
    lines += [f"Not analysed: {one['message']}" for one in facts.get("failed", [])]
    facts["__mercure_notification"] = {
        "text": "\n".join([*lines, studies[0]["disclaimer"]]),
        "requested": bool(facts.get("failed")) or any(one["lesions"] for one in studies),
    }
    path.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def _metadata_of_failure(output: Path, failure: Failure) -> None:
    """A metadata.json that names the failure; nothing where the output folder is not ours to write."""
    facts = {"status": "failed", "exception": failure.code, "exception_message": failure.message}
    with suppress(OSError):
        output.mkdir(exist_ok=True)
        if not any(output.iterdir()):
            write_whole(output / METADATA, json.dumps(facts).encode() + b"\n")
            (output / METADATA).chmod(0o644)


MERCURE = Host(
    "mercure",
    markers=("MERCURE_IN_DIR", "MERCURE_OUT_DIR"),
    settings=_mercure_settings,
    finish=_mercure_notification,
)
ARGO = Host(
    "argo", markers=("ARGO_TEMPLATE", "ARGO_NODE_ID", "ARGO_CONTAINER_NAME"), failed=_metadata_of_failure
)
CONTAINER = Host("container")
HOSTS = (MERCURE, ARGO, CONTAINER)


def find_host(environment: Mapping[str, str] = os.environ) -> Host:
    """The host that the environment tells."""
    return next(
        (host for host in HOSTS if any(environment.get(marker) for marker in host.markers)), CONTAINER
    )


def input_folder(given: Path | None, environment: Mapping[str, str] = os.environ) -> Path:
    """Where the studies are: the flag, or what the host says.

    Raises
    ------
    SettingsError
        Nobody says it.
    """
    return given or _said(INPUT_VARIABLES, environment, "input", "-i")


def output_folder(given: Path | None, environment: Mapping[str, str] = os.environ) -> Path:
    """Where the result goes: the flag, or what the host says.

    Raises
    ------
    SettingsError
        Nobody says it.
    """
    return given or _said(OUTPUT_VARIABLES, environment, "output", "-o")


def _said(variables: Sequence[str], environment: Mapping[str, str], name: str, flag: str) -> Path:
    said = {variable: environment[variable] for variable in variables if environment.get(variable)}
    of_the_host = [one for variable, one in said.items() if one.rstrip("/") != _DEFAULTS.get(variable)]
    for folder in (*of_the_host, *said.values()):
        return Path(folder)
    raise SettingsError(f"no {name} folder: give {flag} FOLDER or set {variables[0]}")
