"""What pynetdicom's requestor lacks: it waits without bound for its reactor, which a peer's abort ends.

Promises: a request on an association that is over fails within its timeouts. Touches an internal of the
pinned release; tests/node/test_identity.py holds the contract.
"""

from __future__ import annotations

import threading

from pynetdicom.association import Association


def free_when_over(association: Association) -> None:
    """Once the established association's thread has ended, let whoever waits for it go on."""

    def free() -> None:
        association.join()
        association._is_paused = True

    threading.Thread(target=free, name="association-over", daemon=True).start()
