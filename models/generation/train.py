"""One stage of the generator's training: autoencoder first, then the flow on its latents, into one folder.

Promises: only the folds asked for are read, fold 5 never; a run killed at any moment goes on where its
last epoch ended when the same command is given again; `OUT/product` is of one epoch in all its files, and
alone starts the next stage, on another machine too, with a new optimizer.
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
from models.data.whole import bring_back, whole_folder, write_whole
from models.generation.autoencoder import Autoencoder
from models.generation.conditions import CLASSES, DEVICES, NO_LESION, UNKNOWN
from models.generation.draw import BATCH, Asked, draw_images, draw_row, usual_devices
from models.generation.flow import FlowNet, Solver
from models.generation.frames import LESION_VIEWS, SIDE, TISSUE_VIEWS, prepare
from models.generation.kid import Embedder, kid
from models.generation.pictures import save_curves, save_grid
from models.generation.pool import TISSUE_SHARE, Pool, pools, validation_patients
from models.generation.prior import Prior, fit_prior
from models.generation.product import (
    WEIGHTS,
    Generator,
    encoder_digest,
    load_generator,
    read_facts,
    save_product,
    save_snapshot,
)
from models.generation.train_autoencoder import AutoencoderTraining, train_autoencoder, unit
from models.generation.train_flow import FlowTraining, encode, train_flow
from models.training.device import best_device, has_bfloat16
from models.training.loop import Fitted, Limits
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

    def with_seed(self, seed: int) -> Settings:
        """The same with `seed` for all that is random: frames, patients set aside, weights, noise."""
        first, then = self.autoencoder, self.flow
        return replace(
            self,
            seed=seed,
            autoencoder=replace(first, loop=replace(first.loop, seed=seed)),
            flow=replace(then, loop=replace(then.loop, seed=seed)),
        )


@dataclass(frozen=True)
class Stage:
    """How much of a run one call does.

    minutes : it ends after the epoch, of autoencoder or flow, in which this time is over; none: no such end
    epochs : of the flow after which training ends, those of earlier stages counted; none: as the settings say
    start : product of an earlier stage on the same images to go on from
    decoder_epochs : for so long the decoder of that stage learns on before the flow does, its encoder held
    snapshot_every : epochs of the flow between two snapshots, from which a stopping point is chosen; 0: none
    """

    minutes: float | None = None
    epochs: int | None = None
    start: Path | None = None
    decoder_epochs: int = 0
    snapshot_every: int = 0


WHOLE_RUN = Stage()


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
    stage: Stage = WHOLE_RUN,
) -> bool:
    """Train on `records` into `out`; False where the time was over before the flow began.

    `facts`: what run.json says besides settings.

    Raises
    ------
    RunDiffersError
        `out` holds another run, or `stage.start` was trained on other images or with another seed.
    """
    limits, device = Limits.within(stage.minutes, stage.epochs), best_device()
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
    both = training, validation = pools(records, frames, settings.seed)
    learned = _learn_autoencoder(out, settings, device, both, facts, stage, limits)
    if learned is None:
        return False
    autoencoder, earlier = learned
    product = _Product(out, autoencoder, _prior(training, settings.seed), facts, settings, validation, device)
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
        earlier=earlier,
        limits=limits,
        after_epoch=lambda fitted: product.after_epoch(fitted, stage.snapshot_every),
    )
    if rank() == 0:
        product.keep(fitted)
    return True


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
    pair: tuple[Pool, Pool],
    facts: Mapping[str, Any],
    stage: Stage,
    limits: Limits,
) -> tuple[Autoencoder, Fitted | None] | None:
    """The autoencoder of this stage, and flow and history of an earlier one; None where the time is over."""
    training = replace(settings.autoencoder, low_precision=has_bfloat16(device))
    limits = replace(limits, until=None)
    if stage.start is None:
        first = train_autoencoder(*pair, out / "autoencoder", training, device, limits=limits)
        return first and (first, None)
    earlier = _earlier(stage.start, facts, device)
    flow = Fitted(earlier.flow.requires_grad_(True), _history(stage.start))
    if not stage.decoder_epochs:
        return earlier.autoencoder, flow
    training = replace(training, loop=replace(training.loop, epochs=stage.decoder_epochs))
    again = train_autoencoder(*pair, out / "autoencoder", training, device, earlier.autoencoder, limits)
    return again and (again, flow)


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


def _is_of(product: Path, epochs: int) -> bool:
    """Whether a product is there and of this epoch, weights and history."""
    if not (product / WEIGHTS).exists() or not (product / "history.json").exists():
        return False
    return bool(read_facts(product / WEIGHTS)["epochs"] == epochs == len(_history(product)))


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
class _Product:
    """What turns an epoch of the flow into a product with grid and curves."""

    out: Path
    autoencoder: Autoencoder
    prior: Prior
    facts: Mapping[str, Any]
    settings: Settings
    validation: Pool
    device: torch.device

    def after_epoch(self, fitted: Fitted, snapshot_every: int) -> None:
        """Snapshot and product where they are due; once more for the same epoch writes what is missing."""
        epochs = len(fitted.history)
        snapshot = snapshot_path(self.out, epochs)
        if snapshot_every and epochs % snapshot_every == 0 and not snapshot.exists():
            encoder = encoder_digest(self.autoencoder.state_dict())
            about = {"epochs": epochs, "encoder": encoder, "data_hash": self.facts["data_hash"]}
            save_snapshot(snapshot, fitted.network, about)
        if epochs % self.settings.product_every == 0:
            self.keep(fitted)

    def keep(self, fitted: Fitted) -> None:
        """Have OUT/product of this epoch: weights, history, curves, grid, run.json, KID of all products."""
        product, epochs = self.out / "product", int(fitted.history[-1]["epoch"])
        bring_back(product)
        if _is_of(product, epochs):
            return
        with whole_folder(product) as folder:
            self._write(folder, fitted, epochs)
            self._look(folder, epochs)

    def _write(self, folder: Path, fitted: Fitted, epochs: int) -> None:
        images = epochs * self.settings.flow.steps_per_epoch * self.settings.flow.loop.batch_size
        facts = {**self.facts, "epochs": epochs, "images_seen": images}
        assert isinstance(fitted.network, FlowNet)
        save_product(
            folder,
            (self.autoencoder, self.settings.autoencoder.network),
            (fitted.network, self.settings.flow.network),
            self.prior,
            facts,
        )
        write_whole(folder / "history.json", json.dumps(fitted.history, indent=1) + "\n")
        save_curves(fitted.history, folder / "curves.png")
        shutil.copyfile(self.out / "run.json", folder / "run.json")
        for name in ("grid.png", "curves.png", "history.json"):
            own = self.out / "autoencoder" / name
            if own.exists():
                shutil.copyfile(own, folder / f"autoencoder-{name}")

    def _look(self, folder: Path, epochs: int) -> None:
        """A grid of images from the weights as they are on disk, and their KID."""
        generator = load_generator(folder, self.device)
        pictures = seen_images(generator, max(self.settings.shown, self.settings.judged), self.settings.seed)
        save_grid(pictures[: self.settings.shown], folder / "grid.png", columns=8)
        embed = Embedder(self.device)
        index = torch.linspace(0, len(self.validation) - 1, min(256, len(self.validation))).long()
        value = kid(embed(unit(self.validation.grey[index])), embed(pictures))
        kept = folder / "kid.json"
        rows = [row for row in kids_of(kept) if row["epoch"] != epochs] + [{"epoch": epochs, "kid": value}]
        write_whole(kept, json.dumps(rows, indent=1) + "\n")


def kids_of(path: Path) -> list[dict[str, float]]:
    """The KIDs of a run so far, by epoch; none where there is no file.

    Raises
    ------
    DataError
        The file is empty, cut short or another one.
    """
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    except ValueError:
        rows = None
    if not isinstance(rows, list) or not all(
        isinstance(row, dict) and {"epoch", "kid"} <= set(row) for row in rows
    ):
        raise DataError(
            f"{path} is damaged: delete it, and the same command goes on with the KIDs from here on"
        )
    return rows


def seen_images(generator: Generator, count: int, seed: int) -> torch.Tensor:
    """Images drawn for looking at, float (count, 1, s, s) in 0..1, without marks; chosen by the seed."""
    asked = Asked(devices=usual_devices(generator.facts), callipers_share=0, text_share=0)
    solver = Solver()
    rows = [draw_row(generator, asked, solver, seed, index) for index in range(count)]
    parts = [draw_images(generator, rows[i : i + BATCH], solver)[0] for i in range(0, count, BATCH)]
    return torch.from_numpy(np.concatenate(parts)).float().unsqueeze(1) / 255
