"""What `busmap status`, `busmap close` and `busmap resend` show and do.

Promises: works whether the node runs or not, on the same state folder. Refuses a study it does not know, and
says what to do instead.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass, replace
from typing import Any

from rich.console import Console
from rich.table import Table
from sqlalchemy.exc import SQLAlchemyError

from app.errors import StoreError
from app.node.clock import SystemClock, moment
from app.node.identity import not_checked
from app.node.process import GATEWAY_FILE, WORKER_FILE, read_runtime_file
from app.node.store.database import FILE_NAME, Store, open_store
from app.node.store.deliveries import requeue_study, result_folder
from app.node.store.images import request_close, request_retry
from app.node.store.overview import StudyLine, find_study, study_lines
from app.node.store.schema import DeliveryState, JobState, StudyState
from app.node.store.workers import worker_lines
from app.settings import Settings

_NO_IMAGE = (
    "Holds no ultrasound image: kept, not analysed. Secondary captures are analysed where "
    "analysis.accept_secondary_capture is set."
)


@dataclass(frozen=True)
class ProcessStatus:
    """A process of the node. `facts` is what its runtime file says, empty where it does not run here.

    Of workers of other machines, which share the database, it is when they were last seen.
    """

    name: str
    running: bool
    facts: dict[str, Any]


@dataclass(frozen=True)
class Status:
    """The node at one moment. `deliveries` counts them by state; a `shadow` sends nothing."""

    processes: tuple[ProcessStatus, ...]
    studies: tuple[StudyLine, ...]
    study_states: dict[str, int]
    deliveries: dict[str, int]
    shadow: bool = False


def read_status(settings: Settings) -> Status:
    """Read the node's status.

    Raises
    ------
    StoreError
        There is no state yet, or it cannot be read.
    """
    store = _open_existing(settings)
    try:
        studies = tuple(_with_remarks(store, one) for one in study_lines(store))
        workers = worker_lines(store)
    except SQLAlchemyError as error:
        raise StoreError(
            f"the database in {settings.state_folder} cannot be read ({type(error).__name__}): try again, or "
            "restore it from a backup"
        ) from None
    finally:
        store.close()
    processes = []
    for name, file in (("gateway", GATEWAY_FILE), ("worker", WORKER_FILE)):
        facts = read_runtime_file(settings.own_folder / file)
        processes.append(ProcessStatus(name, facts is not None, facts or {}))
    processes += [ProcessStatus(f"worker {one.name}", True, {"seen_at": one.seen_at}) for one in workers]
    return Status(
        processes=tuple(processes),
        studies=studies,
        study_states=dict(Counter(situation(one) for one in studies)),
        deliveries=dict(Counter(sent.state for one in studies for sent in one.deliveries)),
        shadow=settings.delivery.shadow,
    )


def _with_remarks(store: Store, study: StudyLine) -> StudyLine:
    """The study with what its newest result says was set aside; without, where there is no result to read."""
    if study.job_state != JobState.DONE:
        return study
    facts = result_folder(store, study.study_instance_uid, study.revision) / "metadata.json"
    try:
        said = str(json.loads(facts.read_text(encoding="utf-8")).get("remarks") or "")
    except (OSError, ValueError):
        return study
    return replace(study, remarks=tuple(said.splitlines()))


def situation(study: StudyLine) -> str:
    """One word for where a study is: idle, receiving, or the state of its newest job."""
    if study.state == StudyState.OPEN:
        return "receiving"
    return study.job_state or "idle"


def close_study(settings: Settings, study: str) -> None:
    """Have a study closed now, by Study Instance UID or study_ref.

    Raises
    ------
    StoreError
        The study is unknown, holds no image, or is closed already.
    """
    store = _open_existing(settings)
    try:
        state = request_close(store, _find(store, study))
    finally:
        store.close()
    if state is StudyState.IDLE:
        raise StoreError("this study holds no image to analyse yet: send one first")
    if state is StudyState.CLOSED:
        raise StoreError("this study is closed already: its next image opens it again")


def retry(settings: Settings, study: str, *, use_resent: bool) -> None:
    """Have a study analysed again, as its next revision: one that failed, or whose images came anew.

    Parameters
    ----------
    use_resent : take the newest version of images that came again with other bytes.

    Raises
    ------
    StoreError
        The study is unknown, or it has not failed and no image of it came again with other bytes.
    """
    store = _open_existing(settings)
    try:
        asked = request_retry(store, _find(store, study), SystemClock().now(), use_resent=use_resent)
    finally:
        store.close()
    if not asked:
        raise StoreError("this study has not failed: `busmap status` shows where it is")


def resend(settings: Settings, study: str, *, release_identity: bool = False) -> int:
    """Queue the newest result of a study, and what of it is parked, again; answers how many deliveries.

    Parameters
    ----------
    release_identity : send it although the destination's study names another patient.

    Raises
    ------
    StoreError
        The study is unknown or has no result to send.
    """
    if settings.delivery.shadow:
        raise StoreError("this node is a shadow and sends nothing: delivery.shadow says so")
    store = _open_existing(settings)
    try:
        names = [one.name for one in settings.delivery.destinations]
        found, now = _find(store, study), SystemClock().now()
        count = requeue_study(store, found, names, now, release_identity=release_identity)
    finally:
        store.close()
    if count == 0:
        raise StoreError(
            "this study has nothing to send: it has no result yet, or the settings name no destination"
        )
    return count


def status_json(status: Status) -> str:
    """The status as JSON. It holds Study Instance UIDs: for the operator, not for logs."""
    return json.dumps(asdict(status), indent=1)


def render_status(status: Status) -> str:
    """The status as text for a terminal."""
    console = Console(width=140)
    with console.capture() as captured:
        for process in status.processes:
            console.print(f"{process.name}: {_describe(process)}")
        if status.shadow:
            console.print("shadow: results are kept and sent to nobody (delivery.shadow)")
        table = Table("study", "state", "images", "result", "delivered", "parked", "last image", "remarks")
        for one in status.studies:
            wanted = [sent for sent in one.deliveries if sent.state != DeliveryState.SUPERSEDED]
            states = Counter(sent.state for sent in wanted)
            table.add_row(
                one.study_ref,
                situation(one),
                str(one.images),
                one.result_status or "",
                f"{states['accepted']}/{states.total()}" if wanted else "",
                str(states["parked"] or ""),
                moment(one.last_received_at).strftime("%Y-%m-%d %H:%M:%S"),
                "\n".join(_remarks(one)),
            )
        console.print(table)
    return captured.get()


def _describe(process: ProcessStatus) -> str:
    facts = process.facts
    if not process.running:
        return "not running"
    if "seen_at" in facts:
        return f"last seen {moment(facts['seen_at']):%Y-%m-%d %H:%M:%S}"
    if process.name == "gateway":
        return f"listening on {facts['host']}:{facts['port']} as {facts['ae_title']}"
    if facts.get("ready"):
        return f"ready ({', '.join(facts['engines'])})" if facts["engines"] else "ready"
    return f"not ready: {facts.get('message', 'loading')}"


def _remarks(study: StudyLine) -> list[str]:
    remarks = []
    if study.failure_code:
        again = " --use-resent" if study.quarantined else ""
        remarks.append(
            f"{study.failure_code}: {study.failure_message} Then: busmap retry {study.study_ref}{again}"
        )
    for sent in study.deliveries:
        if sent.message and sent.state in ("parked", "queued"):
            remarks.append(f"{sent.destination}, {sent.kind}, {sent.state}: {sent.message}")
    unchecked = [
        f"{sent.destination}: identity not checked, {why}"
        for sent in study.deliveries
        if sent.state == "accepted" and (why := not_checked(sent.identity))
    ]
    if study.images == 0 and study.others:
        remarks.append(_NO_IMAGE)
    return [*remarks, *dict.fromkeys(unchecked), *study.remarks, *study.warnings]


def _open_existing(settings: Settings) -> Store:
    if not settings.database_url and not (settings.state_folder / FILE_NAME).exists():
        raise StoreError(
            f"there is no node in {settings.state_folder}: start one with `busmap serve`, or set state_folder"
        )
    return open_store(settings.state_folder, settings.database_url)


def _find(store: Store, study: str) -> int:
    found = find_study(store, study)
    if found is None:
        raise StoreError("this study is not known here: `busmap status` lists those that are")
    return found
