"""Patients compared: what counts as the same, and every way in which a destination may not tell."""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind as STUDY_FIND

from app.node.association import free_when_over
from app.node.identity import Compared, compare, not_checked, patient_of, read_patient
from app.node.identity_query import IdentityCheck
from app.settings import DestinationSettings
from tests.node import peers
from tests.node.peers import qrscp, storescp
from tests.node.rig import Pacs, free_port, send, ultrasound
from tests.operators.made_files import uid
from tests.orthanc import Orthanc, running_orthanc
from tests.programs import program

MATCHED, MISMATCH = "matched", "mismatch"


def named(**values: Any) -> Any:
    """The patient of a data set with these attributes."""
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return patient_of(dataset)


def same_id(one: str, other: str) -> str:
    """What comes of two names under one PatientID."""
    return compare(named(PatientID="P1", PatientName=one), [named(PatientID="P1", PatientName=other)]).code


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("DOE^JANE", "Doe^Jane", MATCHED),
        ("DOE^JANE^^^", "DOE^JANE", MATCHED),
        ("DOE^JANE^^DR", "DOE^JANE^^^", MATCHED),
        ("DOE^JANE^MARIA", "DOE^JANE", MATCHED),
        ("DOE^JANE^MARIA", "DOE^JANE^ROSE", MISMATCH),
        ("O'NEIL^ANNE-MARIE", "ONEIL^ANNE MARIE", MATCHED),
        ("Müller^Änne", "MULLER^ANNE", MATCHED),
        ("Yamada^Tarou=山田^太郎", "Yamada^Taro=山田^太郎", MISMATCH),
        ("Yamada^Tarou==やまだ^たろう", "Smith^Anna==やまだ^たろう", MISMATCH),
        ("=山田^太郎=やまだ^たろう", "=山田^多朗=やまだ^たろう", MISMATCH),
        ("==ガンダ^ハナ", "==カンダ^ハナ", MISMATCH),
        ("==ガンダ^バナ", "==ｶﾞﾝﾀﾞ^ﾊﾞﾅ", MATCHED),
        ("Παπαδοπούλου^Άννα", "ΠΑΠΑΔΟΠΟΥΛΟΥ^ΑΝΝΑ", MATCHED),
        ("Королёва^Анна", "КОРОЛЕВА^АННА", MATCHED),
        ("İnan^Şule", "INAN^SULE", MATCHED),
        ("Yamada^Tarou=山田^太郎", "Yamada^Tarou", MATCHED),
        ("Yamada^Tarou=山田^太郎", "Suzuki^Tarou=鈴木^太郎", MISMATCH),
        ("DOE^JANE", "ROE^JANE", MISMATCH),
        ("DOE^JANE", "JANE^DOE", MISMATCH),
        ("DOE^JANE", "", MATCHED),
    ],
)
def test_names_differ_in_more_than_form_or_not(one: str, other: str, expected: str) -> None:
    assert same_id(one, other) == same_id(other, one) == expected


NAMES = st.text("aAüß'-^= \ufffd山太", max_size=16).filter(lambda name: name.count("=") < 3)


@given(NAMES, NAMES)
@hypothesis_settings(deadline=None)
def test_any_two_names_compare_the_same_either_way(one: str, other: str) -> None:
    assert same_id(one, other) == same_id(other, one)
    assert same_id(one, one) == MATCHED


WORDS = st.sampled_from(["", "Doe", "Dóe", "Roe", "山田", "太郎", "ガ", "カ", "が", "か"])


@given(st.lists(st.tuples(WORDS, WORDS), min_size=3, max_size=3))
@hypothesis_settings(deadline=None)
def test_one_representation_that_differs_is_a_difference(groups: list[tuple[str, str]]) -> None:
    """Whatever the others say, with and without a PatientID; what both give and none contradicts agrees."""
    one, other = ("=".join(side) for side in zip(*groups, strict=True))
    alone = [same_id(f"{a}^", f"{b}^") for a, b in groups]
    assert same_id(one, other) == (MISMATCH if MISMATCH in alone else MATCHED)
    found = compare(
        named(PatientName=one, PatientBirthDate="19700101"),
        [named(PatientName=other, PatientBirthDate="19700101")],
    )
    given_twice = any(a and b for a, b in groups)
    expected = MATCHED if given_twice else "nothing-to-compare"
    assert found.code == (MISMATCH if MISMATCH in alone else expected)


