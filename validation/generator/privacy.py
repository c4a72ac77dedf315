"""What a generator gives away of the pictures it learned from.

Promises: every threshold comes from real pictures of patients it has not seen, so that real pictures
themselves pass at the rate stated; sets are searched for duplicates in equal numbers; whole patients are told
apart in membership, as many of one kind as of the other. The controls of the tests (a planted copy, planted
twins, a generator that knows its pictures by heart) must raise these figures.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from validation.generator.duplicates import BASELINE, Duplicates, duplicates_of
from validation.generator.files import Columns
from validation.predictions import PredictionError
from validation.statistics.bootstrap import RESAMPLES, bootstrap_by_patient
from validation.statistics.groups import group_means
from validation.statistics.interval import Interval
from validation.statistics.proportions import Proportion, share_by_patient, wilson
from validation.statistics.roc import Auc, auc_with_interval

MEMBERSHIP_BOUND = 0.55
PERMUTATIONS = 1000
REJECTIONS = (
    0.01,
    0.02,
    0.05,
    0.1,
)  # quantiles of real distances by pixels that sampling might keep away from
WAYS = ("pixel", "feature")
Flags = npt.NDArray[np.bool_]
_ANEW = "run busmap generator privacy anew"


@dataclass(frozen=True)
class TooNear:
    """Generated pictures nearer than a percentile of real ones; `passed`: the lower bound is at most 1%.

    `with_threshold`: interval of the share by resampling both sets, generated pictures and real patients, as
    the threshold too is an estimate.
    """

    threshold: float
    count: Proportion
    with_threshold: Interval
    passed: bool
    median: float
    median_of_real: float


@dataclass(frozen=True)
class Retrieval:
    """How often the nearest picture is of the patient with the most similar outline, and by permutation."""

    share: Proportion
    chance: float
    p: float


@dataclass(frozen=True)
class Membership:
    """Area of (low) loss by patient, as many members as others; `passed`: the upper bound is below 0.55."""

    auc: Auc
    passed: bool


@dataclass(frozen=True)
class Rejection:
    """What sampling would have thrown away (further) at a distance by pixels, and the copies left.

    `quantile`: share of real pictures of other patients below that distance.
    """

    quantile: float
    distance: float
    thrown_away: Proportion
    copies: Mapping[str, Proportion]


@dataclass(frozen=True)
class Privacy:
    """All figures, by pixels and by features. `aside`: members against patients set aside in training."""

    generated: int
    real: int
    copies: Mapping[str, TooNear]
    rejections: Sequence[Rejection]
    duplicates: Mapping[str, Duplicates]
    retrieval: Mapping[str, Mapping[str, Retrieval]]
    membership: Membership
    aside: Membership | None
    rejected: int
    epochs: float | None


def privacy_figures(
    near: Columns,
    twins: Columns,
    member: Columns,
    facts: Mapping[str, Any],
    *,
    resamples: int = RESAMPLES,
    seed: int = 1,
) -> Privacy:
    """All figures from the rows of the three files."""
    made = near["kind"] == "generated"
    sets = {"generated": made, "real": ~made}
    others = set(member["part"].tolist())
    if not {"member", "other"} <= others or not made.any() or made.all():
        raise PredictionError(f"the measures lack generated or real pictures: {_ANEW}")
    owners = _owners(near, made, member)
    half = member["part"] != "other"
    learned = dict(zip(member["image_id"][half].tolist(), member["patient_id"][half].tolist(), strict=True))
    copies = {way: _too_near(near, made, owners, way, resamples, seed) for way in WAYS}
    return Privacy(
        generated=int(made.sum()),
        real=int((~made).sum()),
        copies=copies,
        rejections=list(_rejections(near, made, copies)),
        duplicates={way: duplicates_of(twins, way, int(made.sum()), learned, seed) for way in WAYS},
        retrieval={
            way: {
                name: _retrieval(
                    near[f"{way}_patient"][own], near["mask_patient"][own], owners[own], resamples, seed
                )
                for name, own in sets.items()
            }
            for way in WAYS
        },
        membership=_membership(member, "other", seed),
        aside=_membership(member, "aside", seed) if (member["part"] == "aside").any() else None,
        rejected=int(facts["rejected"]),
        epochs=facts["epochs"],
    )


def _owners(near: Columns, made: Flags, member: Columns) -> npt.NDArray[np.str_]:
    """Whose each row is: a generated picture is its own, a real one its patient's."""
    patient = dict(zip(member["image_id"].tolist(), member["patient_id"].tolist(), strict=True))
    names = near["id"].tolist()
    if missing := {name for name, own in zip(names, made, strict=True) if not own} - patient.keys():
        raise PredictionError(
            f"membership.parquet lacks {len(missing)} real pictures of neighbours.parquet: {_ANEW}"
        )
    return np.array(
        [f"picture {name}" if own else patient[name] for name, own in zip(names, made, strict=True)]
    )


