"""The page docs/conformance.md: the DICOM conformance statement, its tables made from what the code offers.

Form: PS3.2 annex N (Supplement 209), as far as it applies to a node without a user interface. Run as
`python -m app.conformance`; a test compares the page with what this prints.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from pydicom.uid import UID
from pynetdicom import AE, PYNETDICOM_IMPLEMENTATION_UID, PYNETDICOM_IMPLEMENTATION_VERSION

from app.node.deliver import Verdict, verdict
from app.node.guard import MAXIMUM_PDU_BYTES
from app.node.identity import KEYWORDS
from app.node.identity_query import STUDY_ROOT_FIND
from app.node.intake import MISMATCH, OUT_OF_RESOURCES, SUCCESS
from app.node.receive import STORAGE_CLASSES, TRANSFER_SYNTAXES, VERIFICATION
from app.settings import DestinationSettings, GatewaySettings, known_keys
from operators.eligibility import ULTRASOUND_CLASSES
from operators.findings import CATEGORIES
from operators.report.codes import own_codes
from operators.report.document import COPIED
from operators.report.uids import MANUFACTURER, PRIVATE_SCHEME, VERSION

_STORAGE = "1.2.840.10008.5.1.4.1.1."
NOT_STORAGE = 0xC211  # pynetdicom's own
# What busmap writes and sends, and when.
SENT = {
    _STORAGE + "88.34": "report, by default",
    _STORAGE + "88.33": "report, where `report.sr_sop_class` says so",
    _STORAGE + "7": "captures",
    _STORAGE + "88.59": "rejection note, where the destination asks for it",
}
ANSWERS = {
    SUCCESS: "stored, on disk and in the database; also identical bytes once more, other bytes under a known "
    "UID (quarantine), and busmap's own results coming back (not kept)",
    OUT_OF_RESOURCES: "no space, or no database: not stored, send again",
    MISMATCH: "cannot be filed: study, series or SOP Instance UID missing or malformed, class or instance "
    "not as announced or not of the context, no data set, or a cut one",
    NOT_STORAGE: "a request of another kind in a context for storage (the library's; others it aborts)",
}
# How associations and contexts are turned away (PS3.8 9.3.3.2 and 9.3.4).
REJECTIONS = (
    ("another called AE title", "rejected, permanent, service user, 7: called AE title not recognised"),
    (
        "a calling AE title that `gateway.allowed_calling_ae_titles` does not name",
        "rejected, permanent, service user, 3: calling AE title not recognised",
    ),
    (
        "no place left, in all or for this address",
        "rejected, transient, presentation, 2: local limit exceeded",
    ),
    ("a class not listed in 5.1", "context refused, 3: abstract syntax not supported"),
    ("none of the syntaxes of 7.3", "context refused, 4: transfer syntaxes not supported"),
)


def conformance_page() -> str:
    """The whole page."""
    template = Path(__file__).with_name("conformance.md.j2").read_text(encoding="utf-8")
    fields = GatewaySettings.model_fields
    return (
        Environment(undefined=StrictUndefined, keep_trailing_newline=True)  # noqa: S701 - Markdown, no HTML
        .from_string(template)
        .render(
            version=VERSION,
            manufacturer=MANUFACTURER,
            implementation={
                "class_uid": PYNETDICOM_IMPLEMENTATION_UID,
                "version_name": PYNETDICOM_IMPLEMENTATION_VERSION,
                "sender_pdu": AE().maximum_pdu_size,
            },
            identity=KEYWORDS,
            copied=", ".join(COPIED),
            rejections=_table(("when", "answer"), REJECTIONS),
            categories=", ".join(f"CAT{one}" for one in (*CATEGORIES, "NONE", "FEW")),
            overview=_table(("SOP class", "user (SCU)", "provider (SCP)"), _overview()),
            gateway={name: info.default for name, info in fields.items()},
            maximum_pdu_bytes=MAXIMUM_PDU_BYTES,
            received=_table(("storage class", "UID", "use"), _received()),
            syntaxes=_table(("transfer syntax", "UID"), ((_named(uid), uid) for uid in TRANSFER_SYNTAXES)),
            answers=_table(
                ("status", "meaning"), ((f"0x{one:04X}", words) for one, words in ANSWERS.items())
            ),
            sent=_table(
                ("SOP class", "UID", "when"), ((_named(uid), uid, when) for uid, when in SENT.items())
            ),
            verdicts=_table(("status", "delivery"), _verdicts()),
            scheme=PRIVATE_SCHEME,
            codes=_table(("code", "meaning"), ((code.value, code.meaning) for code in own_codes())),
            settings=_table(("setting", "meaning", "default"), _settings()),
        )
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
    return f"{UID(uid).name}{retired}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    print(conformance_page(), end="")
