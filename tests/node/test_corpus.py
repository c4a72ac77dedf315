"""All 66 files of the corpus through both ways in, and what the gateway offers to whom."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pynetdicom import AE, build_context
from pynetdicom._globals import ALL_TRANSFER_SYNTAXES

from app import oneshot
from app.node.receive import STORAGE_CLASSES, TRANSFER_SYNTAXES
from tests.corpus import JPEG_XL, UNSUPPORTED, VIDEO, decoded, expectations, pixel_fault
from tests.node.rig import Node, Transmitted, send_bytes, transmitted
from tests.operators.made_files import US

PREFIX = "1.2.840.10008.1.2"
# Best first: lossless compressed, uncompressed, lossy, retired. No deflated syntax, no video.
OFFERED = [
    PREFIX + suffix
    for suffix in (
        *(".4.80", ".4.70", ".4.57", ".4.90", ".5", ".4.201", ".4.202"),
        *(".1", ""),
        *(".4.50", ".4.51", ".4.81", ".4.91", ".4.203"),
        ".2",
    )
]
UNCOMPRESSED_IN_FRAGMENTS = "synthetic-lymph-encapsulated-uncompressed.dcm"
NOT_OFFERED = {*VIDEO, JPEG_XL, UNCOMPRESSED_IN_FRAGMENTS, "synthetic-breast-deflated.dcm"}
CLASS_PREFIX = "1.2.840.10008.5.1.4.1.1."


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    one = Node(tmp_path_factory.mktemp("corpus") / "state")
    one.start("gateway")
    yield one
    one.stop()


def accepted(node: Node, sop_class: str, syntaxes: list[str]) -> str | None:
    """The syntax that the gateway takes of those offered in one context; None where it rejects it."""
    entity = AE("SCANNER")
    association = entity.associate(
        "127.0.0.1", node.port, contexts=[build_context(sop_class, syntaxes)], ae_title="BUSMAP"
    )
    taken = [str(one.transfer_syntax[0]) for one in association.accepted_contexts]
    if association.is_established:
        association.release()
    return taken[0] if taken else None


def test_the_best_syntax_is_taken_down_to_the_last(node: Node) -> None:
    """Offered all that there are, worst first, then all but the one taken: the order of taking is ours."""
    left = [*reversed(OFFERED), *(str(one) for one in ALL_TRANSFER_SYNTAXES if str(one) not in OFFERED)]
    taken = []
    while (syntax := accepted(node, US, left)) is not None:
        taken.append(syntax)
        left.remove(syntax)
    assert taken == OFFERED == list(TRANSFER_SYNTAXES)
    assert {PREFIX + ".1.99", PREFIX + ".4.100", PREFIX + ".4.102", PREFIX + ".4.107"} <= set(left)


def test_ultrasound_classes_are_offered_and_others_are_not(node: Node) -> None:
    for suffix in ("6.1", "3.1", "6", "3", "6.2", "7", "7.4"):
        assert accepted(node, CLASS_PREFIX + suffix, OFFERED) == OFFERED[0], suffix
    # Photoacoustic, CT, mammography, MR, PET, RT image, computed radiography, Enhanced CT.
    for suffix in ("6.3", "2", "1.2", "4", "128", "481.1", "1", "2.1"):
        assert accepted(node, CLASS_PREFIX + suffix, OFFERED) is None, suffix
    assert not any(one.removeprefix(CLASS_PREFIX) == "6.3" for one in STORAGE_CLASSES)


def content_of(path: Path) -> Transmitted:
    """What a scanner sends of a file; one meta group of the corpus is too damaged for the library to skip."""
    if path.name != "fodicom-GH364.dcm":
        return transmitted(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = dcmread(path)
    content = path.read_bytes()
    content = content[content.index(b"\x08\x00\x08\x00CS") :]
    return Transmitted(dataset.SOPClassUID, dataset.SOPInstanceUID, OFFERED[0], content)


def test_every_file_offered_to_the_gateway_is_kept_with_its_pixels(node: Node, dicom_us: Path) -> None:
    faults = {}
    for name, expected in expectations(dicom_us).items():
        sent = content_of(dicom_us / name)
        before = set((node.folder / "images").glob("*/*.dcm"))
        answer = send_bytes(node.port, sent)
        if name in NOT_OFFERED:
            if answer != "rejected":
                faults[name] = f"answered {answer}"
            continue
        [kept] = set((node.folder / "images").glob("*/*.dcm")) - before or {None}
        if answer != 0 or kept is None:
            faults[name] = f"answered {answer}"
        elif fault := pixel_fault(decoded(kept), expected):
            faults[name] = fault
    assert not faults


@dataclass(frozen=True)
class Outcome:
    """What a run on a folder says of one file."""

    reasons: frozenset[str]
    details: tuple[str, ...]


def groups(dicom_us: Path) -> list[list[str]]:
    """The names in as few folders as possible without two objects of one SOP Instance UID in any."""
    filled: list[list[str]] = []
    known = expectations(dicom_us)
    for name, expected in known.items():
        same = set(expected.get("same_sop_instance_uid_as") or ())
        for group in filled:
            if not same & set(group):
                group.append(name)
                break
        else:
            filled.append([name])
    return filled


@pytest.fixture(scope="module")
def outcomes(dicom_us: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    """One-shot runs over the whole corpus."""
    found: dict[str, Outcome] = {}
    root = tmp_path_factory.mktemp("folders")
    for number, names in enumerate(groups(dicom_us)):
        source, target = root / f"in{number}", root / f"out{number}"
        source.mkdir()
        for name in names:
            shutil.copy(dicom_us / name, source)
        assert oneshot.main(source, target) == 0
        facts = json.loads((target / "result.json").read_text())
        aside: list[dict[str, Any]] = [
            one for study in facts.get("studies", [facts]) for one in study["set_aside"]
        ]
        for name in names:
            mine = [one for one in aside if one["file_name"] == name]
            found[name] = Outcome(
                frozenset(one["reason"] for one in mine), tuple(one["detail"] for one in mine)
            )
    return found


def test_every_file_in_a_folder_is_analysed_or_set_aside_with_the_right_reason(
    outcomes: dict[str, Outcome], dicom_us: Path
) -> None:
    """What decodes is judged by its pixels and its header; what does not is named by its syntax."""
    for name, expected in expectations(dicom_us).items():
        outcome = outcomes[name]
        if name in UNSUPPORTED:
            assert outcome.reasons == {"unsupported-transfer-syntax"}, name
            assert UNSUPPORTED[name] in outcome.details[0]
        else:
            not_ours = {"unsupported-transfer-syntax", "pixels-undecodable", "unreadable", "not-dicom"}
            assert not outcome.reasons & not_ours, (name, outcome.details)
        part = str(expected.get("BodyPartExamined") or "").upper()
        if part not in ("", "BREAST") and name not in UNSUPPORTED:
            assert outcome.reasons == {"not-breast"}, name
