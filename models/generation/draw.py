"""From a row to an image: everything about a generated image follows from its row and the model.

Promises: class, lesion count, device, callipers and text are drawn from separate streams, so that none
tells of another; the same row, model, processor, versions and number of threads give the same bytes,
in whatever company it is drawn (networks always see batches of the same size).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from models.data.record import DataError
from models.generation.autoencoder import SCALE, noise_sides
from models.generation.conditions import DEVICES, NO_LESION, UNKNOWN, Condition
from models.generation.flow import Request, Solver, solve
from models.generation.prior import Drawn, Prior
from models.generation.product import Generator
from models.training.marks import paint_marks

LEAST_PATIENTS = 20  # of a device, for it to be drawn unless asked for by name
BATCH = 8  # images the networks see at once, always
Grey = npt.NDArray[np.uint8]
_CONDITIONS, _OUTLINE, _MARKS = 0, 1, 2  # streams of an image's seed
_SEEDS = 2**63


@dataclass(frozen=True)
class Asked:
    """What a repository is asked for: shares of classes and of frames with two lesions, devices, marks."""

    no_lesion_share: float = 0.1
    malignant_share: float = 0.5  # of the frames with a lesion
    two_lesions_share: float = 0.05  # likewise
    devices: tuple[str, ...] = ()
    callipers_share: float = 0.25
    text_share: float = 0.25

    def __post_init__(self) -> None:
        """Refuse a share that is none; NaN is none."""
        for name, share in vars(self).items():
            if name.endswith("_share") and not 0 <= share <= 1:
                raise DataError(f"{name} {share!r}: give a share from 0 to 1")


@dataclass(frozen=True)
class Row:
    """One image of a repository.

    `guided_from` and `guided_to`: times of the flow between which guidance worked. `adapter` and `model`:
    SHA-256, the adapter's empty where there is none. `rejected`: how many draws before this one came too near
    to a training picture and were thrown away. `image_sha256`, `mask_sha256`: of the files, empty before they
    are written.
    """

    index: int
    seed: int
    lesion_class: str
    device: str
    birads: str
    histology: str
    lesions: int
    zoom: float
    callipers: bool
    text: bool
    steps: int
    guidance: float
    guided_from: float
    guided_to: float
    adapter: str
    model: str
    rejected: int
    image_sha256: str = ""
    mask_sha256: str = ""

    @property
    def solver(self) -> Solver:
        """What the image was drawn with."""
        return Solver(self.steps, self.guidance, (self.guided_from, self.guided_to))


def usual_devices(facts: Mapping[str, Any]) -> tuple[str, ...]:
    """The devices of which a generator saw at least 20 patients, else all that it saw."""
    patients: Mapping[str, int] = facts["devices"]
    usual = tuple(name for name, n in patients.items() if n >= LEAST_PATIENTS and name != UNKNOWN)
    return usual or tuple(patients)


def asked_devices(facts: Mapping[str, Any], names: str | None) -> tuple[str, ...]:
    """The devices of a list with commas; without one that of an adaptation's examples, or the usual ones.

    Raises
    ------
    DataError
        A name is one that the generator has not seen: what it would draw is untrained.
    """
    adapted = facts.get("adapter") or facts.get("fine_tuned") or {}
    taught = tuple(name if name in DEVICES else UNKNOWN for name in adapted.get("devices", ()))
    if not names:
        return taught if len(taught) == 1 else usual_devices(facts)
    chosen = tuple(dict.fromkeys(name.strip() for name in names.split(",")))
    seen = [name for name in DEVICES if name in (UNKNOWN, *facts["devices"], *taught)]
    for name in chosen:
        if name not in seen:
            raise DataError(f"the generator has seen no device {name!r}: it draws {', '.join(seen)}")
    return chosen


def image_seed(base: int, index: int, rejected: int = 0) -> int:
    """The seed of image `index` of a repository after `rejected` draws, below 2**63."""
    source = [base, index, rejected] if rejected else [base, index]
    return int(np.random.SeedSequence(source).generate_state(1, np.uint64)[0]) % _SEEDS


def draw_row(
    generator: Generator, asked: Asked, solver: Solver, base: int, index: int, rejected: int = 0
) -> Row:
    """Draw what image `index` shows, after `rejected` draws were thrown away."""
    seed = image_seed(base, index, rejected)
    chance = np.random.default_rng([_CONDITIONS, seed]).random(5)
    if chance[0] < asked.no_lesion_share:
        lesion_class, lesions = NO_LESION, 0
    else:
        lesion_class = "malignant" if chance[1] < asked.malignant_share else "benign"
        lesions = 2 if chance[2] < asked.two_lesions_share else 1
    device = asked.devices[int(chance[3] * len(asked.devices))]
    callipers, text = np.random.default_rng([_CONDITIONS, seed, 1]).random(2)
    outlined = outline(generator.prior, seed, lesion_class, lesions)
    return Row(
        index=index,
        seed=seed,
        lesion_class=lesion_class,
        device=device,
        birads=outlined.birads,
        histology=outlined.histology,
        lesions=outlined.lesions,
        zoom=outlined.zoom,
        callipers=bool(callipers < asked.callipers_share),
        text=bool(text < asked.text_share),
        steps=solver.steps,
        guidance=solver.guidance,
        guided_from=solver.interval[0],
        guided_to=solver.interval[1],
        adapter=generator.adapter,
        model=generator.digest,
        rejected=rejected,
    )


def outline(prior: Prior, seed: int, lesion_class: str, lesions: int) -> Drawn:
    """The mask of an image, empty without a lesion, and what is drawn with it."""
    random = np.random.default_rng([_OUTLINE, seed])
    if lesion_class == NO_LESION:
        zoom = float(random.uniform(*prior.tissue_zoom))
        return Drawn(np.zeros((prior.side, prior.side), np.uint8), zoom, NO_LESION, NO_LESION, 0)
    return prior.draw(lesion_class, lesions, random)


def mask_of(generator: Generator, row: Row) -> Grey:
    """The mask of a row, uint8 (s, s), 0 or 1."""
    return outline(generator.prior, row.seed, row.lesion_class, row.lesions).mask


def draw_images(generator: Generator, rows: Sequence[Row], solver: Solver) -> tuple[Grey, Grey]:
    """Images, uint8 (n, s, s), and masks, uint8 (n, s, s), 0 or 1, of up to `BATCH` rows."""
    if not 0 < len(rows) <= BATCH:
        raise ValueError(f"between 1 and {BATCH} rows are drawn at once, not {len(rows)}")
    filled = [*rows, *[rows[0]] * (BATCH - len(rows))]
    masks = np.stack([mask_of(generator, row) for row in filled])
    pictures = solved(generator, _request(filled, masks), [row.seed for row in filled], solver)
    marked = [_with_marks(picture, row) for picture, row in zip(pictures, rows, strict=False)]
    return np.stack(marked), masks[: len(rows)]


def solved(generator: Generator, request: Request, seeds: Sequence[int], solver: Solver) -> Grey:
    """Pictures, uint8 (n, s, s), of a request with one seed each; nothing is painted on them."""
    request = request.to(generator.device)
    channels = generator.flow.unet.config.out_channels
    noise = [_noise(seed, request.mask.shape[-1], channels) for seed in seeds]
    start, *texture = (torch.cat(parts).to(generator.device) for parts in zip(*noise, strict=True))
    with torch.no_grad():
        latent = solve(generator.flow, start, request, solver)
        autoencoder = generator.autoencoder
        latent = latent * autoencoder.latent_scale + autoencoder.latent_mean
        grey = autoencoder.decoder(latent, request.mask, texture)
    pictures: Grey = (grey[:, 0].clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
    return pictures


def _request(rows: Sequence[Row], masks: Grey) -> Request:
    conditions = [Condition(row.lesion_class, row.device, row.birads, row.histology) for row in rows]
    side = masks.shape[-1]
    return Request(
        torch.from_numpy(masks).float().unsqueeze(1),
        torch.zeros(len(rows), 1, side // SCALE, side // SCALE),
        torch.tensor([condition.indices() for condition in conditions]),
        torch.tensor([row.zoom for row in rows]),
        torch.ones(len(rows), 3),
    )


def _noise(seed: int, side: int, channels: int) -> list[torch.Tensor]:
    """The start of the flow and the decoder's noise of one image, drawn on the CPU."""
    stream = torch.Generator().manual_seed(seed)
    sides = noise_sides(side)
    start = torch.randn(1, channels, sides[0], sides[0], generator=stream)
    return [start, *(torch.randn(1, 1, s, s, generator=stream) for s in sides)]


def _with_marks(picture: Grey, row: Row) -> Grey:
    if not (row.callipers or row.text):
        return picture
    rows, columns = picture.shape
    random = np.random.default_rng([_MARKS, row.seed])
    painted = paint_marks(rows, columns, random, callipers=row.callipers, text=row.text)
    return np.maximum(picture, painted)
