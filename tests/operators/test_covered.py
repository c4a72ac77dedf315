"""What is burnt into a picture never reaches a capture: names over the anatomy, and beside it."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont
from pydicom import dcmread

from app.demo.studies import make_study, read_samples
from models.runtime.marks import Marks
from operators.compose_report import compose_report
from operators.findings import Lesion
from operators.frame_pixels import stream_pixels
from operators.report import wording
from operators.report.capture import draw_lesion
from tests.operators.conftest import AT
from tests.programs import program

NAME = "SCHMIDT ANNA 1961"
NOTHING = np.zeros((2, 2), bool)
FONTS = [(None, 15), (None, 24), ("bitmap", 1), ("bitmap", 2)]
LETTERS = [*((font, 230) for font in FONTS), ((None, 24), 80), ((None, 24), 0)]


def write(picture: Image.Image, place: tuple[int, int], words: str, font: tuple, shade: int) -> None:
    kind, size = font
    if kind is None:
        ImageDraw.Draw(picture).text(place, words, fill=shade, font=ImageFont.load_default(size=size))
        return
    letters = ImageFont.load_default_imagefont()
    small = Image.new("L", (8 * len(words), 14))
    ImageDraw.Draw(small).text((0, 0), words, fill=255, font=letters)
    picture.paste(
        shade, place, small.resize((small.width * size, small.height * size), Image.Resampling.NEAREST)
    )


def named_study(
    folder: Path, font: tuple = (None, 15), *, stated: bool = True, shade: int = 230
) -> tuple[Path, ...]:
    """A sample study with a name in the strip above the region and another one over the anatomy."""
    sample = next(one for one in read_samples() if one.name == "malignant, two views")
    folder.mkdir(exist_ok=True)
    paths = make_study(sample, folder, 1, AT).paths[:1]
    for path in paths:
        dataset = dcmread(path)
        picture = Image.fromarray(dataset.pixel_array)
        write(picture, (4, 2), NAME, (None, 15), 230)
        write(picture, (20, picture.height - 60), NAME, font, shade)
        dataset.PixelData = np.asarray(picture).tobytes() + b"\0" * (picture.width * picture.height % 2)
        if not stated:
            del dataset.SequenceOfUltrasoundRegions
        dataset.save_as(path)
    return paths


def read(picture: np.ndarray) -> str:
    """All words that tesseract sees, at two sizes, as it is and inverted."""
    words = ""
    for turned in (picture, 255 - picture):
        for factor in (2, 3):
            stored = BytesIO()
            large = Image.fromarray(turned).resize((picture.shape[1] * factor, picture.shape[0] * factor))
            large.save(stored, "PNG")
            words += subprocess.run(
                [program("tesseract"), "-", "-", "--psm", "11"],
                input=stored.getvalue(),
                capture_output=True,
                check=True,
            ).stdout.decode()
    return re.sub(r"[^A-Z0-9]", "", words.upper())


@pytest.mark.parametrize(("font", "shade"), LETTERS)
def test_a_name_over_the_anatomy_is_covered_in_every_capture(analysed, context, tmp_path, font, shade):
    result = analysed(named_study(tmp_path / "study", font, shade=shade))
    ((_, lesion_capture), (_, summary)) = [
        (one.kind, one.dataset) for one in reversed(compose_report(result, context).objects[1:])
    ]
    (lesion,) = result.lesions[:1]
    region = lesion.key_view.frame.region
    written = Image.new("L", (region.columns, region.rows))
    write(written, (20, region.rows - 60), NAME, font, 255)
    letters = np.asarray(written) > 128
    shown = lesion_capture.pixel_array[: region.rows, : region.columns, 0]
    around = shown[region.rows - 75 : region.rows - 20, 10:-10][
        ~letters[region.rows - 75 : region.rows - 20, 10:-10]
    ]
    assert np.percentile(shown[letters], 99) <= np.percentile(around, 99) + 10, (
        "no letter outshines its tissue"
    )
    assert np.abs(shown[letters].mean() - around.mean()) < around.std(), "nor stands out as dark letters"
    assert wording.covered_lines([lesion.key_view])
    assert {lesion_capture.BurnedInAnnotation, summary.BurnedInAnnotation} == {"YES"}


@pytest.mark.peers
@pytest.mark.parametrize("stated", [True, False])
def test_no_name_can_be_read_off_a_capture(analysed, context, tmp_path, stated):
    result = analysed(named_study(tmp_path / "study", stated=stated))
    source = dcmread(result.study.paths[0]).pixel_array
    assert "SCHMIDT" in read(source), "the name is there to be read"
    for one in compose_report(result, context).objects[1:]:
        words = read(one.dataset.pixel_array)
        assert not any(part in words for part in NAME.split()[:2])
        assert one.dataset.BurnedInAnnotation == "YES"


def unmarked(lesion: Lesion) -> Lesion:
    """The lesion as if no mark had been found on its key view."""
    view = lesion.key_view
    bare = replace(view, shown=replace(view.shown, marks=Marks(NOTHING, NOTHING)))
    return replace(lesion, tracks=(replace(lesion.tracks[0], views=(bare,)),))


def test_pixels_away_from_marks_are_kept_and_without_words_nothing_is_called_burnt_in(analysed, context):
    result = analysed("calibrated")
    view = result.lesions[0].key_view
    ((_, grey),) = stream_pixels([view.frame])
    kept = ~view.shown.marks.blocks
    assert kept.mean() > 0.98
    assert np.array_equal(view.shown.grey[kept], grey[kept])
    plain = replace(result, lesions=(unmarked(result.lesions[0]),))
    captures = [one.dataset for one in compose_report(plain, context).objects[1:]]
    assert {one.BurnedInAnnotation for one in captures} == {"NO"}
    assert not wording.covered_lines([plain.lesions[0].key_view])


def test_the_panel_says_that_marks_were_removed(analysed, context, tmp_path):
    result = analysed(named_study(tmp_path / "study"))
    (lesion,) = result.lesions[:1]
    region = lesion.key_view.frame.region
    panels = [draw_lesion(one, result, context)[:, region.columns :] for one in (lesion, unmarked(lesion))]
    assert panels[0].any(axis=(1, 2)).sum() > panels[1].any(axis=(1, 2)).sum(), "a line more"
