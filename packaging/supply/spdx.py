"""SPDX licence expressions, by the library license-expression."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from boolean.boolean import ParseError
from license_expression import ExpressionError, get_spdx_licensing

_SPDX = get_spdx_licensing()


def is_spdx(text: str) -> bool:
    """Whether `text` is an expression of licences that SPDX knows."""
    return _parsed(text, known=True) is not None


def holds(text: str, allowed: Callable[[str], bool]) -> bool:
    """Whether an expression is met by licences that are `allowed`: every part of an AND, one of an OR.

    A text that is no expression counts as the name of one licence.
    """
    expression = _parsed(text, known=False)
    return allowed(text) if expression is None else _holds(expression, allowed)


def _holds(expression: Any, allowed: Callable[[str], bool]) -> bool:
    if expression.isliteral:
        return allowed(str(expression.render()))
    parts = (_holds(part, allowed) for part in expression.args)
    return any(parts) if expression.operator == "OR" or type(expression).__name__ == "OR" else all(parts)


def _parsed(text: str, *, known: bool) -> Any:
    try:
        return _SPDX.parse(text, validate=known, strict=known)
    except (ExpressionError, ParseError):
        return None
