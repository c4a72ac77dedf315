"""The published training: its pictures, its course, and that it learns, is killed and goes on."""

from __future__ import annotations

import json
import math
from collections import Counter

import numpy as np
import pytest

pytestmark = pytest.mark.train
torch = pytest.importorskip("torch")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from models.data.busbra import read_busbra  # noqa: E402
from models.data.record import DataError  # noqa: E402
from models.generation.paper import data  # noqa: E402
from models.generation.paper import train as training  # noqa: E402
from models.generation.paper.data import BENIGN, MALIGNANT, Picture  # noqa: E402
from models.generation.paper.run import read_run  # noqa: E402
from models.generation.paper.sample import draw_asked, sample  # noqa: E402
from models.training.run import RunDiffersError  # noqa: E402
from tests.models.generation.small import SIDE, small_settings  # noqa: E402
from tests.models.made_sets import make_busbra  # noqa: E402

shares = st.floats(0, 1, width=32)


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    root = make_busbra(tmp_path_factory.mktemp("busbra"), patients=12, size=(40, 56))
    return [record for record in read_busbra(root) if record.fold != 5]


def marked(rows: int, columns: int, boxes: list[tuple[float, ...]]) -> Picture:
    """A black picture, white inside its boxes."""
    grey = torch.zeros(rows, columns, dtype=torch.uint8)
    for left, top, right, bottom in boxes:
        grey[int(top * rows) : int(bottom * rows), int(left * columns) : int(right * columns)] = 255
    return Picture(grey, torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4), torch.tensor([1, 1]))


@given(
    rows=st.integers(20, 90),
    columns=st.integers(20, 90),
    corners=st.lists(st.tuples(shares, shares, shares, shares), max_size=3),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=80, deadline=None)
def test_a_random_square_keeps_every_box_or_is_the_central_one(rows, columns, corners, seed):
    boxes = [(min(a, c), min(b, d), max(a, c), max(b, d)) for a, b, c, d in corners]
    picture = marked(rows, columns, boxes)
    square = data.random_square(picture, torch.Generator().manual_seed(seed))
    height, width = square.grey.shape
    assert height == width
    assert 0 < height <= min(rows, columns)
    assert ((square.boxes >= 0) & (square.boxes <= 1)).all()
    sizes = picture.boxes[:, 2:] - picture.boxes[:, :2]
    kept = (square.boxes[:, 2:] - square.boxes[:, :2]) * height
    lost = sizes * torch.tensor([columns, rows]) - kept  # in pixels: corners are cut to whole ones
    assert height == min(rows, columns) or (lost < 1.01).all()


@pytest.mark.parametrize("seed", range(6))
def test_boxes_follow_crop_and_flip(seed):
    picture = marked(100, 140, [(0.1, 0.2, 0.3, 0.5), (0.5, 0.3, 0.6, 0.7)])
    square, drawn = data.changed(picture, 64, torch.Generator().manual_seed(seed))
    assert square.shape == (3, 64, 64)
    assert torch.equal(square[0], square[2])
    inside, outside = square[0][drawn[0] > 0], square[0][drawn[0] == 0]
    assert inside.mean() > 0.8
    assert outside.mean() < -0.8


def test_flips_are_horizontal_and_as_frequent_as_not():
    picture = marked(40, 40, [(0.0, 0.0, 0.3, 1.0)])
    random = torch.Generator().manual_seed(0)
    drawn = [data.changed(picture, 32, random)[1] for _ in range(200)]
    left = sum(bool(one[0, 16, 0]) for one in drawn)
    assert 70 < left < 130
    assert all(bool(one[0, 16, 0]) != bool(one[0, 16, -1]) for one in drawn)


def test_every_part_of_a_mask_has_its_box():
    mask = np.zeros((20, 40), bool)
    mask[2:10, 4:12] = True
    mask[12:18, 20:40] = True
    mask[0, 39] = True  # a slip of the pen
    assert data.boxes_of(mask).tolist() == pytest.approx(
        np.array([[0.1, 0.1, 0.3, 0.5], [0.5, 0.6, 1.0, 0.9]])
    )
    assert data.boxes_of(np.zeros((4, 4), bool)).shape == (0, 4)
    drawn = data.draw_boxes(torch.from_numpy(data.boxes_of(mask)), 20)
    assert float(drawn.sum()) == 4 * 8 + 10 * 6


def test_a_picture_without_lesion_says_nothing_of_its_class(records):
    from dataclasses import replace

    devices = data.device_entries(records)
    empty = data.read_picture(replace(records[0], mask_path=None), devices)
    assert empty.labels.tolist() == [0, devices[records[0].device]]
    assert empty.boxes.shape == (0, 4)
    many = [replace(records[0], device=f"device {number}") for number in range(20)]
    with pytest.raises(DataError, match="20 devices"):
        data.device_entries(many)
    assert sorted(devices.values()) == [1, 2, 3]


