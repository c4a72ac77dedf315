"""The report on a generator: one HTML file that stands alone, and the same figures as JSON.

Promises: every figure shown has its interval and its n; nothing is fetched when the page is opened; what
missed its mark stands there as it is.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from validation.report import RESEARCH_USE


@dataclass(frozen=True)
class Table:
    """A table of text cells; the first cell of a row names it."""

    caption: str
    titles: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Section:
    """A part of the report: tables, plots, notes, and `figures` as they go into the JSON file."""

    title: str
    figures: Any
    tables: Sequence[Table]
    notes: Sequence[str] = ()
    plots: Sequence[Markup] = field(default=())


def write_generator_report(
    sections: Sequence[Section], facts: Mapping[str, Any], folder: Path
) -> tuple[Path, Path]:
    """Write `report.html` and `figures.json` into `folder`; `facts`: seed, resamples, what was judged.

    Raises
    ------
    OSError
        The folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "notice": RESEARCH_USE,
        "busmap_version": version("busmap"),
        **facts,
        **{section.title: _plain(section.figures) for section in sections},
    }
    figures = json.dumps(content, indent=1, allow_nan=False)
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined
    )
    html = environment.get_template("report.html.j2").render(
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        version=version("busmap"),
        facts=facts,
        sections=sections,
        # Inside a script element only "</" ends the data; a JSON string may write it "<\/".
        figures_json=Markup(figures.replace("</", "<\\/")),  # noqa: S704
    )
    paths = folder / "report.html", folder / "figures.json"
    for path, text in zip(paths, (html, figures + "\n"), strict=True):
        unfinished = path.with_suffix(path.suffix + ".partial")
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(path)
    return paths


def _plain(value: Any) -> Any:
    """As JSON has it: dataclasses as objects, numbers that are none (a z over no error) as null."""
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
