"""What the generator learns from: frames, lines of text that it must not learn, pools by patient."""

from __future__ import annotations

import numpy as np
import pytest

pytestmark = pytest.mark.train
torch = pytest.importorskip("torch")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from PIL import Image, ImageDraw, ImageFont  # noqa: E402

from models.data.record import DataError  # noqa: E402
from models.generation.conditions import (  # noqa: E402
    LESION_FIELDS,
    NO_LESION,
    UNKNOWN,
    VOCABULARIES,
    Condition,
    tissue_condition,
)
from models.generation.frames import lesion_box, prepare, tissue_boxes  # noqa: E402
from models.generation.pool import TISSUE_SHARE, pools, validation_patients  # noqa: E402
from models.generation.text import find_text  # noqa: E402
from tests.models.generation.small_stage import learning_records  # noqa: E402


@given(
    rows=st.integers(60, 200),
    columns=st.integers(60, 200),
    where=st.tuples(*[st.floats(0, 1)] * 4),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=150, deadline=None)
def test_a_lesion_frame_holds_the_lesion_and_a_tissue_frame_none_of_it(rows, columns, where, seed):
    mask = np.zeros((rows, columns), bool)
    y, x = int(where[0] * (rows - 9)), int(where[1] * (columns - 9))
    height, width = 8 + int(where[2] * (rows - y - 8)), 8 + int(where[3] * (columns - x - 8))
    mask[y : y + height, x : x + width] = True
    random = np.random.default_rng(seed)
    left, top, side = lesion_box(mask, random)
    assert left <= x
    assert top <= y
    assert x + width <= left + side
    assert y + height <= top + side
    for left, top, side in tissue_boxes(mask, 2, random):
        assert left >= 0
        assert top >= 0
        assert left + side <= columns
        assert top + side <= rows
        assert not mask[top : top + side, left : left + side].any()


@pytest.mark.parametrize("size", [14, 18])
def test_a_line_of_touching_letters_is_found_and_speckle_is_not(size):
    random = np.random.default_rng(1)
    speckle = np.clip(70 + 25 * random.standard_normal((300, 280)), 0, 255).astype(np.uint8)
    assert not find_text(speckle).any()
    picture = Image.fromarray(speckle)
    ImageDraw.Draw(picture).text((60, 200), "MAMA ESQUERDA", fill=230, font=ImageFont.load_default(size=size))
    found = find_text(np.asarray(picture))
    written = np.asarray(picture) != speckle
    assert found[written].mean() > 0.8
    assert found[:180].sum() == 0


def test_a_bright_fascia_is_no_text():
    picture = np.full((300, 280), 60, np.uint8)
    columns = np.arange(280)
    for offset in range(4):
        picture[(120 + 6 * np.sin(columns / 40)).astype(int) + offset, columns] = 220
    assert not find_text(picture).any()


def test_unknown_and_no_lesion_are_two_entries_of_every_word_list_that_describes_a_lesion():
    for name in LESION_FIELDS:
        words = VOCABULARIES[name]
        assert words.index(UNKNOWN) == 0
        assert words.index(NO_LESION) == 1
    assert tissue_condition("GE Logiq 5").indices() == (1, 1, 1, 1)
    assert Condition().indices() == (0, 0, 0, 0)
    with pytest.raises(DataError, match="device 'a scanner' is not known"):
        Condition(device="a scanner").indices()


def test_no_patient_is_on_both_sides_and_tissue_has_its_share(made_data, tmp_path):
    records = learning_records(made_data)
    frames = prepare(records, tmp_path, 3)
    training, validation = pools(records, frames, 3)
    aside = validation_patients(records, 3)
    assert 0 < len(aside) < len({record.patient_id for record in records})
    held = [records[i].patient_id in aside for i in frames.source]
    assert len(validation) == sum(held)
    assert len(training) == len(held) - sum(held)
    assert training.weight.sum() == pytest.approx(1)
    tissue = training.labels[:, 0] == 1
    assert training.weight[tissue].sum() == pytest.approx(TISSUE_SHARE)
    assert not training.mask[tissue].any()
    assert training.mask[~tissue].flatten(1).any(1).all()
    again = prepare(records, tmp_path / "elsewhere", 3)
    assert np.array_equal(frames.grey, again.grey)
