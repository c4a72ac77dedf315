"""Cines: lesions followed from frame to frame, key frames, and memory that does not grow with the length."""

from __future__ import annotations

import os
import subprocess
import sys
import tracemalloc
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.uid import JPEGBaseline8Bit

from app.node.analyst import Analyst
from app.settings import Settings
from operators.find_lesions import find_lesions
from operators.follow_lesions import MAXIMUM_KEY_FRAMES, Sighting, follow, key_sightings, qualities
from operators.load_study import load_study
from operators.select_frames import select_frames
from operators.study import Frame, Instance, Reason, Region
from tests.operators.made_files import compressed, image, jpeg, region, save, with_regions
from tests.phantoms import Ellipse, cine, draw, sweep, tissue

ROOT = Path(__file__).parents[2]
LESION = Ellipse(320, 200, 90, 50)
INSTANCE = Instance(None, "0", "1.2", "1.1", "1.3", "1.4", "1.5", 100, 100, 300, Dataset())  # type: ignore[arg-type]


def seen(number: int, x: float, y: float = 50, *, half: float = 10, sharpness: float = 1.0) -> Sighting:
    """A square lesion on a frame, its centre at (x, y)."""
    frame = Frame(INSTANCE, number, Region(0, 0, 99, 99))
    return Sighting(frame, (x - half, y - half, x + half, y + half), 4 * half**2, 0.9, sharpness)


def numbers(track):
    return [one.frame.frame_number for one in track]


def test_a_lesion_is_followed_over_frames_on_which_it_was_missed():
    moving = [seen(number, 20 + number) for number in range(1, 31) if number not in (7, 8, 20)]
    assert [len(track) for track in follow(moving, 1)] == [27]
    gone = [one for one in moving if not 10 <= one.frame.frame_number < 13]
    assert [len(track) for track in follow(gone, 1)] == [7, 17], "after three frames it may be another"
    assert [len(track) for track in follow(gone, 3)] == [24], "of every third frame looked at one was missed"


def test_lesions_that_pass_each_other_keep_their_tracks():
    pair = [seen(n, 10 + 3 * n, 30) for n in range(1, 26)] + [seen(n, 88 - 3 * n, 60) for n in range(1, 26)]
    assert [{one.box[1] for one in track} for track in follow(pair, 1)] == [{20}, {50}]


SIGHTINGS = st.lists(
    st.builds(seen, st.integers(1, 12), st.integers(10, 90), st.integers(10, 90)), unique=True, max_size=25
)


@given(SIGHTINGS, st.integers(1, 4), st.randoms(use_true_random=False))
def test_every_sighting_is_on_one_track_whatever_their_order(sightings, step, random):
    tracks = follow(sightings, step)
    assert sorted(map(repr, sightings)) == sorted(repr(one) for track in tracks for one in track)
    for track in tracks:
        assert numbers(track) == sorted(set(numbers(track))), "a track is on a frame once"
        gaps = np.diff(numbers(track))
        assert (gaps <= 3 * step).all()
    random.shuffle(sightings)
    assert follow(sightings, step) == tracks


@given(SIGHTINGS.filter(bool))
def test_key_frames_are_few_good_and_apart(sightings):
    for track in follow(sightings, 1):
        keys = key_sightings(track)
        assert 1 <= len(keys) <= MAXIMUM_KEY_FRAMES
        assert set(keys) <= set(track)
        quality = dict(zip(track, qualities(track), strict=True))
        assert quality[keys[0]] == max(quality.values())
        length = track[-1].frame.frame_number - track[0].frame.frame_number
        apart = np.diff(sorted(numbers(keys)))
        assert (apart >= max(1, 0.25 * length)).all()


def test_a_large_sharp_sighting_is_the_key_frame():
    blurred = [seen(number, 50, half=5 + number / 5, sharpness=0.2) for number in range(1, 20)]
    sharp = seen(20, 50, half=8, sharpness=1.0)
    assert key_sightings((*blurred, sharp))[0] is sharp


def test_a_sweep_is_one_lesion_with_a_few_key_frames(models, tmp_path):
    path = cine(tmp_path / "cine", sweep(120, 41, 100, LESION))
    (study,) = load_study([path])
    tracemalloc.start()
    selection = select_frames(study, maximum_frames_per_instance=40, maximum_frames_per_study=600)
    found = find_lesions(selection, models.lesion, models.marks, maximum_lesions_per_frame=3)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    (track,) = found.tracks
    assert 41 <= track.frame_numbers[0] <= 47
    assert 94 <= track.frame_numbers[-1] <= 100
    keys = [view.frame.frame_number for view in track.views]
    assert 2 <= len(keys) <= 3
    assert 60 <= keys[0] <= 81, "where the cut is largest"
    around = set(range(keys[0] - 2, keys[0] + 3))
    assert around <= {frame.frame_number for frame in found.frames}, "no better frame next to it was missed"
    size = track.views[0].measurement
    assert size.long_axis_mm == pytest.approx(2 * 90 * 0.07, rel=0.08)
    # A frame is 0.3 MiB, all of them 35; what the net and the filters need comes on top.
    assert peak < 30 * 2**20


