"""The readers of the public sets, on made layouts and on the real ones."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter, defaultdict
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from models.data.breast import PICTURES, read_breast
from models.data.busbra import DEVELOPMENT_FOLDS, read_busbra
from models.data.record import DataError, data_hash
from tests.models.made_sets import make_breast, make_busbra


@pytest.fixture
def busbra(tmp_path):
    return make_busbra(tmp_path / "busbra")


@pytest.fixture
def breast(tmp_path):
    return make_breast(tmp_path / "breast")


def test_busbra_is_read_as_published(busbra):
    records = read_busbra(busbra)
    assert [record.image_id for record in records] == sorted(record.image_id for record in records)
    first = records[0]
    assert (first.image_id, first.patient_id, first.fold, first.malignant) == (
        "bus_0001-l",
        "busbra-0001",
        2,
        False,
    )
    assert (first.device, first.verification, first.mm_per_pixel) == ("TOSHIBA Aplio", "biopsy", None)
    assert {record.device for record in records} == {"LOGIQ 7", "TOSHIBA Aplio", "U-Systems"}
    assert len({record.patient_id for record in records}) == 30
    assert first.grey().shape == first.mask().shape == (96, 128)
    assert first.grey().dtype == np.uint8
    assert first.grey()[first.mask()].mean() < first.grey()[~first.mask()].mean()


def test_breast_is_read_as_published(breast):
    records = read_breast(breast)
    assert [record.image_id for record in records] == ["case002", "case010", "case045"]
    assert [record.malignant for record in records] == [True, False, False]
    assert records[0].mm_per_pixel == pytest.approx(0.072)
    assert records[2].mask_path is None
    assert not records[2].mask().any()
    assert records[0].mask().any()
    assert {record.fold for record in records} == {None}


@pytest.mark.parametrize(
    "name", ["bus_data.csv", "5-fold-cv.csv", "Images/bus_0002-s.png", "Masks/mask_0003-r.png"]
)
def test_a_missing_file_of_busbra_is_named(busbra, name):
    (busbra / name).unlink()
    with pytest.raises(DataError, match=name.rpartition("/")[2]):
        read_busbra(busbra)


@pytest.mark.parametrize(
    "name", ["BrEaST-clinical.csv", f"{PICTURES}/case010.png", f"{PICTURES}/case002_tumor.png"]
)
def test_a_missing_file_of_breast_is_named(breast, name):
    (breast / name).unlink()
    with pytest.raises(DataError, match=name.rpartition("/")[2]):
        read_breast(breast)


def test_tables_that_do_not_fit_each_other_are_refused(busbra):
    table = busbra / "5-fold-cv.csv"
    lines = table.read_text(encoding="utf-8-sig").splitlines()
    table.write_text("\n".join(line for line in lines if "bus_0004" not in line), encoding="utf-8")
    with pytest.raises(DataError, match="lacks bus_0004-s"):
        read_busbra(busbra)


def test_a_mask_of_another_size_is_refused(busbra):
    record = read_busbra(busbra)[0]
    Image.fromarray(np.zeros((10, 10), bool)).save(record.mask_path)
    with pytest.raises(DataError, match="download both again"):
        record.mask()


def test_the_hash_names_content_and_not_place(busbra, tmp_path):
    records = read_busbra(busbra)
    elsewhere = read_busbra(make_busbra(tmp_path / "elsewhere"))
    assert data_hash(records) == data_hash(elsewhere) == data_hash(records[::-1])
    assert data_hash(records[1:]) != data_hash(records)
    assert data_hash([replace(records[0], malignant=True), *records[1:]]) != data_hash(records)
    Image.fromarray(np.zeros((96, 128), np.uint8)).save(records[3].image_path)
    assert data_hash(records) != data_hash(elsewhere)


@pytest.mark.slow
def test_the_real_sets_have_their_published_numbers(shared_data, tmp_path):
    for name in ("busbra", "breast"):
        subprocess.run(
            [sys.executable, shared_data / "unpack", name, tmp_path / name], check=True, timeout=500
        )
    busbra = read_busbra(tmp_path / "busbra")
    truth = {record.patient_id: record.malignant for record in busbra}
    assert (len(busbra), len(truth), sum(truth.values())) == (1875, 1064, 342)
    folds = defaultdict(set)
    for record in busbra:
        folds[record.patient_id].add(record.fold)
    assert {len(found) for found in folds.values()} == {1}
    assert sum(found <= set(DEVELOPMENT_FOLDS) for found in folds.values()) == 852
    breast = read_breast(tmp_path / "breast")
    assert len(breast) == 256
    assert Counter(record.malignant for record in breast) == {False: 158, True: 98}
    assert sum(record.mask_path is None for record in breast) == 4
    for record in (*busbra[::200], *breast[::40]):
        assert record.mask().any() == (record.mask_path is not None)
