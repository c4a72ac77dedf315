"""Prometheus' configuration, alerts and the Grafana dashboard, against a real Prometheus and a real node."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.web.metrics import FAMILIES
from tests.node.rig import Node, Pacs, free_port, send, ultrasound, wait_for
from tests.packaging.hosts import ROOT
from tests.programs import program
from tests.waiting import wait_until

APPLIANCE = ROOT / "packaging" / "appliance"
RULES = APPLIANCE / "prometheus" / "alerts.yml"
DASHBOARD = json.loads((APPLIANCE / "grafana" / "busmap.json").read_text())
UNIT_TESTS = Path(__file__).with_name("alerts.test.yml")


def _rules() -> list[dict[str, Any]]:
    [group] = yaml.safe_load(RULES.read_text())["groups"]
    return list(group["rules"])


def _queries() -> list[str]:
    return [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]


def _promtool(*arguments: str, cwd: Path | None = None) -> str:
    answer = subprocess.run(
        [program("promtool"), *arguments], check=False, capture_output=True, text=True, cwd=cwd
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return answer.stdout


def test_promtool_takes_configuration_and_rules() -> None:
    _promtool("check", "config", str(APPLIANCE / "prometheus" / "prometheus.yml"))


def test_each_alert_fires_on_its_symptom_and_keeps_quiet_without(tmp_path: Path) -> None:
    for file in (RULES, UNIT_TESTS):
        shutil.copy(file, tmp_path)
    _promtool("test", "rules", UNIT_TESTS.name, cwd=tmp_path)
    bad_day = yaml.safe_load(UNIT_TESTS.read_text())["tests"][1]["promql_expr_test"][0]["exp_samples"]
    fired = {re.search('alertname="([^"]+)"', one["labels"])[1] for one in bad_day}  # type: ignore[index]
    assert fired == {rule["alert"] for rule in _rules()}, "an alert that no test has seen fire"


def test_each_alert_names_symptom_and_remedy() -> None:
    for rule in _rules():
        assert {"summary", "description"} <= set(rule["annotations"]), rule["alert"]
        assert rule["labels"]["severity"] in ("critical", "warning"), rule["alert"]
        assert len(rule["annotations"]["description"]) > 60, rule["alert"]


def test_alerts_and_panels_ask_for_metrics_that_there_are() -> None:
    asked = re.findall(r"\bbusmap_\w+", " ".join([*_queries(), *(rule["expr"] for rule in _rules())]))
    families = {re.sub("_(bucket|sum|count)$", "", name) for name in asked}
    assert families
    assert families <= set(FAMILIES)


def test_every_metric_is_on_the_dashboard() -> None:
    shown = " ".join(_queries())
    assert [name for name in FAMILIES if name not in shown] == []


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Prometheus that has seen a node before and after a study."""
    command, folder = program("prometheus"), tmp_path_factory.mktemp("prometheus")
    pacs = Pacs().start()
    node = Node(folder / "state", [pacs])
    node.start()
    web = wait_for(lambda: node.runtime("gateway"))["web_port"]
    configuration = yaml.safe_load((APPLIANCE / "prometheus" / "prometheus.yml").read_text())
    configuration["global"] = {"scrape_interval": "500ms", "evaluation_interval": "500ms"}
    configuration["scrape_configs"][0]["static_configs"][0]["targets"] = [f"127.0.0.1:{web}"]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    shutil.copy(RULES, folder)
    port = free_port()
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [
                command,
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stderr=log,
        )
    address = f"http://127.0.0.1:{port}"
    try:
        wait_for(lambda: _result(address, "up == 1"))
        image = ultrasound("monitored")
        image.ImageComments = "EMPTY"  # the analyser of these tests sets such an image aside
        assert send(node.port, image) == [0]
        wait_for(lambda: _result(address, 'sum(busmap_deliveries{state="accepted"}) == 2'))
        wait_for(lambda: _result(address, "rate(busmap_delivery_seconds_count[5m])"))
        yield address
    finally:
        process.terminate()
        process.wait(30)
        node.stop()
        pacs.stop()


def _ask(address: str, path: str, **query: str) -> Any:
    try:
        with urllib.request.urlopen(f"{address}{path}?{urllib.parse.urlencode(query)}", timeout=30) as answer:
            return json.load(answer)["data"]
    except urllib.error.HTTPError as error:
        if error.code == 503:
            return None  # it starts
        raise AssertionError(error.read().decode()) from None
    except OSError:
        return None


def _result(address: str, query: str) -> list[Any]:
    return ((_ask(address, "/api/v1/query", query=query)) or {"result": []})["result"]


def test_every_panel_shows_something(prometheus: str) -> None:
    queries = _queries()
    assert len(queries) >= len(FAMILIES) // 2
    for query in queries:  # a rate needs two scrapes since its series began
        wait_until(lambda query=query: bool(_result(prometheus, query)), f"an answer to {query}")


def test_prometheus_evaluates_every_alert_and_none_fires_on_a_node_that_works(prometheus: str) -> None:
    def evaluated() -> list[Any] | None:
        [group] = _ask(prometheus, "/api/v1/rules")["groups"]
        rules = group["rules"]
        return rules if all(rule["health"] != "unknown" for rule in rules) else None

    rules = wait_for(evaluated)
    assert {rule["name"]: rule["health"] for rule in rules} == dict.fromkeys(
        (rule["alert"] for rule in _rules()), "ok"
    )
    assert [rule["name"] for rule in rules if rule["state"] == "firing"] == []
