"""Fitting the gate: what a breast ultrasound frame looks like in the features of the lesion network.

Promises: fitted on development frames alone: nothing that is not breast ultrasound moves centre, spread or
threshold. What scanners and sites vary (field of view, aspect, sharpness, gain, contrast) is put into the
spread on purpose, so that a new machine is not mistaken for a new organ; of every device left out of the fit
the threshold lets through 98% of the frames as they are and 95% of the varied ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter
from rich.progress import track
from sklearn.covariance import LedoitWolf

from models.data.record import Record
from models.runtime.gate import Gate
from models.runtime.lesion import LesionModel

Array = npt.NDArray[np.float32]

SHARE = 0.98  # of the frames of a device left out that pass the gate
VARIED_SHARE = 0.95  # of their varied copies
COPIES = 2  # varied, of each frame
MINIMUM_FRAMES = 100  # of a device, to say something of the last twentieth
MAXIMUM_FRAMES = 1500


def vary(grey: npt.NDArray[np.uint8], random: np.random.Generator) -> npt.NDArray[np.uint8]:
    """A picture, uint8 (rows, columns), as another machine with other settings might have shown it."""
    picture = Image.fromarray(grey)
    width, height = picture.size
    share, aspect = random.uniform(0.6, 1), np.exp(random.uniform(-0.2, 0.2))
    wide, high = min(1.0, share * aspect) * width, min(1.0, share / aspect) * height
    left, top = random.uniform(0, width - wide), random.uniform(0, height - high)
    picture = picture.crop((round(left), round(top), round(left + wide), round(top + high)))
    picture = picture.resize((max(8, round(width * np.exp(random.uniform(-0.25, 0.25)))), height))
    sharpness = random.uniform()
    if sharpness < 0.3:
        picture = picture.filter(ImageFilter.GaussianBlur(random.uniform(0.5, 2)))
    elif sharpness < 0.5:
        picture = picture.filter(ImageFilter.UnsharpMask(2, round(random.uniform(50, 200)), 0))
    value = (np.asarray(picture, np.float64) / 255) ** np.exp(random.uniform(-0.5, 0.5))
    value = value * np.exp(random.uniform(-0.3, 0.3)) + random.uniform(-0.1, 0.1)
    changed: npt.NDArray[np.uint8] = np.rint(np.clip(value, 0, 1) * 255).astype(np.uint8)
    return changed


def fit_gate(records: Sequence[Record], model: LesionModel, seed: int) -> Gate:
    """The gate for `model`, from at most `MAXIMUM_FRAMES` of `records` as they are and varied.

    Raises
    ------
    ValueError
        As `gate_from` says.
    """
    order = np.random.default_rng(seed).permutation(len(records))[:MAXIMUM_FRAMES]
    chosen = [records[index] for index in sorted(order)]
    plain, varied = features_of(chosen, model, seed)
    return gate_from(plain, varied, [record.device for record in chosen])


def features_of(records: Sequence[Record], model: LesionModel, seed: int) -> tuple[Array, Array]:
    """The model's features of `records` as they are (n, d), and of varied copies of each (n, copies, d)."""
    random = np.random.default_rng(seed)
    plain, varied = [], []
    for record in track(records, "gate"):
        grey = record.grey()
        plain.append(model.find(grey).features)
        varied.append([model.find(vary(grey, random)).features for _ in range(COPIES)])
    return np.stack(plain), np.array(varied)


def gate_from(plain: Array, varied: Array, devices: Sequence[str]) -> Gate:
    """The gate from features of frames as they are (n, d) and varied (n, copies, d), and their devices.

    Raises
    ------
    ValueError
        No device has frames enough to be left out, or there is only one.
    """
    device = np.asarray(devices)
    names, counts = np.unique(device, return_counts=True)
    large = names[counts >= MINIMUM_FRAMES]
    if len(names) < 2 or not len(large):
        raise ValueError(f"the threshold needs two devices, one with {MINIMUM_FRAMES} frames: {list(names)}")
    thresholds = []
    for name in large:
        rest = device != name
        gate = _fit(plain[rest], varied[rest])
        thresholds += [
            float(np.quantile(gate.distance(plain[~rest]), SHARE)),
            float(np.quantile(gate.distance(np.concatenate(varied[~rest])), VARIED_SHARE)),
        ]
    return replace(_fit(plain, varied), threshold=max(thresholds))


def _fit(plain: Array, varied: Array) -> Gate:
    """Centre and whitening; a threshold that lets everything through."""
    wide = np.concatenate([plain, *np.moveaxis(varied, 1, 0)]).astype(np.float64)
    covariance = LedoitWolf().fit(wide).covariance_
    whitening = np.linalg.cholesky(np.linalg.inv(covariance)).T
    return Gate(wide.mean(axis=0).astype(np.float32), whitening.astype(np.float32), np.inf)
