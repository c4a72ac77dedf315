"""Named places where a test can have the process killed: one at each durable boundary.

Promises: nothing happens unless BUSMAP_CRASH_AT names the place, as `name` or `name:3` for the third time.
Then the process dies by SIGKILL, as it would of power loss or the kernel's memory killer.
"""

from __future__ import annotations

import os
import signal
import threading

GATEWAY_POINTS = (
    "transfer-begun",
    "image-received",
    "image-synced",
    "image-renamed",
    "image-before-commit",
    "images-within-transaction",
    "image-committed",
    "image-before-answer",
)
WORKER_POINTS = (
    "study-before-close",
    "study-closed",
    "job-submitted",
    "job-started",
    "analysis-written",
    "result-before-commit",
    "result-committed",
    "delivery-before-send",
    "delivery-sent",
    "delivery-committed",
    "job-finished",
)
REJECTION_POINTS = ("rejection-written", "rejection-committed")  # where a destination takes such notes
MIGRATION_POINTS = (
    "backup-copied",
    "backup-kept",
    "migration-within-transaction",
    "migration-committed",
)
STATE_POINTS = (
    "downgrade-within-transaction",
    "downgrade-committed",
    "restore-before-replace",
    "restore-replaced",
)
CRASH_POINTS = GATEWAY_POINTS + WORKER_POINTS + REJECTION_POINTS + MIGRATION_POINTS + STATE_POINTS
VARIABLE = "BUSMAP_CRASH_AT"

_seen: dict[str, int] = {}
_lock = threading.Lock()


def crash_point(name: str) -> None:
    """Kill the own process if the environment asks for it here; otherwise do nothing."""
    wanted = os.environ.get(VARIABLE)
    if not wanted or wanted.split(":")[0] != name:
        return
    with _lock:
        _seen[name] = _seen.get(name, 0) + 1
        if _seen[name] == int(wanted.partition(":")[2] or 1):
            os.kill(os.getpid(), signal.SIGKILL)
