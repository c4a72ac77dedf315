"""The study of few-shot adaptation: what an adapter from k examples is worth on other patients of their kind.

Promises: piece after piece, each kept when it is done; a killed run goes on within its piece. No patient
judged is among the examples of the piece, and a base that has seen Toshiba is refused. Scores only are
written, no figure.

Pieces: "none" (the base as it is; asked for a device that it never saw it would draw from an embedding
that was never trained, so it is asked for "unknown"), and for each k and draw "adapter", "real" (k
images alone, no generator), once "full" (all weights fine-tuned). Each trains the same diagnosis net for
the same number of updates. few.parquet: one row a piece and judged image, with the classifier's logit
and, where there is a generator, the flow's loss on the image.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow.parquet as pq
import torch

from models.data.prediction import write_rows
from models.data.record import DataError, Record, data_hash
from models.diagnosis import train as diagnosis
from models.generation.adapt import AdaptSettings, adapt
from models.generation.adapter import DEVICE_FIELD, from_unknown, with_adapter
from models.generation.conditions import DEVICES, UNKNOWN, condition_of
from models.generation.draw import Asked, usual_devices
from models.generation.few import SPECIAL, Few, draw_few, of_kind
from models.generation.flow import Solver
from models.generation.frames import FrameSet, prepare
from models.generation.product import Generator, load_generator
from models.generation.repository import Shard, fill
from models.generation.study.arms import Arm, diagnosis_set, real
from models.generation.study.membership import losses
from models.training.loop import LoopSettings
from models.training.run import begin_run

FILE: Final = "few.parquet"
_ADAPT, _SOLVER = AdaptSettings(), Solver()


@dataclass(frozen=True)
class Kind:
    """What examples have in common, how many of them, in how many draws; `full_at`: k of full fine-tuning.

    `unseen`: a base that has seen images of the device is refused.
    """

    name: str
    device: str | None
    histology: str | None
    ks: tuple[int, ...]
    draws: int
    full_at: int | None = None
    unseen: bool = False


KINDS: Final = (
    Kind("toshiba", "Toshiba", None, (8, 16, 32), 3, full_at=16, unseen=True),
    Kind("special", None, SPECIAL, (8, 16), 1),  # descriptive only
    Kind("u-systems", "U-Systems", None, (8,), 1),  # the base has seen it, too
)


@dataclass(frozen=True)
class FewSettings:
    """How every piece is made. `images`: drawn for each classifier; `updates` an epoch: a pass over them."""

    adapt: AdaptSettings = _ADAPT
    diagnosis: LoopSettings = diagnosis.DEFAULTS
    images: int = 200
    updates: int = 12
    solver: Solver = _SOLVER
    loss_draws: int = 32


_SETTINGS = FewSettings()


@dataclass(frozen=True)
class Piece:
    """One arm of one kind; k and draw are 0 where there are no examples."""

    kind: Kind
    arm: str
    k: int = 0
    draw: int = 0

    @property
    def name(self) -> str:
        """The name of its folder."""
        return f"{self.kind.name}-{self.arm}" + (f"-k{self.k}-draw{self.draw}" if self.k else "")


def pieces(kinds: Sequence[Kind]) -> Iterator[Piece]:
    """Everything to be run, first draws first: a study that is cut short has said something of every kind."""
    return iter(sorted(_by_kind(kinds), key=lambda piece: piece.draw))


def _by_kind(kinds: Sequence[Kind]) -> Iterator[Piece]:
    for kind in kinds:
        yield Piece(kind, "none")
        for k in kind.ks:
            for draw in range(1, kind.draws + 1):
                yield Piece(kind, "adapter", k, draw)
                if kind.histology is None:  # the special types are of one class
                    yield Piece(kind, "real", k, draw)
                if kind.full_at == k and draw == 1:
                    yield Piece(kind, "full", k, draw)


@dataclass(frozen=True)
class FewStudy:
    """What is compared, from which base, on the records of which folds."""

    base: Path
    records: Sequence[Record]
    folds: Sequence[int]
    out: Path
    device: torch.device
    settings: FewSettings = _SETTINGS
    kinds: Sequence[Kind] = KINDS


def run_few_shot(study: FewStudy, minutes: float | None = None) -> bool:
    """Run what is missing; whether nothing is missing any more. `minutes`: begin no piece after this time.

    Raises
    ------
    RunDiffersError
        The folder holds another study.
    DataError
        The base has seen images of a device that it is to be adapted to.
    """
    base = load_generator(study.base, study.device)
    facts: dict[str, Any] = {
        "devices_of_base": base.facts["devices"],
        "settings": asdict(study.settings),
        "base": base.digest,
        "kinds": [asdict(k) for k in study.kinds],
    }
    begin_run(study.out, {**facts, "data_hash": data_hash(study.records)}, "study.json")
    begun = time.monotonic()
    todo = list(pieces(study.kinds))
    for piece in todo:
        path = study.out / piece.name / "rows.parquet"
        if path.exists():
            continue
        if minutes is not None and time.monotonic() - begun >= minutes * 60:
            break
        write_rows(_run(study, piece), path)
        done = sorted(study.out.glob("*/rows.parquet"))
        write_rows([row for file in done for row in pq.read_table(file).to_pylist()], study.out / FILE)
    return all((study.out / piece.name / "rows.parquet").exists() for piece in todo)


def _run(study: FewStudy, piece: Piece) -> list[dict[str, Any]]:
    """The rows of one piece."""
    own = of_kind(study.records, study.folds, piece.kind.device, piece.kind.histology)
    few = draw_few(own, piece.k, piece.draw) if piece.k else Few((), tuple(own))
    if not few.other:
        raise DataError(f"{piece.name}: no patient is left to judge by, give a smaller k")
    folder = study.out / piece.name
    loss: Sequence[float | None] = [None] * len(few.other)
    if piece.arm == "real":
        lesions = diagnosis_set(Arm("real", real=True, times=0), few.examples, folder)
    else:
        generator = _generator(study, piece, few, folder)
        frames = asked_for(prepare(few.other, folder / "judged", 1), device_asked(piece, few.other))
        loss = losses(generator, frames, len(few.other), 1, study.settings.loss_draws).tolist()
        lesions = _drawn(study, piece, own, generator, folder)
    settings = study.settings
    fitted = diagnosis.fit_on(lesions, folder / "diagnosis", settings.diagnosis, settings.updates)
    crops = np.stack([diagnosis.wide_crop(*pair) for pair in real(few.other)])
    logits = diagnosis.logits_of(fitted.network, crops)
    (folder / "diagnosis" / "checkpoint.pt").unlink(missing_ok=True)
    return [
        {**_identity(record, piece), "logit": float(logit), "loss": value}
        for record, logit, value in zip(few.other, logits, loss, strict=True)
    ]


def _generator(study: FewStudy, piece: Piece, few: Few, folder: Path) -> Generator:
    """The generator of a piece: the base, the base with an adapter, or fine-tuned."""
    base = load_generator(study.base, study.device)
    device = _device(piece, few.other)
    if piece.kind.unseen and device != UNKNOWN and device in base.facts["devices"]:
        raise DataError(f"the base has seen images of {device}: train one with --exclude-device")
    if piece.arm == "none":
        return base
    if piece.kind.unseen:
        from_unknown(base.flow, device)
    settings = replace(study.settings.adapt, adapter=replace(study.settings.adapt.adapter, device=device))
    settings = settings.of_full() if piece.arm == "full" else settings
    frames = prepare(few.examples, folder, 1)
    patients = [record.patient_id for record in few.examples]
    about: Mapping[str, Any] = {"k": piece.k, "draw": piece.draw, "data_hash": data_hash(few.examples)}
    made = adapt(base, frames, patients, folder / "adapted", settings, about)
    if piece.arm == "full":
        return load_generator(made.parent, study.device)
    return with_adapter(load_generator(study.base, study.device), made)


def _device(piece: Piece, records: Sequence[Record]) -> str:
    return condition_of(records[0]).device if piece.kind.device else UNKNOWN


def device_asked(piece: Piece, records: Sequence[Record]) -> str:
    """The device that a piece's generator is asked for: "unknown" where it was never taught this one."""
    return UNKNOWN if piece.kind.unseen and piece.arm == "none" else _device(piece, records)


def asked_for(frames: FrameSet, device: str) -> FrameSet:
    """The same frames with another device among their labels."""
    labels = frames.labels.copy()
    labels[:, DEVICE_FIELD] = DEVICES.index(device)
    return replace(frames, labels=labels)


def _drawn(
    study: FewStudy, piece: Piece, own: Sequence[Record], generator: Generator, folder: Path
) -> diagnosis.TrainingSet:
    """Pictures of a piece's generator, all of lesions, as a training set."""
    device = device_asked(piece, own)
    devices = (device,) if piece.kind.device else usual_devices(generator.facts)
    asked = Asked(no_lesion_share=0, devices=devices, callipers_share=0, text_share=0)
    count = study.settings.images
    fill(generator, folder / "drawn", asked, study.settings.solver, 1, Shard(0, count))
    return diagnosis_set(Arm(piece.arm, real=False, times=count), own[:1], folder / "drawn")


def _identity(record: Record, piece: Piece) -> dict[str, Any]:
    return {
        "kind": piece.kind.name,
        "arm": piece.arm,
        "k": piece.k,
        "draw": piece.draw,
        "image_id": record.image_id,
        "patient_id": record.patient_id,
        "device": record.device,
        "malignant": record.malignant,
    }
