"""The stopping point: how long a flow may learn before its loss tells whom it learned from.

Promises: judged on the patients set aside in training alone, at the same times and noise in every epoch; the
rule is fixed (docs/protocol-generator.md). Losses are written, and the areas that the rule needs; intervals
are for whoever judges the files. Kept epoch by epoch: a killed run goes on.

The rule, epoch by epoch from the first: go on while the area of (low) loss, members against patients set
aside, lies below 0.55 and the loss of those set aside is not above its least so far by more than 1%. The
last epoch before the first that fails is the stopping point; there is none where the first one fails.

Files: stop.json, stop.parquet (a loss for each epoch and patient), product/ (the generator as it was then).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from sklearn.metrics import roc_auc_score

from models.data.prediction import write_rows
from models.data.record import DataError
from models.data.whole import write_whole
from models.generation.flow import FlowNet
from models.generation.product import (
    WEIGHTS,
    Generator,
    encoder_digest,
    load_generator,
    read_flow,
    save_with_flow,
)
from models.generation.study.membership import Trials, lesion_frames, losses_at, trials_of
from models.generation.study.privacy import Half
from models.generation.train import SNAPSHOTS
from models.training.run import begin_run, cached

FILE: Final = "stop.json"
ROWS: Final = "stop.parquet"
BOUND: Final = 0.55
RISE: Final = 0.01  # of the loss of patients set aside, over its least so far
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Epoch:
    """What the rule sees of a snapshot: area of membership, and mean loss of the patients set aside."""

    epochs: int
    membership: float
    aside_loss: float


def choose(judged: Iterable[Epoch]) -> Epoch | None:
    """The stopping point by the rule; None where the first epoch fails."""
    chosen, least = None, float("inf")
    for one in sorted(judged, key=lambda epoch: epoch.epochs):
        least = min(least, one.aside_loss)
        if one.membership >= BOUND or one.aside_loss > least * (1 + RISE):
            break
        chosen = one
    return chosen


def snapshots_of(runs: Sequence[Path]) -> dict[int, Path]:
    """Files of flows by epochs: of each run's snapshots and product; a folder may be a product itself."""
    found: dict[int, Path] = {}
    for run in runs:
        products = (path for path in (run / WEIGHTS, run / "product" / WEIGHTS) if path.exists())
        for path in (*sorted((run / SNAPSHOTS).glob("*.safetensors")), *products):
            _, facts = read_flow(path)
            found.setdefault(int(facts["epochs"]), path)
    return dict(sorted(found.items()))


def stop(
    runs: Sequence[Path],
    learned: Half,
    out: Path,
    device: torch.device,
    draws: int,
    seed: int,
    say: Callable[[str], None] = lambda line: None,
) -> Epoch | None:
    """Judge every snapshot of `runs`, stages of one generator in order, into `out`; the stopping point.

    Raises
    ------
    RunDiffersError
        `out` holds the judgement of another generator.
    DataError
        A snapshot is of another autoencoder, or nobody was set aside.
    """
    last = _product(runs[-1])
    generator = load_generator(last, device)
    encoder = encoder_digest(generator.autoencoder.state_dict())
    files = snapshots_of(runs)
    patients, views = _views(learned)
    member = np.array([patient not in learned.aside for patient in patients])
    if member.all() or not member.any():
        raise DataError("no patient was set aside in training: nothing tells when to stop")
    about = {
        "encoder": encoder,
        "data_hash": generator.facts["data_hash"],
        "draws": draws,
        "seed": seed,
        "members": int(member.sum()),
        "aside": int((~member).sum()),
        "rule": {"membership_below": BOUND, "aside_loss_at_most_above_least": RISE},
    }
    begin_run(out, about, "run.json")
    trials = trials_of(generator, learned.frames, views, seed, draws)
    losses, judged = {}, []
    for epochs, path in files.items():
        values = _losses(generator, path, encoder, trials, out / "losses" / f"{epochs:06d}.npz")
        one = Epoch(epochs, float(roc_auc_score(member, -values)), float(values[~member].mean()))
        losses[epochs] = values
        judged.append(one)
        say(f"{epochs} epochs: membership {one.membership:.3f}, loss of those set aside {one.aside_loss:.4f}")
    chosen = choose(judged)
    _write_rows(learned, patients, member, losses, out)
    if chosen is not None:
        _write_product(last, generator, files[chosen.epochs], chosen.epochs, out / "product")
    content = {
        **about,
        "epochs": [asdict(one) for one in judged],
        "chosen": chosen and chosen.epochs,
        "model": generator.digest,
    }
    write_whole(out / FILE, json.dumps(content, indent=1) + "\n")
    return chosen


