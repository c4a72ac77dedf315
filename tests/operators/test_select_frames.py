"""Which frames reach the models, as grey regions, and what is said of the others."""

from __future__ import annotations

import contextlib
import itertools
import re
import struct
import subprocess
import sys
import tempfile
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.deploy.conditions import CountCondition
from monai.deploy.core import (
    Application,
    ExecutionContext,
    InputContext,
    Operator,
    OperatorSpec,
    OutputContext,
)
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import JPEGBaseline8Bit

from operators.frame_pixels import stream_pixels
from operators.load_study import LoadStudyOperator, load_study
from operators.select_frames import SelectFramesOperator, evenly_spread, select_frames
from operators.site import CLOCK_CODES, clock_hour, laterality
from operators.study import InputError, Reason, Selection
from operators.tissue import COLOUR_DEPARTURE, departure, luma
from tests.operators.made_files import (
    compressed,
    image,
    insert_before_pixels,
    jpeg,
    region,
    save,
    speckle,
    uid,
    with_regions,
)


def selected(*paths: Path, per_instance: int = 24, per_study: int = 240, **options: Any) -> Selection:
    (study,) = load_study(paths, **options)
    return select_frames(study, maximum_frames_per_instance=per_instance, maximum_frames_per_study=per_study)


def greys(selection: Selection) -> list[np.ndarray[Any, np.dtype[np.uint8]]]:
    """The pixels of the frames selected."""
    return [grey for _, grey in stream_pixels(selection.frames)]


def reasons(selection: Selection) -> list[Reason]:
    return [aside.reason for aside in selection.set_aside]


def grey_rgb(rows: int = 128, columns: int = 128) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.repeat(speckle(rows, columns)[..., None], 3, axis=2)


CORPUS: dict[str, tuple[int, list[Reason]]] = {
    "synthetic-breast-mono-explicit": (1, []),
    "synthetic-breast-deflated": (1, []),
    "synthetic-breast-implicit": (1, []),
    "synthetic-breast-rgb-dual-region": (1, [Reason.DOPPLER]),
    "synthetic-breast-cine-jpegbaseline-mono": (12, []),
    "synthetic-breast-cine-jpegbaseline-fragmented-nobot": (12, []),
    "synthetic-breast-cine-jpegls-eot": (3, []),
    "synthetic-breast-cine-retired-usmf": (2, []),
    "synthetic-breast-cine-rle-frametimevector": (6, []),
    "synthetic-cal-nocal": (1, []),
    "synthetic-cal-doppler": (1, []),
    "synthetic-cal-overlap-elasto": (0, [Reason.COLOUR]),
    "synthetic-lymph-rle-rgb": (0, [Reason.DOPPLER]),
    "synthetic-lymph-jpegbaseline-ybr422": (0, [Reason.DOPPLER]),
    "synthetic-lymph-h264": (0, [Reason.UNSUPPORTED_TRANSFER_SYNTAX]),
    "dcm4che-US-RGB-8-epicard": (0, [Reason.DOPPLER]),
    "deid-RGB_IMAGE": (0, [Reason.NO_TISSUE]),  # a probe in the air
    "pydicomdata-OBXXXX1A_rle": (0, [Reason.NO_TISSUE]),  # the same
    "pydicomdata-gdcm-US-ALOKA-16": (2, []),
    "fodicom-GH364": (1, []),
    "bad/all-black": (0, [Reason.NO_TISSUE]),
    "bad/monochrome1": (1, []),
    "bad/trailing-padding-pixeldata": (1, []),
    "bad/bitsallocated-16-data-8": (0, [Reason.PIXELS_UNDECODABLE]),
    "bad/corrupt-jpeg": (0, [Reason.PIXELS_UNDECODABLE]),
    "bad/fewer-fragments-than-frames": (0, [Reason.PIXELS_UNDECODABLE]),
    "bad/huge-frames-declared": (0, [Reason.PIXELS_UNDECODABLE]),
    "bad/short-pixeldata": (0, [Reason.PIXELS_UNDECODABLE]),
    "bad/truncated-pixels": (0, [Reason.PIXELS_UNDECODABLE]),
    "bad/zero-frames": (0, [Reason.PIXELS_UNDECODABLE]),
}


@pytest.mark.parametrize("name", CORPUS)
def test_the_corpus_gives_its_frames_and_reasons(dicom_us: Path, name: str) -> None:
    selection = selected(dicom_us / f"{name}.dcm")
    assert (len(selection.frames), reasons(selection)) == CORPUS[name]


