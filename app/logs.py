"""Structured logs: one JSON object a line on stderr, keyed by `study_ref`.

Promises: only fields of an allow-list are written; a value that looks like a UID is replaced; what libraries
log is reduced to who said it, from WARNING on. Refuses to write a patient name or a UID: messages of
libraries and exceptions, which may quote a data set, never reach a line.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import re
import secrets
import sys
import tempfile
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import structlog

from app.errors import StoreError
from app.settings import Settings

# What a line may hold. A new field is added here on purpose, or it is dropped.
ALLOWED_FIELDS = frozenset(
    {
        "event", "level", "time", "process", "study_ref", "code", "count", "destination", "status", "state",
        "attempt", "attempts", "seconds", "reason", "peer", "calling_ae", "logger", "function", "line",
        "error", "port", "host", "pid", "exit_status", "revision", "images", "objects", "engines", "name",
        "job", "bytes", "remedy", "set_aside", "signed_by",
    }
)  # fmt: skip
_UID_LIKE = re.compile(r"\d+(?:\.\d+){4,}|\b2\.25\.\d+")
_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_KEY_FILE = "site_key"


def configure_logs(process: str, level: str = "info") -> None:
    """Send this process's logs, and those of its libraries, to stderr as JSON lines.

    Parameters
    ----------
    process : name of the process in every line: gateway, worker, child, supervisor.
    level : least severe line written: debug, info, warning or error.
    """
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
            _allow_only,
            structlog.processors.JSONRenderer(sort_keys=True),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    structlog.contextvars.clear_contextvars()
    global _process
    _process = process
    logging.captureWarnings(True)
    reduced = _Reduced(logging.WARNING)
    root = logging.getLogger()
    root.handlers[:] = [reduced]
    root.setLevel(logging.WARNING)
    for name in ("pydicom", "pynetdicom", "dbos", "sqlalchemy", "alembic", "py.warnings"):
        library = logging.getLogger(name)
        # A handler of our own also keeps the library from adding one that writes whole messages.
        library.handlers[:] = [reduced]
        library.propagate = False
        library.setLevel(logging.WARNING)


def log() -> Any:
    """The logger: `log().info("study-closed", study_ref=..., images=4)`."""
    return structlog.get_logger()


_process = "busmap"


def _allow_only(_logger: Any, _method: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    kept = {name: _safe(value) for name, value in fields.items() if name in ALLOWED_FIELDS}
    kept["process"] = _process
    return kept


def _safe(value: Any) -> Any:
    if isinstance(value, bool | int | float) or value is None:
        return value
    if isinstance(value, list | tuple):
        return [_safe(one) for one in value]
    return _UID_LIKE.sub("[uid]", str(value))[:200]


class _Reduced(logging.Handler):
    """Writes that a library spoke, not what it said."""

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] else None
        fields = {"logger": record.name, "function": record.funcName, "line": record.lineno}
        if error:
            fields["error"] = error
        log().warning("library-message", **fields)


class StudyRefs:
    """Makes the keyed hash that stands for a study outside the store."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def __call__(self, study_instance_uid: str) -> str:
        """16 hexadecimal digits of HMAC-SHA256 over the Study Instance UID."""
        return hmac.new(self._key, study_instance_uid.encode(), hashlib.sha256).hexdigest()[:16]


def study_refs(settings: Settings) -> StudyRefs:
    """The maker of `study_ref` with the site's key; a key is made and kept on the first call.

    Raises
    ------
    StoreError
        The state folder cannot be written or the key file in it is empty.
    """
    if settings.site_key:
        return StudyRefs(settings.site_key.encode())
    path = settings.state_folder / _KEY_FILE
    try:
        settings.state_folder.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            _make_key(path)
        key = path.read_bytes().strip()
    except OSError as error:
        raise StoreError(
            f"the key file {path} cannot be used ({error.strerror}): make the state folder writable"
        ) from None
    if not key:
        raise StoreError(f"the key file {path} is empty: delete it, a new one is made at the next start")
    return StudyRefs(key)


def _make_key(path: Path) -> None:
    """Write whole, then link: of two processes that start together one wins, and both read the same key."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".site_key")
    try:
        with os.fdopen(handle, "w") as file:  # mkstemp makes it readable by its owner alone
            file.write(secrets.token_hex(32) + "\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(temporary, path)
        except FileExistsError:
            return
    finally:
        Path(temporary).unlink()
