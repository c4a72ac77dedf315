"""The report on a generator: one HTML file that stands alone, and the same figures as JSON.

Promises: every figure shown has its n and its interval, and says which interval it is; nothing is fetched
when the page is opened; what missed its mark stands there as it is.
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

from markupsafe import Markup

from validation.report import RESEARCH_USE, environment, for_script, write_page


@dataclass(frozen=True)
class Table:
    """A table of text cells; the first cell of a row names it."""

    caption: str
    titles: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Section:
    """A part of the report: tables, plots, notes, and `figures` as they go into the JSON file.

    `files`: what is written beside the report, text by name.
    """

    title: str
    figures: Any
    tables: Sequence[Table]
    notes: Sequence[str] = ()
    plots: Sequence[Markup] = field(default=())
    files: Mapping[str, str] = field(default_factory=dict)


def write_generator_report(
    sections: Sequence[Section], facts: Mapping[str, Any], folder: Path
) -> tuple[Path, Path]:
    """Write `report.html` and `figures.json` into `folder`; `facts`: seed, resamples, what was judged.

    Raises
    ------
    OSError
        The folder cannot be written.
    """
    content = {
        "notice": RESEARCH_USE,
        "busmap_version": version("busmap"),
        **facts,
        **{section.title: _plain(section.figures) for section in sections},
    }
    figures = json.dumps(content, indent=1, allow_nan=False)
    template = environment(Path(__file__).parent).get_template("report.html.j2")
    html = template.render(
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        version=version("busmap"),
        facts=facts,
        sections=sections,
        figures_json=for_script(figures),
    )
    paths = write_page(html, figures, folder)
    for name, text in (item for section in sections for item in section.files.items()):
        (folder / name).write_text(text, encoding="utf-8")
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
