"""The companions' configuration, read by what reads it: a real Orthanc that sends on, a real nginx."""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.send import send
from tests.node.rig import Node, ultrasound, wait_for
from tests.orthanc import Orthanc, free_ports, running_orthanc
from tests.packaging.hosts import ROOT
from tests.programs import program

APPLIANCE = ROOT / "packaging" / "appliance"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Orthanc, Node]]:
    """The companion and a node, each knowing the other, on free ports of this machine."""
    folder = tmp_path_factory.mktemp("companions")
    configuration: dict[str, Any] = json.loads((APPLIANCE / "orthanc" / "orthanc.json").read_text())
    for key in ("DicomPort", "HttpPort", "StorageDirectory", "IndexDirectory"):
        del configuration[key]
    [port] = free_ports(1)
    configuration["DicomModalities"]["busmap"] |= {"Host": "127.0.0.1", "Port": port}
    configuration["LuaScripts"] = [
        str(APPLIANCE / "orthanc" / Path(one).name) for one in configuration["LuaScripts"]
    ]
    with running_orthanc(folder / "orthanc", ["libOrthancDicomWeb.so"], **configuration) as orthanc:
        destination = {
            "name": "orthanc",
            "ae_title": configuration["DicomAet"],
            "host": "127.0.0.1",
            "port": orthanc.dicom_port,
        }
        node = Node(folder / "state", gateway={"port": port}, delivery={"destinations": [destination]})
        node.start()
        assert node.port == port
        yield orthanc, node
        node.stop()


def test_what_reaches_the_companion_comes_back_with_results(
    pair: tuple[Orthanc, Node], tmp_path: Path
) -> None:
    orthanc, node = pair
    image = ultrasound("one", "companion")
    image.save_as(tmp_path / "one.dcm", enforce_file_format=True)
    assert all(one.stored for one in send([tmp_path / "one.dcm"], "127.0.0.1", orthanc.dicom_port, "ORTHANC"))
    wait_for(lambda: {"US", "SR"} <= {str(one.Modality) for one in orthanc.held()})
    delivered = wait_for(lambda: [one for one in node.log_lines() if one["event"] == "object-delivered"])
    assert {one["destination"] for one in delivered} == {"orthanc"}
    assert "own-result-returned" not in node.events(), "results started a loop"


def test_viewer_and_archive_answer_under_one_address(pair: tuple[Orthanc, Node], tmp_path: Path) -> None:
    orthanc, _ = pair
    command = program("nginx")
    html = tmp_path / "html"
    html.mkdir()
    # As the image keeps them: each compressed, an empty file of its name beside it.
    for name, text in (("index.html", "<title>OHIF</title>"), ("app-config.js", "the image's own")):
        (html / name).touch()
        (html / f"{name}.gz").write_bytes(gzip.compress(text.encode()))
    (html / "app-config.js").write_text((APPLIANCE / "ohif" / "app-config.js").read_text())
    [port] = free_ports(1)
    server = (APPLIANCE / "ohif" / "nginx.conf").read_text()
    for ours, here in (
        ("listen 8080", f"listen 127.0.0.1:{port}"),
        ("/usr/share/nginx/html", str(html)),
        ("http://orthanc:8042", orthanc.root),
    ):
        assert ours in server
        server = server.replace(ours, here)
    temporary = "".join(
        f"{kind}_temp_path {tmp_path}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (tmp_path / "nginx.conf").write_text(
        f"pid {tmp_path}/pid; error_log {tmp_path}/log; daemon off; worker_processes 1; events {{}}"
        f"{_as_myself()}"
        f"http {{ access_log off; {temporary} {server} }}"
    )
    process = subprocess.Popen([command, "-p", tmp_path, "-c", tmp_path / "nginx.conf"])
    address = f"http://127.0.0.1:{port}"
    try:
        wait_for(lambda: _get(address))
        assert _get(address) == "<title>OHIF</title>"
        assert _get(f"{address}/viewer?StudyInstanceUIDs=1.2.3") == "<title>OHIF</title>", (
            "a page of the viewer"
        )
        configuration = _get(f"{address}/app-config.js") or ""
        [root] = set(re.findall(r"(?:qido|wado|wadoUri)Root: '([^']+)'", configuration))
        assert isinstance(json.loads(_get(f"{address}{root}/studies") or ""), list)
    finally:
        process.terminate()
        process.wait(30)


def _as_myself() -> str:
    """Started by root, nginx's workers are another user, and the folder of the test is closed to them."""
    return "user root;" if os.getuid() == 0 else ""


def _get(address: str) -> str | None:
    try:
        with urllib.request.urlopen(address) as answer:
            return str(answer.read().decode())
    except OSError:
        return None