def _too_near(
    rows: Columns, made: Flags, owners: npt.NDArray[np.str_], way: str, resamples: int, seed: int
) -> TooNear:
    """Generated rows below the first percentile of the real ones."""
    values = rows[f"{way}_distance"]

    def share(chosen: npt.NDArray[np.intp]) -> float:
        own, drawn = values[chosen], made[chosen]
        return float((own[drawn] < np.quantile(own[~drawn], BASELINE)).mean())

    both = bootstrap_by_patient(share, owners, made, resamples=resamples, seed=seed)
    drawn, real = values[made], values[~made]
    threshold = float(np.quantile(real, BASELINE))
    count = wilson(int((drawn < threshold).sum()), len(drawn))
    passed = count.interval.low <= BASELINE
    return TooNear(threshold, count, both, passed, float(np.median(drawn)), float(np.median(real)))


def _rejections(near: Columns, made: Flags, copies: Mapping[str, TooNear]) -> Iterator[Rejection]:
    """The same pictures, had those nearer by pixels than a quantile of real ones been thrown away."""
    distances = near["pixel_distance"]
    for quantile in REJECTIONS:
        least = float(np.quantile(distances[~made], quantile))
        kept = made & (distances >= least)
        if not kept.any():
            return
        left = {
            way: wilson(int((near[f"{way}_distance"][kept] < one.threshold).sum()), int(kept.sum()))
            for way, one in copies.items()
        }
        yield Rejection(quantile, least, wilson(int((made & ~kept).sum()), int(made.sum())), left)


def _retrieval(
    found: npt.NDArray[Any],
    asked: npt.NDArray[Any],
    owners: npt.NDArray[np.str_],
    resamples: int,
    seed: int,
) -> Retrieval:
    random = np.random.default_rng(seed)
    hits = int((found == asked).sum())
    shuffled = np.array([(random.permutation(found) == asked).sum() for _ in range(PERMUTATIONS)])
    p = (1 + int((shuffled >= hits).sum())) / (1 + PERMUTATIONS)
    share = share_by_patient(found == asked, owners, resamples=resamples, seed=seed)
    return Retrieval(share, float(shuffled.mean() / len(found)), p)


def membership_scores(
    rows: Columns, against: str, seed: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Score (minus the mean loss) and membership of as many patients of both kinds, drawn by the seed."""
    random = np.random.default_rng(seed)
    means = []
    for part in ("member", against):
        own = rows["part"] == part
        patients, place = np.unique(rows["patient_id"][own], return_inverse=True)
        means.append(group_means(place, rows["loss"][own], len(patients)))
    count = min(len(part) for part in means)
    drawn = [random.choice(part, count, replace=False) for part in means]
    return -np.concatenate(drawn), np.arange(2 * count) < count


def _membership(rows: Columns, against: str, seed: int) -> Membership:
    auc = auc_with_interval(*membership_scores(rows, against, seed))
    return Membership(auc, auc.logit.high < MEMBERSHIP_BOUND)