def test_only_the_inside_of_the_region_leaves(dicom_us: Path) -> None:
    """The phantom has a name burned in above its region; nothing outside may reach a model or a picture."""
    selection = selected(dicom_us / "synthetic-breast-mono-explicit.dcm")
    ((frame,), (grey,)) = selection.frames, greys(selection)
    assert grey.shape == (frame.region.rows, frame.region.columns) == (400, 520)
    assert grey.base is None
    assert frame.laterality == "L"
    assert frame.region.mm_per_pixel_x == pytest.approx(0.075)


def test_nothing_below_the_image_of_a_spectrum_is_taken(dicom_us: Path) -> None:
    (grey,) = greys(selected(dicom_us / "synthetic-cal-doppler.dcm"))
    assert grey.shape == (128, 256)


def test_a_cine_is_sampled_evenly_and_the_limit_said_once(tmp_path: Path) -> None:
    frames = np.stack([speckle(seed=number) for number in range(30)])
    selection = selected(save(image(frames), tmp_path / "a"), per_instance=5)
    assert [frame.frame_number for frame in selection.frames] == [4, 10, 16, 22, 28]
    for frame, grey in stream_pixels(selection.frames):
        assert np.array_equal(grey, frames[frame.frame_number - 1])
    (limit,) = selection.set_aside
    assert limit.reason is Reason.FRAME_LIMIT
    assert "Of 30 frames 5" in limit.detail


def test_stills_come_before_cines_when_the_study_is_too_large(tmp_path: Path) -> None:
    cine = save(image(np.stack([speckle(seed=n) for n in range(40)]), "cine"), tmp_path / "cine")
    stills = [save(image(speckle(seed=n), f"still{n}"), tmp_path / str(n)) for n in range(6)]
    selection = selected(cine, *stills, per_study=10)
    counts = [frame.instance.sop_instance_uid for frame in selection.frames]
    assert all(counts.count(uid(f"still{n}")) == 1 for n in range(6))
    assert counts.count(uid("cine")) == 4
    assert reasons(selection) == [Reason.FRAME_LIMIT]
    selection = selected(cine, *stills, per_study=3)
    assert len(selection.frames) == 3
    assert sorted(reasons(selection)) == [Reason.IMAGE_LIMIT] * 4, "never opened is not the same as sampled"


@given(st.integers(1, 5000), st.integers(1, 300))
def test_sampled_frames_are_distinct_ordered_and_even(number_of_frames: int, share: int) -> None:
    numbers = evenly_spread(number_of_frames, share)
    assert len(set(numbers)) == min(share, number_of_frames)
    assert list(numbers) == sorted(numbers)
    assert numbers[0] >= 1
    assert numbers[-1] <= number_of_frames
    gaps = {after - before for before, after in itertools.pairwise(numbers)}
    assert not gaps or max(gaps) - min(gaps) <= 1


def test_memory_holds_one_picture_and_not_the_cine(tmp_path: Path) -> None:
    frame = speckle(480, 640)
    ds = compressed(image(np.zeros((1, 480, 640), np.uint8)), [jpeg(frame)] * 300, JPEGBaseline8Bit)
    ds.NumberOfFrames = 300
    path = save(with_regions(ds, region(0, 0, 639, 479)), tmp_path / "cine")
    tracemalloc.start()
    selection = selected(path, per_instance=300, per_study=300)
    read = sum(grey.size for _, grey in stream_pixels(selection.frames))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert read == 300 * frame.size
    assert peak < 30 * 2**20


def test_a_cine_with_one_damaged_frame_is_set_aside_whole(tmp_path: Path) -> None:
    frames = [jpeg(speckle(seed=seed)) for seed in range(6)]
    frames[4] = frames[4][:300]
    ds = compressed(image(np.zeros((6, 64, 64), np.uint8)), frames, JPEGBaseline8Bit)
    selection = selected(save(ds, tmp_path / "a"))
    assert selection.frames == ()
    assert [(aside.reason, aside.frame_number) for aside in selection.set_aside] == [
        (Reason.PIXELS_UNDECODABLE, None)
    ]


