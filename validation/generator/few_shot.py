"""What a few examples are worth: the arms of few-shot adaptation, judged from few.parquet.

Promises: an arm is compared with no adaptation on the same patients, draw by draw, and draws are averaged;
intervals resample patients, within class, all draws together. Where a draw judges fewer than 20 patients of a
class there is no area but "n too small"; losses are described in any case. An area of patients of one class
is never computed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from validation.figures import FEW
from validation.generator.files import Columns, check_truth, read_columns
from validation.generator.report import Section, Table
from validation.generator.shown import ABSENT, estimate
from validation.predictions import PredictionError
from validation.statistics.bootstrap import bootstrap_by_patient
from validation.statistics.groups import group_means
from validation.statistics.interval import Estimate, Floats
from validation.statistics.roc import empirical_auc

BASE = "none"
_ANEW = "run busmap generator few-shot anew"
_COLUMNS = ("kind", "arm", "k", "draw", "image_id", "patient_id", "malignant", "logit")
Index = npt.NDArray[np.intp]


@dataclass(frozen=True)
class FewArm:
    """An arm with k examples. `patients`, `malignant`: the least that a draw judged.

    Areas are None where these are too few, and of the base there is no difference to itself; losses are None
    where there is no generator.
    """

    k: int
    draws: int
    patients: int
    malignant: int
    auc: Estimate | None
    against_base: Estimate | None
    loss: Estimate | None
    loss_against_base: Estimate | None


@dataclass(frozen=True)
class FewShot:
    """Arms by kind of examples, named as in the table."""

    kinds: Mapping[str, Mapping[str, FewArm]]


@dataclass(frozen=True)
class _Draw:
    """What a draw says of patients (n,) in the order of the kind: NaN where it did not judge them."""

    logit: Floats
    loss: Floats


def judge_few_shot(folder: Path, resamples: int, seed: int) -> Section:
    """The report's part on few examples.

    Raises
    ------
    PredictionError
        The file is missing or cannot be judged.
    """
    path = folder / "few.parquet"
    rows = read_columns(path, _COLUMNS, "few-shot")
    check_truth(path, rows, _ANEW)
    rows["loss"] = _losses(path)
    figures = few_shot_figures(rows, resamples=resamples, seed=seed)
    return Section("few examples", figures, _tables(figures), _NOTES)


def _losses(path: Path) -> Floats:
    """The column of losses; NaN where an arm has no generator."""
    table = pq.read_table(path)
    if "loss" not in table.column_names:
        raise PredictionError(
            f"{path} lacks the column loss: write it again with `busmap generator few-shot`"
        )
    kind = table["loss"].type
    if not (pa.types.is_floating(kind) or pa.types.is_null(kind)):
        raise PredictionError(f"{path}: the column loss holds {kind}: {_ANEW}")
    values = [np.nan if value is None else value for value in table["loss"].to_pylist()]
    return np.array(values, np.float64)


def few_shot_figures(rows: Columns, *, resamples: int, seed: int) -> FewShot:
    """All figures; a kind whose base was not run is refused."""
    kinds = {}
    for kind in dict.fromkeys(rows["kind"].tolist()):
        own = {key: values[rows["kind"] == kind] for key, values in rows.items()}
        kinds[kind] = _kind(kind, own, resamples, seed)
    return FewShot(kinds)


def _kind(kind: str, rows: Columns, resamples: int, seed: int) -> dict[str, FewArm]:
    patients, first, place = np.unique(rows["patient_id"], return_index=True, return_inverse=True)
    malignant = rows["malignant"][first].astype(bool)
    runs: dict[tuple[str, int], list[_Draw]] = {}
    for arm, k, draw in sorted(set(zip(rows["arm"], rows["k"].tolist(), rows["draw"].tolist(), strict=True))):
        own = (rows["arm"] == arm) & (rows["k"] == k) & (rows["draw"] == draw)
        if len(set(rows["image_id"][own])) != own.sum():
            raise PredictionError(f"an image stands twice in {kind}, {arm}, k {k}, draw {draw}: {_ANEW}")
        said = [group_means(place[own], rows[key][own], len(patients)) for key in ("logit", "loss")]
        runs.setdefault((str(arm), k), []).append(_Draw(*said))
    if (BASE, 0) not in runs:
        raise PredictionError(f"{kind} lacks the arm without adaptation: {_ANEW}")
    base = runs[BASE, 0][0]
    order = sorted(runs, key=lambda key: (key[0] != BASE, key))
    return {
        arm if arm == BASE else f"{arm}, k = {k}": _arm(k, runs[arm, k], base, malignant, resamples, seed)
        for arm, k in order
    }


@dataclass(frozen=True)
class _Judged:
    """The draws of an arm, the base, and the truth of the kind's patients."""

    draws: Sequence[_Draw]
    base: _Draw
    malignant: npt.NDArray[np.bool_]

    def area(self, chosen: Index, *, beside: bool) -> float:
        """Mean area over draws; `beside`: less that of the base on the same patients."""

        def of(own: Index, source: _Draw) -> float:
            return empirical_auc(source.logit[own], self.malignant[own])

        return self._mean(chosen, of, beside=beside)

    def loss(self, chosen: Index, *, beside: bool) -> float:
        """Mean loss over draws, likewise."""

        def of(own: Index, source: _Draw) -> float:
            return float(source.loss[own].mean())

        return self._mean(chosen, of, beside=beside)

    def _mean(self, chosen: Index, of: Callable[[Index, _Draw], float], *, beside: bool) -> float:
        values = []
        for draw in self.draws:
            own = chosen[np.isfinite(draw.logit[chosen])]
            values.append(of(own, draw) - (of(own, self.base) if beside else 0.0))
        return float(np.mean(values))

    def estimated(self, figure: Callable[..., float], *, beside: bool, resamples: int, seed: int) -> Estimate:
        """A figure with its interval over patients that any draw judged, within class."""
        union = np.flatnonzero(np.any([np.isfinite(draw.logit) for draw in self.draws], axis=0))
        everyone = np.arange(len(union))

        def statistic(chosen: Index) -> float:
            return figure(union[chosen], beside=beside)

        interval = bootstrap_by_patient(
            statistic, everyone, self.malignant[union], resamples=resamples, seed=seed
        )
        return Estimate(statistic(everyone), interval)


