"""From a network's logit to a probability with an honest interval: inductive Venn-Abers prediction.

Promises: the pair comes from out-of-fold predictions of patients the networks had not seen, and nothing
else; 0 < low <= probability <= high < 1, and all three rise with the logit. It is valid for patients
like those of the calibration set; another share of malignant lesions is allowed for by their odds.

Source: Vovk & Petej, Venn-Abers predictors, UAI 2014 (arXiv 1211.0025); Wilson, JASA 1927;22:209-212.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import isotonic_regression

from models.runtime.engine import ModelError

_Z = 1.959963984540054  # 95%, two-sided


@dataclass(frozen=True)
class Probability:
    """Probability of malignancy and its Venn-Abers pair, all in 0..1."""

    low: float
    value: float
    high: float


@dataclass(frozen=True)
class Calibration:
    """Out-of-fold logits, float64 (n,) ascending, and whether each was a malignant lesion, bool (n,)."""

    logits: npt.NDArray[np.float64]
    malignant: npt.NDArray[np.bool_]

    @property
    def prevalence(self) -> float:
        """Share of malignant patients in the calibration set."""
        return float(self.malignant.mean())

    def probability(self, logit: float, prevalence: float | None = None) -> Probability:
        """The pair for a new logit, at the calibration set's share of malignant lesions or another one."""
        place = int(np.searchsorted(self.logits, logit))
        low, high = (self._fitted_at(place, label) for label in (0.0, 1.0))
        value = high / (1 - low + high)
        ratio = 1.0 if prevalence is None else _odds(prevalence) / _odds(self.prevalence)
        return Probability(*(_shift(p, ratio) for p in (low, value, high)))

    def ceiling(self, logit: float, prevalence: float | None = None) -> float:
        """What the data can show at most of the share malignant at this logit.

        The share rises with the logit, so that of any stretch of patients from here upwards is no less: the
        smallest of the upper limits of their 95% Wilson intervals, made to rise with the logit. As the
        smallest of many it holds in at least 0.9 of data sets where the share is flat from here on, and
        nearly always where it rises (tests/models/test_calibration.py). 0 of 105 patients allow for 3.5%.
        """
        place = min(int(np.searchsorted(self.logits, logit)), len(self.logits) - 1)
        ratio = 1.0 if prevalence is None else _odds(prevalence) / _odds(self.prevalence)
        return _shift(float(self._ceilings[place]), ratio)

    @cached_property
    def _ceilings(self) -> npt.NDArray[np.float64]:
        """The ceiling from each patient upwards, float64 (n,)."""
        malignant = self.malignant.astype(np.float64)
        smallest = [
            _wilson_upper(np.cumsum(malignant[start:]), np.arange(1, len(malignant) - start + 1)).min()
            for start in range(len(malignant))
        ]
        return np.maximum.accumulate(np.array(smallest))

    def _fitted_at(self, place: int, label: float) -> float:
        """Isotonic fit of all labels with a new one at `place`, read there."""
        labels = np.insert(self.malignant.astype(np.float64), place, label)
        fitted = float(isotonic_regression(labels).x[place])
        # So few patients cannot tell a probability from certainty: the fit's 0 and 1 become their resolution.
        finest = 1 / (len(labels) + 1)
        return min(max(fitted, finest), 1 - finest)


def _wilson_upper(count: npt.NDArray[Any], total: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Upper limit of Wilson's interval for `count` of `total`."""
    share, square = count / total, _Z * _Z
    spread = _Z * np.sqrt(share * (1 - share) / total + square / (4 * total**2))
    limit: npt.NDArray[np.float64] = (share + square / (2 * total) + spread) / (1 + square / total)
    return limit


def _odds(probability: float) -> float:
    return probability / (1 - probability)


def _shift(probability: float, ratio: float) -> float:
    return probability * ratio / (probability * ratio + 1 - probability)


def make_calibration(logits: npt.ArrayLike, malignant: npt.ArrayLike) -> Calibration:
    """Sort out-of-fold logits (n,) and labels (n,) into a calibration.

    Raises
    ------
    ValueError
        The arrays differ in length or hold one class only.
    """
    scores, labels = np.asarray(logits, np.float64), np.asarray(malignant, bool)
    if scores.shape != labels.shape or scores.ndim != 1 or labels.all() or not labels.any():
        raise ValueError("a calibration needs one logit and one label a patient, and both classes")
    order = np.lexsort((labels, scores))
    return Calibration(scores[order], labels[order])


def load_calibration(path: Path) -> Calibration:
    """Read `calibration.json` of a diagnosis bundle.

    Raises
    ------
    ModelError
        The file is missing or not a calibration.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return make_calibration(content["logits"], content["malignant"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path} cannot be used ({error}): reinstall the model bundle") from None
