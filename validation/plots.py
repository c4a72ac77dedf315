"""Curves as SVG, drawn without a plotting library so that a report is one file.

Promises: axes from 0 to 1 with equal scales (`share_plot` and `course_plot` reach to their largest value),
a title for screen readers, no script and nothing fetched.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from markupsafe import Markup, escape

from validation.reliability import PairBin
from validation.statistics.calibration import ReliabilityBin
from validation.statistics.roc import RocCurve

_SIDE, _LEFT, _BOTTOM, _EDGE = 300, 46, 40, 12  # pixels of the plot and its margins
_WIDTH, _HEIGHT = _LEFT + _SIDE + _EDGE, _EDGE + _SIDE + _BOTTOM
_COLOURS = ("#1f5fa8", "#b8561b", "#3f7d3a", "#7b4397")


def roc_plot(title: str, curves: Sequence[tuple[str, RocCurve]]) -> Markup:
    """ROC curves with their names; at most four are told apart by colour."""
    parts = [_line([(0, 0), (1, 1)], "#999", dashed=True)]
    for index, (label, curve) in enumerate(curves):
        colour = _COLOURS[index % len(_COLOURS)]
        points = zip(curve.false_positive_rate, curve.true_positive_rate, strict=True)
        parts.append(_line(((float(x), float(y)) for x, y in points), colour))
        parts.append(
            f'<text x="{_x(0.97):.1f}" y="{_y(0.05 + 0.07 * index):.1f}" text-anchor="end" '
            f'fill="{colour}">{escape(label)}</text>'
        )
    return _frame(title, "1 - specificity", "sensitivity", parts)


def reliability_plot(title: str, bins: Sequence[ReliabilityBin]) -> Markup:
    """Share malignant over stated probability, one mark a bin with its Wilson interval."""
    colour = _COLOURS[0]
    parts = [_line([(0, 0), (1, 1)], "#999", dashed=True)]
    for item in bins:
        parts.append(_line([(item.stated, item.interval.low), (item.stated, item.interval.high)], colour))
        parts.append(
            f'<circle cx="{_x(item.stated):.1f}" cy="{_y(item.observed):.1f}" r="3.5" fill="{colour}">'
            f"<title>{item.count} patients</title></circle>"
        )
    return _frame(title, "probability stated", "share malignant", parts)


def pair_plot(title: str, bins: Sequence[PairBin]) -> Markup:
    """Share malignant with Wilson's interval (upright) over the Venn-Abers pair (level), a mark a bin."""
    colour, level = _COLOURS[0], _COLOURS[1]
    parts = [_line([(0, 0), (1, 1)], "#999", dashed=True)]
    for item in bins:
        parts.append(_line([(item.stated, item.interval.low), (item.stated, item.interval.high)], colour))
        parts.append(_line([(item.low, item.observed), (item.high, item.observed)], level))
        parts.append(
            f'<circle cx="{_x(item.stated):.1f}" cy="{_y(item.observed):.1f}" r="3" fill="{colour}">'
            f"<title>{item.malignant} of {item.count} patients</title></circle>"
        )
    return _frame(title, "probability stated, with its pair", "share malignant", parts)


def share_plot(title: str, across: str, curves: Sequence[tuple[str, Sequence[float]]]) -> Markup:
    """Share of values at or below each value, a step curve a set; at most four are told apart by colour."""
    end = max(max(values) for _, values in curves) or 1.0
    parts = []
    for index, (label, values) in enumerate(curves):
        colour, ranked = _COLOURS[index % len(_COLOURS)], sorted(values)
        count = len(ranked)
        steps = [(value / end, share / count) for i, value in enumerate(ranked) for share in (i, i + 1)]
        parts.append(_line([(0, 0), *steps, (1, 1)], colour))
        place = f'x="{_x(0.03):.1f}" y="{_y(0.95 - 0.07 * index):.1f}"'
        parts.append(f'<text {place} fill="{colour}">{escape(label)}</text>')
    return _frame(title, across, "share at or below", parts, end)


def course_plot(
    title: str, across: str, up: str, points: Sequence[tuple[float, float, float, float]], bound: float
) -> Markup:
    """Values in 0..1 with their intervals over a quantity: (place, value, low, high); dashed, a bound."""
    colour, end = _COLOURS[0], max(place for place, *_ in points) or 1.0
    parts = [_line([(0, bound), (1, bound)], "#999", dashed=True)]
    parts.append(_line([(place / end, value) for place, value, *_ in points], colour))
    parts += [_line([(place / end, low), (place / end, high)], colour) for place, _, low, high in points]
    return _frame(title, across, up, parts, end)


def _x(value: float) -> float:
    return _LEFT + value * _SIDE


def _y(value: float) -> float:
    return _EDGE + (1 - value) * _SIDE


def _line(points: Iterable[tuple[float, float]], colour: str, *, dashed: bool = False) -> str:
    places = " ".join(f"{_x(x):.1f},{_y(y):.1f}" for x, y in points)
    dash = ' stroke-dasharray="4 4"' if dashed else ""
    return f'<polyline points="{places}" fill="none" stroke="{colour}" stroke-width="1.8"{dash}/>'


def _frame(title: str, across: str, up: str, parts: Iterable[str], end: float = 1.0) -> Markup:
    ticks = []
    for tick in (0, 0.2, 0.4, 0.6, 0.8, 1):
        ticks.append(
            f'<text x="{_x(tick):.1f}" y="{_y(0) + 16:.1f}" text-anchor="middle">{tick * end:.3g}</text>'
        )
        ticks.append(f'<text x="{_LEFT - 6}" y="{_y(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>')
    middle = _y(0.5)
    return Markup(  # noqa: S704 - every text that comes from outside is escaped above
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" '
        f'height="{_HEIGHT}" role="img" font-family="sans-serif" font-size="11">'
        f"<title>{escape(title)}</title>"
        f'<rect x="{_LEFT}" y="{_EDGE}" width="{_SIDE}" height="{_SIDE}" fill="none" stroke="#444"/>'
        f"{''.join(ticks)}{''.join(parts)}"
        f'<text x="{_x(0.5):.1f}" y="{_HEIGHT - 6}" text-anchor="middle">{escape(across)}</text>'
        f'<text x="12" y="{middle:.1f}" text-anchor="middle" '
        f'transform="rotate(-90 12 {middle:.1f})">{escape(up)}</text></svg>'
    )