def test_an_epoch_is_balanced_and_the_same_for_the_same_seed(records):
    chosen = small_settings(batch_size=2)
    pictures = [data.read_picture(record, data.device_entries(records)) for record in records]
    kinds = torch.stack([picture.labels[0] for picture in pictures])
    order = training.balanced_order(kinds, torch.Generator().manual_seed(2))
    counted = Counter(kinds[order].tolist())
    assert counted[BENIGN] == counted[MALIGNANT] == min(Counter(kinds.tolist()).values())
    assert len(set(order.tolist())) == len(order)
    first, again, next_one = (list(training.batches(pictures, chosen, epoch)) for epoch in (0, 0, 1))
    assert all(
        torch.equal(a, b) for x, y in zip(first, again, strict=True) for a, b in zip(x, y, strict=True)
    )
    assert not torch.equal(first[0][4], next_one[0][4])


def test_the_condition_is_left_out_of_one_batch_in_ten_and_then_of_all_its_parts(records):
    chosen = small_settings(batch_size=2)
    pictures = [data.read_picture(record, data.device_entries(records)) for record in records]
    told = [
        (bool(drawn.any()), bool(labels.any()), bool(labels.all()))
        for epoch in range(60)
        for _, drawn, labels, _, _ in training.batches(pictures, chosen, epoch)
    ]
    counted = Counter(told)
    assert set(counted) == {(True, True, True), (False, False, False)}
    share = counted[(False, False, False)] / len(told)
    assert abs(share - 0.1) < 3 * math.sqrt(0.09 / len(told))


def test_the_learning_rate_runs_as_released():
    factor = [training.rate_factor(epoch, 70, 7) for epoch in range(70)]
    assert factor[0] == 1
    assert factor[7] == factor[8] == 2.5
    assert factor[1] == pytest.approx(1 + 1.5 / 7)
    assert factor[43] == pytest.approx(2.5 / 2)
    assert factor[-1] == pytest.approx(0.04 * 2.5, rel=0.02)
    assert training.rate_factor(0, 3, 0) == 2.5
    parameter = torch.nn.Parameter(torch.zeros(1))
    holder = torch.nn.ParameterList([parameter])
    steering = training.warm_then_cosine(holder, training.DEFAULTS, 2)
    assert steering.clip_norm == 1.0
    rates = []
    for _ in range(140):
        rates.append(steering.schedule.get_last_lr()[0])
        steering.optimizer.step()
        steering.schedule.step()
    assert rates == pytest.approx([6.25e-6 * value for value in factor for _ in range(2)])
    assert max(rates) == pytest.approx(1.5625e-5)


def test_the_loss_is_the_sum_over_pixels_over_the_squared_batch_size():
    class Answers(torch.nn.Module):
        def forward(self, noisy, times, labels):
            from diffusers.models.unets.unet_2d import UNet2DOutput

            return UNet2DOutput(sample=torch.zeros(len(noisy), 3, SIDE, SIDE))

    size = 4
    noise = torch.randn(size, 3, SIDE, SIDE)
    batch = (noise * 0, noise[:, :1] * 0, torch.zeros(size, 2).long(), torch.zeros(size).long(), noise)
    whole = training.loss(Answers(), batch, size)
    assert float(whole) == pytest.approx(float(noise.pow(2).sum()) / size**2, rel=1e-5)
    parts = [
        training.loss(Answers(), tuple(values[part] for values in batch), size) for part in ([0, 1], [2, 3])
    ]
    assert float(sum(parts)) / 2 == pytest.approx(float(whole), rel=1e-5)


def test_a_run_learns_and_is_sampled_from(tmp_path, records):
    chosen = small_settings(epochs=12)
    fitted = training.train(records, tmp_path, chosen)
    losses = [row["loss"] for row in fitted.history]
    assert sum(losses[-3:]) < 0.8 * sum(losses[:3])
    run = read_run(tmp_path)
    assert run.side == SIDE
    assert len(run.devices) == 3
    kept, trained = run.network.state_dict(), fitted.network.state_dict()
    assert all(torch.equal(kept[key], trained[key]) for key in trained)
    asked = draw_asked(run, 40, seed=4)
    assert {one.kind for one in asked} == {BENIGN, MALIGNANT}
    assert {one.device for one in asked} == {1, 2, 3}
    pictures = sample(run.network, asked[:2], run.side, seed=4, evaluations=5)
    assert pictures.shape == (2, 3, SIDE, SIDE)
    assert torch.isfinite(pictures).all()
    assert float(pictures.std()) > 0.01
    with pytest.raises(RunDiffersError):
        training.train(records, tmp_path, small_settings(epochs=3))


def test_a_run_that_was_stopped_ends_as_one_that_was_not(tmp_path, records, monkeypatch):
    chosen = small_settings(epochs=3)
    whole = training.train(records, tmp_path / "whole", chosen)
    real = training.batches

    def stopping(pictures, settings, epoch):
        for number, batch in enumerate(real(pictures, settings, epoch)):
            if (epoch, number) == (2, 1):
                raise KeyboardInterrupt
            yield batch

    monkeypatch.setattr(training, "batches", stopping)
    with pytest.raises(KeyboardInterrupt):
        training.train(records, tmp_path / "cut", chosen)
    with pytest.raises(DataError, match=r"weights\.safetensors is missing|boxes\.npz is missing"):
        read_run(tmp_path / "cut")
    assert len(json.loads((tmp_path / "cut" / "history.json").read_text())) == 2
    monkeypatch.undo()
    resumed = training.train(records, tmp_path / "cut", chosen)
    assert resumed.history == whole.history
    kept, expected = resumed.network.state_dict(), whole.network.state_dict()
    assert all(torch.equal(kept[key], expected[key]) for key in expected)
