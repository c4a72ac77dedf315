"""Training the diagnosis net on crops of lesions: BUS-BRA with one fold held out or whole, or any other set.

Promises: patients of the held-out fold are never seen; crops come from the product's own preprocessing;
outlines are disturbed as a segmentation net disturbs them. Resumes after a kill.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from sklearn.metrics import roc_auc_score

from models.data.record import Record, data_hash
from models.data.whole import whole_file
from models.diagnosis.network import DiagnosisNet
from models.runtime.preprocess import lesion_crop, suppress_marks
from models.training.augment import AugmentSettings, change_grey, sample_grid
from models.training.device import device_of
from models.training.loop import Batch, Fitted, LoopSettings, Task, fit
from models.training.marks import mark_bank
from models.training.run import begin_run, cached

SIDE = 160
CONTEXT_FACTOR = 1.7
_WIDE_SIDE, _WIDE_FACTOR = 256, 2.8  # crops are kept wider, so that shift and zoom meet real tissue
DEFAULTS = LoopSettings(
    epochs=12,
    batch_size=16,
    learning_rate=6e-4,
    weight_decay=0.05,
    ema_decay=0.995,
    warmup_share=0.15,
    seed=1,
)
AUGMENT = AugmentSettings(zoom=(0.75, 1.3), aspect=0.15, rotate_degrees=15, shift=0.08, gamma=0.5, gain=0.3)
LABEL_SMOOTHING = 0.05


@dataclass(frozen=True)
class TrainingSet:
    """Lesions to learn from, whatever their source.

    crops : uint8 (n, 2, 256, 256), as of `wide_crop`
    malignant : float (n,), 0 or 1
    weight : float (n,), how often each is drawn, on any scale
    """

    crops: torch.Tensor
    malignant: torch.Tensor
    weight: torch.Tensor


def wide_crop(clean: npt.NDArray[np.uint8], mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """Wide crop of a picture without marks and its lesion, uint8 (2, 256, 256): grey, and mask in 255ths."""
    return np.rint(lesion_crop(clean, mask, _WIDE_SIDE, _WIDE_FACTOR) * 255).astype(np.uint8)


def patient_weights(patients: Sequence[str], malignant: torch.Tensor) -> torch.Tensor:
    """Weights (n,) under which each patient counts the same, and both classes together the same."""
    views = Counter(patients)
    share = torch.tensor([1 / views[patient] for patient in patients])
    return share / torch.where(malignant > 0, share[malignant > 0].sum(), share[malignant == 0].sum())


def prepare(records: Sequence[Record], cache: Path) -> npt.NDArray[np.uint8]:
    """Wide crops of grey and mask, uint8 (n, 2, 256, 256); kept under `cache`."""

    def make() -> dict[str, npt.NDArray[np.uint8]]:
        return {
            "crops": np.stack([wide_crop(suppress_marks(record.grey()), record.mask()) for record in records])
        }

    return cached(cache / f"crops-{_WIDE_SIDE}-{data_hash(records)[:12]}.npz", make)["crops"]


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
            "context_factor": CONTEXT_FACTOR,
        },
    )
    crops = prepare(records, out.parent)
    chosen = np.array([record.fold != held_out for record in records])
    malignant = torch.tensor([record.malignant for record in records])[torch.from_numpy(chosen)].float()
    patients = [record.patient_id for record, used in zip(records, chosen, strict=True) if used]
    lesions = TrainingSet(torch.from_numpy(crops[chosen]), malignant, patient_weights(patients, malignant))
    held = [(record, crop) for record, crop, used in zip(records, crops, chosen, strict=True) if not used]
    steps = len(lesions.crops) // settings.batch_size
    return fit_on(lesions, out, settings, steps, lambda net: _auc_of(net, held))


def fit_on(
    lesions: TrainingSet,
    out: Path,
    settings: LoopSettings,
    steps: int,
    evaluate: Callable[[torch.nn.Module], dict[str, float]] = lambda net: {},
) -> Fitted:
    """Train on any set of lesions for `steps` an epoch, into `out`/weights.pt; resumes after a kill."""
    torch.manual_seed(settings.seed)
    marks = torch.from_numpy(mark_bank(SIDE, 400, settings.seed))

    def batches(epoch: int) -> Iterator[Batch]:
        order = torch.multinomial(lesions.weight, steps * settings.batch_size, replacement=True)
        for step in range(steps):
            index = order[step * settings.batch_size : (step + 1) * settings.batch_size]
            yield _augmented(lesions.crops[index], marks), lesions.malignant[index]

    task = Task(DiagnosisNet(), batches, _loss, steps, evaluate)
    fitted = fit(task, settings, out, f"diagnosis {out.name}")
    with whole_file(out / "weights.pt") as unfinished, unfinished.open("wb") as file:
        torch.save(fitted.network.state_dict(), file)
    return fitted


def _augmented(crops: torch.Tensor, marks: torch.Tensor) -> torch.Tensor:
    crops = crops.float() / 255
    grid = sample_grid(len(crops), SIDE, AUGMENT, base_zoom=CONTEXT_FACTOR / _WIDE_FACTOR)
    crops = F.grid_sample(crops, grid, align_corners=False)
    grey = change_grey(crops[:, :1], marks, AUGMENT)
    return torch.cat([grey, _disturbed(crops[:, 1:])], dim=1)


def _disturbed(mask: torch.Tensor) -> torch.Tensor:
    """Outlines as a net draws them: smoothed, grown or shrunk, now and then missing altogether."""
    coarse = F.avg_pool2d(F.pad(mask, (6, 6, 6, 6)), 13, 1)
    wobble = F.interpolate(
        torch.randn(len(mask), 1, 6, 6), size=mask.shape[-2:], mode="bicubic", align_corners=False
    )
    level = 0.5 + torch.empty(len(mask), 1, 1, 1).uniform_(-0.3, 0.3)
    disturbed = (coarse + 0.12 * wobble > level).float()
    disturbed = torch.where(torch.rand(len(mask), 1, 1, 1) < 0.3, (mask > 0.5).float(), disturbed)
    return disturbed * (torch.rand(len(mask), 1, 1, 1) > 0.1)


def _loss(network: torch.nn.Module, batch: Batch) -> torch.Tensor:
    crops, labels = batch
    logits = network(crops.contiguous(memory_format=torch.channels_last))
    return F.binary_cross_entropy_with_logits(logits, labels * (1 - LABEL_SMOOTHING) + LABEL_SMOOTHING / 2)


@torch.no_grad()
def centre(crops: torch.Tensor) -> torch.Tensor:
    """Wide crops, uint8 (n, 2, 256, 256) -> the network's field of view, float (n, 2, SIDE, SIDE)."""
    theta = torch.eye(2, 3, device=crops.device).expand(len(crops), 2, 3) * (CONTEXT_FACTOR / _WIDE_FACTOR)
    grid = F.affine_grid(theta, [len(crops), 2, SIDE, SIDE], align_corners=False)
    return F.grid_sample(crops.float() / 255, grid, align_corners=False)


@torch.no_grad()
def logits_of(network: torch.nn.Module, crops: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Logits (n,) of wide crops, uint8 (n, 2, 256, 256), with the mirrored picture averaged."""
    whole, device = torch.from_numpy(crops), device_of(network)
    parts = (centre(part.to(device)) for part in whole.split(64))
    answers = [(network(part) + network(part.flip(3))) / 2 for part in parts]
    logits: npt.NDArray[np.float32] = torch.cat(answers).cpu().numpy()
    return logits


def _auc_of(
    network: torch.nn.Module, held: Sequence[tuple[Record, npt.NDArray[np.uint8]]]
) -> dict[str, float]:
    """AUC a patient of the held-out fold, on its annotated outlines, with the mirrored picture averaged."""
    if not held:
        return {}
    logits = logits_of(network, np.stack([crop for _, crop in held]))
    scores: dict[str, list[float]] = {}
    truth: dict[str, bool] = {}
    for (record, _), logit in zip(held, logits, strict=True):
        scores.setdefault(record.patient_id, []).append(float(logit))
        truth[record.patient_id] = record.malignant
    auc = roc_auc_score([truth[key] for key in scores], [np.mean(values) for values in scores.values()])
    return {"held_out_auc": float(auc)}