def forget(runs: Sequence[Path]) -> None:
    """Delete the snapshots of runs, once the choice is final."""
    for run in runs:
        shutil.rmtree(run / SNAPSHOTS, ignore_errors=True)


def _product(run: Path) -> Path:
    return run if (run / WEIGHTS).exists() else run / "product"


def _views(learned: Half) -> tuple[list[str], list[npt.NDArray[np.int64]]]:
    """Patients, and the frames of their lesions, picture by picture in turn."""
    source, lesion = learned.frames.source, lesion_frames(learned.frames)
    own: dict[str, list[tuple[int, int, int]]] = {}
    seen: dict[int, int] = {}
    for place in np.flatnonzero(lesion):
        picture = int(source[place])
        seen[picture] = seen.get(picture, -1) + 1
        own.setdefault(learned.records[picture].patient_id, []).append((seen[picture], picture, int(place)))
    patients = sorted(own)
    return patients, [np.array([place for *_, place in sorted(own[p])], np.int64) for p in patients]


def _losses(generator: Generator, path: Path, encoder: str, trials: Trials, cache: Path) -> Floats:
    """The loss of each patient under the flow of a file."""

    def make() -> Mapping[str, Floats]:
        weights, facts = read_flow(path)
        own = facts["encoder"] if "encoder" in facts else _encoder_of(path)
        if own != encoder:
            raise DataError(
                f"{path} speaks of other latents than the last stage's product: "
                "give the runs of one generator, in order"
            )
        flow = FlowNet(generator.flow.settings)
        flow.load_state_dict({key: value.float() for key, value in weights.items()})
        flow.to(generator.device, memory_format=torch.channels_last).eval().requires_grad_(False)
        return {"loss": losses_at(flow, trials)}

    return cached(cache, make)["loss"]


def _encoder_of(product: Path) -> str:
    generator = load_generator(product.parent, torch.device("cpu"))
    return encoder_digest(generator.autoencoder.state_dict())


def _write_rows(
    learned: Half,
    patients: Sequence[str],
    member: npt.NDArray[np.bool_],
    losses: Mapping[int, Floats],
    out: Path,
) -> None:
    truth = {record.patient_id: record.malignant for record in learned.records}
    write_rows(
        [
            {
                "epochs": epochs,
                "part": "member" if member[i] else "aside",
                "patient_id": patient,
                "malignant": truth[patient],
                "loss": float(values[i]),
            }
            for epochs, values in losses.items()
            for i, patient in enumerate(patients)
        ],
        out / ROWS,
    )


def _write_product(last: Path, generator: Generator, path: Path, epochs: int, out: Path) -> None:
    """The last product with the flow as it was, its history up to then and its record."""
    weights, _ = read_flow(path)
    seen = generator.facts["images_seen"] * epochs // generator.facts["epochs"]
    save_with_flow(last, weights, {"epochs": epochs, "images_seen": seen}, out)
    history = json.loads((last / "history.json").read_text(encoding="utf-8"))
    kept = [row for row in history if row["epoch"] <= epochs]
    write_whole(out / "history.json", json.dumps(kept, indent=1) + "\n")
    shutil.copyfile(last / "run.json", out / "run.json")
