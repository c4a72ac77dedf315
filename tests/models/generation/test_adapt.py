"""Few-shot adaptation: examples by patient, an adapter that learns and fits one base only."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

pytestmark = pytest.mark.train
torch = pytest.importorskip("torch")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from safetensors import safe_open  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402
from typer.testing import CliRunner  # noqa: E402

from models.data.busbra import read_busbra  # noqa: E402
from models.data.record import DataError  # noqa: E402
from models.generation.adapt import AdaptSettings, adapt  # noqa: E402
from models.generation.adapter import (  # noqa: E402
    ADAPTER,
    AdapterSettings,
    add_adapter,
    merge_adapter,
    save_adapter,
    with_adapter,
)
from models.generation.cli import app  # noqa: E402
from models.generation.conditions import DEVICES  # noqa: E402
from models.generation.draw import Asked, draw_images, draw_row  # noqa: E402
from models.generation.few import draw_few, of_kind  # noqa: E402
from models.generation.flow import FlowNet, Solver  # noqa: E402
from models.generation.frames import prepare  # noqa: E402
from models.generation.product import WEIGHTS, load_generator  # noqa: E402
from models.generation.redraw import redraw  # noqa: E402
from models.generation.repository import Shard, fill, read_rows  # noqa: E402
from tests.models.generation.small_stage import FLOW  # noqa: E402
from tests.models.generation.test_generation_training import request  # noqa: E402

CPU = torch.device("cpu")
DEVICE = "GE Logiq 7"
SOLVER = Solver(steps=2)


def tiny(seed: int = 0) -> FlowNet:
    torch.manual_seed(seed)
    return FlowNet(FLOW).eval()


def short(steps: int = 3, epochs: int = 2, **more) -> AdaptSettings:
    """An adaptation of seconds."""
    usual = AdaptSettings()
    loop = replace(usual.flow.loop, epochs=epochs, batch_size=4)
    flow = replace(usual.flow, loop=loop, steps_per_epoch=steps)
    return replace(usual, flow=flow, adapter=AdapterSettings(rank=2, **more))


def velocity(network: FlowNet) -> torch.Tensor:
    torch.manual_seed(1)
    with torch.no_grad():
        return network(torch.randn(2, 4, 4, 4), torch.tensor([0.3, 0.7]), request(2))


@pytest.fixture(scope="module")
def few(made_data):
    return draw_few(of_kind(read_busbra(made_data), (1, 2, 3, 4), "aplio", None), 4, 1)


@pytest.fixture(scope="module")
def adapted(stage, few, tmp_path_factory):
    """A finished small adaptation."""
    out = tmp_path_factory.mktemp("adapted") / "run"
    patients = [record.patient_id for record in few.examples]
    frames = prepare(few.examples, out, 1)
    adapt(load_generator(stage / "product", CPU), frames, patients, out, short(device=DEVICE), {"k": 4})
    return out


def made_records(patients: list[tuple[int, bool]]) -> list[SimpleNamespace]:
    return [
        SimpleNamespace(image_id=f"{patient}-{view}", patient_id=str(patient), malignant=malignant)
        for patient, (views, malignant) in enumerate(patients)
        for view in range(views)
    ]


@given(
    st.lists(st.tuples(st.integers(1, 3), st.booleans()), min_size=1, max_size=20),
    st.integers(0, 5),
    st.data(),
)
@settings(max_examples=60, deadline=None)
def test_examples_and_judged_share_no_patient(patients, draw, data):
    records = made_records(patients)
    k = data.draw(st.integers(1, len(records)))
    few = draw_few(records, k, draw)
    taken, left = ({r.patient_id for r in part} for part in (few.examples, few.other))
    assert len(few.examples) == k
    assert not taken & left
    assert taken | left == {r.patient_id for r in records}
    assert draw_few(records[::-1], k, draw).examples == few.examples
    classes = [{r.malignant for r in few.examples if r.patient_id == p} for p in taken]
    have = [sum(malignant == wanted for _, malignant in patients) for wanted in (False, True)]
    drawn = [sum(c == {wanted} for c in classes) for wanted in (False, True)]
    assert abs(drawn[0] - drawn[1]) <= 1 or min(drawn) == min(have)


def test_more_examples_than_there_are_is_refused(made_data):
    records = read_busbra(made_data)
    with pytest.raises(DataError, match="give another --k"):
        draw_few(records, len(records) + 1, 1)
    with pytest.raises(DataError, match="no image of folds"):
        of_kind(records, (1,), "no such device", None)
    assert {r.fold for r in of_kind(records, (1, 2), None, None)} == {1, 2}


def test_a_new_adapter_changes_nothing_and_trains_little():
    network = tiny()
    before = velocity(network)
    add_adapter(network, AdapterSettings(rank=2))
    assert torch.equal(velocity(network), before)
    learning = sum(p.numel() for p in network.parameters() if p.requires_grad)
    assert 0 < learning < 0.4 * sum(p.numel() for p in network.parameters())
    adapted = {
        name.split(".parametrizations")[0] for name, p in network.named_parameters() if p.requires_grad
    }
    assert any("attentions.0.to_q" in name for name in adapted)
    assert any("resnets.0.conv2" in name for name in adapted)
    assert not any("fields" in name or "autoencoder" in name for name in adapted)


def test_merged_it_says_what_it_said():
    network = add_adapter(tiny(), AdapterSettings(rank=2, device=DEVICE))
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    said = velocity(network)
    assert not torch.allclose(said, velocity(tiny()))
    merged = merge_adapter(network)
    assert torch.allclose(velocity(merged), said, atol=1e-5)
    assert {k: v.shape for k, v in merged.state_dict().items()} == {
        k: v.shape for k, v in tiny().state_dict().items()
    }


def test_only_the_device_asked_for_gets_another_embedding():
    network = tiny()
    table = network.fields[1].weight.detach().clone()
    add_adapter(network, AdapterSettings(rank=2, device=DEVICE))
    changed = network.fields[1].weight.detach()
    row = DEVICES.index(DEVICE)
    assert torch.equal(changed[row], table[0])
    keep = [i for i in range(len(DEVICES)) if i != row]
    assert torch.equal(changed[keep], table[keep])
    with pytest.raises(DataError, match="not known to the generator"):
        add_adapter(tiny(), AdapterSettings(device="Esaote"))


def test_the_adapter_is_small_and_the_base_is_untouched(adapted, stage, few):
    path = adapted / ADAPTER
    assert path.stat().st_size < 0.5 * (stage / "product" / WEIGHTS).stat().st_size
    generator = load_generator(stage / "product", CPU)
    base = copy.deepcopy(generator.flow.state_dict())
    with_it = with_adapter(generator, path)
    after = with_it.flow.state_dict()
    assert any(not torch.equal(base[key], after[key]) for key in base)
    untouched = [
        key for key in base if not any(part in key for part in ("attentions", "resnets", "fields.1"))
    ]
    assert untouched
    assert all(torch.equal(base[key], after[key]) for key in untouched)
    assert with_it.facts["adapter"]["k"] == 4
    with safe_open(path, "pt") as file:
        said = json.dumps(file.metadata())
    assert '\\"k\\": 4' in said, "what it says of its examples is in there"
    for record in few.examples:
        assert record.patient_id not in said
        assert record.image_id not in said


def test_a_killed_adaptation_ends_with_the_same_file(adapted, stage, few, tmp_path):
    patients = [record.patient_id for record in few.examples]
    frames = prepare(few.examples, tmp_path, 1)

    def run(out, settings):
        adapt(load_generator(stage / "product", CPU), frames, patients, out, settings, {"k": 4})

    import models.generation.adapt as module

    real, calls = module.flow_loss, []

    def dying(*arguments, **more):
        calls.append(1)
        if len(calls) == 5:  # in the second epoch
            raise KeyboardInterrupt
        return real(*arguments, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "flow_loss", dying)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "again", short(device=DEVICE))
    assert not (tmp_path / "again" / ADAPTER).exists()
    run(tmp_path / "again", short(device=DEVICE))
    assert load_file(tmp_path / "again" / ADAPTER).keys() == load_file(adapted / ADAPTER).keys()
    assert (tmp_path / "again" / ADAPTER).read_bytes() == (adapted / ADAPTER).read_bytes()


def test_it_learns_the_examples(stage, few, tmp_path):
    patients = [record.patient_id for record in few.examples]
    frames = prepare(few.examples, tmp_path, 1)
    steps = short(steps=10, epochs=12, device=DEVICE)
    adapt(load_generator(stage / "product", CPU), frames, patients, tmp_path / "run", steps, {})
    losses = [row["loss"] for row in json.loads((tmp_path / "run" / "history.json").read_text())]
    assert np.mean(losses[-3:]) < np.mean(losses[:3])


def test_another_base_damaged_files_and_an_adapted_base_are_refused(adapted, stage, tmp_path, few):
    path = adapted / ADAPTER
    generator = load_generator(stage / "product", CPU)
    with pytest.raises(DataError, match=r"was made for the generator .*, not for 0000"):
        with_adapter(replace(generator, digest="0" * 64), path)
    with pytest.raises(DataError, match="cannot be read"):
        with_adapter(generator, tmp_path / "missing.safetensors")
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(DataError, match="cannot be read"):
        with_adapter(generator, cut)
    with pytest.raises(DataError, match="is no adapter"):
        with_adapter(generator, stage / "product" / WEIGHTS)
    with safe_open(path, "pt") as file:
        header = dict(file.metadata())
    fewer = dict(list(load_file(path).items())[1:])
    save_file(fewer, cut, header)
    with pytest.raises(DataError, match="does not hold what its header says"):
        with_adapter(generator, cut)
    twice = with_adapter(load_generator(stage / "product", CPU), path)
    with pytest.raises(DataError, match="adapted already"):
        adapt(twice, None, [], tmp_path / "x", short(), {})


def test_rows_name_the_adapter_and_come_back_with_it_alone(adapted, stage, tmp_path):
    base = load_generator(stage / "product", CPU)
    generator = with_adapter(load_generator(stage / "product", CPU), adapted / ADAPTER)
    asked = Asked(0.0, devices=(DEVICE,), callipers_share=0, text_share=0)
    fill(generator, tmp_path, asked, SOLVER, 5, Shard(0, 2))
    rows = read_rows(tmp_path)
    assert {row.adapter for row in rows} == {generator.adapter}
    assert len(generator.adapter) == 64
    assert {row.model for row in rows} == {base.digest}
    picture = redraw(generator, rows[0]).image
    with pytest.raises(DataError, match=r"drawn with adapter .*, not with no adapter"):
        redraw(base, rows[0])
    plain = draw_images(base, [draw_row(base, asked, SOLVER, 5, 0)], SOLVER)[0][0]
    assert not np.array_equal(plain, picture)


def test_all_weights_learn_as_the_comparison(stage, few, tmp_path):
    patients = [record.patient_id for record in few.examples]
    frames = prepare(few.examples, tmp_path, 1)
    made = adapt(
        load_generator(stage / "product", CPU),
        frames,
        patients,
        tmp_path / "full",
        short().of_full(),
        {"k": 4},
    )
    base, tuned = load_generator(stage / "product", CPU), load_generator(made.parent, CPU)
    assert tuned.facts["fine_tuned"]["base"] == base.digest
    pairs = zip(base.flow.parameters(), tuned.flow.parameters(), strict=True)
    assert sum(not torch.equal(one, other) for one, other in pairs) > 20
    kept = zip(base.autoencoder.parameters(), tuned.autoencoder.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in kept)


def test_the_verbs_adapt_and_draw(stage, made_data, tmp_path, monkeypatch):
    import models.generation.adapt as module

    monkeypatch.setattr(module, "_FLOW", short().flow)
    monkeypatch.setattr(module, "AdaptSettings", lambda: short())
    run = ["adapt", "--base", stage / "product", "--data", made_data, "--device", "Aplio", "--k", 4]
    result = CliRunner().invoke(app, [*map(str, run), "--rank", "2", "--out", str(tmp_path / "run")])
    assert result.exit_code == 0, result.output
    assert "Examples: 4 images" in result.output
    sample = ["sample", "--model", stage / "product", "--adapter", tmp_path / "run" / ADAPTER, "--count", 2]
    drawn = CliRunner().invoke(app, [*map(str, sample), "--steps", "1", "--out", str(tmp_path / "drawn")])
    assert drawn.exit_code == 0, drawn.output
    assert all(row.adapter for row in read_rows(tmp_path / "drawn"))


def test_what_is_saved_is_what_was_learned(tmp_path):
    settings_ = AdapterSettings(rank=2, device=DEVICE)
    network = add_adapter(tiny(), settings_)
    digest = save_adapter(tmp_path / "a.safetensors", network, settings_, "b" * 64, {})
    assert len(digest) == 64
    names = set(load_file(tmp_path / "a.safetensors"))
    assert "fields.1.row" in names
    assert all(name.endswith((".up", ".down", ".row")) for name in names)