@given(st.text("カハきほかはㄱ가กิदिאָ", max_size=6), st.sampled_from("\u3099\u309a"))
@hypothesis_settings(deadline=None)
def test_marks_outside_latin_greek_and_cyrillic_make_another_letter(text: str, mark: str) -> None:
    assert same_id(f"{text}カ^A", f"{text}カ{mark}^A") == MISMATCH


@given(st.text("aeouAEOUαωЕИ", min_size=1, max_size=6), st.sampled_from("\u0300\u0301\u0308\u030c"))
@hypothesis_settings(deadline=None)
def test_accents_of_latin_greek_and_cyrillic_are_form(text: str, mark: str) -> None:
    assert same_id(f"{text}^A", f"{text}{mark}^A") == MATCHED


def test_what_one_side_leaves_out_is_not_compared() -> None:
    ours = named(PatientID="P1", IssuerOfPatientID="A", PatientName="A^B", PatientBirthDate="19700101")
    assert compare(ours, [named(PatientID=" P1 ")]).code == MATCHED
    assert compare(ours, [named(PatientName="A^B", PatientBirthDate="19700101")]).code == MATCHED
    assert compare(ours, [named(PatientName="A^B")]).code == "nothing-to-compare"
    assert compare(ours, []).code == "study-unknown"
    assert compare(named(), [ours]).code == "nothing-to-compare"
    other = named(PatientID="P2", IssuerOfPatientID="B", PatientName="C^B", PatientBirthDate="19700102")
    everything = ("PatientID", "IssuerOfPatientID", "PatientName", "PatientBirthDate")
    assert compare(ours, [other]) == Compared(MISMATCH, everything)
    # Two patients under one study: a person's task, whoever of them is ours.
    assert compare(ours, [ours, named(PatientID="P2")]) == Compared(MISMATCH, ("PatientID",))


def test_a_header_that_cannot_be_read_names_nobody(tmp_path: Path) -> None:
    (tmp_path / "r.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\xff" * 40)
    assert compare(read_patient(tmp_path / "r.dcm"), [named(PatientID="P1")]).code == "nothing-to-compare"


def asked(
    port: int,
    study: str = "study",
    *,
    url: str | None = None,
    seconds: float = 5,
    image: Dataset | None = None,
) -> Compared:
    """Compare a result for an image as `ultrasound` makes it with what a destination has."""
    destination = DestinationSettings(
        name="pacs",
        ae_title="PACS",
        host="127.0.0.1",
        port=port,
        identity_check="qido" if url else "c-find",
        qido_url=url,
    )
    with IdentityCheck(destination, "BUSMAP", seconds) as check:
        return check.compare(uid(study), patient_of(image or ultrasound("1")))


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    with peers.archive(tmp_path_factory.mktemp("archive") / "orthanc") as one:
        yield one


@pytest.mark.peers
def test_orthanc_tells_by_c_find_and_qido(archive: Orthanc) -> None:
    url = archive.root + "/dicom-web"
    foreign = ultrasound("1", "named", PatientName="Müller^Änne", PatientID="Ä1")
    wrong = ultrasound("1", "corrected", PatientName="WRONG^PERSON", PatientID="P9")
    assert send(archive.dicom_port, ultrasound("1", "kept"), wrong, foreign) == [0] * 3
    archive.correct(uid("corrected"), PatientID="P2", PatientName="OTHER^PERSON")
    for at in (None, url):
        assert asked(archive.dicom_port, "kept", url=at) == Compared(MATCHED)
        assert asked(archive.dicom_port, "named", url=at, image=foreign) == Compared(MATCHED)
        found = asked(archive.dicom_port, "corrected", url=at, image=wrong)
        assert found == Compared(MISMATCH, ("PatientID", "PatientName"))
        assert asked(archive.dicom_port, "nowhere", url=at) == Compared("study-unknown")
    assert asked(archive.dicom_port, "kept", url=archive.root + "/elsewhere").code == "http-404"


@pytest.mark.peers
def test_orthanc_that_allows_no_query(tmp_path: Path) -> None:
    with running_orthanc(tmp_path / "closed") as closed:
        assert send(closed.dicom_port, ultrasound("1")) == [0]
        found = asked(closed.dicom_port)
        assert not_checked(found.code)


