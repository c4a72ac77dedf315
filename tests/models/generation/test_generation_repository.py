"""Generated repositories: rows that reproduce their images, shards, kills, independence of what is drawn."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import astuple, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytestmark = pytest.mark.train
torch = pytest.importorskip("torch")

from PIL import Image  # noqa: E402
from scipy.stats import chi2_contingency  # noqa: E402
from typer.testing import CliRunner  # noqa: E402

from models.data.record import DataError  # noqa: E402
from models.generation import repository  # noqa: E402
from models.generation.cli import app  # noqa: E402
from models.generation.draw import Asked, draw_images, draw_row  # noqa: E402
from models.generation.flow import Solver  # noqa: E402
from models.generation.redraw import TOLERANCE, difference, redraw, redraw_all  # noqa: E402
from models.generation.repository import Shard, fill, parts, read_rows, shard_of  # noqa: E402
from models.training.run import RunDiffersError  # noqa: E402

SOLVER = Solver(steps=2)
ASKED = Asked(0.2, 0.5, 0.3, ("GE Logiq 5", "GE Logiq 7", "Toshiba Aplio 300"), 0.5, 0.5)
COUNT = 20


def content(folder: Path, ending: str = ".png") -> dict[str, bytes]:
    paths = sorted(folder.rglob(f"*{ending}"))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def same(one: Path, other: Path) -> bool:
    """Whether two repositories hold the same, byte for byte: pictures, table, facts."""
    return all(content(one, ending) == content(other, ending) for ending in (".png", ".parquet", ".json"))


@pytest.fixture(scope="module")
def whole(generator, tmp_path_factory):
    """20 images, in parts of 8."""
    out = tmp_path_factory.mktemp("repository")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(repository, "PART_ROWS", 8)
        assert fill(generator, out, ASKED, SOLVER, 5, Shard(0, COUNT)) > 0
    return out


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr(repository, "PART_ROWS", 8)


def test_the_table_says_what_lies_on_disk(whole, generator):
    rows = pq.read_table(whole / "table").to_pylist()
    assert sorted(row["index"] for row in rows) == list(range(COUNT))
    for row in rows:
        image, mask = whole / row["image"], whole / row["mask"]
        assert hashlib.sha256(image.read_bytes()).hexdigest() == row["image_sha256"]
        assert hashlib.sha256(mask.read_bytes()).hexdigest() == row["mask_sha256"]
        outline = np.asarray(Image.open(mask))
        assert outline.shape == np.asarray(Image.open(image)).shape == (128, 128)
        assert set(np.unique(outline)) <= {0, 255}
        assert (row["lesion_class"] == "no lesion") == (not outline.any()) == (row["lesions"] == 0)
        assert (row["birads"] == "no lesion") == (row["lesions"] == 0)
        assert (row["model"], row["steps"], row["adapter"]) == (generator.digest, 2, "")
    assert len({row["image_sha256"] for row in rows}) == COUNT
    assert {row["lesion_class"] for row in rows} == {"no lesion", "benign", "malignant"}


def test_an_image_comes_back_from_its_row_alone(whole, generator):
    rows = read_rows(whole)
    for index in (0, 7, 13, 19):
        again = redraw(generator, rows[index])
        picture, mask = again.image, again.mask
        assert again.exact
        name = f"{index // 8:03d}/{index:06d}.png"
        assert np.array_equal(picture, np.asarray(Image.open(whole / "images" / name)))
        assert np.array_equal(mask * 255, np.asarray(Image.open(whole / "masks" / name)))


def test_whether_it_is_the_very_image_is_told(whole, generator):
    row = read_rows(whole)[2]
    other, unknown = (replace(row, image_sha256=digest) for digest in ("0" * 64, ""))
    assert [again.exact for again in redraw_all(generator, [row, other, unknown])] == [True, False, None]


def test_company_changes_no_image(whole, generator):
    rows = read_rows(whole)
    one = draw_images(generator, rows[:8], SOLVER)[0]
    turned = draw_images(generator, [rows[3], rows[15], rows[0]], SOLVER)[0]
    assert np.array_equal(one[3], turned[0])
    assert np.array_equal(one[0], turned[2])


def test_another_model_s_row_is_refused(whole, generator):
    row = replace(read_rows(whole)[0], model="0" * 64)
    with pytest.raises(DataError, match="drawn from model 0000"):
        redraw(generator, row)
    with pytest.raises(DataError, match="holds no table"):
        read_rows(whole / "images")


@pytest.mark.usefixtures("small_parts")
def test_shards_make_the_whole(whole, generator, tmp_path):
    for part in (3, 1, 2):
        fill(generator, tmp_path, ASKED, SOLVER, 5, shard_of(COUNT, part, 3))
    assert same(tmp_path, whole)
    assert [astuple(row) for row in read_rows(tmp_path)] == [astuple(row) for row in read_rows(whole)]


@pytest.mark.usefixtures("small_parts")
def test_a_repository_that_grew_and_was_sharded_anew_is_one_drawn_at_once(whole, generator, tmp_path):
    fill(generator, tmp_path, ASKED, SOLVER, 5, Shard(0, 5))
    for part in (2, 1):
        fill(generator, tmp_path, ASKED, SOLVER, 5, shard_of(13, part, 2))
        indices = [row.index for row in read_rows(tmp_path)]
        assert indices == sorted(set(indices)), "each index once, at any moment"
    for part in (1, 3, 2):
        fill(generator, tmp_path, ASKED, SOLVER, 5, shard_of(COUNT, part, 3))
    assert same(tmp_path, whole)
    assert fill(generator, tmp_path, ASKED, SOLVER, 5, Shard(0, 13)) is None
    assert same(tmp_path, whole), "a smaller count takes nothing away"


@pytest.mark.usefixtures("small_parts")
def test_shards_drawn_apart_and_laid_together_are_the_whole(whole, generator, tmp_path):
    """Two machines, one of which drew more than its share; then a part that a kill left behind."""
    together = tmp_path / "together"
    for name, shard in (("a", Shard(0, 13)), ("b", Shard(10, COUNT))):
        fill(generator, tmp_path / name, ASKED, SOLVER, 5, shard)
        shutil.copytree(tmp_path / name, together, dirs_exist_ok=True)
    assert len(list(together.glob("table/*.parquet"))) == 4
    assert read_rows(together) == read_rows(whole)
    assert fill(generator, together, ASKED, SOLVER, 5, Shard(0, COUNT)) is None
    assert same(together, whole)
    shutil.copy(tmp_path / "a" / "table" / "000000008-000000013.parquet", together / "table")
    assert read_rows(together) == read_rows(whole)
    fill(generator, together, ASKED, SOLVER, 5, Shard(0, COUNT))
    assert same(together, whole)


@pytest.mark.usefixtures("small_parts")
def test_rows_that_stand_twice_must_be_the_same(whole, generator, tmp_path):
    out = tmp_path / "drawn"
    shutil.copytree(whole, out)
    table = pq.read_table(out / "table" / "000000008-000000016.parquet")
    rows = table.slice(0, 2).to_pylist()
    rows[1]["image_sha256"] = "0" * 64
    pq.write_table(pa.Table.from_pylist(rows, table.schema), out / "table" / "000000008-000000010.parquet")
    with pytest.raises(DataError, match="image 9 stands twice and differently"):
        read_rows(out)
    with pytest.raises(DataError, match="image 9 stands twice and differently"):
        fill(generator, out, ASKED, SOLVER, 5, Shard(0, COUNT))
    shutil.rmtree(out / "table")  # what the message says
    fill(generator, out, ASKED, SOLVER, 5, Shard(0, COUNT))
    assert same(out, whole)


@pytest.mark.usefixtures("small_parts")
def test_a_repository_of_an_older_busmap_is_read_and_gone_on_with(whole, generator, tmp_path):
    """Its table lacks the interval of guidance, its facts name a method that is gone; parts of two shards."""
    fill(generator, tmp_path, ASKED, SOLVER, 5, Shard(0, 14))
    for path, cuts in (("000000000-000000008", [(0, 8)]), ("000000008-000000014", [(8, 3), (11, 3)])):
        file = tmp_path / "table" / f"{path}.parquet"
        older = pq.read_table(file).drop_columns(["guided_from", "guided_to"])
        file.unlink()
        for first, count in cuts:
            own = older.slice(first - int(path[:9]), count)
            pq.write_table(own, tmp_path / "table" / f"{first:09d}-{first + count:09d}.parquet")
    facts = json.loads((tmp_path / "repository.json").read_text())
    facts["solver"]["heun"] = False
    begun = json.dumps(facts, indent=1, sort_keys=True)
    (tmp_path / "repository.json").write_text(begun)
    assert read_rows(tmp_path) == read_rows(whole)[:14]
    assert redraw(generator, read_rows(tmp_path)[12]).exact
    fill(generator, tmp_path, ASKED, SOLVER, 5, Shard(0, COUNT))
    assert read_rows(tmp_path) == read_rows(whole)
    assert content(tmp_path) == content(whole)
    assert (tmp_path / "repository.json").read_text() == begun, "a study that is pinned to it stays so"
    with pytest.raises(RunDiffersError):
        fill(generator, tmp_path, ASKED, Solver(3), 5, Shard(0, COUNT))


def test_the_interval_of_guidance_comes_back_from_the_row(generator, tmp_path):
    narrow = Solver(4, 3.0, (0.4, 0.6))
    fill(generator, tmp_path, ASKED, narrow, 5, Shard(0, 2))
    row = read_rows(tmp_path)[1]
    assert row.solver == narrow
    assert redraw(generator, row).exact
    assert redraw(generator, replace(row, guided_from=0.0, guided_to=1.0)).exact is False


@pytest.fixture
def two_threads():
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def full_size():
    """A generator of full size."""
    from models.generation.product import load_generator

    return load_generator(Path(__file__).parents[3] / "models/generation/runs/study-12", torch.device("cpu"))


@pytest.mark.usefixtures("two_threads")
def test_another_number_of_threads_stays_within_the_tolerance(full_size):
    asked = replace(ASKED, callipers_share=0.0, text_share=0.0)
    rows = [draw_row(full_size, asked, Solver(6), 5, index) for index in range(8)]
    two = list(redraw_all(full_size, rows))
    torch.set_num_threads(1)
    one = list(redraw_all(full_size, rows))
    for first, second in zip(one, two, strict=True):
        assert difference(first.image, second.image).within(TOLERANCE)
        assert np.array_equal(first.mask, second.mask)
    assert not difference(one[0].image, one[1].image).within(TOLERANCE), "the tolerance tells images apart"


def test_the_verb_redraw_says_what_came_back(whole, stage, tmp_path):
    def call(folder: Path):
        given = ["redraw", str(folder), "--model", str(stage / "product"), "--count", "10"]
        return CliRunner().invoke(app, given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(repository, "PART_ROWS", 8)
        done = call(whole)
        assert done.exit_code == 0, done.output
        assert "10 images, 10 of them byte for byte" in done.output
        changed = tmp_path / "changed"
        shutil.copytree(whole, changed)
        path = changed / "images" / "000" / "000003.png"
        Image.fromarray(255 - np.asarray(Image.open(path))).save(path)
        refused = call(changed)
    assert refused.exit_code == 1
    assert "grey levels: 1" in refused.output


@pytest.mark.usefixtures("small_parts")
def test_a_killed_run_goes_on(whole, generator, tmp_path, monkeypatch):
    calls = []

    def dying(*arguments):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return draw_images(*arguments)

    monkeypatch.setattr(repository, "draw_images", dying)
    with pytest.raises(KeyboardInterrupt):
        fill(generator, tmp_path, ASKED, SOLVER, 5, Shard(0, COUNT))
    done = len(content(tmp_path)) // 2
    assert 0 < done < COUNT
    (tmp_path / "images" / "000" / "000003.png").unlink()  # as if it had died between mask and picture
    (tmp_path / "table" / "000000000-000000008.parquet").unlink()
    fill(generator, tmp_path, ASKED, SOLVER, 5, Shard(0, COUNT))
    assert content(tmp_path) == content(whole)
    assert fill(generator, tmp_path, ASKED, SOLVER, 5, Shard(0, COUNT)) is None
    with pytest.raises(RunDiffersError):
        fill(generator, tmp_path, ASKED, SOLVER, 6, Shard(0, COUNT))


def test_shards_cut_every_index_once():
    for count in (1, 7, 1000, 2503):
        for whole_count in (1, 2, 5):
            shards = [shard_of(count, part, whole_count) for part in range(1, whole_count + 1)]
            indices = [i for shard in shards for first, stop in parts(shard) for i in range(first, stop)]
            assert indices == list(range(count))


def test_class_device_callipers_and_text_are_drawn_independently(generator):
    rows = [draw_row(generator, ASKED, SOLVER, 1, index) for index in range(1500)]
    drawn = {
        "class": [row.lesion_class for row in rows],
        "device": [row.device for row in rows],
        "callipers": [row.callipers for row in rows],
        "text": [row.text for row in rows],
    }
    names = list(drawn)
    for i, one in enumerate(names):
        for other in names[i + 1 :]:
            first, second = (np.unique(drawn[name], return_inverse=True)[1] for name in (one, other))
            table = np.zeros((first.max() + 1, second.max() + 1), int)
            np.add.at(table, (first, second), 1)
            assert chi2_contingency(table).pvalue > 0.001, (one, other)
    assert np.mean(drawn["text"]) == pytest.approx(0.5, abs=0.05)
    assert np.mean([row.lesion_class == "no lesion" for row in rows]) == pytest.approx(0.2, abs=0.04)
    assert {row.lesions for row in rows} == {0, 1, 2}


def test_marks_change_pixels_only_where_they_are_asked_for(generator):
    row = next(
        row
        for row in (draw_row(generator, ASKED, SOLVER, 1, index) for index in range(50))
        if row.callipers and row.text
    )
    marked = draw_images(generator, [row], SOLVER)[0][0]
    plain = draw_images(generator, [replace(row, callipers=False, text=False)], SOLVER)[0][0]
    changed = marked != plain
    assert 0 < changed.mean() < 0.2
    assert (marked >= plain).all()


def test_the_verb_draws_and_says_how_fast(stage, tmp_path):
    arguments = [
        "sample",
        "--model",
        stage / "product",
        "--out",
        tmp_path / "drawn",
        "--count",
        5,
        "--steps",
        1,
    ]
    result = CliRunner().invoke(app, [*map(str, arguments), "--shard", "2/2"])
    assert result.exit_code == 0, result.output
    assert "images 2 to 4" in result.output
    assert "images/s" in result.output
    assert [row.index for row in read_rows(tmp_path / "drawn")] == [2, 3, 4]
    missing = CliRunner().invoke(app, ["sample", "--model", str(tmp_path), "--out", str(tmp_path / "x")])
    assert missing.exit_code == 10
    assert "give the folder of a generator" in " ".join(missing.output.split())
