"""Few-shot adaptation: an adapter, or for comparison all weights of the flow, from k examples.

Promises: the autoencoder and the prior of masks stay as they are; the number of steps is fixed beforehand
and no other picture has a say in it; a killed run goes on where its last epoch ended. What is kept of
the examples outside the run's own folder is what the weights have learned.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from models.data.record import DataError
from models.generation.adapter import ADAPTER, AdapterSettings, add_adapter, save_adapter
from models.generation.flow import FlowNet
from models.generation.frames import FrameSet
from models.generation.pool import whole_pool
from models.generation.product import WEIGHTS, Generator, save_product
from models.generation.train_flow import FlowTraining, draw_batch, flow_loss, latents_of
from models.training.device import has_bfloat16
from models.training.loop import Batch, LoopSettings, Task, fit
from models.training.run import begin_run

_LOW_RANK_RATE, _FULL_RATE = 1e-3, 1e-4  # of learning
_LOOP = LoopSettings(
    epochs=30,
    batch_size=16,
    learning_rate=_LOW_RANK_RATE,
    weight_decay=0.0,
    ema_decay=0.98,
    warmup_share=0.1,
    seed=1,
)
_ADAPTER, _FLOW = AdapterSettings(), FlowTraining(loop=_LOOP, steps_per_epoch=10)


@dataclass(frozen=True)
class AdaptSettings:
    """Settings of an adaptation. `full`: all weights of the flow learn, instead of an adapter."""

    adapter: AdapterSettings = _ADAPTER
    flow: FlowTraining = _FLOW
    full: bool = False

    def of_full(self) -> AdaptSettings:
        """The same with all weights learning, at a rate fit for that."""
        loop = replace(self.flow.loop, learning_rate=_FULL_RATE)
        return replace(self, flow=replace(self.flow, loop=loop), full=True)


def adapt(
    base: Generator,
    frames: FrameSet,
    patients: Sequence[str],
    out: Path,
    settings: AdaptSettings,
    facts: Mapping[str, Any],
) -> Path:
    """Adapt `base` to frames, into `out`; `base` is used up. Returns the file made.

    Parameters
    ----------
    patients : whose each picture of `frames` is; each of them weighs the same
    facts : what the file and run.json say of the examples

    Raises
    ------
    RunDiffersError
        `out` holds another run.
    DataError
        `base` is adapted already.
    """
    if base.adapter:
        raise DataError("the generator is adapted already: adapt its base")
    begin_run(out, {"settings": asdict(settings), "base": base.digest, **facts})
    pool = whole_pool(patients, frames)
    latents = latents_of(base.autoencoder, pool, base.device)  # never on disk: they are pictures
    low = replace(settings.flow, low_precision=has_bfloat16(base.device))
    torch.manual_seed(low.loop.seed)
    base.flow.requires_grad_(True)
    network = base.flow if settings.full else add_adapter(base.flow, settings.adapter)

    def batches(epoch: int) -> Iterator[Batch]:
        for _ in range(low.steps_per_epoch):
            yield tuple(part.to(base.device) for part in draw_batch(pool, latents, low))

    def loss(net: nn.Module, batch: Batch) -> torch.Tensor:
        return flow_loss(net, batch, low_precision=low.low_precision)

    fitted = fit(Task(network, batches, loss, low.steps_per_epoch), low.loop, out, f"adapt {out.name}")
    about = {**facts, "images_seen": low.loop.epochs * low.steps_per_epoch * low.loop.batch_size}
    if not settings.full:
        save_adapter(out / ADAPTER, fitted.network, settings.adapter, base.digest, about)
        return out / ADAPTER
    assert isinstance(fitted.network, FlowNet)
    autoencoder = (base.autoencoder, base.autoencoder.settings)
    whole = {**base.facts, "fine_tuned": {**about, "base": base.digest}}
    save_product(out, autoencoder, (fitted.network, fitted.network.settings), base.prior, whole)
    return out / WEIGHTS
