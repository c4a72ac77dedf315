"""One stage of the generator's training: autoencoder first, then the flow on its latents, into one folder.

Promises: only the folds asked for are read, fold 5 never; a run killed at any moment goes on where its
last epoch ended when the same command is given again; `OUT/product` alone starts the next stage, on
another machine too, with a new optimizer.
"""

from __future__ import annotations

import json
import shutil
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models.data.record import DataError, Record, data_hash
from models.generation.autoencoder import Autoencoder
from models.generation.conditions import CLASSES, DEVICES, NO_LESION, UNKNOWN
from models.generation.draw import BATCH, Asked, draw_images, draw_row, usual_devices
from models.generation.flow import FlowNet, Solver
from models.generation.frames import LESION_VIEWS, SIDE, TISSUE_VIEWS, prepare
from models.generation.kid import Embedder, kid
from models.generation.pictures import save_curves, save_grid
from models.generation.pool import TISSUE_SHARE, Pool, pools, validation_patients
from models.generation.prior import Prior, fit_prior
from models.generation.product import Generator, encoder_digest, load_generator, save_product, save_snapshot
from models.generation.train_autoencoder import AutoencoderTraining, train_autoencoder, unit
from models.generation.train_flow import FlowTraining, encode, train_flow
from models.training.device import best_device, has_bfloat16
from models.training.loop import Fitted
from models.training.parallel import rank
from models.training.run import RunDiffersError, begin_run

SNAPSHOTS = "snapshots"
_AUTOENCODER, _FLOW = AutoencoderTraining(), FlowTraining()


@dataclass(frozen=True)
class Settings:
    """Settings of a whole run.

    product_every : epochs of the flow between two products
    shown, judged : images drawn for the grid and for KID of a product
    """

    seed: int = 1
    autoencoder: AutoencoderTraining = _AUTOENCODER
    flow: FlowTraining = _FLOW
    product_every: int = 10
    shown: int = 32
    judged: int = 96


def chosen_records(
    records: Sequence[Record], folds: Sequence[int], excluded_device: str | None
) -> list[Record]:
    """The records a generator may learn from: of `folds`, without devices whose name holds `excluded_device`.

    Raises
    ------
    DataError
        No image is left, or none is of the device that is to be left out.
    """
    own = [record for record in records if record.fold in folds]
    word = (excluded_device or "").lower()
    chosen = [record for record in own if not word or word not in record.device.lower()]
    if word and len(chosen) == len(own):
        names = ", ".join(sorted({record.device for record in own}))
        raise DataError(f"no image is of a device with {excluded_device!r} in its name; there are: {names}")
    if not chosen:
        raise DataError(f"no image of folds {folds} is left to learn from: give other --folds")
    return chosen


def train(
    records: Sequence[Record],
    out: Path,
    facts: Mapping[str, Any],
    settings: Settings,
    *,
    minutes: float | None = None,
    epochs: int | None = None,
    start: Path | None = None,
    decoder_epochs: int = 0,
    snapshot_every: int = 0,
) -> None:
    """Train on `records` into `out`.

    Parameters
    ----------
    facts, minutes : what run.json says besides settings; stop after the epoch in which this time is over
    epochs : of the flow after which training ends, those of earlier stages counted
    start : product of an earlier stage on the same images to go on from
    decoder_epochs : for so long the decoder of that stage learns on before the flow does, its encoder held
    snapshot_every : epochs of the flow between two snapshots, from which a stopping point is chosen; 0: none

    Raises
    ------
    RunDiffersError
        `out` holds another run, or `start` was trained on other images or with another seed.
    """
    device = best_device()
    facts = {**facts, **_facts(records, settings.seed)}
    begin_run(
        out,
        {
            "settings": asdict(settings),
            "side": SIDE,
            "views": [LESION_VIEWS, TISSUE_VIEWS],
            "tissue_share": TISSUE_SHARE,
            **facts,
        },
    )
    frames = prepare(records, out, settings.seed)
    training, validation = pools(records, frames, settings.seed)
    learned = _learn_autoencoder(out, settings, device, training, validation, start, facts, decoder_epochs)
    autoencoder, flow, before = learned
    prior = _prior(training, settings.seed)
    stage = _Stage(out, autoencoder, prior, facts, settings, validation, device, snapshot_every)
    latents = [
        encode(autoencoder, pool, out, name, device)
        for name, pool in (("training", training), ("validation", validation))
    ]
    fitted = train_flow(
        (training, latents[0]),
        (validation, latents[1]),
        out / "flow",
        replace(settings.flow, low_precision=has_bfloat16(device)),
        device,
        network=flow.requires_grad_(True) if flow else None,
        before=before,
        minutes=minutes,
        until=epochs,
        after_epoch=stage.after_epoch,
    )
    if rank() == 0:
        stage.keep(fitted)


def _facts(records: Sequence[Record], seed: int) -> dict[str, Any]:
    """What a run says of its data."""
    return {
        "seed": seed,
        "data_hash": data_hash(records),
        "images": len(records),
        "patients": len({record.patient_id for record in records}),
        "validation_patients": sorted(validation_patients(records, seed)),
        "devices": _patients_by_device(records),
    }