def _arm(
    k: int, draws: Sequence[_Draw], base: _Draw, malignant: npt.NDArray[np.bool_], resamples: int, seed: int
) -> FewArm:
    counted = [np.isfinite(draw.logit) for draw in draws]
    sick = min(int(malignant[own].sum()) for own in counted)
    well = min(int((~malignant[own]).sum()) for own in counted)
    judged, is_base = _Judged(draws, base, malignant), draws[0] is base
    enough = min(sick, well) >= FEW
    has_loss = all(np.isfinite(draw.loss[own]).all() for draw, own in zip(draws, counted, strict=True))

    def estimated(figure: Callable[..., float], wanted: bool, *, beside: bool) -> Estimate | None:
        if not wanted or (beside and is_base):
            return None
        return judged.estimated(figure, beside=beside, resamples=resamples, seed=seed)

    return FewArm(
        k,
        len(draws),
        min(int(own.sum()) for own in counted),
        sick,
        estimated(judged.area, enough, beside=False),
        estimated(judged.area, enough, beside=True),
        estimated(judged.loss, has_loss, beside=False),
        estimated(judged.loss, has_loss, beside=True),
    )


_NOTES = (
    "Each arm is judged on the patients that its examples are not of, and compared with the base as it is on "
    "these same patients; draws are averaged. Intervals resample patients, not draws of examples: with three "
    "draws nothing is said of further ones. Described, not tested. Where all patients are of one class "
    "(special types) there are losses alone: a lower loss says that the flow knows such pictures better, "
    "not that they are useful.",
)


def _tables(figures: FewShot) -> list[Table]:
    heads = (
        "arm",
        "draws",
        "patients (malignant)",
        "AUC (patients resampled, as all here)",
        "minus none",
        "loss",
        "loss minus none",
    )
    tables = []
    for kind, arms in figures.kinds.items():
        rows = [
            (
                name,
                str(one.draws),
                f"{one.patients} ({one.malignant})",
                "n too small" if one.auc is None else estimate(one.auc),
                _beside(name, one),
                estimate(one.loss, 4),
                estimate(one.loss_against_base, 4),
            )
            for name, one in arms.items()
        ]
        tables.append(
            Table(f"Few examples: {kind} (below {FEW} patients of a class: n too small)", heads, rows)
        )
    return tables


def _beside(name: str, one: FewArm) -> str:
    if name == BASE:
        return ABSENT
    return "n too small" if one.against_base is None else estimate(one.against_base)
