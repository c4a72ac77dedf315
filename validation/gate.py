"""What the gate lets through and what it sets aside: measured on pictures that its fit did not see.

Promises: frames of the breast are judged by a gate fitted without their patient's fold, and by one fitted
without their device, as they are and varied; the product's rules on pixels are asked as well. What is not
breast ultrasound is judged by the shipped gate, which no such picture was fitted on. The features are those
of the shipped network, which has seen folds 1 to 4: the shares of breast frames may flatter by that.
Refuses fold 5.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
import skimage
import sklearn
from PIL import Image, UnidentifiedImageError
from pydicom.data import get_testdata_file
from pydicom.errors import InvalidDicomError
from rich.progress import track

from models.data.busbra import DEVELOPMENT_FOLDS
from models.data.drawn import PAINTERS
from models.data.record import DataError, Record
from models.runtime.gate import Gate
from models.runtime.lesion import LesionModel
from models.training.fit_gate import features_of, gate_from
from models.training.fit_kinds import PHOTOGRAPHS
from operators.frame_pixels import stream_pixels
from operators.load_study import load_study
from operators.select_frames import select_frames
from operators.study import InputError
from operators.tissue import unusable
from validation.statistics.proportions import Proportion, wilson

Pixels = npt.NDArray[np.uint8]
MAXIMUM_FALSE_SET_ASIDE, MINIMUM_FAR, MINIMUM_OTHER_ORGAN = 0.05, 0.95, 0.80
DRAWN_EACH = 20
_DRAWN_SEED = 4099  # of pictures that no fit has drawn
_LARGEST_SIDE = 1024
_PICTURES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp"})
# Cross-sections among pydicom's own test files, each picture once.
_SECTIONS = (
    "693_J2KI.dcm",
    "CT_small.dcm",
    "J2K_pixelrep_mismatch.dcm",
    "MR_small.dcm",
    "examples_overlay.dcm",
)


@dataclass(frozen=True)
class Verdict:
    """One picture judged. `held_out`: what the gate's fit left out, for frames of the breast.

    `rule` is the reason that the rules on pixels give against it, or empty; `kind` what the gate calls it, or
    empty. `set_aside`: by a rule or by the gate.
    """

    picture: str
    patient_id: str
    group: str
    held_out: str
    varied: bool
    distance: float
    threshold: float
    rule: str
    kind: str

    @property
    def refused(self) -> bool:
        """Whether the gate alone refuses it."""
        return self.distance > self.threshold

    @property
    def set_aside(self) -> bool:
        """Whether the product would not analyse it."""
        return self.refused or bool(self.rule)


def breast_verdicts(records: Sequence[Record], model: LesionModel, seed: int) -> Iterator[Verdict]:
    """Frames of folds 1 to 4, each judged by gates fitted without its fold and without its device."""
    chosen = [record for record in records if record.fold in DEVELOPMENT_FOLDS]
    if not chosen:
        raise DataError("no picture of folds 1 to 4: give the folder in which BUS-BRA was unpacked")
    plain, varied = features_of(chosen, model, seed)
    rules = [_rule(record.grey()) for record in track(chosen, "rules on pixels")]
    devices = np.array([record.device for record in chosen])
    folds = np.array([f"fold {record.fold}" for record in chosen])
    for group, held in (("by fold", folds), ("by device", devices)):
        for name in np.unique(held):
            out = held == name
            gate = gate_from(plain[~out], varied[~out], list(devices[~out]))
            for place in np.flatnonzero(out):
                one = _Judged(chosen[place].image_id, chosen[place].patient_id, group, str(name))
                yield one.by(gate, plain[place], rules[place])
                for copy in varied[place]:
                    yield replace(one.by(gate, copy, ""), varied=True)


@dataclass(frozen=True)
class _Judged:
    picture: str
    patient_id: str
    group: str
    held_out: str

    def by(self, gate: Gate, features: npt.NDArray[np.float32], rule: str) -> Verdict:
        distance = float(gate.distance(features[None])[0])
        kind = gate.kind(features) if distance > gate.threshold else None
        return Verdict(
            self.picture, self.patient_id, self.group, self.held_out, False,
            distance, gate.threshold, rule, kind or "",
        )  # fmt: skip


def other_verdicts(
    pictures: Iterable[tuple[str, Pixels]], group: str, model: LesionModel, gate: Gate
) -> Iterator[Verdict]:
    """Pictures, grey or RGB, judged by the rules and by `gate`."""
    for name, pixels in pictures:
        grey = np.asarray(Image.fromarray(pixels).convert("L"))
        yield _Judged(name, "", group, "").by(gate, model.find(grey).features, _rule(pixels))


def _rule(pixels: Pixels) -> str:
    verdict = unusable(pixels)
    return "" if verdict is None else verdict[0].value


def bundled_pictures() -> Iterator[tuple[str, Pixels]]:
    """What the installed packages hold: nothing is downloaded.

    Photographs, pages and graphics of scikit-image and scikit-learn that no name was fitted on, and
    cross-sections of pydicom.
    """
    pictures = [
        Path(skimage.__file__).with_name("data"),
        Path(sklearn.__file__).parent / "datasets" / "images",
    ]
    for folder in pictures:
        for path in sorted(folder.iterdir()):
            if path.suffix in _PICTURES and path.name not in PHOTOGRAPHS:
                yield path.name, _picture(path)
    for name in _SECTIONS:
        values = pydicom.dcmread(str(get_testdata_file(name, download=False))).pixel_array
        low, high = np.percentile(values, (1, 99))
        yield name, np.rint(np.clip((values - low) / (high - low), 0, 1) * 255).astype(np.uint8)


def drawn_pictures() -> Iterator[tuple[str, Pixels]]:
    """Drawings of every kind from a seed that no fit used."""
    for kind, paint in PAINTERS.items():
        for number in range(DRAWN_EACH):
            yield f"{kind}-{number}", paint(np.random.default_rng([_DRAWN_SEED, number]))


def pictures_in(folder: Path) -> Iterator[tuple[str, Pixels]]:
    """The pictures of a folder: PNG, JPEG, WebP, BMP, and frames of DICOM files.

    Of a DICOM file the first frame counts that the product's selection would hand to the gate.

    Raises
    ------
    DataError
        The folder holds neither.
    """
    found = False
    for path in sorted(folder.rglob("*")):
        made = _picture_or_frame(path) if path.is_file() else None
        if made is not None:
            found = True
            yield path.name, made
    if not found:
        raise DataError(f"{folder} holds no picture: give a folder of PNG, JPEG, WebP or DICOM files")


def _picture_or_frame(path: Path) -> Pixels | None:
    if path.suffix.lower() in _PICTURES:
        try:
            return _picture(path)
        except UnidentifiedImageError:
            raise DataError(f"{path.name} is not a picture: remove it or save it again") from None
    try:
        study = load_study([path])[0]
        frames = select_frames(study, maximum_frames_per_instance=1, maximum_frames_per_study=2).frames
        return next((grey for _, grey in stream_pixels(frames[:1])), None)
    except (InputError, InvalidDicomError):
        return None


def _picture(path: Path) -> Pixels:
    with Image.open(path) as picture:
        shown = Image.new("RGBA", picture.size, "black")
        shown.alpha_composite(picture.convert("RGBA"))
    shown.thumbnail((_LARGEST_SIDE, _LARGEST_SIDE))
    return np.asarray(shown.convert("RGB"))


def all_verdicts(
    records: Sequence[Record], folders: Sequence[tuple[str, Path]], model: LesionModel, seed: int
) -> list[Verdict]:
    """Everything judged: what the installed packages hold, drawings, `folders` (group and place), the breast.

    Raises
    ------
    DataError
        A folder holds no picture, or the data set lacks folds 1 to 4.
    """
    if model.gate is None:
        raise DataError("the lesion bundle has no gate: reinstall the model bundle")
    verdicts = list(other_verdicts(bundled_pictures(), "far: installed packages", model, model.gate))
    for group, folder in folders:
        pictures = pictures_in(folder)
        verdicts += other_verdicts(pictures, f"{group}: {folder.name}", model, model.gate)
    drawn = track(list(drawn_pictures()), "drawn")
    verdicts += other_verdicts(drawn, "drawn", model, model.gate)
    return verdicts + list(breast_verdicts(records, model, seed))


def row_of(one: Verdict) -> dict[str, Any]:
    """A verdict as plain values, with what follows from them."""
    return {**asdict(one), "refused": one.refused, "set_aside": one.set_aside}


@dataclass(frozen=True)
class Share:
    """One figure: what was counted, its share with Wilson's interval over pictures, and its bound."""

    name: str
    share: Proportion
    target: str
    met: bool | None


