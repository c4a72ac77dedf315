"""What every test of the generator runs under."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Tiny networks gain nothing from more, and the same sums come out on every machine."""
    torch = pytest.importorskip("torch")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def numbers_near_zero():
    """Training flushes them in the whole process; Hypothesis refuses to work like that."""
    torch = pytest.importorskip("torch")
    torch.set_flush_denormal(False)


@pytest.fixture(scope="session")
def made_data(tmp_path_factory):
    """BUS-BRA's layout, small pictures, 20 patients."""
    from tests.models.made_sets import make_busbra

    return make_busbra(tmp_path_factory.mktemp("made") / "data", patients=20)


@pytest.fixture(scope="session")
def stage(made_data, tmp_path_factory):
    """A finished small stage of the shipping generator; its product is in `stage / "product"`."""
    from tests.models.generation.small_stage import run_stage

    out = tmp_path_factory.mktemp("stage") / "run"
    run_stage(made_data, out)
    return out


@pytest.fixture(scope="session")
def generator(stage):
    """The small stage's generator."""
    torch = pytest.importorskip("torch")
    from models.generation.product import load_generator

    return load_generator(stage / "product", torch.device("cpu"))


@pytest.fixture(scope="session")
def learned(made_data, generator, tmp_path_factory):
    """The made half, of whose patients three in eight are set aside."""
    from models.data.busbra import read_busbra
    from models.generation.study.privacy import half_of

    records = [record for record in read_busbra(made_data) if record.fold in (1, 2)]
    aside = sorted({record.patient_id for record in records})[:3]
    facts = {**generator.facts, "validation_patients": aside}
    return half_of(records, facts, tmp_path_factory.mktemp("frames"))
