"""Fixtures of the node's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.node.rig import Node, Pacs


@pytest.fixture
def pacs() -> Iterator[Pacs]:
    """A PACS that listens."""
    one = Pacs().start()
    yield one
    one.stop()


@pytest.fixture
def make_node(tmp_path: Path) -> Iterator[Any]:
    """Makes nodes that are stopped when the test ends."""
    made: list[Node] = []

    def make(*pacs: Pacs, name: str = "state", **sections: Any) -> Node:
        made.append(Node(tmp_path / name, pacs, **sections))
        return made[-1]

    yield make
    for one in made:
        one.stop()
