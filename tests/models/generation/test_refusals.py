"""What the verbs that draw are given wrongly: told in one line, before anything is written or drawn."""

from __future__ import annotations

import resource
import shutil
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytestmark = pytest.mark.train
torch = pytest.importorskip("torch")

from typer.testing import CliRunner  # noqa: E402

from models.data.record import DataError  # noqa: E402
from models.data.whole import whole_file  # noqa: E402
from models.generation.cli import app  # noqa: E402
from models.generation.draw import Asked, asked_devices  # noqa: E402
from models.generation.flow import Solver  # noqa: E402
from models.generation.nearest import load_index  # noqa: E402
from models.generation.repository import Shard, fill, picture_paths, read_rows  # noqa: E402
from models.generation.study.cli import generator_facts  # noqa: E402
from models.generation.train import kids_of  # noqa: E402

SOLVER = Solver(steps=1)
ASKED = Asked(0.2, 0.5, 0.0, ("GE Logiq 5",), 0, 0)
SEEN = {"devices": {"GE Logiq 5": 40, "GE Logiq 7": 30, "unknown": 2}}


def one_line(result, *words):
    """An error on purpose: its status, its words, no traceback."""
    assert isinstance(result.exception, SystemExit), result.exception
    said = " ".join(result.output.split())
    assert all(word in said for word in words), said
    return result.exit_code


def sample(stage, out, *more):
    given = ["sample", "--model", stage / "product", "--out", out, "--steps", "1", *more]
    return CliRunner().invoke(app, list(map(str, given)))


@pytest.fixture(scope="module")
def drawn(generator, tmp_path_factory):
    out = tmp_path_factory.mktemp("drawn") / "repository"
    fill(generator, out, ASKED, SOLVER, 5, Shard(0, 4))
    return out


@pytest.fixture
def copied(drawn, tmp_path):
    shutil.copytree(drawn, tmp_path / "copied")
    return tmp_path / "copied"


@pytest.mark.parametrize("name", ["Toshiba Aplio 300", "Logiq", "", "GE Logiq 5,GE Logik 7"])
def test_a_device_that_was_never_seen_is_refused(name):
    if not name:
        assert asked_devices(SEEN, name) == ("GE Logiq 5", "GE Logiq 7")
        return
    with pytest.raises(DataError, match="it draws unknown, GE Logiq 5, GE Logiq 7"):
        asked_devices(SEEN, name)


@pytest.mark.parametrize("kind", ["adapter", "fine_tuned"])
def test_an_adaptation_teaches_its_device_and_is_drawn_with_it(kind):
    taught = {**SEEN, kind: {"devices": ["Toshiba Aplio 300"]}}
    assert asked_devices(taught, None) == ("Toshiba Aplio 300",)
    assert asked_devices(taught, " Toshiba Aplio 300 , GE Logiq 7") == ("Toshiba Aplio 300", "GE Logiq 7")
    assert asked_devices({**SEEN, kind: {"devices": ["unknown"]}}, None) == ("unknown",)
    several = {**SEEN, kind: {"devices": ["GE Logiq 7", "Toshiba Aplio 300"]}}
    assert asked_devices(several, None) == ("GE Logiq 5", "GE Logiq 7")


def test_a_name_mistyped_locks_no_folder(stage, tmp_path):
    mistyped = sample(stage, tmp_path / "out", "--devices", "GE Logik 5", "--count", 1)
    assert one_line(mistyped, "no device 'GE Logik 5'") == 10
    assert not (tmp_path / "out").exists()
    drawn = sample(stage, tmp_path / "out", "--devices", " U-Systems ", "--count", 1)
    assert drawn.exit_code == 0, drawn.output
    assert [row.device for row in read_rows(tmp_path / "out")] == ["U-Systems"]


def test_a_share_with_nothing_in_it_says_so(stage, tmp_path):
    done = sample(stage, tmp_path / "out", "--count", 1, "--shard", "1/2")
    assert done.exit_code == 0
    assert "share 1/2 of 1 images is empty" in " ".join(done.output.split())
    assert "-1" not in done.output


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"steps": 10**6},
        {"steps": 1.5},
        {"guidance": float("nan")},
        {"guidance": float("inf")},
        {"guidance": 1000.0},
        {"interval": (0.5, float("nan"))},
    ],
)
def test_no_solver_is_made_of_other_numbers(wrong):
    with pytest.raises(DataError):
        replace(SOLVER, **wrong)


def test_guidance_and_shares_that_are_no_numbers_draw_nothing(stage, tmp_path):
    for option in ("--guidance", "--no-lesion", "--malignant"):
        assert sample(stage, tmp_path / "out", option, "nan").exit_code in (2, 10)
    assert not (tmp_path / "out").exists()


def index_file(path, **changed):
    arrays = {"vectors": np.zeros((2, 64 * 64), np.float16), "lesion": 0.1, "tissue": 0.1}
    np.savez(path, **{**arrays, **changed})
    return path


