"""Training the lesion net on BUS-BRA: one fold held out, or the final one on all development folds.

Promises: patients of the held-out fold are never seen; pictures pass through the product's own
preprocessing; empty pictures (tissue beside the lesion, phantoms of speckle) teach that a frame may show
nothing. Resumes after a kill.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from models.data.record import Record, data_hash
from models.runtime.preprocess import letterbox, suppress_marks
from models.segmentation.network import LesionNet
from models.training.augment import AugmentSettings, change_grey, sample_grid
from models.training.loop import Batch, Fitted, LoopSettings, fit
from models.training.marks import mark_bank
from models.training.run import begin_run, cached

SIDE = 160
DEFAULTS = LoopSettings(
    epochs=12,
    batch_size=8,
    learning_rate=1e-3,
    weight_decay=0.02,
    ema_decay=0.997,
    warmup_share=0.15,
    seed=1,
)


@dataclass(frozen=True)
class Squares:
    """Letterboxed pictures and masks, uint8 (n, SIDE, SIDE), masks 0 or 255."""

    grey: npt.NDArray[np.uint8]
    mask: npt.NDArray[np.uint8]


def prepare(records: Sequence[Record], cache: Path) -> Squares:
    """All pictures as the network will see them; kept under `cache` for the next run on the same data."""

    def make() -> dict[str, npt.NDArray[np.uint8]]:
        grey, mask = [], []
        for record in records:
            square, box = letterbox(suppress_marks(record.grey()), SIDE)
            grey.append(np.rint(square * 255).astype(np.uint8))
            outline = box.apply((record.mask() * 255).astype(np.uint8))
            mask.append(np.where(outline > 0.5, 255, 0).astype(np.uint8))
        return {"grey": np.stack(grey), "mask": np.stack(mask)}

    arrays = cached(cache / f"squares-{SIDE}-{data_hash(records)[:12]}.npz", make)
    return Squares(arrays["grey"], arrays["mask"])


def train(
    records: Sequence[Record], held_out: int | None, out: Path, settings: LoopSettings = DEFAULTS
) -> Fitted:
    """Train on all `records` but those of fold `held_out` (None: on all), into `out`."""
    begin_run(
        out,
        {
            "settings": asdict(settings),
            "held_out": held_out,
            "data_hash": data_hash(records),
            "side": SIDE,
            "augment": asdict(AUGMENT),
            "empty_share": EMPTY_SHARE,
        },
    )
    squares = prepare(records, out.parent)
    chosen = np.array([record.fold != held_out for record in records])
    grey, mask = torch.from_numpy(squares.grey[chosen]), torch.from_numpy(squares.mask[chosen])
    validation = None
    if held_out is not None:
        validation = torch.from_numpy(squares.grey[~chosen]), torch.from_numpy(squares.mask[~chosen])
    torch.manual_seed(settings.seed)
    steps = len(grey) // settings.batch_size
    marks = torch.from_numpy(mark_bank(SIDE, 400, settings.seed))

    def batches(epoch: int) -> Iterator[Batch]:
        order = torch.randperm(len(grey))
        for step in range(steps):
            index = order[step * settings.batch_size : (step + 1) * settings.batch_size]
            yield _augmented(grey[index], mask[index], marks)

    fitted = fit(
        LesionNet(),
        batches,
        _loss,
        lambda net: _dice_of(net, validation),
        settings,
        out,
        steps,
        f"lesion {out.name}",
    )
    torch.save(fitted.network.state_dict(), out / "weights.pt")
    return fitted


# Light: with few epochs the net is short of steps, not of variety (heavier changes fitted worse).
AUGMENT = AugmentSettings(
    zoom=(0.85, 1.2), aspect=0.08, rotate_degrees=6, shift=0.06, gamma=0.25, gain=0.2, offset=0.05,
    blur_share=0.15, noise_share=0.15, marks_share=0.4,
)  # fmt: skip
EMPTY_SHARE = 0.06


def _augmented(grey: torch.Tensor, mask: torch.Tensor, marks: torch.Tensor) -> Batch:
    picture, target = grey.unsqueeze(1).float() / 255, mask.unsqueeze(1).float() / 255
    grid = sample_grid(len(picture), SIDE, AUGMENT)
    picture = F.grid_sample(picture, grid, align_corners=False)
    target = (F.grid_sample(target, grid, align_corners=False) > 0.5).float()
    empty = torch.rand(len(picture)) < EMPTY_SHARE
    if empty.any():
        picture[empty], target[empty] = _without_lesion(picture[empty], target[empty])
    return change_grey(picture, marks, AUGMENT), target


def _without_lesion(picture: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Tissue beside the lesion, stretched over the square; speckle where too little is left."""
    out = []
    for one, mask in zip(picture[:, 0], target[:, 0], strict=True):
        columns = mask.any(0).nonzero()
        rows = mask.any(1).nonzero()
        left, right = (int(columns.min()), int(columns.max())) if len(columns) else (SIDE, SIDE)
        top, bottom = (int(rows.min()), int(rows.max())) if len(rows) else (SIDE, SIDE)
        width = int((one > 0).any(0).sum())
        height = int((one > 0).any(1).sum())
        strips = [one[:, :left], one[:, right + 1 : width], one[:top, :], one[bottom + 1 : height, :]]
        strip = max(strips, key=lambda part: min(part.shape) if part.numel() else 0)
        if min(strip.shape) >= 40 and torch.rand(()) < 0.8:
            out.append(
                F.interpolate(strip[None, None], size=(SIDE, SIDE), mode="bilinear", align_corners=False)[0]
            )
        else:
            out.append(_speckle())
    return torch.stack(out), torch.zeros_like(target)


def _speckle() -> torch.Tensor:
    """Fully developed speckle over a smooth field: Rayleigh envelope, log-compressed, (1, SIDE, SIDE)."""
    field = F.interpolate(torch.rand(1, 1, 4, 4), size=(SIDE, SIDE), mode="bicubic", align_corners=False)[0]
    envelope = F.avg_pool2d(torch.randn(2, SIDE, SIDE), 3, 1, 1).pow(2).sum(0, keepdim=True).sqrt()
    return (0.3 + 0.4 * field + 0.12 * envelope.clamp(min=0.01).log()).clamp(0, 1)


def _loss(network: torch.nn.Module, batch: Batch) -> torch.Tensor:
    """Soft Dice a picture plus cross-entropy."""
    picture, target = batch
    logits, _ = network(picture.contiguous(memory_format=torch.channels_last))
    probability = logits.sigmoid()
    overlap = (probability * target).sum(dim=(1, 2, 3))
    dice = (2 * overlap + 1) / (probability.sum(dim=(1, 2, 3)) + target.sum(dim=(1, 2, 3)) + 1)
    return F.binary_cross_entropy_with_logits(logits, target) + (1 - dice).mean()


@torch.no_grad()
def _dice_of(
    network: torch.nn.Module, validation: tuple[torch.Tensor, torch.Tensor] | None
) -> dict[str, float]:
    if validation is None:
        return {}
    dice = []
    for grey, mask in zip(validation[0].split(64), validation[1].split(64), strict=True):
        found = network(grey.unsqueeze(1).float() / 255)[0][:, 0] > 0
        true = mask > 127
        dice.append(2 * (found & true).sum(dim=(1, 2)) / (found.sum(dim=(1, 2)) + true.sum(dim=(1, 2))))
    return {"held_out_dice": float(torch.cat(dice).mean())}
