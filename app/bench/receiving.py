"""Images a second that a receiver acknowledges, over one association and over four."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from app.bench.receivers import Receiver
from app.bench.sender import Order, Sent

_ULTRASOUND = "1.2.840.10008.5.1.4.1.1.6.1"
ROWS, COLUMNS = 480, 640  # 300 KiB of grey


def make_images(folder: Path, count: int, associations: int) -> list[tuple[str, ...]]:
    """Write `count` images under UIDs of their own, one study for each association."""
    folder.mkdir(parents=True)
    noise = np.random.default_rng(0).integers(0, 256, (ROWS, COLUMNS), dtype=np.uint8).tobytes()
    return [
        tuple(str(path) for path in _study(folder / str(number), count // associations, noise))
        for number in range(associations)
    ]


def _study(folder: Path, count: int, pixels: bytes) -> list[Path]:
    folder.mkdir()
    study, series = generate_uid(), generate_uid()
    paths = []
    for number in range(count):
        image = Dataset()
        image.file_meta = FileMetaDataset()
        image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        image.SpecificCharacterSet = "ISO_IR 192"
        image.SOPClassUID, image.SOPInstanceUID = _ULTRASOUND, generate_uid()
        image.StudyInstanceUID, image.SeriesInstanceUID = study, series
        image.StudyDate, image.StudyTime, image.AccessionNumber, image.StudyID = "20260101", "120000", "", "1"
        image.Modality, image.Manufacturer, image.BodyPartExamined = "US", "Bench", "BREAST"
        image.PatientName, image.PatientID, image.PatientBirthDate, image.PatientSex = "B^B", "B", "", "F"
        image.SeriesNumber, image.InstanceNumber = 1, number + 1
        image.Rows, image.Columns, image.SamplesPerPixel = ROWS, COLUMNS, 1
        image.PhotometricInterpretation, image.PixelRepresentation = "MONOCHROME2", 0
        image.BitsAllocated, image.BitsStored, image.HighBit = 8, 8, 7
        image.PixelData = pixels
        image["PixelData"].VR = "OB"
        paths.append(folder / f"{number}.dcm")
        image.save_as(paths[-1], enforce_file_format=True)
    return paths


def images_a_second(receiver: Receiver, associations: Sequence[tuple[str, ...]]) -> float:
    """Send each tuple of files over an association of its own, all at once.

    From the first image's start to the last answer, all senders waiting with encoded images before.

    Raises
    ------
    SystemExit
        An image was not answered with success.
    """
    processes = []
    for paths in associations:
        order = Order(receiver.port, receiver.ae_title, "BENCH", paths)
        process = subprocess.Popen(
            [sys.executable, "-m", "app.bench.sender"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdin is not None
        process.stdin.write(json.dumps(asdict(order)) + "\n")
        process.stdin.flush()
        processes.append(process)
    for process in processes:
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise SystemExit(f"a sender to {receiver.name} did not get ready")
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    sent = [Sent(**json.loads(process.communicate()[0])) for process in processes]
    if any(any(one.statuses) for one in sent):
        raise SystemExit(f"{receiver.name} refused an image")
    seconds = max(one.ended for one in sent) - min(one.started for one in sent)
    return sum(len(one.statuses) for one in sent) / seconds
