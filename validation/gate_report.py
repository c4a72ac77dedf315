"""The figures of the gate as lines and as a page that stands alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from models.runtime.bundle import Bundle
from validation.gate import Share
from validation.report import RESEARCH_USE


def show(shares: Sequence[Share]) -> Iterator[str]:
    """One line a figure: share, interval, count, and whether its bound is met."""
    for one in shares:
        low, high = one.share.interval.low, one.share.interval.high
        verdict = "" if one.met is None else f"; bound {one.target}: {'met' if one.met else 'missed'}"
        count = f"{one.share.count} of {one.share.total}"
        yield f"{one.name}: {one.share.value:.3f} ({low:.3f} to {high:.3f}), {count}{verdict}"


def write_gate_report(shares: Sequence[Share], bundle: Bundle, folder: Path) -> Path:
    """Write `gate.html` into `folder` and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)
    page = environment.get_template("gate.html.j2").render(
        notice=RESEARCH_USE,
        weights=bundle.sha256[:12],
        gate=str(bundle.fact("gate_sha256"))[:12],
        shares=shares,
    )
    path = folder / "gate.html"
    path.write_text(page, encoding="utf-8")
    return path