def test_what_shows_on_two_frames_of_a_long_cine_is_said_and_not_reported(models, tmp_path):
    frames = [tissue()] * 24
    frames[10] = frames[11] = draw([LESION])
    (study,) = load_study([cine(tmp_path / "cine", frames)])
    selection = select_frames(study, maximum_frames_per_instance=24, maximum_frames_per_study=24)
    found = find_lesions(selection, models.lesion, models.marks, maximum_lesions_per_frame=3)
    assert found.tracks == ()
    assert [warning for warning in found.warnings if "fewer than 3 frames" in warning]


@pytest.mark.parametrize("two_regions", [False, True])
def test_a_damaged_frame_beside_a_key_frame_sets_the_cine_aside(models, tmp_path, two_regions):
    """It was not among the searched ones, so only the search around the key frame meets it."""
    frames = sweep(12, 1, 12, LESION)
    places = [region(0, 0, 639, 479)]
    if two_regions:  # in the second is no lesion, so nothing beside its frames is looked at
        frames = [np.hstack([tissue(), frame]) for frame in frames]
        places = [region(0, 0, 639, 479), region(640, 0, 1279, 479)]
    streams = [jpeg(frame) for frame in frames]
    streams[6] = streams[6][:300]
    ds = compressed(image(np.zeros((1, *frames[0].shape), np.uint8)), streams, JPEGBaseline8Bit)
    ds.NumberOfFrames = 12
    (study,) = load_study([save(with_regions(ds, *places), tmp_path / "cine")])
    selection = select_frames(study, maximum_frames_per_instance=4, maximum_frames_per_study=4)
    assert {frame.frame_number for frame in selection.frames} == {2, 5, 8, 11}
    assert len(selection.frames) == 4 * len(places)
    found = find_lesions(selection, models.lesion, models.marks, maximum_lesions_per_frame=3)
    assert (found.tracks, found.frames) == ((), ())
    (aside,) = found.set_aside
    assert (aside.reason, aside.frame_number) == (Reason.PIXELS_UNDECODABLE, None)


# What one picture and the net need, measured over ten frames, is the base; the rest of a cine adds nothing.
MAXIMUM_GROWTH_MIB = 32


@pytest.fixture(scope="module")
def cines(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """A short and a long cine by their number of frames, each in a folder of its own."""
    made = {}
    for count in (30, 300):
        folder = tmp_path_factory.mktemp(f"cine{count}")
        made[count] = cine(folder / "cine.dcm", sweep(count, count // 3, count * 2 // 3, LESION))
    return made


def test_the_warm_child_needs_no_more_memory_for_a_long_cine(cines, tmp_path):
    analyst = Analyst(Settings(), "app.analyse")
    peaks = {}
    try:
        for count, path in cines.items():
            request = {
                "paths": [str(path)],
                "output_folder": str(tmp_path / str(count)),
                "composed_at": datetime(2026, 5, 4, tzinfo=UTC).isoformat(),
                "result_number": 1,
                "predecessor": None,
                "warnings": [],
            }
            analyst.ask(request)
            status = Path(f"/proc/{analyst.pid}/status").read_text()
            peaks[count] = int(status.split("VmHWM:")[1].split()[0]) / 1024
    finally:
        analyst.stop()
    assert (tmp_path / "300" / "result.json").is_file()
    assert peaks[300] - peaks[30] < MAXIMUM_GROWTH_MIB, peaks


def test_the_one_shot_run_needs_no_more_memory_for_a_long_cine(cines, tmp_path):
    peaks = {}
    clean = {key: value for key, value in os.environ.items() if not key.startswith("BUSMAP_")}
    for count, path in cines.items():
        command = [sys.executable, "-m", "app", "-i", str(path.parent), "-o", str(tmp_path / str(count))]
        process = subprocess.Popen(command, cwd=ROOT, env=clean, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        peaks[count] = usage.ru_maxrss / 1024
    assert peaks[300] - peaks[30] < MAXIMUM_GROWTH_MIB, peaks