def _learn_autoencoder(
    out: Path,
    settings: Settings,
    device: torch.device,
    training: Pool,
    validation: Pool,
    start: Path | None,
    facts: Mapping[str, Any],
    decoder_epochs: int,
) -> tuple[Autoencoder, FlowNet | None, tuple[dict[str, float], ...]]:
    """The autoencoder of this stage; of an earlier one also its flow and that one's history."""
    first = replace(settings.autoencoder, low_precision=has_bfloat16(device))
    if start is None:
        return train_autoencoder(training, validation, out / "autoencoder", first, device), None, ()
    earlier = _earlier(start, facts, device)
    autoencoder = earlier.autoencoder
    if decoder_epochs:
        again = replace(first, loop=replace(first.loop, epochs=decoder_epochs))
        autoencoder = train_autoencoder(training, validation, out / "autoencoder", again, device, autoencoder)
    return autoencoder, earlier.flow, _history(start)


def _earlier(start: Path, facts: Mapping[str, Any], device: torch.device) -> Generator:
    """The generator of an earlier stage on the same images and with the same patients set aside."""
    earlier = load_generator(start, device)
    for key in ("data_hash", "seed"):
        if earlier.facts[key] != facts[key]:
            raise RunDiffersError(
                f"{start} was trained on other images or with another seed: other patients were set aside; "
                "give its --folds, --exclude-device and --seed, or no --start"
            )
    return earlier


def _patients_by_device(records: Sequence[Record]) -> dict[str, int]:
    patients = defaultdict(set)
    for record in records:
        patients[record.device if record.device in DEVICES else UNKNOWN].add(record.patient_id)
    return {device: len(own) for device, own in sorted(patients.items())}


def _history(product: Path) -> tuple[dict[str, float], ...]:
    return tuple(json.loads((product / "history.json").read_text(encoding="utf-8")))


def _prior(pool: Pool, seed: int) -> Prior:
    visible = (pool.mask > 0).flatten(1).any(1)
    lesion = (pool.labels[:, 0] != CLASSES.index(NO_LESION)) & visible
    zoom = pool.zoom[~lesion].numpy()
    tissue = (float(zoom.min()), float(zoom.max())) if len(zoom) else (0.42, 0.8)
    masks, labels = pool.mask[lesion, 0].numpy(), pool.labels[lesion].numpy()
    return fit_prior(masks, labels, pool.zoom[lesion].numpy(), tissue, seed)


def snapshot_path(run: Path, epochs: int) -> Path:
    """Where a run keeps the flow as it was after so many epochs."""
    return run / SNAPSHOTS / f"{epochs:06d}.safetensors"


@dataclass(frozen=True)
class _Stage:
    """What turns an epoch of the flow into a product with grid and curves."""

    out: Path
    autoencoder: Autoencoder
    prior: Prior
    facts: Mapping[str, Any]
    settings: Settings
    validation: Pool
    device: torch.device
    snapshot_every: int

    def after_epoch(self, fitted: Fitted) -> None:
        epochs = len(fitted.history)
        if self.snapshot_every and epochs % self.snapshot_every == 0:
            encoder = encoder_digest(self.autoencoder.state_dict())
            about = {"epochs": epochs, "encoder": encoder, "data_hash": self.facts["data_hash"]}
            save_snapshot(snapshot_path(self.out, epochs), fitted.network, about)
        if epochs % self.settings.product_every == 0:
            self.keep(fitted)

    def keep(self, fitted: Fitted) -> None:
        """Write OUT/product: weights, history, curves, grid, run.json; append KID to kid.json."""
        product = self.out / "product"
        epochs = int(fitted.history[-1]["epoch"])
        images = epochs * self.settings.flow.steps_per_epoch * self.settings.flow.loop.batch_size
        facts = {**self.facts, "epochs": epochs, "images_seen": images}
        assert isinstance(fitted.network, FlowNet)
        save_product(
            product,
            (self.autoencoder, self.settings.autoencoder.network),
            (fitted.network, self.settings.flow.network),
            self.prior,
            facts,
        )
        (product / "history.json").write_text(json.dumps(fitted.history, indent=1) + "\n", encoding="utf-8")
        save_curves(fitted.history, product / "curves.png")
        shutil.copyfile(self.out / "run.json", product / "run.json")
        for name in ("grid.png", "curves.png", "history.json"):
            own = self.out / "autoencoder" / name
            if own.exists():
                shutil.copyfile(own, product / f"autoencoder-{name}")
        self._look(product, epochs)

    def _look(self, product: Path, epochs: int) -> None:
        generator = load_generator(product, self.device)
        pictures = seen_images(generator, max(self.settings.shown, self.settings.judged), self.settings.seed)
        save_grid(pictures[: self.settings.shown], product / "grid.png", columns=8)
        embed = Embedder(self.device)
        index = torch.linspace(0, len(self.validation) - 1, min(256, len(self.validation))).long()
        real = embed(unit(self.validation.grey[index]).to(self.device))
        value = kid(real, embed(pictures.to(self.device)))
        kept = self.out / "product" / "kid.json"
        rows = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else []
        rows = [row for row in rows if row["epoch"] != epochs] + [{"epoch": epochs, "kid": value}]
        kept.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def seen_images(generator: Generator, count: int, seed: int) -> torch.Tensor:
    """Images drawn for looking at, float (count, 1, s, s) in 0..1, without marks; chosen by the seed."""
    asked = Asked(devices=usual_devices(generator.facts), callipers_share=0, text_share=0)
    solver = Solver()
    rows = [draw_row(generator, asked, solver, seed, index) for index in range(count)]
    parts = [draw_images(generator, rows[i : i + BATCH], solver)[0] for i in range(0, count, BATCH)]
    return torch.from_numpy(np.concatenate(parts)).float().unsqueeze(1) / 255