def test_black_frames_of_a_cine_are_named_one_by_one_and_together_if_all_are(tmp_path: Path) -> None:
    frames = np.stack([speckle(seed=seed) for seed in range(4)])
    frames[[1, 3]] = 0
    selection = selected(save(image(frames, "some"), tmp_path / "some"))
    assert [frame.frame_number for frame in selection.frames] == [1, 3]
    assert [aside.frame_number for aside in selection.set_aside] == [2, 4]
    selection = selected(save(image(frames * 0, "all"), tmp_path / "all"))
    assert [(aside.reason, aside.frame_number) for aside in selection.set_aside] == [(Reason.NO_TISSUE, None)]


def test_without_regions_all_frames_of_a_cine_share_one_box(tmp_path: Path) -> None:
    frames = np.zeros((3, 200, 300), np.uint8)
    for number in range(3):
        frames[number, 40:168, 64 : 200 + 16 * number] = speckle(128, 136 + 16 * number, number)
    selection = selected(save(image(frames), tmp_path / "a"))
    assert len({frame.region for frame in selection.frames}) == 1
    assert not selection.frames[0].region.calibrated


def test_grey_stored_as_a_colour_jpeg_is_analysed(tmp_path: Path) -> None:
    ds = compressed(image(grey_rgb()), [jpeg(grey_rgb())], JPEGBaseline8Bit, "YBR_FULL_422")
    (grey,) = greys(selected(save(ds, tmp_path / "a")))
    assert np.abs(grey.astype(int) - speckle(128, 128)).max() <= 12


def test_colour_doppler_in_a_colour_jpeg_is_set_aside(tmp_path: Path) -> None:
    flow = grey_rgb()
    flow[40:72, 40:72] = (220, 40, 30)
    ds = compressed(image(flow), [jpeg(flow)], JPEGBaseline8Bit, "YBR_FULL_422")
    selection = selected(save(ds, tmp_path / "a"))
    assert selection.frames == ()
    assert reasons(selection) == [Reason.DOPPLER]


@pytest.mark.parametrize(
    "regions", [(), (region(0, 0, 127, 127, PhysicalUnitsXDirection=0),), (region(0, 0, 127, 127, 0.0),)]
)
def test_without_a_calibration_a_frame_has_no_millimetres(
    tmp_path: Path, regions: tuple[Dataset, ...]
) -> None:
    ds = image(speckle(128, 128), PixelSpacing=[0.1, 0.1])
    (frame,) = selected(save(with_regions(ds, *regions) if regions else ds, tmp_path / "a")).frames
    assert not frame.region.calibrated
    assert (frame.region.mm_per_pixel_x, frame.region.mm_per_pixel_y) == (None, None)


def test_both_halves_of_a_dual_screen_are_frames_with_their_own_scale(tmp_path: Path) -> None:
    screen = np.zeros((140, 280), np.uint8)
    screen[:128, :128], screen[:128, 140:268] = speckle(128, 128, 1), speckle(128, 128, 2)
    halves = (region(0, 0, 127, 127, 0.01), region(140, 0, 267, 127, 0.02))
    both = selected(save(with_regions(image(screen, "both"), *halves), tmp_path / "both"))
    assert [frame.region.mm_per_pixel_x for frame in both.frames] == pytest.approx([0.1, 0.2])
    for seed, grey in enumerate(greys(both), 1):
        assert np.array_equal(grey, speckle(128, 128, seed))
    assert both.set_aside == ()
    screen[:128, 140:268] = 0
    one = selected(save(with_regions(image(screen, "one"), *halves), tmp_path / "one"))
    assert [frame.region.min_x0 for frame in one.frames] == [0]
    assert reasons(one) == [Reason.NO_TISSUE]


def test_a_study_of_which_nothing_is_usable_is_an_empty_selection_with_every_reason(tmp_path: Path) -> None:
    flow = grey_rgb()
    flow[40:90, 40:90] = (220, 40, 30)
    liver = image(speckle(seed=3), "liver", BodyPartExamined="LIVER")
    spectrum = with_regions(image(speckle(), "spectrum"), region(0, 0, 63, 63, RegionSpatialFormat=3))
    black = image(speckle() * 0, "black")
    damaged = compressed(image(speckle(), "damaged"), [jpeg(speckle())[:300]], JPEGBaseline8Bit)
    made = {"liver": liver, "flow": image(flow, "flow"), "spectrum": spectrum, "black": black, "cut": damaged}
    (tmp_path / "note").write_text("no DICOM")
    selection = selected(*(save(ds, tmp_path / name) for name, ds in made.items()), tmp_path / "note")
    assert selection.frames == ()
    assert {aside.file_name: aside.reason for aside in selection.set_aside} == {
        "liver": Reason.NOT_BREAST,
        "flow": Reason.DOPPLER,
        "spectrum": Reason.NO_TISSUE_REGION,
        "black": Reason.NO_TISSUE,
        "cut": Reason.PIXELS_UNDECODABLE,
        "note": Reason.NOT_DICOM,
    }
    assert len(selection.set_aside) == len(made) + 1
    assert all(aside.detail.endswith((".", "again.")) for aside in selection.set_aside)


