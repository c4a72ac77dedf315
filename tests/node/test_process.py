"""The little files that tell of processes."""

from __future__ import annotations

import os
import socket
from typing import Any

from app.node.process import GATEWAY_FILE, read_runtime_file, write_runtime_file


def test_a_file_left_by_a_kill_does_not_speak_for_the_next_process(make_node: Any) -> None:
    """In a container the next process may have the number of the one that was killed, and so seem alive."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        node = make_node(gateway={"port": taken.getsockname()[1], "host": "127.0.0.1"})
        node.folder.mkdir()
        left = node.folder / GATEWAY_FILE
        write_runtime_file(left, {"pid": os.getpid(), "port": 1})
        assert read_runtime_file(left) is not None
        node.start("gateway")
        assert node.ended("gateway") != [0]
    assert read_runtime_file(left) is None
