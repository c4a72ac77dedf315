"""JSON files that one verb writes and another reads.

Promises: a file that is read is an object of the shape asked for, with finite numbers; any other is refused
in one line that names the file, the place within it and the remedy. What the shape does not name is kept.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from models.data.record import DataError


class Facts(BaseModel):
    """Base of all shapes: types as JSON has them, no infinite number; other keys may stand beside."""

    model_config = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False)


def read_facts(path: Path, shape: type[Facts], remedy: str) -> dict[str, Any]:
    """The object of a JSON file, as it is written there.

    Raises
    ------
    DataError
        The file cannot be read, is no JSON, or is not of this shape.
    """
    try:
        text = path.read_text(encoding="utf-8")
        shape.model_validate_json(text)
        content: dict[str, Any] = json.loads(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        said = f"{place}: {first['msg']}" if place else first["msg"]
        raise DataError(f"{path} is not as busmap writes it ({said}): {remedy}") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): {remedy}") from None
    except ValueError as error:
        raise DataError(f"{path} cannot be read ({error}): {remedy}") from None
    return content
