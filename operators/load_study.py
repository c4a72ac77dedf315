"""Read a study as received: which instances may be analysed, and why the others may not.

Promises: one Study for each Study Instance UID in the input, the same whatever order files come in (unless
told that they come as received); identical bytes count once; nothing is lost: every file is an instance, a
repeat of one, or set aside with a reason. Headers come cleaned: Unicode text, Type 2 attributes present.
Refuses: an input without any study, and a study that carries two patients.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from monai.deploy.core import ExecutionContext, InputContext, Operator, OperatorSpec, OutputContext
from pydicom.dataset import Dataset

from operators.clean_header import clean, too_long
from operators.eligibility import identity_fault, ineligible, valid_uid
from operators.pixel_layout import NATIVE, UndecodableError, pixel_layout
from operators.read_header import Header, UnreadableHeaderError, read_header
from operators.study import (
    InputError,
    Instance,
    MixedPatientError,
    NoStudyError,
    Reason,
    SetAside,
    Study,
)

_IGNORED_NAMES = frozenset({"DICOMDIR"})
_DICOM_SUFFIXES = frozenset({"", ".dcm", ".dicom", ".ima"})
# Names that only look like a suffix: DICOM exports call files by their UID.
_NUMERIC_SUFFIX_CHARACTERS = frozenset("0123456789")


@dataclass(frozen=True)
class _File:
    """One file of the input with its header. `place` is its place in the input."""

    path: Path
    sha256: str
    header: Header = field(repr=False)
    place: int

    @property
    def dataset(self) -> Dataset:
        return self.header.dataset

    def text(self, keyword: str) -> str:
        return str(self.dataset.get(keyword) or "").strip()

    def set_aside(self, reason: Reason, detail: str) -> SetAside:
        return SetAside(reason, detail, self.text("SOPInstanceUID") or None, None, self.path.name)


def find_input_files(folder: Path) -> tuple[Path, ...]:
    """All files of a folder and its subfolders that may be DICOM, sorted by path.

    Taken: names ending in .dcm, .dicom or .ima, names without a suffix, and names made of a UID. Left
    out: DICOMDIR, hidden files and folders, everything else (.tags, .json, pictures).
    """
    found = []
    for path in folder.rglob("*"):
        inside = path.relative_to(folder).parts
        if any(part.startswith(".") for part in inside) or path.name.upper() in _IGNORED_NAMES:
            continue
        suffix = path.suffix.lower()
        numeric = bool(suffix) and set(suffix[1:]) <= _NUMERIC_SUFFIX_CHARACTERS
        if (suffix in _DICOM_SUFFIXES or numeric) and path.is_file():
            found.append(path)
    return tuple(sorted(found))


@dataclass(frozen=True)
class RefusedStudy:
    """A study of the input that cannot be analysed, and why."""

    study_instance_uid: str
    error: InputError


@dataclass(frozen=True)
class StudiesRead:
    """The studies in a list of files, each sorted by Study Instance UID."""

    studies: tuple[Study, ...]
    refused: tuple[RefusedStudy, ...] = ()


def load_study(
    paths: Sequence[Path],
    *,
    accept_secondary_capture: bool = False,
    in_order_received: bool = False,
) -> tuple[Study, ...]:
    """Read the studies in a list of files, as `read_studies` does, all of which must be fit to be analysed.

    Raises
    ------
    NoStudyError
        No object names a study. The message sums up what was found instead.
    MixedPatientError
        One study UID carries two patients.
    """
    read = read_studies(
        paths, accept_secondary_capture=accept_secondary_capture, in_order_received=in_order_received
    )
    for one in read.refused:
        raise one.error
    return read.studies


def read_studies(
    paths: Sequence[Path],
    *,
    accept_secondary_capture: bool = False,
    in_order_received: bool = False,
) -> StudiesRead:
    """Read the studies in a list of files; one that carries two patients keeps no other from being read.

    Parameters
    ----------
    paths : sequence of Path
        Files; nothing but their headers is read here, and their bytes once for SHA-256.
    accept_secondary_capture : bool
        Whether secondary captures of ultrasound may be analysed.
    in_order_received : bool
        Of several objects with one SOP Instance UID and different bytes the first in `paths` is kept;
        otherwise the one with the lowest SHA-256, so that the order of files decides nothing.

    Raises
    ------
    NoStudyError
        No object names a study. The message sums up what was found instead.
    """
    files, unnamed = _read_files(paths)
    studies: dict[str, list[_File]] = {}
    for file in files:
        uid = file.text("StudyInstanceUID")
        if not valid_uid(uid):
            unnamed.append(file.set_aside(*(identity_fault(file.dataset) or _unnamed())))
        else:
            studies.setdefault(uid, []).append(file)
    if not studies:
        raise NoStudyError(_nothing_found(len(paths), unnamed))
    found: list[Study] = []
    refused: list[RefusedStudy] = []
    for uid in sorted(studies):
        try:
            found.append(
                _study(
                    uid,
                    studies[uid],
                    unnamed,
                    accept_secondary_capture=accept_secondary_capture,
                    in_order_received=in_order_received,
                )
            )
        except MixedPatientError as error:
            refused.append(RefusedStudy(uid, error))
    study_of = {file.path: uid for uid, members in studies.items() for file in members}
    return StudiesRead(
        tuple(
            replace(
                study,
                paths=tuple(path for path in paths if study_of.get(path) in (None, study.study_instance_uid)),
            )
            for study in found
        ),
        tuple(refused),
    )


def _unnamed() -> tuple[Reason, str]:
    return Reason.MISSING_UID, "The object names no study; correct it at its source."


def _read_files(paths: Sequence[Path]) -> tuple[list[_File], list[SetAside]]:
    """Headers of all files that have one, identical bytes once; the others set aside."""
    files: dict[str, _File] = {}
    unread: list[SetAside] = []
    for place, path in enumerate(paths):
        try:
            with path.open("rb") as stream:
                sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
            if sha256 not in files:
                files[sha256] = _File(path, sha256, read_header(path), place)
        except UnreadableHeaderError as error:
            unread.append(SetAside(error.reason, error.detail, file_name=path.name))
        except OSError as error:
            unread.append(
                SetAside(
                    Reason.UNREADABLE,
                    f"The file cannot be read ({error.strerror}); check its permissions.",
                    file_name=path.name,
                )
            )
    return list(files.values()), unread


def _nothing_found(count: int, unnamed: Iterable[SetAside]) -> str:
    details = dict.fromkeys(one.detail for one in unnamed)
    if not details:
        return (
            "The input holds no file that could be DICOM; give a folder with DICOM files (.dcm or no suffix)."
        )
    return f"No DICOM study can be named from {count} file{'s' * (count != 1)}. " + " ".join(
        list(details)[:5]
    )


def _study(
    uid: str,
    files: list[_File],
    unnamed: Iterable[SetAside],
    *,
    accept_secondary_capture: bool,
    in_order_received: bool,
) -> Study:
    warnings = _patient_warnings(files)
    aside = list(unnamed)
    kept: dict[str, tuple[_File, Instance]] = {}
    for file in sorted(files, key=lambda file: (file.place if in_order_received else 0, file.sha256)):
        verdict = (
            identity_fault(file.dataset)
            or file.header.fault
            or ineligible(file.header, accept_secondary_capture=accept_secondary_capture)
        )
        if verdict is None and file.text("SOPInstanceUID") in kept:
            verdict = (
                Reason.DUPLICATE_UID,
                "Another object with the same SOP Instance UID and different bytes is in the study and is "
                "used; find out at the source which one is right.",
            )
            warnings.append("Two objects share one SOP Instance UID but differ; only one was analysed.")
        if verdict is not None:
            aside.append(file.set_aside(*verdict))
            continue
        warnings += file.header.warnings
        try:
            warnings += _pixel_warnings(file)
            kept[file.text("SOPInstanceUID")] = (file, _instance(file))
        except UndecodableError as error:
            aside.append(file.set_aside(error.reason, error.detail))
    instances = tuple(kept[sop][1] for sop in sorted(kept))
    named = kept[min(kept)][0] if kept else min(files, key=_by_sop_instance)
    warnings += _name_warnings(files)
    return Study(
        uid,
        instances,
        tuple(sorted(aside, key=lambda one: (one.sop_instance_uid or "", one.file_name or "", one.reason))),
        clean(named.dataset),
        tuple(dict.fromkeys(warnings)),
    )


def _pixel_warnings(file: _File) -> list[str]:
    """What is odd about the length of uncompressed pixel data but does not keep it from being read."""
    if file.header.pixel_bytes is None or file.header.transfer_syntax_uid not in NATIVE:
        return []
    declared, present = file.header.pixel_bytes
    layout = pixel_layout(file.dataset)
    needed = layout.frame_bytes * layout.number_of_frames
    needed += needed % 2  # a value has an even length (PS3.5 7.1)
    full_chroma = needed * 3 // 2 if layout.photometric_interpretation == "YBR_FULL_422" else needed
    if declared > present >= needed:
        return ["Pixel data of an image ends before its declared length; the picture itself is whole."]
    if present >= declared > needed and declared != full_chroma + full_chroma % 2:
        return [
            f"Pixel data of an image is {declared - needed} bytes longer than its header asks for; "
            "they are ignored."
        ]
    return []


def _by_sop_instance(file: _File) -> tuple[str, str]:
    return file.text("SOPInstanceUID"), file.sha256


def _instance(file: _File) -> Instance:
    layout = pixel_layout(file.dataset)
    return Instance(
        path=file.path,
        sha256=file.sha256,
        sop_class_uid=file.text("SOPClassUID"),
        sop_instance_uid=file.text("SOPInstanceUID"),
        series_instance_uid=file.text("SeriesInstanceUID"),
        study_instance_uid=file.text("StudyInstanceUID"),
        transfer_syntax_uid=layout.transfer_syntax_uid,
        rows=layout.rows,
        columns=layout.columns,
        number_of_frames=layout.number_of_frames,
        header=clean(file.dataset),
    )


def _name_warnings(files: Iterable[_File]) -> list[str]:
    if any(too_long(file.text("PatientName")) for file in files):
        return ["The patient's name is longer than the 64 characters of DICOM; the report has the first 64."]
    return []


def _patient_warnings(files: Sequence[_File]) -> list[str]:
    """Compare the patients of one study; different ones raise, the same one written differently warns."""
    identities = {(file.text("PatientID"), file.text("IssuerOfPatientID")) for file in files}
    ids = {patient for patient, _ in identities if patient}
    issuers = {issuer for _, issuer in identities if issuer}
    people = {
        keyword: {_plain_name(file.text(keyword)) for file in files} - {""}
        for keyword in ("PatientName", "PatientBirthDate")
    }
    differing = [keyword for keyword, values in people.items() if len(values) > 1]
    without_id = any(not patient for patient, _ in identities)
    # Unknown patients may share one ID: a name may be misspelt, or a date, but hardly both.
    if len(ids) > 1 or len(issuers) > 1 or (without_id and differing) or len(differing) == len(people):
        what = "Patient IDs" if len(ids) > 1 else "issuers" if len(issuers) > 1 else "names or birth dates"
        raise MixedPatientError(
            f"One study carries two patients: its {len(files)} objects have different {what} under one Study "
            "Instance UID. Nothing was analysed; correct the identity at the source and send the study again."
        )
    warnings = [
        f"{keyword} differs between images of this study, the Patient ID does not." for keyword in differing
    ]
    if ids and without_id:
        warnings.append("Some images of this study have no Patient ID.")
    return warnings


def _plain_name(value: str) -> str:
    """A name or date without the differences that mean nothing: case, padding, empty components."""
    return " ".join(value.upper().replace("^", " ").split())


class LoadStudyOperator(Operator):
    """Graph step: reads one study from a list of files and emits it on port `study`.

    `warnings` are added to the study's own. Without a CountCondition the graph would run it for ever.
    """

    def __init__(
        self,
        fragment: Any,
        *args: Any,
        paths: Sequence[Path],
        accept_secondary_capture: bool = False,
        in_order_received: bool = False,
        warnings: Sequence[str] = (),
        **kwargs: Any,
    ) -> None:
        self._warnings = tuple(warnings)
        self._paths = tuple(paths)
        self._options: Mapping[str, Any] = {
            "accept_secondary_capture": accept_secondary_capture,
            "in_order_received": in_order_received,
        }
        super().__init__(fragment, *args, **kwargs)

    def setup(self, spec: OperatorSpec) -> None:
        """Declare the port."""
        spec.output("study")

    def compute(self, op_input: InputContext, op_output: OutputContext, context: ExecutionContext) -> None:
        """Load the study; raises InputError where there is none, or several."""
        study, *others = load_study(self._paths, **self._options)
        if others:
            raise InputError(
                f"The files hold {1 + len(others)} studies where one is expected; give them one by one."
            )
        op_output.emit(replace(study, warnings=(*study.warnings, *self._warnings)), "study")
