"""Which pictures were measured: what tells a repository, and the rows used of it, from every other."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from models.generation.draw import Row
from models.generation.repository import FACTS, repository_facts


def pin_of(repository: Path, rows: Sequence[Row]) -> dict[str, Any]:
    """Facts for `begin_run`: SHA-256 of repository.json, and of the rows' images and masks in their order.

    A repository that has grown since keeps the pin of its first rows.

    Raises
    ------
    DataError
        repository.json is missing or cannot be read.
    """
    repository_facts(repository)
    pictures = "\n".join(f"{row.index} {row.image_sha256} {row.mask_sha256}" for row in rows)
    return {
        "repository": hashlib.sha256((repository / FACTS).read_bytes()).hexdigest(),
        "rows": len(rows),
        "pictures": hashlib.sha256(pictures.encode()).hexdigest(),
    }
