"""Training the autoencoder: anatomy by averaged pixels, texture by its statistics and a critic.

Promises: resumes after a kill; every draw comes from (seed, epoch). One optimizer serves both players:
the critic's weights take no gradient from the decoder's part of the loss. The networks are convolutional:
most epochs train on cuts of the frames, the last ones on a quarter as many whole frames.

Sources: variational autoencoder, Kingma & Welling 2013 (arXiv:1312.6114); hinge loss of the critic, Lim & Ye
2017 (arXiv:1705.02894); a critic beside the autoencoder, Esser et al. 2021 (arXiv:2012.09841).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from models.generation.autoencoder import SCALE, Autoencoder, AutoencoderSettings, Critic, draw_noise
from models.generation.frames import SIDE
from models.generation.kid import Embedder, kid
from models.generation.pictures import save_curves, save_grid
from models.generation.pool import Pool
from models.generation.texture import Features, TextureWeights, texture_loss
from models.training.device import autocast
from models.training.loop import UNLIMITED, Batch, Fitted, Limits, LoopSettings, Task, fit
from models.training.parallel import own_rows

_SHOWN = 24  # validation frames in the grid
_JUDGED = 256  # validation frames for KID


_LOOP = LoopSettings(
    epochs=12,
    batch_size=16,
    learning_rate=8e-4,
    weight_decay=0.0,
    ema_decay=0.995,
    warmup_share=0.05,
    seed=1,
    schedule="one-cycle",
)
_NETWORK = AutoencoderSettings()
_TEXTURE = TextureWeights()


@dataclass(frozen=True)
class AutoencoderTraining:
    """Settings of a run. The values are ours, no publication's.

    loop : epochs, batch, rate of learning, average, seed
    steps_per_epoch : batches an epoch
    cut_side : px, of the cuts of frames that most epochs train on; a multiple of 8
    whole_share : share of the epochs, the last ones, that train on whole frames, a quarter as many a batch
    network : shape of encoder and decoder
    texture : what anatomy, spread, style and content count
    critic : what the critic's opinion of a drawn picture counts beside `texture`
    divergence : what the latents' Kullback-Leibler divergence from a normal counts, nats a value
    low_precision : bfloat16 where the processor has it; set by the machine, no choice of a run
    """

    loop: LoopSettings = _LOOP
    steps_per_epoch: int = 80
    cut_side: int = 64
    whole_share: float = 0.15
    network: AutoencoderSettings = _NETWORK
    texture: TextureWeights = _TEXTURE
    critic: float = 0.1
    divergence: float = 1e-3
    low_precision: bool = False


class Players(nn.Module):
    """Autoencoder, critic and the loss of both."""

    def __init__(self, settings: AutoencoderTraining) -> None:
        super().__init__()
        self.settings = settings
        self.autoencoder = Autoencoder(settings.network)
        self.critic = Critic()

    def forward(self, features: Features, batch: Batch) -> torch.Tensor:
        """The mean loss of a batch: grey, mask, noise of the latent, four noises of the decoder."""
        grey, mask, latent_noise, *noise = batch
        with autocast(grey.device, low_precision=self.settings.low_precision):
            mean, log_variance = self.autoencoder.encoder(grey, mask)
            latent = mean + (0.5 * log_variance).exp() * latent_noise
            drawn = self.autoencoder.decoder(latent, mask, noise)
            rebuilt = texture_loss(features, drawn, grey, self.settings.texture)
            self.critic.requires_grad_(False)
            # The drawer's side of the hinge loss (Lim & Ye 2017, arXiv:1705.02894, section 3)
            convincing = -self.critic(drawn, mask).float().mean()
            self.critic.requires_grad_(True)
            real, fake = self.critic(grey, mask).float(), self.critic(drawn.detach(), mask).float()
        # The critic's side: nothing is left to learn of pictures beyond the margin of 1
        judged = F.relu(1 - real).mean() + F.relu(1 + fake).mean()
        mean, log_variance = mean.float(), log_variance.float()
        # From a normal, in closed form (Kingma & Welling 2013, arXiv:1312.6114, appendix B)
        divergence = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).mean()
        return rebuilt + self.settings.critic * convincing + judged + self.settings.divergence * divergence


def train_autoencoder(
    train: Pool,
    validation: Pool,
    out: Path,
    settings: AutoencoderTraining,
    device: torch.device,
    earlier: Autoencoder | None = None,
    limits: Limits = UNLIMITED,
) -> Autoencoder | None:
    """Train into `out`; the averaged autoencoder with its latent scale set, or None where the time is over.

    `earlier`: an autoencoder whose decoder learns on. Its encoder is held, so that latents stay what a flow
    has learned; the critic begins anew.
    """
    torch.manual_seed(settings.loop.seed)
    players, features = Players(settings).to(device), Features().to(device)
    if earlier is not None:
        players.autoencoder.load_state_dict(earlier.state_dict())
        players.autoencoder.encoder.requires_grad_(False)
    features = features.to(memory_format=torch.channels_last)
    embed = Embedder(device)
    count = settings.loop.batch_size

    def batches(epoch: int) -> Iterator[Batch]:
        whole = epoch >= settings.loop.epochs * (1 - settings.whole_share)
        side = SIDE if whole else settings.cut_side
        shown = count // 4 if whole else count  # for about the same cost
        for _ in range(settings.steps_per_epoch):
            yield tuple(_placed(own_rows(part), device) for part in _draw(train, shown, side, settings))

    def evaluate(network: nn.Module) -> dict[str, float]:
        assert isinstance(network, Players)
        real, drawn = _rebuilt(network.autoencoder, validation, device)
        return {"kid": kid(embed(real), embed(drawn)), "anatomy": _anatomy(real, drawn)}

    def after_epoch(fitted: Fitted) -> None:
        assert isinstance(fitted.network, Players)
        real, drawn = _rebuilt(fitted.network.autoencoder, validation, device, _SHOWN)
        save_grid(torch.stack([real, drawn], 1).flatten(0, 1), out / "grid.png", columns=12)
        save_curves(fitted.history, out / "curves.png")

    task = Task(
        players,
        batches,
        lambda network, batch: network(features, batch),
        settings.steps_per_epoch,
        evaluate,
    )
    fitted = fit(task, settings.loop, out, "autoencoder", limits=limits, after_epoch=after_epoch)
    if fitted.out_of_time:
        return None
    assert isinstance(fitted.network, Players)
    autoencoder = fitted.network.autoencoder
    if earlier is None:
        set_latent_scale(autoencoder, train, device)
    return autoencoder.requires_grad_(False)


def _draw(pool: Pool, count: int, side: int, settings: AutoencoderTraining) -> Batch:
    """Cuts of `side` px of drawn frames, mirrored at random, their masks and all noise."""
    index, flip = pool.draw(count), torch.rand(count) < 0.5
    corners = (torch.randint((SIDE - side) // SCALE + 1, (count, 2)) * SCALE).tolist()
    latent = torch.randn(count, settings.network.latent_channels, side // SCALE, side // SCALE)
    pictures = [
        torch.stack(
            [pool_part[i][:, y : y + side, x : x + side] for i, (y, x) in zip(index, corners, strict=True)]
        )
        for pool_part in (pool.grey, pool.mask)
    ]
    grey, mask = flipped(unit(pictures[0]), flip), flipped(pictures[1].float(), flip)
    return grey, mask, latent, *draw_noise(count, side, torch.device("cpu"))


def unit(picture: torch.Tensor) -> torch.Tensor:
    """uint8 in 0..255 -> float in 0..1."""
    return picture.float() / 255


def flipped(picture: torch.Tensor, flip: torch.Tensor) -> torch.Tensor:
    """Mirror left and right where `flip`, bool (n,)."""
    return torch.where(flip[:, None, None, None], picture.flip(3), picture)


def _placed(part: torch.Tensor, device: torch.device) -> torch.Tensor:
    return part.to(device).contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def _rebuilt(
    autoencoder: Autoencoder, pool: Pool, device: torch.device, most: int = _JUDGED
) -> tuple[torch.Tensor, torch.Tensor]:
    """Validation frames, evenly chosen, and what comes back of them, each (n, 1, s, s) in 0..1."""
    index = torch.linspace(0, len(pool) - 1, min(most, len(pool))).long()
    real, drawn = [], []
    generator = torch.Generator().manual_seed(0)
    for part in index.split(32):
        grey, mask = unit(pool.grey[part]).to(device), pool.mask[part].float().to(device)
        latent, _ = autoencoder.encoder(grey, mask)
        noise = draw_noise(len(part), SIDE, device, generator)
        drawn.append(autoencoder.decoder(latent, mask, noise).clamp(0, 1))
        real.append(grey)
    return torch.cat(real), torch.cat(drawn)


def _anatomy(real: torch.Tensor, drawn: torch.Tensor) -> float:
    return float(F.l1_loss(F.avg_pool2d(drawn, 4), F.avg_pool2d(real, 4)))


@torch.no_grad()
def set_latent_scale(autoencoder: Autoencoder, pool: Pool, device: torch.device) -> None:
    """Measure mean and spread of the latents over frames of `pool`, evenly chosen."""
    index = torch.linspace(0, len(pool) - 1, min(1024, len(pool))).long()
    latents = torch.cat(
        [
            autoencoder.encoder(unit(pool.grey[part]).to(device), pool.mask[part].float().to(device))[0]
            for part in index.split(64)
        ]
    )
    autoencoder.latent_mean.copy_(latents.mean((0, 2, 3), keepdim=True))
    autoencoder.latent_scale.copy_(latents.std((0, 2, 3), keepdim=True).clamp(min=1e-3))
