"""The study of few-shot adaptation on tiny nets: arms, who is judged, kills."""

from __future__ import annotations

from dataclasses import replace

import pyarrow.parquet as pq
import pytest

pytestmark = pytest.mark.train
torch = pytest.importorskip("torch")

from models.data.busbra import read_busbra  # noqa: E402
from models.data.record import DataError  # noqa: E402
from models.diagnosis import train as diagnosis  # noqa: E402
from models.generation.adapter import DEVICE_FIELD, from_unknown  # noqa: E402
from models.generation.conditions import DEVICES, UNKNOWN  # noqa: E402
from models.generation.few import draw_few, of_kind  # noqa: E402
from models.generation.flow import Solver  # noqa: E402
from models.generation.frames import prepare  # noqa: E402
from models.generation.product import load_generator  # noqa: E402
from models.generation.study import few_shot  # noqa: E402
from models.generation.study.few_shot import (  # noqa: E402
    KINDS,
    FewSettings,
    FewStudy,
    Kind,
    Piece,
    asked_for,
    device_asked,
    pieces,
    run_few_shot,
)
from tests.models.generation.test_adapt import short  # noqa: E402

FOLDS = (1, 2, 3, 4)
KIND = Kind("aplio", "Aplio", None, (4,), 1, full_at=4, unseen=True)
SETTINGS = FewSettings(
    short(steps=1, epochs=1), replace(diagnosis.DEFAULTS, epochs=1, batch_size=4), 4, 2, Solver(1), 1
)


@pytest.fixture
def study(made_data, stage, tmp_path):
    records = read_busbra(made_data)
    return FewStudy(stage / "product", records, FOLDS, tmp_path, torch.device("cpu"), SETTINGS, (KIND,))


def test_the_arms_are_those_of_the_protocol():
    names = [piece.name for piece in pieces(KINDS)]
    assert len(names) == len(set(names))
    of = {kind.name: [piece for piece in pieces(KINDS) if piece.kind is kind] for kind in KINDS}
    adapted = {name: sorted((p.k, p.draw) for p in own if p.arm == "adapter") for name, own in of.items()}
    draws = [piece.draw for piece in pieces(KINDS)]
    assert draws == sorted(draws), "cut short, it has said something of every kind"
    assert adapted["toshiba"] == [(k, draw) for k in (8, 16, 32) for draw in (1, 2, 3)]
    assert adapted["special"] == [(8, 1), (16, 1)]
    assert adapted["u-systems"] == [(8, 1)]
    assert [p.name for own in of.values() for p in own if p.arm == "full"] == ["toshiba-full-k16-draw1"]
    assert all(own[0].arm == "none" for own in of.values())


def test_a_killed_study_goes_on_and_judges_other_patients(study, monkeypatch):
    real, calls = few_shot.diagnosis.fit_on, []

    def dying(*arguments):
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(few_shot.diagnosis, "fit_on", dying)
    with pytest.raises(KeyboardInterrupt):
        run_few_shot(study)
    assert {row["arm"] for row in pq.read_table(study.out / "few.parquet").to_pylist()} == {"none", "adapter"}
    assert run_few_shot(study)
    assert len(calls) == 5  # the piece that died, and the one after it
    rows = pq.read_table(study.out / "few.parquet").to_pylist()
    assert {row["arm"] for row in rows} == {"none", "adapter", "real", "full"}
    few = draw_few(of_kind(study.records, FOLDS, "Aplio", None), 4, 1)
    judged = {record.image_id for record in few.other}
    for arm in ("adapter", "real", "full"):
        assert {row["image_id"] for row in rows if row["arm"] == arm} == judged
    assert all((row["loss"] is None) == (row["arm"] == "real") for row in rows)
    assert not run_few_shot(replace(study, out=study.out / "none"), minutes=0)


def test_a_base_is_not_asked_for_a_device_it_never_saw(study):
    records = [replace(record, device="Toshiba Aplio 300") for record in study.records]
    asked = {arm: device_asked(Piece(KIND, arm), records) for arm in ("none", "adapter", "full")}
    assert asked == {"none": UNKNOWN, "adapter": "Toshiba Aplio 300", "full": "Toshiba Aplio 300"}
    seen = replace(KIND, unseen=False)
    assert device_asked(Piece(seen, "none"), records) == "Toshiba Aplio 300"
    frames = prepare(records[:2], study.out, 1)
    labels = asked_for(frames, UNKNOWN).labels
    assert set(frames.labels[:, DEVICE_FIELD]) == {DEVICES.index("Toshiba Aplio 300")}
    assert set(labels[:, DEVICE_FIELD]) == {DEVICES.index(UNKNOWN)}
    others = [i for i in range(labels.shape[1]) if i != DEVICE_FIELD]
    assert (labels[:, others] == frames.labels[:, others]).all()


def test_a_device_never_seen_starts_from_unknown(stage):
    flow = load_generator(stage / "product", torch.device("cpu")).flow
    table = flow.fields[DEVICE_FIELD].weight
    before, row = table.clone(), DEVICES.index("Toshiba Aplio 300")
    assert not torch.equal(table[row], table[0])
    from_unknown(flow, "Toshiba Aplio 300")
    assert torch.equal(table[row], before[DEVICES.index(UNKNOWN)])
    assert torch.equal(table[:row], before[:row])


def test_a_base_that_has_seen_the_device_is_refused(study, monkeypatch):
    monkeypatch.setattr(few_shot, "_device", lambda piece, records: "GE Logiq 5")
    load = few_shot.load_generator

    def seen(*arguments):
        generator = load(*arguments)
        return replace(generator, facts={**generator.facts, "devices": {"GE Logiq 5": 20}})

    monkeypatch.setattr(few_shot, "load_generator", seen)
    with pytest.raises(DataError, match="train one with --exclude-device"):
        run_few_shot(study)
