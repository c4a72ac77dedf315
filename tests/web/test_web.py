"""Health, metrics and version of a real gateway over HTTP."""

from __future__ import annotations

import socket
from pathlib import Path

import anyio
import httpx
import psutil
import pytest
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import Engine, event

from app.node.clock import SystemClock
from app.node.counters import GatewayCounts
from app.node.store.database import open_store
from app.settings import Settings, WebSettings
from app.web.metrics import FAMILIES, metrics_page
from app.web.server import make_app
from tests.node.rig import Node, Pacs, associate, send, ultrasound, wait_for

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    pacs = Pacs().start()
    one = Node(tmp_path_factory.mktemp("web") / "state", [pacs])
    one.start()
    wait_for(lambda: (one.runtime("worker") or {}).get("ready"))
    yield one
    one.stop()
    pacs.stop()


def _get(node: Node, path: str) -> httpx.Response:
    facts = wait_for(lambda: node.runtime("gateway"))
    return httpx.get(f"http://127.0.0.1:{facts['web_port']}{path}", timeout=10)


def _samples(node: Node) -> dict[tuple[str, tuple[str, ...]], float]:
    families = text_string_to_metric_families(_get(node, "/metrics").text)
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in families
        for sample in family.samples
    }


def test_a_node_that_works_is_alive_and_ready(node):
    assert _get(node, "/livez").json() == {"status": "alive"}
    answer = _get(node, "/readyz")
    assert answer.status_code == 200
    names = [one["name"] for one in answer.json()["dependencies"]]
    assert names == ["dicom-listener", "database", "disk", "worker"]
    assert _get(node, "/version").json()["use"].startswith("Research use")
    assert "/readyz" in _get(node, "/openapi.json").json()["paths"]


def test_metrics_follow_a_study_and_name_nobody(node):
    image = ultrasound("metrics", study="metrics")
    image.ImageComments = "EMPTY"  # the analyser of these tests sets such an image aside
    image.PatientName, image.PatientID = "Secret^Name", "SECRET-ID"
    assert send(node.port, image) == [0]
    wait_for(lambda: _samples(node).get(("busmap_deliveries", ("pacs0", "accepted")), 0) > 0)
    samples = _samples(node)
    assert samples["busmap_c_store_answers_total", ("0x0000",)] >= 1
    assert samples["busmap_jobs", ("done",)] >= 1
    assert samples["busmap_instances", ("image",)] >= 1
    assert samples["busmap_set_aside", ("no-analysable-tissue",)] == 1
    assert samples["busmap_associations_total", ("accepted",)] >= 1
    assert samples["busmap_study_seconds_count", ()] == samples["busmap_jobs", ("done",)]
    assert samples["busmap_study_seconds_bucket", ("300",)] <= samples["busmap_study_seconds_count", ()]
    assert samples["busmap_delivery_seconds_bucket", ("pacs0", "+Inf")] >= 1
    assert samples["busmap_store_readable", ()] == 1
    assert samples["busmap_free_disk_bytes", ()] > 0
    text = _get(node, "/metrics").text
    assert "Secret" not in text
    assert "SECRET" not in text
    assert str(image.StudyInstanceUID) not in text


def test_a_sender_with_a_wrong_title_is_counted(node):
    before = _samples(node)["busmap_associations_total", ("rejected",)]
    assert associate(node.port, called="SOMEBODY").is_rejected
    wait_for(lambda: _samples(node)["busmap_associations_total", ("rejected",)] == before + 1)


def test_a_dead_worker_is_named_and_the_gateway_lives(node):
    node.kill("worker")
    answer = wait_for(lambda: (found := _get(node, "/readyz")).status_code == 503 and found)
    (worker,) = (one for one in answer.json()["dependencies"] if not one["ready"])
    assert worker["name"] == "worker"
    assert "start it" in worker["detail"]
    assert _get(node, "/livez").status_code == 200
    assert _samples(node)["busmap_ready", ("worker",)] == 0
    node.complete()
    wait_for(lambda: _get(node, "/readyz").status_code == 200)


def test_a_port_that_is_taken_costs_no_image(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        one = Node(tmp_path / "state", web={"port": taken.getsockname()[1]})
        one.start("gateway")
        try:
            assert send(one.port, ultrasound("taken")) == [0]
            assert one.runtime("gateway")["web_port"] is None
            assert "web-cannot-listen" in one.events()
        finally:
            one.stop()


def test_the_web_side_costs_the_gateway_less_than_30_mb(tmp_path):
    used = {}
    for enabled in (False, True):
        one = Node(tmp_path / str(enabled), web={"port": 0, "enabled": enabled})
        one.start("gateway")
        try:
            assert send(one.port, ultrasound("memory")) == [0]
            if enabled:
                for path in ("/readyz", "/metrics", "/openapi.json") * 20:
                    assert _get(one, path).status_code in (200, 503)
            used[enabled] = psutil.Process(one.runtime("gateway")["pid"]).memory_full_info().uss
        finally:
            one.stop()
    assert used[True] - used[False] < 30e6


def test_a_store_that_cannot_be_read_is_said_not_raised(tmp_path):
    settings = Settings(state_folder=tmp_path, web=WebSettings(port=0))
    store = open_store(tmp_path)
    app = make_app(settings, store, SystemClock(), GatewayCounts())
    with store.write() as connection:
        connection.exec_driver_sql("ALTER TABLE study RENAME TO gone")

    ready = _ask(app, "/readyz")
    assert ready.status_code == 503
    assert "database" in {one["name"] for one in ready.json()["dependencies"] if not one["ready"]}
    assert "busmap_store_readable 0.0" in _ask(app, "/metrics").text


def _ask(app: FastAPI, path: str) -> httpx.Response:
    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app=app), base_url="http://node"
        ) as client:
            return await client.get(path)

    return anyio.run(ask)


def test_readiness_counts_nothing_and_a_scrape_counts_once(tmp_path):
    app = make_app(Settings(state_folder=tmp_path), open_store(tmp_path), SystemClock(), GatewayCounts())
    asked = []

    def note(_connection, _cursor, statement, *_):
        asked.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        _ask(app, "/readyz")
        assert asked
        assert not [one for one in asked if "count(" in one.lower()]
        asked.clear()
        _ask(app, "/metrics")
    finally:
        event.remove(Engine, "before_cursor_execute", note)
    counts = [one for one in asked if "count(" in one.lower()]
    assert counts
    assert len(counts) == len(set(counts))


def test_a_folder_that_cannot_be_reached_is_said_not_raised(tmp_path):
    folder = tmp_path / "state"
    app = make_app(Settings(state_folder=folder), open_store(folder), SystemClock(), GatewayCounts())
    folder.rename(tmp_path / "unmounted")
    assert _ask(app, "/readyz").status_code == 503
    answer = _ask(app, "/metrics")
    assert answer.status_code == 200
    assert "busmap_free_disk_bytes" not in answer.text
    assert 'busmap_ready{dependency="disk"} 0.0' in answer.text


def test_every_metric_has_its_line_in_the_docs(node):
    assert (DOCS / "metrics.md").read_text() == metrics_page()
    families = list(text_string_to_metric_families(_get(node, "/metrics").text))
    exposed = {one.name + ("_total" if one.type == "counter" else "") for one in families}
    assert exposed == set(FAMILIES), "a family without a line, or a line without a family"
    assert all(one.documentation for one in families), "a family without HELP"
