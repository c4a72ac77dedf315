"""The lines that connect.md gives for Orthanc, typed into a real one beside a real node."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.send import send as store
from tests.docs.pages import DOCS, ROOT, code
from tests.node.analyser import CAPTURE, SR
from tests.node.rig import Node, ultrasound, wait_for
from tests.orthanc import free_ports, running_orthanc

PAGE = DOCS / "connect.md"


def _block(language: str) -> str:
    [text] = [piece.text for piece in code(PAGE) if piece.language == language]
    return text


def test_the_script_is_the_appliances():
    shipped = (ROOT / "packaging" / "appliance" / "orthanc" / "send-to-busmap.lua").read_text()
    assert _block("lua").splitlines() == [line for line in shipped.splitlines() if not line.startswith("--")]


@pytest.mark.peers
def test_orthanc_sends_images_and_gets_results_by_the_lines_of_the_page(tmp_path: Path) -> None:
    settings: dict[str, Any] = yaml.safe_load(_block("yaml"))
    configuration: dict[str, Any] = json.loads(_block("json"))
    [gateway_port] = free_ports(1)
    [script] = configuration["LuaScripts"]
    (tmp_path / script).write_text(_block("lua"))
    configuration["LuaScripts"] = [str(tmp_path / script)]
    assert configuration["DicomModalities"]["busmap"][0] == settings["gateway"]["ae_title"]
    assert configuration["DicomModalities"]["busmap"][2] == settings["gateway"]["port"]
    configuration["DicomModalities"]["busmap"][1:] = ["127.0.0.1", gateway_port]
    [destination] = settings["delivery"]["destinations"]
    assert destination["port"] == configuration.pop("DicomPort")
    with running_orthanc(tmp_path / "orthanc", **configuration) as orthanc:
        destination |= {"host": "127.0.0.1", "port": orthanc.dicom_port}
        settings["gateway"]["port"] = gateway_port
        node = Node(tmp_path / "state", **settings)
        node.start()
        assert wait_for(lambda: node.port) == gateway_port
        try:
            image = ultrasound("one", "connected")
            image.save_as(tmp_path / "one.dcm", enforce_file_format=True)
            ae_title = str(configuration["DicomAet"])
            [outcome] = store([tmp_path / "one.dcm"], "127.0.0.1", orthanc.dicom_port, ae_title)
            assert outcome.stored
            classes = wait_for(lambda: _when_complete(orthanc.held()))
            assert classes == {str(image.SOPClassUID), SR, CAPTURE}
            delivered = [line for line in node.log_lines() if line["event"] == "object-delivered"]
            assert {line["destination"] for line in delivered} == {"pacs"}
            assert "own-result-returned" not in node.events(), "results started a loop"
        finally:
            node.stop()


def _when_complete(held: list[Any]) -> set[str] | None:
    """The classes that the archive holds once image, report and capture are there."""
    return {str(one.SOPClassUID) for one in held} if len(held) >= 3 else None
