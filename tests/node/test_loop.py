"""The whole way: images in over DICOM, results back in the PACS, and nothing in a circle."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest
from pydicom import dcmread

from app.errors import StoreError
from app.logs import study_refs
from app.node.status import close_study, read_status, render_status, resend, retry, status_json
from app.node.store.overview import StudyLine
from tests.node.rig import Node, Pacs, report, send, ultrasound, wait_for
from tests.operators.made_files import uid

CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


@pytest.fixture(scope="module")
def pacs() -> Iterator[Pacs]:
    one = Pacs().start()
    yield one
    one.stop()


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, pacs: Pacs) -> Iterator[Node]:
    one = Node(
        tmp_path_factory.mktemp("loop") / "state", [pacs], analysis={"attempts": 2, "timeout_seconds": 8}
    )
    one.start()
    wait_for(lambda: one.runtime("worker") and one.runtime("worker")["ready"])
    yield one
    one.stop()


def line(node: Node, study: str) -> StudyLine:
    [found] = [one for one in read_status(node.settings).studies if one.study_instance_uid == uid(study)]
    return found


def finished(
    node: Node, study: str, revision: int = 1, states: Collection[str] = ("accepted", "parked", "superseded")
) -> StudyLine:
    """The study once its job has ended and all its deliveries are settled."""

    def settled() -> StudyLine | None:
        found = line(node, study)
        ended = found.revision == revision and found.job_state in ("done", "failed")
        return found if ended and {one.state for one in found.deliveries} <= set(states) else None

    return wait_for(settled)


def result(node: Node, study: str, revision: int = 1) -> dict[str, object]:
    return json.loads((result_folder(node, study, revision) / "result.json").read_text())


def result_folder(node: Node, study: str, revision: int) -> Path:
    [folder] = [
        one
        for one in (node.folder / "results").glob(f"*/{revision}")
        if uid(study).encode() in (one / "structured-report.dcm").read_bytes()
    ]
    return folder


def test_study_comes_back_as_result(node: Node, pacs: Pacs) -> None:
    assert send(node.port, *(ultrasound(str(index), "whole") for index in range(3))) == [0, 0, 0]
    found = finished(node, "whole")
    assert (found.state, found.images, found.result_status) == ("closed", 3, "no-findings")
    assert [one.kind for one in found.deliveries] == ["structured-report", "summary-capture"]
    mine = [one for one in pacs.order if one.StudyInstanceUID == uid("whole")]
    assert [str(one.SOPClassUID).rsplit(".", 1)[1] for one in mine] == ["34", "7"]
    status = read_status(node.settings)
    assert all(one.running for one in status.processes)
    assert found.study_ref in render_status(status)
    assert uid("whole") in status_json(status)
    assert uid("whole") not in render_status(status)


def test_nothing_starts_when_the_pacs_sends_everything_back(node: Node, pacs: Pacs) -> None:
    images = [ultrasound(str(index), "circle") for index in range(2)]
    assert send(node.port, *images) == [0, 0]
    finished(node, "circle")
    results = [one for one in pacs.order if one.StudyInstanceUID == uid("circle")]
    # A PACS may have changed the maker's name; the UID still tells.
    del results[1].Manufacturer
    before = (len(list((node.folder / "images").glob("*/*"))), line(node, "circle"))
    assert send(node.port, *images, *results) == [0] * 4
    assert (len(list((node.folder / "images").glob("*/*"))), line(node, "circle")) == before


def test_nothing_starts_where_the_pacs_forwards_everything_as_it_comes(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        mirror = Pacs().start()
        stack.callback(mirror.stop)
        one = Node(tmp_path / "state", [mirror])
        stack.callback(one.stop)
        mirror.forward_to = lambda: one.port
        one.start()
        wait_for(lambda: one.runtime("worker") and one.runtime("worker")["ready"])
        assert send(one.port, *(ultrasound(str(index), "mirror") for index in range(2))) == [0, 0]
        found = finished(one, "mirror")
        wait_for(lambda: len(mirror.forwarded) >= len(found.deliveries))
        assert mirror.forwarded == [0] * len(found.deliveries)
        after = line(one, "mirror")
        assert (after.revision, after.images, after.others, after.state) == (1, 2, 0, "closed")
        assert all(len(versions) == 1 for versions in mirror.received.values())


def test_a_pacs_of_the_default_syntax_alone_gets_the_same_objects(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        plain = Pacs()
        plain.syntaxes = ["1.2.840.10008.1.2"]
        plain.start()
        stack.callback(plain.stop)
        one = Node(tmp_path / "state", [plain])
        stack.callback(one.stop)
        one.start()
        assert send(one.port, ultrasound("1", "plain")) == [0]
        found = finished(one, "plain")
        assert {sent.state for sent in found.deliveries} == {"accepted"}
        for given in plain.order:
            assert given.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2"
            kept = [dcmread(path) for path in result_folder(one, "plain", 1).glob("*.dcm")]
            assert any(given == made for made in kept), "the same data set, encoded otherwise"


def test_a_failed_study_is_tried_again_with_what_was_sent_anew(node: Node) -> None:
    first, second = ultrasound("1", "again"), ultrasound("2", "again", PatientID="P2")
    assert send(node.port, first, second) == [0, 0]
    assert finished(node, "again").failure_code == "input-mixed-patients"
    shown = re.sub(r"[\s│]", "", render_status(read_status(node.settings)))  # a cell breaks where it must
    assert "busmapretry" in shown
    assert send(node.port, ultrasound("2", "again")) == [0]
    assert line(node, "again").quarantined == 1
    retry(node.settings, uid("again"), use_resent=True)
    found = finished(node, "again", 2)
    assert (found.job_state, found.images, found.quarantined) == ("done", 2, 1)
    with pytest.raises(StoreError, match="not failed"):
        retry(node.settings, uid("again"), use_resent=False)


def test_an_image_moved_to_another_study_can_follow_it(node: Node) -> None:
    stays, strays = ultrasound("1", "wrong"), ultrasound("2", "wrong")
    assert send(node.port, stays, strays) == [0, 0]
    finished(node, "wrong")
    strays.StudyInstanceUID, strays.PatientID = uid("right"), "P2"  # the source corrects it, under its UID
    assert send(node.port, strays) == [0]
    waiting = wait_for(lambda: line(node, "right"))
    assert (waiting.state, waiting.images, waiting.quarantined) == ("idle", 0, 1)
    assert "arrived in two studies" in waiting.warnings[0]
    finished(node, "wrong", revision=2)  # says so, too
    retry(node.settings, uid("right"), use_resent=True)
    found, left = finished(node, "right"), finished(node, "wrong", revision=3)
    assert (found.images, left.images, left.quarantined) == (1, 1, 1)
    for one in (found, left):
        assert "was moved from one study to another" in one.warnings[0]
    assert result(node, "wrong", 3)["images"] == 1
    with pytest.raises(StoreError, match="not failed"):
        retry(node.settings, uid("right"), use_resent=True)  # there is nothing later than what is used


def test_foreign_report_belongs_to_the_study_and_starts_nothing(node: Node) -> None:
    assert send(node.port, report("foreign", "with-report")) == [0]
    assert line(node, "with-report").state == "idle"
    with pytest.raises(StoreError, match="no image"):
        close_study(node.settings, uid("with-report"))
    assert send(node.port, ultrasound("1", "with-report")) == [0]
    found = finished(node, "with-report")
    assert (found.images, found.others) == (1, 1)
    assert result(node, "with-report")["images"] == 2
    assert send(node.port, report("late", "with-report")) == [0]
    assert line(node, "with-report").state == "closed"


def test_late_image_makes_a_revision_that_names_its_predecessor(node: Node, pacs: Pacs) -> None:
    assert send(node.port, ultrasound("1", "late")) == [0]
    finished(node, "late")
    assert send(node.port, ultrasound("2", "late")) == [0]
    finished(node, "late", revision=2)
    assert (result(node, "late")["images"], result(node, "late", 2)["images"]) == (1, 2)
    assert (result(node, "late")["replaces"], result(node, "late", 2)["replaces"]) == (None, 1)
    assert len({str(one.SOPInstanceUID) for one in pacs.order if one.StudyInstanceUID == uid("late")}) == 4
    # Sent once more, the images are the ones that are known: nothing opens.
    before = line(node, "late")
    assert send(node.port, ultrasound("1", "late"), ultrasound("2", "late")) == [0, 0]
    assert line(node, "late") == before


def test_other_bytes_are_warned_of_in_report_and_status(node: Node) -> None:
    first, second = ultrasound("1", "changed"), ultrasound("1", "changed")
    second.PixelData = bytes(reversed(second.PixelData))
    assert send(node.port, first, second) == [0, 0]
    found = finished(node, "changed")
    assert found.quarantined == 1
    assert len(found.warnings) == 1
    assert result(node, "changed")["warnings"] == list(found.warnings)
    assert result(node, "changed")["images"] == 1


def test_other_bytes_that_come_late_make_a_result_that_warns(node: Node) -> None:
    assert send(node.port, ultrasound("1", "later")) == [0]
    assert result(node, "later", finished(node, "later").revision)["warnings"] == []
    changed = ultrasound("1", "later")
    changed.PixelData = bytes(reversed(changed.PixelData))
    assert send(node.port, changed) == [0]
    found = finished(node, "later", revision=2)
    later = result(node, "later", 2)
    assert (later["images"], later["replaces"], later["warnings"]) == (1, 1, list(found.warnings))
    assert "kept in quarantine" in found.warnings[0]
    # The same bytes again change nothing.
    assert send(node.port, changed) == [0]
    assert line(node, "later") == found
    # A person decides for the later version.
    retry(node.settings, uid("later"), use_resent=True)
    [warning] = finished(node, "later", revision=3).warnings
    assert "the later version is used" in warning
    with pytest.raises(StoreError, match="not failed"):
        retry(node.settings, uid("later"), use_resent=False)


def test_result_that_waits_is_not_sent_after_the_one_that_replaces_it(node: Node, pacs: Pacs) -> None:
    pacs.stop()
    assert send(node.port, ultrasound("1", "stale")) == [0]
    wait_for(lambda: (one := line(node, "stale")).deliveries and one.deliveries[0].attempts > 0)
    assert send(node.port, ultrasound("2", "stale")) == [0]
    wait_for(lambda: line(node, "stale").revision == 2 and line(node, "stale").job_state == "done")
    pacs.start()
    found = finished(node, "stale", revision=2, states={"accepted", "superseded"})
    assert [one.state for one in found.deliveries] == ["superseded"] * 2 + ["accepted"] * 2
    sent = [one for one in pacs.order if one.StudyInstanceUID == uid("stale")]
    kept = [dcmread(path) for path in result_folder(node, "stale", 2).glob("*.dcm")]
    assert {one.SOPInstanceUID for one in sent} == {one.SOPInstanceUID for one in kept}
    assert resend(node.settings, found.study_ref) == 2


def test_refused_object_is_parked_shown_and_sent_again_on_request(node: Node, pacs: Pacs) -> None:
    pacs.answers[CAPTURE] = 0xA900
    assert send(node.port, ultrasound("1", "parked")) == [0]
    found = finished(node, "parked")
    assert [one.state for one in found.deliveries] == ["accepted", "parked"]
    assert found.deliveries[1].status == 0xA900
    assert "parked: 0xA900" in render_status(read_status(node.settings))
    pacs.answers.clear()
    assert resend(node.settings, found.study_ref) == 2
    found = finished(node, "parked")
    assert [one.state for one in found.deliveries] == ["accepted", "accepted"]
    mine = [one.SOPInstanceUID for one in pacs.order if one.StudyInstanceUID == uid("parked")]
    assert all(len(set(pacs.received[str(one)])) == 1 for one in mine)


def test_warning_status_is_success(node: Node, pacs: Pacs) -> None:
    pacs.answers[CAPTURE] = 0xB000
    assert send(node.port, ultrasound("1", "coerced")) == [0]
    found = finished(node, "coerced")
    pacs.answers.clear()
    assert [(one.state, one.status) for one in found.deliveries] == [("accepted", 0), ("accepted", 0xB000)]


def test_busy_pacs_is_tried_again(node: Node, pacs: Pacs) -> None:
    pacs.answers[CAPTURE] = 0xA700
    assert send(node.port, ultrasound("1", "busy")) == [0]
    wait_for(lambda: any(one.attempts > 1 for one in line(node, "busy").deliveries))
    pacs.answers.clear()
    assert [one.state for one in finished(node, "busy").deliveries] == ["accepted", "accepted"]


def test_pacs_down_then_up(node: Node, pacs: Pacs) -> None:
    pacs.stop()
    assert send(node.port, ultrasound("1", "down")) == [0]
    found = wait_for(
        lambda: (one := line(node, "down")).deliveries and one.deliveries[0].attempts > 0 and one
    )
    assert found.deliveries[0].message == "the destination cannot be reached"
    pacs.start()
    assert [one.state for one in finished(node, "down").deliveries] == ["accepted", "accepted"]


@pytest.mark.crash
@pytest.mark.parametrize("misdeed", ["die", "raise", "memory"])
def test_failed_attempt_is_repeated_and_counted(node: Node, misdeed: str) -> None:
    (node.folder / f"misdeed-{misdeed}-1").touch()
    assert send(node.port, ultrasound("1", misdeed)) == [0]
    found = finished(node, misdeed)
    assert (found.job_state, found.attempts) == ("done", 1)


@pytest.mark.crash
def test_attempts_spent_are_a_named_failure(node: Node) -> None:
    for number in range(2):
        (node.folder / f"misdeed-die-{number}").touch()
    assert send(node.port, ultrasound("1", "hopeless")) == [0]
    found = finished(node, "hopeless")
    assert (found.job_state, found.failure_code, found.attempts) == ("failed", "analysis-failed", 2)
    assert "signal 9" in str(found.failure_message)


def test_time_limit_is_a_failed_attempt(node: Node) -> None:
    (node.folder / "misdeed-hang-1").touch()
    assert send(node.port, ultrasound("1", "slow")) == [0]
    found = finished(node, "slow")
    assert (found.job_state, found.attempts) == ("done", 1)


def test_unusable_input_fails_at_once(node: Node) -> None:
    images = [ultrasound("1", "two", PatientID="A"), ultrasound("2", "two", PatientID="B")]
    assert send(node.port, *images) == [0, 0]
    found = finished(node, "two")
    assert (found.job_state, found.failure_code, found.attempts) == ("failed", "input-mixed-patients", 1)
    assert "input-mixed-patients" in render_status(read_status(node.settings))


def test_unknown_study_is_refused_with_a_remedy(node: Node) -> None:
    with pytest.raises(StoreError, match="busmap status"):
        resend(node.settings, "1.2.3")
    with pytest.raises(StoreError, match="closed already"):
        close_study(node.settings, uid("whole"))


def test_logs_hold_no_name_and_no_uid(node: Node) -> None:
    """Runs last: every line that this module's tests caused is searched."""
    image = ultrasound("1", "canary", PatientName="CANARY^NAME", PatientID="CANARYID")
    (node.folder / "misdeed-raise-1").touch()
    assert send(node.port, image) == [0]
    finished(node, "canary")
    written = node.log_path.read_text()
    assert study_refs(node.settings)(uid("canary")) in written
    for secret in ("CANARY", "1.2.3.4.5", "2.25.", "1.2.840", "PHANTOM"):
        assert secret not in written
    assert all(line.startswith("{") for line in written.splitlines())