VRS = [b"SQ", b"OB", b"UN", b"IS", b"DS", b"US", b"UI", b"PN", b"AT", b"FD", b"\x00\xff"]


@settings(max_examples=150, deadline=None)
@given(st.floats(0, 1), st.one_of(st.binary(min_size=1, max_size=4), st.sampled_from(VRS)), st.booleans())
def test_changed_bytes_of_a_header_give_frames_or_a_named_reason(
    share: float, new: bytes, at_a_vr: bool
) -> None:
    """Whatever a disk or a wire does to a header, nothing but an InputError may come out."""
    with tempfile.TemporaryDirectory() as folder:
        ds = with_regions(image(speckle(), ImageLaterality="L"), region(0, 0, 63, 63), region(0, 0, 9, 9))
        side = side_header(code="7771000")
        ds.AnatomicRegionSequence = side.AnatomicRegionSequence
        path = save(ds, Path(folder) / "a")
        data = path.read_bytes()
        places = [found.start() for found in re.finditer(rb"(?<=[\x00-\xff]{4})[A-Z]{2}(?=..)", data[140:])]
        at = 140 + (places[int(share * (len(places) - 1))] if at_a_vr else int(share * 1400))
        path.write_bytes(data[:at] + new + data[at + len(new) :])
        with contextlib.suppress(InputError):
            selection = selected(path)
            assert selection.frames or selection.set_aside


def test_an_attribute_of_the_wrong_kind_is_as_good_as_none(tmp_path: Path) -> None:
    """Text where the regions belong: the frame is analysed without them, and it is said."""
    path = save(image(speckle()), tmp_path / "a")
    insert_before_pixels(path, struct.pack("<HH2sH", 0x0018, 0x6011, b"LO", 4) + b"text")
    selection = selected(path)
    assert len(selection.frames) == 1
    assert any("(0018,6011)" in warning for warning in selection.warnings)


SWEEP = """
import resource, sys
from pathlib import Path
from app.bootstrap import prepare_process
prepare_process()
from operators.frame_pixels import stream_pixels
from operators.load_study import load_study
from operators.select_frames import select_frames
from operators.study import InputError

resource.setrlimit(resource.RLIMIT_DATA, (2 * 2**30,) * 2)
for path in sorted(Path(sys.argv[1]).rglob("*.dcm")):
    try:
        for study in load_study([path]):
            selection = select_frames(study, maximum_frames_per_instance=24, maximum_frames_per_study=240)
            print(path.name, len(selection.frames), *(aside.detail for aside in selection.set_aside))
            assert selection.frames or selection.set_aside
    except InputError as error:
        print(path.name, error)
"""


def test_no_file_crashes_the_process_or_makes_it_talk(dicom_us: Path) -> None:
    """Within 2 GiB and a minute for all; a library's remark could quote a name, so there is none."""
    done = subprocess.run(
        [sys.executable, "-W", "always::UserWarning", "-c", SWEEP, str(dicom_us)],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) == len(list(dicom_us.rglob("*.dcm")))
    for word in ("Traceback", "^"):  # a name in a header has carets
        assert word not in done.stdout


@pytest.mark.parametrize("tint", [(0, 0, 0), (-12, -6, 14), (20, 8, -18), (-40, 0, 40)])
def test_a_scanners_tint_is_not_colour(tint: tuple[int, int, int]) -> None:
    """A tint grows with brightness and is the same everywhere, as colour maps of scanners are."""
    grey = grey_rgb().astype(float)
    tinted = np.clip(grey + grey / 255 * np.array(tint), 0, 255).astype(np.uint8)
    assert (departure(tinted) >= COLOUR_DEPARTURE).mean() <= 0.005


