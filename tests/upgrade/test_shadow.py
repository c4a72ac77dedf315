"""The new release beside the old one: the same studies, nothing sent, and what differs told."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.compare import Comparison, compare, judge, render
from app.errors import ResultsDifferError, StoreError
from app.node.status import read_status, render_status, resend
from tests.node.rig import Node, Pacs, send, ultrasound, wait_for
from tests.operators.made_files import uid
from tests.upgrade import frozen


def done(node: Node, jobs: int) -> bool:
    found = frozen.query(node.folder, "SELECT count(*) FROM job WHERE state IN ('done', 'failed')")
    return bool(found == [(jobs,)])


def test_shadow_makes_the_same_results_and_sends_nothing(make_node: Callable[..., Node], pacs: Pacs) -> None:
    """The scanner's images go to both; the PACS hears of the node in charge alone."""
    live = make_node(pacs, name="live")
    shadow = make_node(pacs, name="shadow", delivery={"shadow": True})
    for node in (live, shadow):
        node.start()
    for study in ("one", "two"):
        images = [ultrasound(str(index), study) for index in range(2)]
        for node in (live, shadow):
            assert send(node.port, *images) == [0, 0]
    for node in (live, shadow):
        wait_for(lambda node=node: done(node, 2))
    wait_for(lambda: len(pacs.received) == 4)
    made = {row[0] for row in frozen.query(live.folder, "SELECT sop_instance_uid FROM result_object")}
    assert set(pacs.received) == made
    assert frozen.query(shadow.folder, "SELECT count(*) FROM result_object") == [(4,)]
    assert frozen.query(shadow.folder, "SELECT count(*) FROM delivery") == [(0,)]
    assert "sent to nobody" in render_status(read_status(shadow.settings))
    with pytest.raises(StoreError, match="shadow"):
        resend(shadow.settings, uid("one"))
    shadow.stop()
    live.stop()


def verb(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "app.cli", "compare", *words],
        cwd=Path(__file__).parents[2],
        env={key: value for key, value in os.environ.items() if not key.startswith("BUSMAP_")},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.fixture
def both(tmp_path: Path) -> tuple[Path, Path]:
    """The state of the first release, and a copy of it that a test changes."""
    old = frozen.unpack(tmp_path)
    new = tmp_path / "new"
    shutil.copytree(old, new)
    return old, new


def change(folder: Path, study: str, edit: Callable[[dict[str, Any]], None]) -> None:
    path = frozen.result(folder, study) / "result.json"
    facts = json.loads(path.read_text())
    edit(facts)
    path.write_text(json.dumps(facts))


def of(found: list[Comparison], both: tuple[Path, Path], study: str) -> Comparison:
    [row] = frozen.query(
        both[0], "SELECT study_ref FROM study WHERE study_instance_uid = ?", frozen.STUDIES[study]
    )
    [one] = [one for one in found if one.study_ref == row[0]]
    return one


def test_equal_states_are_equal_and_left_as_they_are(both: tuple[Path, Path]) -> None:
    before = frozen.contents(both[0])
    done = verb(str(both[0]), str(both[1]))
    assert done.returncode == 0, done.stderr
    assert "8 studies, 8 with both nodes, 0 with differences" in done.stdout
    assert frozen.contents(both[0]) == before
    assert not (both[0] / "backups").exists()  # read as the first release left it, not migrated


def test_every_kind_of_difference_is_named(both: tuple[Path, Path]) -> None:
    def other_lesion(facts: dict[str, Any]) -> None:
        facts["lesions"][0]["probability"] += 0.01
        facts["lesions"][0]["category"] = "3"
        facts["probability"] += 0.01

    def no_lesion(facts: dict[str, Any]) -> None:
        facts["status"], facts["probability"] = "no-findings", None
        facts["set_aside"] = [{"reason": "needle-in-view"}]

    old = json.loads((frozen.result(both[0], "delivered") / "result.json").read_text())
    change(both[1], "delivered", other_lesion)
    change(both[1], "waiting", no_lesion)
    shutil.rmtree(both[1] / "incoming")
    found = compare(*both, tolerance=0.001)
    assert sum(bool(one.differences) for one in found) == 2
    lesion = of(found, both, "delivered")
    assert lesion.differences == (
        f"category L1: {old['lesions'][0]['category']} -> 3",
        f"probability: {old['probability']:.3f} -> {old['probability'] + 0.01:.3f}, a lesion by 0.010",
    )
    waiting = " ".join(of(found, both, "waiting").differences)
    assert "status: nothing-usable -> no-findings" in waiting
    assert "set aside, needle-in-view: 0 -> 1" in waiting
    assert of(compare(*both, tolerance=0.02), both, "delivered").differences == lesion.differences[:1]
    assert "2 with differences" in render(found)
    with pytest.raises(ResultsDifferError, match="2 of 8"):
        judge(found)
    told = verb(str(both[0]), str(both[1]), "--json")
    assert told.returncode == ResultsDifferError.exit_status
    assert sum(bool(one["differences"]) for one in json.loads(told.stdout)) == 2
    assert "results-differ" in told.stderr


def test_other_images_and_missing_studies_are_differences(both: tuple[Path, Path]) -> None:
    import sqlite3

    with sqlite3.connect(both[1] / "busmap.sqlite") as connection:
        connection.execute(
            "UPDATE instance SET sop_instance_uid = '2.25.1' WHERE study_id = "
            "(SELECT id FROM study WHERE study_instance_uid = ?)",
            (frozen.STUDIES["delivered"],),
        )
        connection.execute(
            "UPDATE job SET state = 'running' WHERE study_id = "
            "(SELECT id FROM study WHERE study_instance_uid = ?)",
            (frozen.STUDIES["waiting"],),
        )
    found = compare(*both, tolerance=0.001)
    assert "other images: 1 with the old node alone" in of(found, both, "delivered").differences[0]
    assert of(found, both, "waiting").differences == ("the new node has no finished result",)


def test_what_is_no_state_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is no state folder"):
        compare(tmp_path, tmp_path / "other", 0.001)


def test_one_folder_given_twice_is_no_comparison(both: tuple[Path, Path]) -> None:
    """It would say that nothing differs."""
    with pytest.raises(StoreError, match="was given twice"):
        compare(both[0], both[0].parent / "." / both[0].name, 0.001)


def test_nothing_to_compare_is_no_success() -> None:
    with pytest.raises(ResultsDifferError, match="neither node"):
        judge([])
