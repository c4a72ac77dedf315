"""Closing on command, and what a node without destination or without engines does."""

from __future__ import annotations

from typing import Any

from app.node.status import close_study, read_status, render_status
from tests.node.rig import send, ultrasound, wait_for
from tests.operators.made_files import uid


def test_close_on_command_without_destination(make_node: Any) -> None:
    node = make_node(assembly={"quiet_period_seconds": 3600})
    node.start()
    assert send(node.port, ultrasound("1")) == [0]
    [study] = read_status(node.settings).studies
    assert study.state == "open"
    close_study(node.settings, study.study_ref)
    found = wait_for(lambda: [one for one in read_status(node.settings).studies if one.job_state == "done"])
    assert found[0].study_instance_uid == uid("study")
    assert found[0].deliveries == ()


def test_studies_wait_for_engines_that_do_not_load(make_node: Any) -> None:
    node = make_node()
    node.start("gateway")
    node.start("worker", analyser="tests.node.no_such_analyser")
    assert send(node.port, ultrasound("1")) == [0]
    wait_for(lambda: "engines-not-loaded" in node.events())
    wait_for(lambda: read_status(node.settings).studies[0].job_state == "queued")
    assert "worker: not ready" in render_status(read_status(node.settings))
    node.processes["worker"].terminate()
    node.ended("worker")
    node.start("worker")
    wait_for(lambda: read_status(node.settings).studies[0].job_state == "done")
