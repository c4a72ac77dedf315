"""Which views are one lesion: bans, order, two lesions in two views, dual screens, what cannot be told."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from models.runtime.marks import Covered, Marks
from operators.compose_report import compose_report
from operators.findings import LesionView, Track
from operators.join_views import join_views
from operators.likeness import OTHER, SAME, appearance, differences, likeness
from operators.read_header import read_header
from operators.site import Source
from operators.study import Frame, Instance, Region
from tests.operators.made_files import image, region, save, with_regions
from tests.phantoms import Ellipse, draw, still, tissue

SIZE = 100


def view(
    image_name: str,
    box: tuple[int, int, int, int],
    side: str | None = None,
    hour: int | None = None,
    *,
    column: int = 0,
    frames: int = 1,
    mm: tuple[float, float] | None = None,
) -> LesionView:
    """A square lesion (left, top, right, bottom) in a region of 100 x 100 pixels that starts at `column`."""
    left, top, right, bottom = box
    instance = Instance(None, "0", "1.2", image_name, "1.3", "1.4", "1.5", 100, 300, frames, Dataset())  # type: ignore[arg-type]
    mask = np.zeros((SIZE, SIZE), bool)
    mask[top:bottom, left:right] = True
    outline = np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float32)
    outline[:, 0] += column
    grey = np.where(mask, 20, 80).astype(np.uint8)
    shown = Covered(grey, Marks(mask & False, mask & False))
    where = Region(column, 0, column + SIZE - 1, SIZE - 1, *(mm or (None, None)))
    return LesionView(Frame(instance, 1, where, side, hour), outline, shown, mask, grey, 0.9)


def tracks_of(views: Sequence[LesionView]) -> list[Track]:
    return [Track((one,), (one.frame.frame_number,)) for one in views]


def sizes(views: Sequence[LesionView]) -> list[int]:
    return [len(lesion) for lesion in join_views(tracks_of(views)).lesions]


def test_two_views_of_one_lesion_are_one():
    assert sizes([view("1.1", (20, 20, 50, 40)), view("1.2", (40, 21, 65, 42))]) == [2]


def test_lesions_side_by_side_stay_two_and_that_is_certain():
    joined = join_views(tracks_of([view("1.1", (5, 30, 30, 55)), view("1.1", (60, 30, 85, 55))]))
    assert len(joined.lesions) == 2
    assert joined.unclear == ()


def test_the_halves_of_a_dual_screen_may_show_one_lesion():
    assert sizes([view("1.1", (20, 30, 50, 55)), view("1.1", (35, 30, 60, 55), column=120)]) == [2]


def test_two_lesions_in_two_views_are_two_whatever_their_places():
    shallow, deep = (5, 15, 30, 30), (50, 50, 90, 80)
    views = [view("1.1", shallow), view("1.1", deep)]
    views += [view("1.2", (70, 16, 92, 32)), view("1.2", (10, 49, 55, 80))]
    first, second = join_views(tracks_of(views)).lesions
    for lesion in (first, second):
        tops = [np.flatnonzero(track.views[0].mask.any(1))[0] for track in lesion]
        assert len(lesion) == 2
        assert abs(int(tops[0]) - int(tops[1])) <= 1


@pytest.mark.parametrize(
    ("one", "other", "unclear"),
    [(("L", None), ("R", None), False), (("L", 2), ("L", 9), False), (("L", None), (None, None), True)],
)
def test_places_that_contradict_each_other_never_join(one, other, unclear):
    box = (20, 20, 50, 50)
    joined = join_views(tracks_of([view("1.1", box, *one), view("1.2", box, *other)]))
    assert len(joined.lesions) == 2
    assert bool(joined.unclear) is unclear, "where one side is not stated it cannot be told"


def test_silence_on_the_hour_joins_one_of_two():
    box = (20, 20, 50, 50)
    views = [view("1.1", box, "L", 2), view("1.2", box, "L", 9), view("1.3", box, "L")]
    assert sorted(sizes(views)) == [1, 2]


def look(one: LesionView):
    return appearance(one.clean, one.mask, one.frame.region)


def test_what_is_neither_alike_nor_different_is_said():
    one = view("1.1", (20, 40, 50, 60))
    lower = [view("1.2", (20, top, 50, top + 20)) for top in range(40, 70)]
    between = [other for other in lower if OTHER <= likeness(look(one), look(other)) < SAME]
    joined = join_views(tracks_of([one, between[0]]))
    assert [len(lesion) for lesion in joined.lesions] == [1, 1]
    assert joined.unclear == ((0, 1),)


def test_millimetres_count_where_both_have_them():
    box = (20, 20, 40, 40)
    near, far = view("1.1", box, mm=(0.1, 0.1)), view("1.2", box, mm=(0.2, 0.2))
    assert sizes([near, far]) == [1, 1], "the same pixels are twice the size"
    assert sizes([near, view("1.2", (10, 10, 20, 20), mm=(0.2, 0.2))]) == [2]


def test_many_views_are_joined_in_no_time():
    views = [
        view(f"1.{number}", (5 + 45 * place, 10 + 40 * place, 35 + 45 * place, 25 + 52 * place))
        for number in range(1, 101)
        for place in (0, 1)
    ]
    started = time.process_time()
    assert sorted(sizes(views)) == [100, 100]
    assert time.process_time() - started < 10


VIEWS = st.lists(
    st.builds(
        view,
        st.sampled_from(("1.1", "1.2", "1.3")),
        st.tuples(st.integers(0, 60), st.integers(0, 60), st.integers(65, 90), st.integers(65, 90)),
        st.sampled_from((None, "L", "R")),
        st.sampled_from((None, 2, 9)),
        column=st.sampled_from((0, 120)),
        mm=st.sampled_from((None, (0.1, 0.1), (0.1, 0.05))),
    ),
    max_size=7,
    unique_by=lambda one: (one.frame.key, one.outline.tobytes()),
)


@settings(max_examples=60, deadline=None)
@given(VIEWS, st.randoms(use_true_random=False))
def test_lesions_are_a_partition_without_contradiction_whatever_the_order(views, random):
    joined = join_views(tracks_of(views))
    places = [[track.views[0] for track in lesion] for lesion in joined.lesions]
    assert sorted(id(one) for lesion in places for one in lesion) == sorted(map(id, views))
    for lesion in places:
        assert len({one.frame.laterality for one in lesion}) == 1
        assert len({one.frame.clock_hour for one in lesion} - {None}) <= 1
        assert len({one.frame.key for one in lesion}) == len(lesion)
    for i, j in joined.unclear:
        assert i < j < len(places)
        sides = [{one.frame.laterality for one in places[k]} - {None} for k in (i, j)]
        assert len(sides[0] | sides[1]) <= 1
    shuffled = views[:]
    random.shuffle(shuffled)
    again = join_views(tracks_of(shuffled))
    assert [[id(track.views[0]) for track in lesion] for lesion in again.lesions] == [
        [id(one) for one in lesion] for lesion in places
    ]
    assert again.unclear == joined.unclear


@given(VIEWS.filter(lambda views: len(views) > 1))
@settings(max_examples=40, deadline=None)
def test_likeness_is_the_same_either_way_and_greatest_with_itself(views):
    looks = [look(one) for one in views]
    for one, other in itertools.combinations(looks, 2):
        assert likeness(one, other) == pytest.approx(likeness(other, one))
        assert (differences(one, other) >= 0).all()
        assert likeness(one, other) <= likeness(one, one) == pytest.approx(likeness(other, other))


# Through the whole graph, with the models that ship ------------------------------------------------------

TWO = (Ellipse(180, 160, 60, 30), Ellipse(460, 270, 75, 55))
TWO_ACROSS = (Ellipse(430, 165, 52, 32), Ellipse(170, 265, 70, 58))


def test_two_lesions_in_two_views_are_two_lesions_with_four_outlines(analysed, tmp_path):
    """Their places on the picture are exchanged: only depth, size and look can tell them apart."""
    background = tissue(deep=True)
    paths = tuple(
        still(tmp_path / f"{number}", draw(lesions, background))
        for number, lesions in enumerate((TWO, TWO_ACROSS))
    )
    result = analysed(paths)
    assert len(result.lesions) == 2
    assert [len(lesion.views) for lesion in result.lesions] == [2, 2]
    for lesion in result.lesions:
        heights = [view.outline[:, 1].mean() for view in lesion.views]
        assert abs(heights[0] - heights[1]) < 20
    assert not [warning for warning in result.warnings if "could not be told" in warning]


def test_both_halves_of_a_dual_screen_show_one_lesion_each_at_its_own_scale(analysed, tmp_path):
    """The right half is drawn twice as large a pixel: the same lesion has half the pixels there."""
    screen = np.zeros((480, 980), np.uint8)
    screen[:, :640] = draw([Ellipse(320, 200, 80, 60)])
    small = tissue(320, 240)
    screen[:240, 660:] = draw([Ellipse(150, 100, 36, 30)], small)
    ds = with_regions(image(screen, "dual"), region(0, 0, 639, 479, 0.007), region(660, 0, 979, 239, 0.014))
    result = analysed((save(ds, tmp_path / "dual"),))
    (lesion,) = result.lesions
    left, right = lesion.views
    assert left.measurement.long_axis_mm == pytest.approx(2 * 80 * 0.07, rel=0.03, abs=0.07)
    assert right.measurement.long_axis_mm == pytest.approx(2 * 36 * 0.14, rel=0.03, abs=0.14)


def abutting(dicom_us: Path, left: Ellipse, right: Ellipse, path: Path) -> Path:
    """Two drawn halves in the layout of a real dual screen: abutting, a third region without units."""
    real = read_header(dicom_us / "pydicomdata-gdcm-US-ALOKA-16.dcm").dataset
    screen = np.zeros((480, 640), np.uint8)
    half = tissue(304, 392)
    for start, lesion in ((32, left), (336, right)):
        screen[24:416, start : start + 304] = draw([lesion], half)
    return save(with_regions(image(screen, path.name), *real.SequenceOfUltrasoundRegions), path)


@pytest.mark.parametrize(
    ("right", "lesions"), [(Ellipse(130, 150, 52, 36), 1), (Ellipse(150, 290, 70, 60), 2)]
)
def test_abutting_halves_show_one_lesion_twice_or_two(analysed, dicom_us, tmp_path, right, lesions):
    left = Ellipse(160, 150, 60, 36)
    result = analysed((abutting(dicom_us, left, right, tmp_path / "halves"),))
    assert len(result.lesions) == lesions
    views = sorted((view for one in result.lesions for view in one.views), key=lambda view: view.frame.key)
    assert [view.frame.region.min_x0 for view in views] == [32, 336]
    for view, drawn in zip(views, (left, right), strict=True):
        assert view.measurement.width_mm == pytest.approx(2 * drawn.along * 0.3827, rel=0.03, abs=0.3827)
        middle = view.outline.mean(axis=0) - [view.frame.region.min_x0, view.frame.region.min_y0]
        assert np.abs(middle - [drawn.x, drawn.y]).max() < 6


def test_a_pair_that_cannot_be_told_is_named_in_the_report(analysed, context):
    """Two views of one cancer, outlined in very different extents: not joined, and not called two."""
    result = analysed("malignant, two views")
    assert len(result.lesions) == 2
    said = "It could not be told whether L1 and L2 are the same lesion; they are left apart."
    assert said in result.warnings
    assert said in compose_report(result, context).page


def test_a_side_read_off_one_screen_keeps_no_lesion_from_its_other_image():
    one, other = view("1.1", (20, 20, 50, 50)), view("1.2", (20, 20, 50, 50))

    def said(which: LesionView, side: str, source: Source) -> LesionView:
        return replace(which, frame=replace(which.frame, laterality=side, laterality_source=source))

    def lesions(first: LesionView, second: LesionView) -> int:
        return len(join_views(tracks_of([first, second])).lesions)

    screen = said(one, "L", Source.SCREEN)
    assert lesions(screen, other) == 1
    assert lesions(screen, said(other, "L", Source.HEADER)) == 1
    assert lesions(screen, said(other, "R", Source.SCREEN)) == 2
    assert lesions(said(one, "L", Source.HEADER), other) == 2
