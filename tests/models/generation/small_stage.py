"""The shipping generator made small enough for tests: the same code, narrow networks, few epochs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from models.data.busbra import read_busbra
from models.data.record import Record
from models.generation.autoencoder import AutoencoderSettings
from models.generation.flow import FlowSettings
from models.generation.train import WHOLE_RUN, Settings, Stage, chosen_records, train
from models.generation.train_autoencoder import AutoencoderTraining
from models.generation.train_flow import FlowTraining

AUTOENCODER = AutoencoderSettings((8, 8, 16), 4, 8)
FLOW = FlowSettings(4, (16, 16), 1, 0.1, 8, 8)
FACTS = {"folds": [1, 2], "excluded_device": None}


def small_settings(flow_epochs: int = 3) -> Settings:
    """A stage of seconds."""
    autoencoder, flow = AutoencoderTraining(), FlowTraining()
    return Settings(
        seed=3,
        autoencoder=replace(
            autoencoder,
            steps_per_epoch=4,
            network=AUTOENCODER,
            loop=replace(autoencoder.loop, epochs=2, batch_size=8),
        ),
        flow=replace(
            flow,
            steps_per_epoch=3,
            network=FLOW,
            loop=replace(flow.loop, epochs=flow_epochs, batch_size=4),
        ),
        product_every=2,
        shown=4,
        judged=4,
    )


def learning_records(data: Path) -> list[Record]:
    """Folds 1 and 2 of a made set."""
    return chosen_records(read_busbra(data), (1, 2), None)


def run_stage(
    data: Path,
    out: Path,
    flow_epochs: int = 3,
    stage: Stage = WHOLE_RUN,
    dropout: float = 0.1,
) -> bool:
    """Train a small stage; whether the flow began."""
    settings = small_settings(flow_epochs)
    settings = replace(settings, flow=replace(settings.flow, network=replace(FLOW, dropout=dropout)))
    return train(learning_records(data), out, FACTS, settings, stage)
