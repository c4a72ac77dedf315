"""The gateway process: `python -m app.node.gateway`.

Promises: listens until SIGTERM, then lets go of the port; its real address is in `gateway.json` of the run
folder (by default the state folder) while it listens. Refuses to load an engine or the SDK: it stays small,
and up whatever they do.
It does not start beside models that were changed: what it took in could never be analysed.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from pynetdicom.transport import ThreadedAssociationServer

from app.errors import INTERNAL_ERROR, AddressError, BusmapError, StoreError
from app.logs import configure_logs, log, study_refs
from app.model_check import check_and_log
from app.node.clock import SystemClock
from app.node.counters import GatewayCounts
from app.node.intake import Intake
from app.node.process import (
    GATEWAY_FILE,
    forget_predecessor,
    hold_lock,
    is_supervised,
    remove_runtime_file,
    start_process,
    stop_on_signals,
    write_runtime_file,
)
from app.node.receive import make_receiver
from app.node.store.database import open_store
from app.node.sweep import sweep
from app.settings import Settings
from app.web.server import WebServer
from models.runtime.engine import ModelError


def main(arguments: Sequence[str] | None = None, settings: Settings | None = None) -> int:
    """Run the gateway until it is told to stop; answers the exit status.

    Parameters
    ----------
    settings : given by the command line; without them the process reads its own arguments and settings.
    """
    try:
        if settings is None:
            settings = start_process("gateway", arguments).settings
            return _serve(settings, stop_on_signals(supervised=is_supervised(arguments)))
        os.umask(0o077)
        configure_logs("gateway", settings.log_level)
        return _serve(settings, stop_on_signals(supervised=False))
    except (BusmapError, ModelError) as error:
        log().error("gateway-cannot-start", code=error.code, remedy=str(error))
        return error.exit_status
    except OSError as error:
        log().error(
            "gateway-cannot-start",
            code=StoreError.code,
            error=type(error).__name__,
            remedy=f"{error.strerror}: see state_folder",
        )
        return StoreError.exit_status
    except Exception as error:
        # The last border: whoever started this process starts it again.
        log().error("gateway-fault", code="internal-error", error=type(error).__name__)
        return INTERNAL_ERROR


def _serve(settings: Settings, stop: threading.Event) -> int:
    check_and_log(settings)
    clock = SystemClock()
    store = open_store(settings.state_folder, settings.database_url)
    lock = hold_lock(settings.own_folder, "gateway", stop)  # another's transfers would be swept away
    forget_predecessor(settings.own_folder / GATEWAY_FILE)
    intake = Intake(
        store,
        study_refs(settings),
        clock,
        minimum_free_disk_mib=settings.gateway.minimum_free_disk_mib,
        accept_secondary_capture=settings.analysis.accept_secondary_capture,
    )
    swept = sweep(store, intake)
    if swept.removed:
        log().info("unacknowledged-files-removed", count=swept.removed)
    if swept.adopted:
        log().warning("images-without-row-kept", count=swept.adopted)
    answers = GatewayCounts()
    server = _listening(settings, intake, store.incoming_folder, answers)
    thread = threading.Thread(target=server.serve_forever, name="listener", daemon=True)
    thread.start()
    host, port = server.server_address[:2]
    web = WebServer(settings, store, clock, answers)
    runtime = settings.own_folder / GATEWAY_FILE
    write_runtime_file(
        runtime,
        {
            "pid": os.getpid(),
            "host": host,
            "port": port,
            "ae_title": settings.gateway.ae_title,
            "web_port": web.port,
            "started_at": clock.now(),
        },
    )
    log().info("gateway-listening", host=host, port=port)
    stop.wait()
    remove_runtime_file(runtime)
    server.shutdown()
    web.stop()
    os.close(lock)
    log().info("gateway-stopped")
    return 0


def _listening(
    settings: Settings, intake: Intake, incoming: Path, answers: GatewayCounts
) -> ThreadedAssociationServer:
    try:
        return make_receiver(settings.gateway, intake, incoming, answers)
    except OSError as error:
        raise AddressError(
            f"{settings.gateway.host} port {settings.gateway.port} cannot be listened on ({error.strerror}): "
            "stop what uses it, or set gateway.host and gateway.port"
        ) from None


if __name__ == "__main__":
    sys.exit(main())