@pytest.mark.parametrize(
    "changed",
    [
        {"vectors": np.zeros((2, 100), np.float16)},
        {"vectors": np.zeros((0, 64 * 64), np.float16)},
        {"vectors": np.zeros(64 * 64, np.float16)},
        {"vectors": np.full((2, 64 * 64), np.nan, np.float16)},
        {"lesion": np.nan},
        {"lesion": np.array([0.1, 0.2])},
        {"vectors": np.array(["text"])},
    ],
)
def test_an_index_of_another_form_is_refused_when_it_is_read(tmp_path, changed):
    load_index(index_file(tmp_path / "good.npz"))
    with pytest.raises(DataError, match="busmap generator index"):
        load_index(index_file(tmp_path / "index.npz", **changed))


@pytest.mark.parametrize("left", [0, 10, 2000, -30])
def test_a_cut_index_is_one_line(stage, tmp_path, left):
    whole = index_file(tmp_path / "whole.npz").read_bytes()
    (tmp_path / "index.npz").write_bytes(whole[:left])
    refused = sample(stage, tmp_path / "out", "--keep-away", tmp_path / "index.npz")
    assert one_line(refused, "is no index of training pictures", "busmap generator index") == 10


@pytest.mark.parametrize("damage", ["cut", "empty", "foreign"])
def test_a_damaged_table_is_one_line(copied, tmp_path, damage):
    (part,) = (copied / "table").glob("*.parquet")
    if damage == "foreign":
        pq.write_table(pa.table({"index": [0], "other": ["x"]}), part)
    else:
        part.write_bytes(part.read_bytes()[: 500 if damage == "cut" else 0])
    result = CliRunner().invoke(app, ["dicom", str(copied), str(tmp_path / "out")])
    assert one_line(result, part.name, "busmap generator sample again") == 10
    assert not (tmp_path / "out").exists()
    part.unlink()
    assert CliRunner().invoke(app, ["dicom", str(copied), str(tmp_path / "out")]).exit_code == 10


@pytest.mark.parametrize("damage", ["gone", "cut", "empty"])
def test_a_picture_that_cannot_be_read_is_named_and_leaves_no_half_set(copied, tmp_path, damage):
    path = picture_paths(copied, 2)[0]
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: 200 if damage == "cut" else 0])
    out = tmp_path / "out"
    for _ in range(2):
        result = CliRunner().invoke(app, ["dicom", str(copied), str(out)])
        assert one_line(result, path.name, "draws it anew") == 10
        assert not out.exists()
        assert not [*tmp_path.glob(".out*")]


@pytest.mark.parametrize("damage", ["gone", "changed"])
def test_sampling_draws_anew_what_is_gone_or_changed(copied, drawn, generator, damage):
    image, mask = picture_paths(copied, 2)
    if damage == "gone":
        image.unlink()
    else:
        mask.write_bytes(b"other")
    assert fill(generator, copied, ASKED, SOLVER, 5, Shard(0, 4)) is not None
    for own, first in zip(picture_paths(copied, 2), picture_paths(drawn, 2), strict=True):
        assert own.read_bytes() == first.read_bytes()
    assert read_rows(copied) == read_rows(drawn)
    assert fill(generator, copied, ASKED, SOLVER, 5, Shard(0, 4)) is None


def test_a_full_disk_is_told_with_its_file_and_leaves_nothing(tmp_path):
    path = tmp_path / "000001.png"

    def fill_the_disk():
        with whole_file(path) as unfinished:
            unfinished.write_bytes(b"half")
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left") as failed:
        fill_the_disk()
    assert failed.value.filename == str(path)
    assert not [*tmp_path.iterdir()]


def test_a_file_that_cannot_be_written_to_its_end_is_named(stage, tmp_path):
    """The system refuses after 4,000 bytes, as a full disk would: masks are written, pictures are not."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, limits[1]))
    try:
        result = sample(stage, tmp_path / "out", "--count", 1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert one_line(result, "images/000/000000.png", "File too large") == 4
    assert not [*(tmp_path / "out").rglob("*.partial")]


def test_a_fine_tuned_generator_judges_nobody(generator, tmp_path, monkeypatch):
    import models.generation.product as product

    tuned = replace(generator, facts={**generator.facts, "fine_tuned": {"base": "0" * 64}})
    monkeypatch.setattr(product, "load_generator", lambda *given: tuned)
    with pytest.raises(DataError, match=r"is fine-tuned .*give the generator that a training stage made"):
        generator_facts(tmp_path)


@pytest.mark.parametrize("content", ["", "[", "{}", "[1]", '[{"epoch": 1}]'])
def test_damaged_kids_are_told(tmp_path, content):
    path = tmp_path / "kid.json"
    assert kids_of(path) == []
    path.write_text('[{"epoch": 1, "kid": 0.5}]')
    assert kids_of(path) == [{"epoch": 1, "kid": 0.5}]
    path.write_text(content)
    with pytest.raises(DataError, match="damaged: delete it"):
        kids_of(path)
