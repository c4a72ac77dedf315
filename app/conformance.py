"""The page docs/conformance.md: the DICOM conformance statement, its tables made from what the code offers.

Form: PS3.2 annex N, as far as it applies to a node without a user interface. Run as
`python -m app.conformance`; a test compares the page with what this prints.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pydicom.uid import UID as Uid

from app.node.deliver import Verdict, verdict
from app.node.guard import MAXIMUM_PDU_BYTES
from app.node.identity_query import STUDY_ROOT_FIND
from app.node.intake import MISMATCH, OUT_OF_RESOURCES, SUCCESS
from app.node.receive import STORAGE_CLASSES, TRANSFER_SYNTAXES, VERIFICATION
from app.settings import DestinationSettings, GatewaySettings, known_keys
from operators.eligibility import ULTRASOUND_CLASSES
from operators.report.codes import own_codes
from operators.report.uids import PRIVATE_SCHEME

_STORAGE = "1.2.840.10008.5.1.4.1.1."
# What busmap writes and sends, and when.
SENT = {
    _STORAGE + "88.34": "report, by default",
    _STORAGE + "88.33": "report, where `report.sr_sop_class` says so",
    _STORAGE + "7": "captures",
    _STORAGE + "88.59": "rejection note, where the destination asks for it",
}
_STORED_MEANING = {
    SUCCESS: "stored, on disk and in the database; also identical bytes once more, other bytes under a known UID "
    "(quarantine), and busmap's own results coming back (not kept)",
    OUT_OF_RESOURCES: "no space, or no database: not stored, send again",
    MISMATCH: "cannot be filed: study, series or SOP Instance UID missing or malformed, class or instance not "
    "that of the request, or a cut data set",
}


def conformance_page() -> str:
    """The whole page."""
    return (
        "\n\n".join(
            (
                "# DICOM conformance statement",
                "Written by `make docs` from the program itself. busmap is research software, not a cleared "
                "device; this\nstatement says what it does on the network, not that it is fit for a purpose.",
                "## Overview",
                _table(("SOP class", "user (SCU)", "provider (SCP)"), _overview()),
                "No storage commitment, no query or retrieve as a provider, no worklist, no print, no media. No "
                "TLS on the DICOM\nport yet: keep it inside the hospital's network.",
                "## Gateway: receives",
                _association_policy(),
                "### Presentation contexts accepted",
                f"Each storage class below with each transfer syntax of the next table; {_named(VERIFICATION)} with "
                "the\nlibrary's default syntaxes. Of the syntaxes a sender offers in one context the first in this "
                "order is taken.",
                _table(("storage class", "UID", "use"), _received()),
                _table(("transfer syntax", "UID"), ((_named(uid), uid) for uid in TRANSFER_SYNTAXES)),
                "Deflated and video syntaxes are not accepted over the network.",
                "### Answers to C-STORE",
                _table(("status", "meaning"), ((f"0x{s:04X}", m) for s, m in _STORED_MEANING.items())),
                "C-ECHO is answered 0x0000 whatever the state of the models. Asynchronous operations and role "
                "selection are not\nnegotiated. A request of other kinds is refused by the library (pynetdicom) "
                "with its status.",
                "## Deliverer: sends",
                _table(
                    ("SOP class", "UID", "when"), ((_named(uid), uid, when) for uid, when in SENT.items())
                ),
                f"One context for each class, {_named(ExplicitVRLittleEndian)}, and another one, "
                f"{_named(ImplicitVRLittleEndian)}, for\ndestinations that take the default syntax alone. The bytes "
                "sent are those composed; they are encoded anew only\nfor the latter.",
                "### What a destination's answer does",
                _table(("status", "delivery"), _verdicts()),
                "Tried again means: full jitter, `delivery.retry_minimum_seconds` to "
                "`delivery.retry_maximum_seconds`, for\n`delivery.retry_for_hours`; parked means that a person has "
                "to look (`busmap status`).",
                f"Before sending, where `identity_check` of the destination says so, the study's patient is asked "
                f"for by C-FIND\n({_named(STUDY_ROOT_FIND)}, STUDY level) or QIDO-RS (PS3.18 10.6).",
                "## Objects made",
                f"Patient, study and request attributes are those of the source. {PRIVATE_SCHEME} is the coding scheme "
                "of busmap's own\nconcepts, identified in Coding Scheme Identification Sequence:",
                _table(("code", "meaning"), ((code.value, code.meaning) for code in own_codes())),
                "Series 9001: structured report, TID 1500 with a TID 1410 group a lesion and key image, COMPLETE, "
                "UNVERIFIED,\nPRELIMINARY. Series 9002: secondary captures, RGB, uncompressed. UIDs are 2.25 and a "
                "digest of input, models, engine\nand settings: the same result has the same UIDs.",
                "## Character sets",
                "Received: all of PS3.3 C.12.1.1.2; what is declared wrongly is read as far as it can be, with a "
                "remark in the report.\nSent: ISO_IR 192 (UTF-8).",
                "## Configuration",
                "All settings with defaults: [settings.md](settings.md). Those of the network:",
                _table(("setting", "meaning", "default"), _settings()),
            )
        )
        + "\n"
    )


def _overview() -> list[tuple[str, str, str]]:
    rows = [(_named(VERIFICATION), "no", "yes")]
    rows += [(_named(uid), "yes" if uid in SENT else "no", "yes") for uid in STORAGE_CLASSES]
    return [*rows, (_named(STUDY_ROOT_FIND), "yes, by setting", "no")]


def _received() -> list[tuple[str, str, str]]:
    rows = []
    for uid in STORAGE_CLASSES:
        if uid in ULTRASOUND_CLASSES:
            use = "analysed"
        elif uid.startswith(_STORAGE + "7"):
            use = "kept; analysed where `analysis.accept_secondary_capture` says so"
        else:
            use = "kept and named in the report as not analysed"
        rows.append((_named(uid), uid, use))
    return rows


def _association_policy() -> str:
    fields = GatewaySettings.model_fields
    default = {name: fields[name].default for name in fields}
    return (
        f"AE title `gateway.ae_title` ({default['ae_title']}), port {default['port']} by default; another called "
        f"title is refused, and any calling\ntitle taken unless `gateway.allowed_calling_ae_titles` names some. "
        f"At most {default['maximum_associations']} associations at once,\n"
        f"{default['maximum_associations_per_address']} from one address. Maximum PDU {MAXIMUM_PDU_BYTES} bytes. "
        f"A connection silent for {default['first_byte_timeout_seconds']:g} s before its request, or\n"
        f"{default['network_timeout_seconds']:g} s within an association, is closed."
    )


def _verdicts() -> list[tuple[str, str]]:
    """Runs of statuses with one verdict."""
    words = {
        Verdict.ACCEPTED: "accepted",
        Verdict.RETRY: "tried again",
        Verdict.PARK: "parked",
    }
    rows: list[tuple[str, str]] = []
    start = 0
    for status in range(1, 0x10001):
        if status == 0x10000 or verdict(status) is not verdict(start):
            shown = f"0x{start:04X}" if status - 1 == start else f"0x{start:04X} to 0x{status - 1:04X}"
            rows.append((shown, words[verdict(start)]))
            start = status
    return rows


def _settings() -> list[tuple[str, str, str]]:
    rows = []
    for key, section in known_keys().items():
        if key.startswith("gateway."):
            info = section.model_fields[key.split(".")[-1]]
            rows.append((f"`{key}`", info.description or "", f"{info.default}"))
    for name, info in DestinationSettings.model_fields.items():
        default = "required" if info.is_required() else str(info.default).replace("None", "none")
        rows.append((f"`delivery.destinations[].{name}`", info.description or "", default))
    return rows


def _named(uid: str) -> str:
    retired = " (retired)" if uid in (_STORAGE + "6", _STORAGE + "3") else ""
    return f"{Uid(uid).name}{retired}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    print(conformance_page(), end="")