@pytest.mark.parametrize("colour", [(230, 40, 20), (20, 60, 220), (240, 220, 20)])
def test_colour_doppler_is_set_aside_and_a_coloured_calliper_is_not(
    tmp_path: Path, colour: tuple[int, int, int]
) -> None:
    flow = grey_rgb()
    flow[40:56, 40:56] = colour
    assert reasons(selected(save(image(flow, "flow"), tmp_path / "flow"))) == [Reason.DOPPLER]
    calliper = grey_rgb()
    calliper[40:47, 43] = calliper[43, 40:47] = colour
    assert len(selected(save(image(calliper, "calliper"), tmp_path / "calliper")).frames) == 1


def test_elastography_over_the_whole_picture_is_colour() -> None:
    ramp = np.linspace(0, 255, 128).astype(np.uint8)
    picture = np.stack(np.broadcast_arrays(ramp[None], ramp[::-1, None], speckle(128, 128)), axis=-1)
    assert (departure(np.ascontiguousarray(picture)) >= COLOUR_DEPARTURE).mean() > 0.1


def test_grey_in_rgb_comes_out_unchanged_and_colour_as_pillow_converts() -> None:
    assert np.array_equal(luma(grey_rgb()), speckle(128, 128))
    colour = np.stack([speckle(seed=seed) for seed in range(3)], axis=-1)
    assert np.array_equal(luma(colour), np.asarray(Image.fromarray(colour).convert("L")))


def side_header(image_side: str = "", series_side: str = "", code: str = "") -> Dataset:
    ds = Dataset()
    ds.ImageLaterality, ds.Laterality = image_side, series_side
    if code:
        modifier, item = Dataset(), Dataset()
        modifier.CodeValue = code
        item.AnatomicRegionModifierSequence = Sequence([modifier])
        ds.AnatomicRegionSequence = Sequence([item])
    return ds


@pytest.mark.parametrize(
    ("said", "side"),
    [
        (("L", "", ""), "L"),
        (("", "R", ""), "R"),
        (("", "", "7771000"), "L"),
        (("R", "", "24028007"), "R"),
        (("U", "R", ""), "R"),
        (("B", "", ""), None),
        (("", "", ""), None),
    ],
)
def test_side_of_the_body(said: tuple[str, str, str], side: str | None) -> None:
    assert laterality(side_header(*said)) == (side, None)


def test_a_contradiction_of_sides_is_unknown_and_said(tmp_path: Path) -> None:
    for said in (("L", "R", ""), ("L", "", "24028007"), ("", "R", "7771000")):
        side, note = laterality(side_header(*said))
        assert side is None
        assert note is not None
    path = save(image(speckle(), ImageLaterality="L", Laterality="R"), tmp_path / "a")
    selection = selected(path)
    assert selection.frames[0].laterality is None
    assert any("both sides" in warning for warning in selection.warnings)


class _Keep(Operator):
    def __init__(self, fragment: Any, *args: Any, kept: list[Selection], **kwargs: Any) -> None:
        self.kept = kept
        super().__init__(fragment, *args, **kwargs)

    def setup(self, spec: OperatorSpec) -> None:
        spec.input("selection")

    def compute(self, op_input: InputContext, op_output: OutputContext, context: ExecutionContext) -> None:
        self.kept.append(op_input.receive("selection"))


def test_the_steps_run_as_a_graph_of_monai_deploy(tmp_path: Path) -> None:
    kept: list[Selection] = []
    path = save(image(speckle()), tmp_path / "a.dcm")

    class Graph(Application):
        def compose(self) -> None:
            load = LoadStudyOperator(self, CountCondition(self, 1), paths=[path], name="load")
            select = SelectFramesOperator(
                self, maximum_frames_per_instance=4, maximum_frames_per_study=4, name="select"
            )
            keep = _Keep(self, kept=kept, name="keep")
            self.add_flow(load, select, {("study", "study")})
            self.add_flow(select, keep, {("selection", "selection")})

    Graph(argv=["test"]).run()
    assert [len(selection.frames) for selection in kept] == [1]


def test_the_clock_position_is_read_where_it_is_coded():
    header = Dataset()
    assert clock_hour(header) is None
    region, modifier = Dataset(), Dataset()
    modifier.CodeValue = CLOCK_CODES[9]
    region.AnatomicRegionModifierSequence = [modifier]
    header.AnatomicRegionSequence = [region]
    assert clock_hour(header) == 10
    second = Dataset()
    second.CodeValue = CLOCK_CODES[2]
    region.AnatomicRegionModifierSequence.append(second)
    assert clock_hour(header) is None, "two hours are none"