@pytest.mark.peers
def test_https_is_verified(archive: Orthanc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Orthanc behind a server that speaks TLS, as hospitals do it: its own HTTPS dies under OpenSSL 3."""
    key, authority = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = [program("openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"]
    command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run([*command, "-keyout", str(key), "-out", str(authority)], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority, key)
    assert send(archive.dicom_port, ultrasound("1", "secure")) == [0]
    with web(lambda path: (200, archive.get(path)), tls=context) as url:
        assert asked(1, "secure", url=url + "/dicom-web").code == "tls-refused"
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority))
        assert asked(1, "secure", url=url + "/dicom-web").code == MATCHED
        # Right certificate, wrong name.
        assert (
            asked(1, "secure", url=url.replace("localhost", "127.0.0.1") + "/dicom-web").code == "tls-refused"
        )


@pytest.mark.peers
def test_storescp_offers_no_query(tmp_path: Path) -> None:
    with storescp(tmp_path / "store") as port:
        assert asked(port).code == "no-query-service"


def test_qrscp_tells(tmp_path: Path) -> None:
    with qrscp(tmp_path / "qr") as port:
        assert send(port, ultrasound("1"), ultrasound("2", "other", PatientID="P2")) == [0, 0]
        assert asked(port) == Compared(MATCHED)
        assert asked(port, "other") == Compared(MISMATCH, ("PatientID",))
        assert asked(port, "nowhere").code == "study-unknown"


@contextlib.contextmanager
def find_scp(answer: Any, **entity_settings: Any) -> Iterator[int]:
    """A query SCP that answers as it is told."""
    entity = AE("PACS")
    for name, value in entity_settings.items():
        setattr(entity, name, value)
    entity.add_supported_context(STUDY_FIND)
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_FIND, answer)])
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()


def found(**values: str) -> Dataset:
    one = Dataset()
    one.QueryRetrieveLevel = "STUDY"
    for keyword, value in values.items():
        setattr(one, keyword, value)
    return one


def test_an_error_status_is_no_answer() -> None:
    with find_scp(lambda event: iter([(0xA700, None)])) as port:
        assert asked(port).code == "status-0xA700"


def test_answers_of_other_studies_are_no_answer() -> None:
    with find_scp(lambda event: iter([(0xFF00, found(StudyInstanceUID="1.2.3", PatientID="P2"))])) as port:
        assert asked(port).code == "study-unknown"


def test_a_rejected_association_is_no_answer() -> None:
    with find_scp(lambda event: iter(()), require_calling_aet=["SOMEBODY"]) as port:
        assert asked(port).code == "query-rejected"


def test_endless_answers_are_cut() -> None:
    def endless(event: Any) -> Iterator[tuple[int, Dataset]]:
        while event.assoc.is_established:
            yield 0xFF00, found(StudyInstanceUID="1.2.3")

    with find_scp(endless) as port:
        assert asked(port).code == "answer-unreadable"


def _good(event: Any) -> Iterator[tuple[int, Dataset | None]]:
    study = str(event.identifier.StudyInstanceUID)
    yield 0xFF00, found(StudyInstanceUID=study, PatientID="P1")
    yield 0x0000, None


def _refusing(event: Any) -> Iterator[tuple[int, Dataset | None]]:
    yield 0xC001, None


def _endless(event: Any) -> Iterator[tuple[int, Dataset | None]]:
    while event.assoc.is_established:
        yield 0xFF00, found(StudyInstanceUID="1.2.3", PatientID="P2")


def _batch(destination: DestinationSettings, *studies: str) -> list[str]:
    with IdentityCheck(destination, "BUSMAP", 5) as check:
        return [check.compare(study, named(PatientID="P1")).code for study in studies]


@pytest.mark.parametrize(("bad", "code"), [(_refusing, "status-0xC001"), (_endless, "answer-unreadable")])
def test_a_bad_answer_costs_its_own_study_alone(bad: Any, code: str) -> None:
    def answer(event: Any) -> Any:
        return bad(event) if event.identifier.StudyInstanceUID == "1.2.66" else _good(event)

    with find_scp(answer) as port:
        destination = DestinationSettings(name="pacs", ae_title="PACS", host="127.0.0.1", port=port)
        assert _batch(destination, "1.2.66", "1.2.1", "1.2.2") == [code, MATCHED, MATCHED]


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (500, b"", "http-500"),
        (200, b"[" + b" " * 2_000_000, "answer-unreadable"),
        (200, b'{"a"', "answer-unreadable"),
    ],
)
def test_a_bad_web_answer_costs_its_own_study_alone(status: int, body: bytes, code: str) -> None:
    def answer(path: str) -> tuple[int, bytes]:
        if "1.2.66" in path:
            return status, body
        study = found(StudyInstanceUID="1.2.1", PatientID="P1")
        return 200, f"[{study.to_json()}]".encode()

    with web(answer) as url:
        destination = DestinationSettings(
            name="pacs", ae_title="PACS", host="127.0.0.1", port=1, identity_check="qido", qido_url=url
        )
        assert _batch(destination, "1.2.66", "1.2.1") == [code, MATCHED]


def test_a_silent_destination_is_asked_once_a_batch() -> None:
    stop, questions = threading.Event(), []

    def silent(event: Any) -> Iterator[tuple[int, None]]:
        questions.append(event)
        stop.wait(30)
        yield 0x0000, None

    with find_scp(silent) as port:
        destination = DestinationSettings(name="pacs", ae_title="PACS", host="127.0.0.1", port=port)
        began = time.monotonic()
        with IdentityCheck(destination, "BUSMAP", 0.5) as check:
            codes = {check.compare(f"1.2.{number}", named(PatientID="P1")).code for number in range(50)}
        assert codes == {"query-timeout"}
        assert len(questions) == 1
        assert time.monotonic() - began < 10
        stop.set()


def test_a_destination_that_aborts_holds_nobody_up() -> None:
    def abort(event: Any) -> None:
        event.assoc.abort()

    entity = AE("PACS")
    entity.add_supported_context(STUDY_FIND)
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_ESTABLISHED, abort)])
    try:
        for _ in range(5):
            assert not_checked(asked(server.server_address[1], seconds=0.5).code)
    finally:
        server.shutdown()


def test_a_request_on_an_association_that_is_over_ends() -> None:
    """The library checks, then waits for its reactor: an abort between the two must not hold it for ever."""
    entity = AE("TEST")
    entity.dimse_timeout = entity.acse_timeout = 0.5
    entity.add_requested_context(STUDY_FIND)
    with find_scp(lambda event: iter(())) as port:
        association = entity.associate("127.0.0.1", port)
        free_when_over(association)
        association.abort()
        association.join(10)
        association.is_established = True  # as it was when the library checked
        ended = threading.Event()

        def ask() -> None:
            list(association.send_c_find(found(StudyInstanceUID="1.2.3"), STUDY_FIND))
            ended.set()

        threading.Thread(target=ask, daemon=True).start()
        assert ended.wait(30)


def test_nobody_and_somebody_who_says_nothing() -> None:
    assert asked(free_port()).code == "unreachable"
    with socket.create_server(("127.0.0.1", 0)) as mute:
        assert asked(mute.getsockname()[1], seconds=0.5).code in ("unreachable", "query-timeout")
    assert asked(1, url=f"http://127.0.0.1:{free_port()}").code == "unreachable"


@contextlib.contextmanager
def web(
    answer: Callable[[str], tuple[int, bytes]],
    *,
    dribble: threading.Event | None = None,
    tls: ssl.SSLContext | None = None,
) -> Iterator[str]:
    """A web server that answers paths; a byte at a time until `dribble` is set, where it is given."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = answer(self.path)
            self.send_response(status)
            self.send_header("Location", "http://127.0.0.1:1/")
            self.end_headers()
            while dribble is not None and not dribble.is_set():
                try:
                    self.wfile.write(b" ")
                except OSError:
                    return
                dribble.wait(0.05)
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"{'https' if tls else 'http'}://localhost:{server.server_port}"
    finally:
        if dribble is not None:
            dribble.set()
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (200, b"[]", "study-unknown"),
        (204, b"", "study-unknown"),
        (200, b"<html>", "answer-unreadable"),
        (200, b'[{"0020000D": 5}]', "answer-unreadable"),
        (200, b"[" + b" " * 2_000_000, "answer-unreadable"),
        (302, b"", "http-302"),
        (401, b"", "http-401"),
        (500, b"", "http-500"),
    ],
)
def test_web_answers_that_tell_nothing(status: int, body: bytes, code: str) -> None:
    with web(lambda path: (status, body)) as url:
        assert asked(1, url=url).code == code


def test_a_web_server_that_dribbles_is_left() -> None:
    with web(lambda path: (200, b"[]"), dribble=threading.Event()) as url:
        assert asked(1, url=url, seconds=0.5).code == "query-timeout"


def test_a_storage_alone_is_no_query_service(pacs: Pacs) -> None:
    assert asked(pacs.port).code == "no-query-service"


def test_every_reason_has_words() -> None:
    assert not_checked(None) is None
    assert not_checked(MATCHED) is None
    assert not_checked("study-unknown") == "the destination does not know the study"
    assert "0xA700" in str(not_checked("status-0xA700"))