def shares(verdicts: Sequence[Verdict]) -> tuple[Share, ...]:
    """All figures; bounds are met by the point estimate, the interval says how sure that is."""
    found: list[Share] = []

    def count(name: str, chosen: Sequence[Verdict], hit: Callable[[Verdict], bool], bound: str = "") -> None:
        if not chosen:
            return
        share = wilson(sum(map(hit, chosen)), len(chosen))
        limit = float(bound[2:]) if bound else 0.0
        met = None if not bound else share.value <= limit if bound[0] == "<" else share.value >= limit
        found.append(Share(name, share, bound, met))

    for group in ("by fold", "by device"):
        frames = [one for one in verdicts if one.group == group and not one.varied]
        copies = [one for one in verdicts if one.group == group and one.varied]
        bound = f"<={MAXIMUM_FALSE_SET_ASIDE}"
        count(f"breast frames set aside, held out {group}", frames, _is_set_aside, bound)
        count(f"their varied copies refused, held out {group}", copies, _is_refused, bound)
        for name in dict.fromkeys(one.held_out for one in frames):
            count(f"- {name}", [one for one in frames if one.held_out == name], _is_set_aside)
            count(f"- {name}, varied", [one for one in copies if one.held_out == name], _is_refused)
    frames = [one for one in verdicts if one.group == "by fold" and not one.varied]
    count("breast frames against which a rule on pixels speaks", frames, lambda one: bool(one.rule))
    for group, least in (("far", MINIMUM_FAR), ("other organ", MINIMUM_OTHER_ORGAN)):
        for name in dict.fromkeys(one.group for one in verdicts if one.group.startswith(group)):
            chosen = [one for one in verdicts if one.group == name]
            count(f"{name}: set aside", chosen, _is_set_aside, f">={least}")
            count(f"{name}: refused by the gate alone", chosen, _is_refused)
    count("drawn: set aside", [one for one in verdicts if one.group == "drawn"], _is_set_aside)
    return tuple(found)


def _is_set_aside(one: Verdict) -> bool:
    return one.set_aside


def _is_refused(one: Verdict) -> bool:
    return one.refused
