"""The real parts of the node in one process; clock, analysis and jobs are in the hand of the test."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom.dsutils import encode

from app.logs import study_refs
from app.node.incoming import IncomingFile
from app.node.intake import Answer, Intake, Transfer
from app.node.store.database import Store, open_store
from app.settings import Settings
from operators.report.composed import Predecessor, ReportContext
from tests.node import analyser


class SetClock:
    """A clock that stands until it is moved."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self._now, self._monotonic = now, 1000.0

    def now(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    def advance(self, seconds: float) -> None:
        self._now += seconds
        self._monotonic += seconds

    def jump(self, seconds: float) -> None:
        """Set the wall clock; durations go on."""
        self._now += seconds


class DirectAnalyst:
    """Analyses in this process, as tests/node/analyser.py does in its own."""

    pid = None

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.before: Callable[[], None] = lambda: None

    def prepare(self) -> list[str] | None:
        self.before()
        return None

    def ask(self, request: dict[str, Any]) -> None:
        earlier = request["predecessor"]
        composed_at = datetime.fromisoformat(request["composed_at"])
        if earlier:
            earlier = Predecessor(**{**earlier, "composed_at": composed_at})
        analyser.analyse(
            [Path(one) for one in request["paths"]],
            Path(request["output_folder"]),
            engines=analyser.Engines(),
            settings=self._settings,
            context=ReportContext(composed_at, request["result_number"], earlier),
            warnings=request["warnings"],
        )

    def stop(self) -> None:
        pass


class Bench:
    """A store with an intake on a folder, and a clock."""

    def __init__(self, folder: Path, **sections: Any) -> None:
        sections.setdefault("assembly", {"quiet_period_seconds": 60, "poll_seconds": 0.01})
        self.settings = Settings(state_folder=folder, **sections)
        self.clock = SetClock()
        self.store: Store = open_store(folder, self.settings.database_url)
        self.refs = study_refs(self.settings)
        self.intake = Intake(
            self.store, self.refs, self.clock, minimum_free_disk_mib=1, accept_secondary_capture=False
        )

    def receive(self, image: Dataset) -> Answer:
        """Hand one object to the intake as the receiver would."""
        file = IncomingFile(
            self.store.incoming_folder,
            str(image.SOPClassUID),
            str(image.SOPInstanceUID),
            str(ExplicitVRLittleEndian),
        )
        file.write(memoryview(encode(image, is_implicit_vr=False, is_little_endian=True) or b""))
        return self.intake.receive(
            Transfer(
                file.finish(),
                affected_sop_class_uid=str(image.SOPClassUID),
                affected_sop_instance_uid=str(image.SOPInstanceUID),
                transfer_syntax_uid=str(ExplicitVRLittleEndian),
                peer="test",
            )
        )
