"""`python -m app.frames FOLDER OUT.npz`: pictures of a folder's studies with outlines, to learn from.

Promises: studies are read as the node reads them; burnt-in marks are covered before anything is written;
OUT holds pixels and outlines, patients as numbers, no name, no identifier and no text of a header; nothing
of the studies is printed. Outlines are those that the shipped lesion model finds, or given ones.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from app.bootstrap import prepare_process
from models.runtime.engine import ModelError
from models.runtime.loaded import Models
from operators.study import Frame, InputError, Selection

Grey = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Outlined:
    """A region of a frame: grey with marks covered, where they were, and its lesions, all (rows, columns)."""

    grey: Grey
    marks: Mask
    lesions: Mask


def outlined_frames(
    folder: Path, outlines: Path | None = None, set_aside: Counter[str] | None = None
) -> Iterator[tuple[str, Outlined]]:
    """Patient and picture of every frame whose outline is known; reasons are counted into `set_aside`.

    Without `outlines` these are the stills and key frames on which the shipped model finds a lesion; with
    it those for which it holds SOP-INSTANCE-UID.png, of the image's size (of a cine's frame n:
    SOP-INSTANCE-UID.n.png), white where a lesion is.

    Raises
    ------
    InputError
        The folder holds no study, or an outline does not fit its image.
    """
    from app.analyse import load
    from app.settings import load_settings
    from operators.load_study import find_input_files, load_study
    from operators.select_frames import select_frames

    settings = load_settings(None)
    models = load(settings)
    for study in load_study(find_input_files(folder)):
        patient = str(study.header.get("PatientID") or study.study_instance_uid)
        selection = select_frames(
            study,
            maximum_frames_per_instance=settings.analysis.maximum_frames_per_instance,
            maximum_frames_per_study=settings.analysis.maximum_frames_per_study,
        )
        aside = Counter[str]() if set_aside is None else set_aside
        if outlines is None:
            found = _found(selection, models, settings.analysis.maximum_lesions_per_frame, aside)
        else:
            aside.update(one.reason.value for one in selection.set_aside)
            found = _given(selection, models, outlines)
        yield from ((patient, one) for one in found)


def _found(selection: Selection, models: Models, maximum: int, set_aside: Counter[str]) -> Iterator[Outlined]:
    from operators.find_lesions import find_lesions

    detections = find_lesions(selection, models.lesion, models.marks, maximum_lesions_per_frame=maximum)
    set_aside.update(one.reason.value for one in detections.set_aside)
    by_frame: dict[Frame, Outlined] = {}
    for view in (view for track in detections.tracks for view in track.views):
        before = by_frame.get(view.frame)
        lesions = view.mask if before is None else view.mask | before.lesions
        by_frame[view.frame] = Outlined(view.shown.grey, view.shown.marks.blocks, lesions)
    yield from by_frame.values()


def _given(selection: Selection, models: Models, outlines: Path) -> Iterator[Outlined]:
    from operators.frame_pixels import stream_pixels

    known = {frame: path for frame in selection.frames if (path := _outline_of(frame, outlines)) is not None}
    for frame, grey in stream_pixels(list(known)):
        with Image.open(known[frame]) as picture:
            whole = np.asarray(picture.convert("L")) > 127
        if whole.shape != (frame.instance.rows, frame.instance.columns):
            raise InputError(
                f"an outline is {whole.shape}, its image another size: draw it on the whole image"
            )
        region = frame.region
        lesions = whole[region.min_y0 : region.max_y1 + 1, region.min_x0 : region.max_x1 + 1]
        covered = models.marks.cover(grey)
        yield Outlined(covered.grey, covered.marks.blocks, lesions)


def _outline_of(frame: Frame, outlines: Path) -> Path | None:
    name = frame.instance.sop_instance_uid
    names = [f"{name}.{frame.frame_number}.png"]
    if frame.instance.number_of_frames == 1:
        names.append(f"{name}.png")
    return next((outlines / one for one in names if (outlines / one).is_file()), None)


def write_frames(folder: Path, out: Path, outlines: Path | None = None) -> int:
    """Write the pictures into `out`, whole or not at all; returns how many there are.

    Arrays, for picture i: grey-i uint8, marks-i and lesions-i bool, all of one shape; patient int64 (n,);
    reasons str and reason_counts int64 (m,): why files and frames were set aside, and how many.
    """
    set_aside: Counter[str] = Counter()
    arrays: dict[str, npt.NDArray[np.generic]] = {}
    numbers: dict[str, int] = {}
    patients = []
    for index, (patient, one) in enumerate(outlined_frames(folder, outlines, set_aside)):
        patients.append(numbers.setdefault(patient, len(numbers)))
        for name in ("grey", "marks", "lesions"):
            arrays[f"{name}-{index}"] = getattr(one, name)
    out.parent.mkdir(parents=True, exist_ok=True)
    unfinished = out.with_name(f".{out.name}.partial.npz")
    arrays["patient"] = np.array(patients, np.int64)
    arrays["reasons"] = np.array(list(set_aside), np.str_)
    arrays["reason_counts"] = np.array(list(set_aside.values()), np.int64)
    np.savez_compressed(unfinished, **arrays)  # type: ignore[arg-type]
    unfinished.replace(out)
    return len(patients)


def main() -> int:
    """Parse the arguments and write; a failure is one line with cause and remedy."""
    parser = argparse.ArgumentParser(prog="python -m app.frames", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--outlines", type=Path)
    given = parser.parse_args()
    prepare_process()
    try:
        write_frames(given.folder, given.out, given.outlines)
    except (InputError, ModelError) as error:
        print(f"busmap: {error.code}: {error}", file=sys.stderr)
        return error.exit_status
    except OSError as error:
        print(f"busmap: output-unwritable: pictures cannot be written ({error.strerror})", file=sys.stderr)
        return 4
    return 0


if __name__ == "__main__":
    sys.exit(main())
