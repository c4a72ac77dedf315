"""The process that decodes and infers: `python -m app.node.child`, started by the worker and kept warm.

Promises: loads the engines once; answers each request line with one line; memory is limited above what
loading took; ends as soon as its worker does. Refuses to let a library write into the answers.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import queue
import resource
import sys
import threading
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO

from app.bootstrap import prepare_process
from app.errors import BusmapError
from app.logs import log
from app.node.analyst import RESOURCES_SHORT
from app.node.process import start_process
from app.settings import Settings

_MIB = 1024 * 1024


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve analysis requests until the worker closes stdin; answers the exit status."""
    answers = _own_stdout()
    start = start_process("child", arguments)
    requests: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_read_requests, args=(requests,), daemon=True).start()
    _offer_to_memory_killer()
    prepare_process()
    try:
        analyser = importlib.import_module(start.analyser)
        engines = analyser.load(start.settings)
    except Exception as error:
        _answer(answers, {"ready": False, **_failure(error)})
        return 1
    _limit_memory(start.settings.analysis.memory_limit_mib)
    _answer(answers, {"ready": True, "engines": _names(engines)})
    while True:
        request = json.loads(requests.get())
        try:
            _analyse(analyser, engines, start.settings, request)
        except MemoryError:
            # The worker replaces this process: a fresh one has a fresh address space.
            _answer(
                answers,
                {
                    "code": "analysis-out-of-memory",
                    "message": _OUT_OF_MEMORY,
                    "permanent": False,
                    "last": True,
                },
            )
        except Exception as error:
            _answer(answers, _failure(error))
        else:
            _answer(answers, {"code": None})


_OUT_OF_MEMORY = (
    "The analysis needed more memory than analysis.memory_limit_mib allows: raise that setting, or send "
    "fewer or smaller images."
)


def _analyse(analyser: Any, engines: Any, settings: Settings, request: dict[str, Any]) -> None:
    from operators.report.composed import Predecessor, ReportContext

    earlier = request["predecessor"]
    context = ReportContext(
        composed_at=datetime.fromisoformat(request["composed_at"]),
        result_number=request["result_number"],
        predecessor=(
            Predecessor(**{**earlier, "composed_at": datetime.fromisoformat(earlier["composed_at"])})
            if earlier
            else None
        ),
    )
    analyser.analyse(
        [Path(one) for one in request["paths"]],
        Path(request["output_folder"]),
        engines=engines,
        settings=settings,
        context=context,
        warnings=request["warnings"],
    )


def _failure(error: Exception) -> dict[str, Any]:
    """What the worker is told of an error. Only errors raised on purpose may speak for themselves."""
    from models.runtime.engine import ModelError
    from operators.study import InputError

    log().error("analysis-error", error=type(error).__name__, code=getattr(error, "code", None))
    if isinstance(error, InputError | BusmapError | ModelError):
        return {"code": error.code, "message": str(error), "permanent": isinstance(error, InputError)}
    if isinstance(error, OSError):
        message = f"The machine is short of something ({error.strerror}): check disk space and permissions."
        return {"code": RESOURCES_SHORT, "message": message, "permanent": False}
    message = f"The analysis failed by a fault of busmap ({type(error).__name__}); report it to its makers."
    return {"code": "analysis-failed", "message": message, "permanent": False}


def _names(engines: Any) -> list[str]:
    """What the loaded engines are called, for status."""
    identity = getattr(engines, "engine", None)
    return [f"{identity.engine} {identity.precision}"] if identity is not None else []


def _own_stdout() -> TextIO:
    """A private copy of stdout; whoever prints from now on prints to stderr."""
    private = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return private


def _answer(answers: TextIO, message: dict[str, Any]) -> None:
    answers.write(json.dumps(message) + "\n")
    answers.flush()


def _read_requests(requests: queue.Queue[str]) -> None:
    for line in sys.stdin:
        requests.put(line)
    os._exit(0)  # the worker is gone: what is half done would only be in the way of its successor


def _limit_memory(mib: int) -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + mib * _MIB
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _offer_to_memory_killer() -> None:
    """Where the machine runs out of memory, this process goes first: its work is repeated."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


if __name__ == "__main__":
    sys.exit(main())
