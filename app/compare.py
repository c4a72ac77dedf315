"""`busmap compare OLD_STATE NEW_STATE`: what two nodes made of the same studies.

Promises: reads both state folders, also those of earlier releases and of nodes at work, and changes nothing.
Compares the newest result of each study that both have, and only where it is of the same images.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from sqlalchemy.exc import DatabaseError

from app.errors import ResultsDifferError, StoreError
from app.node.store.database import FILE_NAME, open_read_only
from app.node.store.deliveries import result_folder
from app.node.store.finished import FinishedStudy, finished_studies
from app.node.store.schema import JobState


@dataclass(frozen=True)
class Result:
    """One node's result of a study. Probabilities are those of malignancy, of the study and by lesion.

    `seconds` is the time from the study's close to the result.
    """

    status: str
    probability: float | None
    probabilities: tuple[float | None, ...]
    categories: tuple[str | None, ...]
    set_aside: dict[str, int]
    seconds: float | None


@dataclass(frozen=True)
class Comparison:
    """One study. `old` or `new` is None where that node has no finished result of it."""

    study_ref: str
    old: Result | None
    new: Result | None
    differences: tuple[str, ...]


def compare(old_folder: Path, new_folder: Path, tolerance: float) -> list[Comparison]:
    """Compare all studies that either node has finished.

    Parameters
    ----------
    tolerance : difference of probability up to which two results are called the same.

    Raises
    ------
    StoreError
        A folder holds no state, or its database cannot be read; one folder was given twice.
    """
    if old_folder.resolve() == new_folder.resolve():
        raise StoreError(f"{old_folder} was given twice: give the state folder of the other node as well")
    old, new = _read(old_folder), _read(new_folder)
    return [
        _compare(old.get(uid), new.get(uid), tolerance)
        for uid in dict.fromkeys((*old, *new))  # in the order in which the old node met them
    ]


def render(comparisons: list[Comparison]) -> str:
    """The comparison as a table with a line of totals."""
    console = Console(width=150)
    with console.capture() as captured:
        table = Table("study", "status", "lesions", "probability", "category", "seconds", "differences")
        for one in comparisons:
            table.add_row(
                one.study_ref,
                _both(one, lambda result: result.status),
                _both(one, lambda result: str(len(result.categories))),
                _both(one, lambda result: _number(result.probability, 3)),
                _both(one, lambda result: ", ".join(item or "none" for item in result.categories)),
                _both(one, lambda result: _number(result.seconds, 1)),
                "\n".join(one.differences) or "none",
            )
        console.print(table)
        both = sum(one.old is not None and one.new is not None for one in comparisons)
        differ = sum(bool(one.differences) for one in comparisons)
        console.print(f"{len(comparisons)} studies, {both} with both nodes, {differ} with differences")
    return captured.get()


def as_json(comparisons: list[Comparison]) -> str:
    """The comparison as JSON."""
    return json.dumps([asdict(one) for one in comparisons], indent=1)


def judge(comparisons: list[Comparison]) -> None:
    """Raise ResultsDifferError where there is a difference, or nothing to compare."""
    differ = sum(bool(one.differences) for one in comparisons)
    if not comparisons:
        raise ResultsDifferError("neither node has finished a study: send both the same studies first")
    if differ:
        raise ResultsDifferError(
            f"{differ} of {len(comparisons)} studies differ: read the table before the new release takes over"
        )


def _read(folder: Path) -> dict[str, tuple[FinishedStudy, Result]]:
    if not (folder / FILE_NAME).is_file():
        raise StoreError(f"{folder} is no state folder: it holds no {FILE_NAME}")
    store = open_read_only(folder)
    try:
        return {
            one.study_instance_uid: (
                one,
                _result(result_folder(store, one.study_instance_uid, one.revision), one),
            )
            for one in finished_studies(store)
        }
    except DatabaseError as error:
        raise StoreError(f"the database in {folder} cannot be read ({type(error.orig).__name__})") from None
    finally:
        store.close()


def _result(folder: Path, study: FinishedStudy) -> Result:
    if study.state != JobState.DONE:
        return Result(f"failed ({study.failure_code})", None, (), (), {}, None)
    try:
        facts: dict[str, Any] = json.loads((folder / "result.json").read_text(encoding="utf-8"))
        lesions = facts["lesions"]
        return Result(
            status=str(facts["status"]),
            probability=facts["probability"],
            probabilities=tuple(one["probability"] for one in lesions),
            categories=tuple(one["category"] for one in lesions),
            set_aside=dict(Counter(str(one["reason"]) for one in facts["set_aside"])),
            seconds=study.seconds,
        )
    except (OSError, ValueError, KeyError, TypeError):
        raise StoreError(f"the result in {folder} cannot be read: restore it from a backup") from None


def _compare(
    old: tuple[FinishedStudy, Result] | None, new: tuple[FinishedStudy, Result] | None, tolerance: float
) -> Comparison:
    study = (old or new)[0]  # type: ignore[index]
    if old is None or new is None:
        which = "new" if new is None else "old"
        missing = (f"the {which} node has no finished result",)
        return Comparison(study.study_ref, old[1] if old else None, new[1] if new else None, missing)
    if old[0].images != new[0].images:
        mine, its = len(old[0].images - new[0].images), len(new[0].images - old[0].images)
        other = (f"other images: {mine} with the old node alone, {its} with the new one alone",)
        return Comparison(study.study_ref, old[1], new[1], other)
    return Comparison(study.study_ref, old[1], new[1], tuple(_differences(old[1], new[1], tolerance)))


def _differences(old: Result, new: Result, tolerance: float) -> list[str]:
    found = []
    if old.status != new.status:
        found.append(f"status: {old.status} -> {new.status}")
    if len(old.categories) != len(new.categories):
        found.append(f"lesions: {len(old.categories)} -> {len(new.categories)}")
    else:
        for number, (before, after) in enumerate(zip(old.categories, new.categories, strict=True), start=1):
            if before != after:
                found.append(f"category L{number}: {before or 'none'} -> {after or 'none'}")
    apart = _apart(old, new)
    if apart is None or apart > tolerance:
        shown = f"{_number(old.probability, 3)} -> {_number(new.probability, 3)}"
        found.append(f"probability: {shown}" + (f", a lesion by {apart:.3f}" if apart else ""))
    for reason in sorted({*old.set_aside, *new.set_aside}):
        before_count, after_count = old.set_aside.get(reason, 0), new.set_aside.get(reason, 0)
        if before_count != after_count:
            found.append(f"set aside, {reason}: {before_count} -> {after_count}")
    return found


def _apart(old: Result, new: Result) -> float | None:
    """The largest difference of probability, of the study and lesion by lesion; None where one has none."""
    pairs = [(old.probability, new.probability)]
    if len(old.probabilities) == len(new.probabilities):
        pairs += zip(old.probabilities, new.probabilities, strict=True)
    apart = 0.0
    for before, after in pairs:
        if (before is None) != (after is None):
            return None
        if before is not None and after is not None:
            apart = max(apart, abs(before - after))
    return apart


def _both(one: Comparison, of: Any) -> str:
    """Old and new value of a column, once where they are equal."""
    shown = [of(side) if side is not None else "-" for side in (one.old, one.new)]
    return shown[0] if shown[0] == shown[1] else " -> ".join(shown)


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"
