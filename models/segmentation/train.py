"""Training the lesion net on outlined pictures: BUS-BRA with one fold held out or whole, or any other set.

Promises: patients of the held-out fold are never seen; pictures pass through the product's own
preprocessing; empty pictures (tissue beside the lesion, phantoms of speckle) teach that a frame may show
nothing. Resumes after a kill.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from models.data.record import Record, data_hash
from models.data.whole import whole_file
from models.runtime.preprocess import letterbox, suppress_marks
from models.segmentation.network import LesionNet
from models.training.augment import AugmentSettings, change_grey, sample_grid
from models.training.device import device_of
from models.training.loop import Batch, Fitted, LoopSettings, Task, fit
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


def squares_of(pictures: Iterable[tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]]) -> Squares:
    """Pictures without marks and their outlines, each of any one shape, as the network will see them."""
    grey, mask = [], []
    for clean, outline in pictures:
        square, box = letterbox(clean, SIDE)
        grey.append(np.rint(square * 255).astype(np.uint8))
        mask.append(np.where(box.apply(outline.astype(np.uint8) * 255) > 0.5, 255, 0).astype(np.uint8))
    return Squares(np.stack(grey), np.stack(mask))


def prepare(records: Sequence[Record], cache: Path) -> Squares:
    """All pictures as the network will see them; kept under `cache` for the next run on the same data."""

    def make() -> dict[str, npt.NDArray[np.uint8]]:
        return vars(squares_of((suppress_marks(record.grey()), record.mask()) for record in records))

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
    kept, held = (Squares(squares.grey[part], squares.mask[part]) for part in (chosen, ~chosen))
    steps = len(kept.grey) // settings.batch_size
    return fit_on(kept, out, settings, steps, lambda net: _mean_dice(net, held))


def fit_on(
    squares: Squares,
    out: Path,
    settings: LoopSettings,
    steps: int,
    evaluate: Callable[[torch.nn.Module], dict[str, float]] = lambda net: {},
    weight: torch.Tensor | None = None,
) -> Fitted:
    """Train on any set of pictures for `steps` an epoch, into `out`/weights.pt; resumes after a kill.

    `weight` (n,), on any scale: how often each is drawn; without it all are, in a new order every epoch.
    """
    grey, mask = torch.from_numpy(squares.grey), torch.from_numpy(squares.mask)
    torch.manual_seed(settings.seed)
    marks = torch.from_numpy(mark_bank(SIDE, 400, settings.seed))

    def batches(epoch: int) -> Iterator[Batch]:
        if weight is None:
            order = torch.randperm(len(grey))
        else:
            order = torch.multinomial(weight, steps * settings.batch_size, replacement=True)
        for step in range(steps):
            index = order[step * settings.batch_size : (step + 1) * settings.batch_size]
            yield _augmented(grey[index], mask[index], marks)

    task = Task(LesionNet(), batches, _loss, steps, evaluate)
    fitted = fit(task, settings, out, f"lesion {out.name}")
    with whole_file(out / "weights.pt") as unfinished, unfinished.open("wb") as file:
        torch.save(fitted.network.state_dict(), file)
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
def dice_of(network: torch.nn.Module, squares: Squares) -> npt.NDArray[np.float32]:
    """Dice (n,) of the network's answers against the outlines; 1 where both are empty."""
    dice = []
    for start in range(0, len(squares.grey), 64):
        part = slice(start, start + 64)
        grey = torch.from_numpy(squares.grey[part]).unsqueeze(1).to(device_of(network)).float() / 255
        found, true = network(grey)[0][:, 0].cpu() > 0, torch.from_numpy(squares.mask[part]) > 127
        total = found.sum(dim=(1, 2)) + true.sum(dim=(1, 2))
        overlap = 2 * (found & true).sum(dim=(1, 2)) / total.clamp(min=1)
        dice.append(torch.where(total > 0, overlap, torch.ones_like(overlap)))
    joined: npt.NDArray[np.float32] = torch.cat(dice).numpy()
    return joined


def _mean_dice(network: torch.nn.Module, held: Squares) -> dict[str, float]:
    return {"held_out_dice": float(dice_of(network, held).mean())} if len(held.grey) else {}
