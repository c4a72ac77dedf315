"""Names in every character set of DICOM, and broken ones, from the header to report and capture."""

from __future__ import annotations

import dataclasses
import struct
import subprocess
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.charset import python_encoding
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.valuerep import PersonName

from operators.compose_report import compose_report
from operators.load_study import load_study
from operators.read_header import read_header
from operators.study import Study
from operators.write_results import write_results
from tests.operators.made_files import image, save, speckle
from tests.programs import program

# Declared character set, name as written (PS3.5 annexes H to L, and more), and how its bytes come to be.
NAMES = {
    "latin-1": ("ISO_IR 100", "Müller^Ægir^Ñandú"),
    "latin-2": ("ISO_IR 101", "Dvořák^Žofie"),
    "latin-5": ("ISO_IR 148", "Yıldız^Şule"),
    "cyrillic": ("ISO_IR 144", "Люкceмбypг^Анна"),
    "greek": ("ISO_IR 126", "Διονυσιος^Ελένη"),
    "arabic": ("ISO_IR 127", "قباني^لنزار"),
    "hebrew": ("ISO_IR 138", "שרון^דבורה"),
    "thai": ("ISO_IR 166", "นามสกุล^ชื่อ"),
    "japanese": ("\\ISO 2022 IR 87", "Yamada^Tarou=山田^太郎=やまだ^たろう"),
    "japanese-katakana": ("ISO 2022 IR 13\\ISO 2022 IR 87", "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう"),
    "korean": ("\\ISO 2022 IR 149", "Hong^Gildong=洪^吉洞=홍^길동"),
    "chinese-gb18030": ("GB18030", "Wang^XiaoDong=王^小东"),
    "chinese-gbk": ("GBK", "Wang^XiaoDong=乗^小东"),  # its second byte is a backslash
    "chinese-2022": ("\\ISO 2022 IR 58", "Zhang^XiaoDong=张^小东"),
    "utf-8": ("ISO_IR 192", "Nguyễn^Thị=𠮷田^太郎"),
}
MEANT = "Text that does not fit its declared character set was read as"
# Raw bytes of the name, what is declared, what comes out, and what is said.
BROKEN = {
    "latin-1 undeclared": ("Müller^Ægir".encode("latin-1"), None, "Müller^Ægir", "read as Latin-1"),
    "utf-8 undeclared": ("Müller^山田".encode(), None, "Müller^山田", "read as UTF-8"),
    "unknown set": ("Müller^A".encode("latin-1"), "ISO_IR 999", "Müller^A", "unknown character set"),
    "no set at all": ("Müller^A".encode(), "<script>", "Müller^A", "unknown character set"),
    "latin-1 declared as utf-8": ("Müller^A".encode("latin-1"), "ISO_IR 192", "Müller^A", MEANT),
    "utf-8 declared as ascii": ("Müller^A".encode(), "ISO_IR 6", "Müller^A", MEANT),
    "escapes undeclared": (
        b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B",
        None,
        "Yamada^Tarou=山田^太郎",
        "escape",
    ),
    "control characters": (b"Mu\x07ller^A\x1bB", "ISO_IR 100", "Muller^AB", "Control characters"),
    "half a character": (b"Wang^Xiao=\xcd\xf5^\xd0", "GB18030", "Wang^Xiao=Íõ^Ð", MEANT),
}


def with_name(path: Path, name: bytes, declared: str | None) -> Path:
    """An image whose Patient's Name has exactly these bytes."""
    ds = image(speckle(8, 8))
    del ds.SpecificCharacterSet, ds.PatientName
    content = save(ds, path).read_bytes()
    for tag, vr, value in (
        (b"\x10\x00\x10\x00", b"PN", name),
        (b"\x08\x00\x05\x00", b"CS", declared and declared.encode()),
    ):
        if value is not None:
            padded = value + b" " * (len(value) % 2)
            after = content.index({b"PN": b"\x10\x00\x20\x00LO", b"CS": b"\x08\x00\x16\x00UI"}[vr])
            element = tag + vr + struct.pack("<H", len(padded)) + padded
            content = content[:after] + element + content[after:]
    path.write_bytes(content)
    return path


def encoded(name: str, declared: str) -> bytes:
    """The name as a sender with this character set writes it, by pydicom's writer."""
    if declared == "\\ISO 2022 IR 58":  # annex K.2 of PS3.5, byte for byte
        return b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab"
    encodings = tuple(python_encoding[one or "ISO_IR 6"] for one in declared.split("\\"))
    return PersonName(name).encode(encodings)


def study_of(path: Path) -> Study:
    (study,) = load_study([path])
    return study


@pytest.fixture
def results_of(analysed, context, tmp_path):
    """Report and captures of a study, written and read back."""

    def compose(study: Study) -> list[Path]:
        made = analysed("not breast ultrasound")
        result = dataclasses.replace(made, study=study, warnings=study.warnings, frames=(), lesions=())
        write_results(compose_report(result, context), tmp_path / "result")
        return sorted((tmp_path / "result").glob("*.dcm"))

    return compose


def dumped(path: Path) -> str:
    said = subprocess.run([program("dcmdump"), "+U8", "-q", str(path)], capture_output=True, check=True)
    return said.stdout.decode("utf-8")


@pytest.mark.parametrize("case", NAMES)
def test_a_declared_name_comes_through_unharmed(results_of, tmp_path: Path, case: str) -> None:
    declared, name = NAMES[case]
    study = study_of(with_name(tmp_path / "a.dcm", encoded(name, declared), declared))
    assert str(study.header.PatientName) == name
    assert study.warnings == ()
    for path in results_of(study):
        written = dcmread(path)
        assert written.SpecificCharacterSet == "ISO_IR 192"
        assert str(written.PatientName) == name


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_name_is_kept_as_far_as_it_can_be_and_told(results_of, tmp_path: Path, case: str) -> None:
    raw, declared, name, said = BROKEN[case]
    study = study_of(with_name(tmp_path / "a.dcm", raw, declared))
    assert str(study.header.PatientName) == name
    assert any(said in warning for warning in study.warnings), study.warnings
    for path in results_of(study):
        assert str(dcmread(path).PatientName) == name
    assert said in dcmread(results_path(tmp_path)).to_json()


def results_path(folder: Path) -> Path:
    return folder / "result" / "01-structured-report.dcm"


@pytest.mark.peers
@pytest.mark.parametrize("case", ["japanese", "korean", "arabic", "thai", "chinese-gbk", "greek"])
def test_other_readers_read_the_name(results_of, tmp_path: Path, case: str) -> None:
    program("dcmdump")
    dciodvfy = program("dciodvfy")
    declared, name = NAMES[case]
    study = study_of(with_name(tmp_path / "a.dcm", encoded(name, declared), declared))
    report, *captures = results_of(study)
    for path in (report, *captures):
        assert f"[{name}]" in dumped(path)
        said = subprocess.run([dciodvfy, "-new", str(path)], capture_output=True, text=True, check=False)
        errors = [line for line in said.stderr.splitlines() if line.startswith("Error")]
        assert not [line for line in errors if "Laterality" not in line], errors
    listed = subprocess.run(["dsrdump", "+Pl", str(report)], capture_output=True, check=True).stdout
    assert "AI result, not verified" in listed.decode("utf-8", "replace")


def test_several_names_in_one_attribute_stay_several(tmp_path: Path) -> None:
    ds = image(speckle())
    ds.OperatorsName = ["山田^太郎", "", "Müller^" + "B" * 57]
    path = save(ds, tmp_path / "a.dcm")
    content = path.read_bytes().replace(b"B" * 57, b"A" * 80)
    at = content.index(b"\x08\x00\x70\x10PN") + 6
    length = int.from_bytes(content[at : at + 2], "little") + 80 - 57
    path.write_bytes(content[:at] + struct.pack("<H", length) + content[at + 2 :])
    study = study_of(path)
    names = [str(one) for one in study.instances[0].header.OperatorsName]
    assert names == ["山田^太郎", "", ("Müller^" + "A" * 80)[:64]]


def test_names_in_items_and_descriptions_come_through_too(tmp_path: Path) -> None:
    item = Dataset()
    item.RequestedProcedureDescription = "乳腺超音波"
    ds = image(speckle(), StudyDescription="乳腺超音波", RequestAttributesSequence=[item])
    ds.SpecificCharacterSet = ["", "ISO 2022 IR 87"]
    header = study_of(save(ds, tmp_path / "a.dcm")).header
    assert header.StudyDescription == "乳腺超音波"
    assert header.RequestAttributesSequence[0].RequestedProcedureDescription == "乳腺超音波"


def sets() -> list[str]:
    return ["ISO_IR 100", "ISO_IR 101", "ISO_IR 126", "ISO_IR 144", "ISO_IR 148", "ISO_IR 192", "GB18030"]


def encodable(codec: str) -> st.SearchStrategy[str]:
    letters = st.characters(codec=codec, categories=("L", "M", "N"))
    return st.lists(st.text(letters, min_size=1, max_size=20), min_size=1, max_size=3).map("^".join)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_name_survives_reading_and_writing(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    declared = data.draw(st.sampled_from(sets()))
    name = data.draw(encodable(python_encoding[declared]))
    folder = tmp_path_factory.mktemp("name")
    path = with_name(folder / "a.dcm", name.encode(python_encoding[declared]), declared)
    header = study_of(path).header
    assert str(header.PatientName) == name
    header.save_as(folder / "b.dcm", enforce_file_format=True)
    assert str(dcmread(folder / "b.dcm").PatientName) == name


def several(name: object) -> list[str]:
    return [str(one) for one in name] if isinstance(name, MultiValue) else [str(name)]


@settings(max_examples=100, deadline=None)
@given(
    st.binary(min_size=1, max_size=40),
    st.sampled_from(
        [None, *sets(), "\\ISO 2022 IR 87", "\\ISO 2022 IR 149", "GBK", "ISO_IR 999", "GBK\\GBK"]
    ),
)
def test_any_bytes_become_a_name_that_can_be_written(
    tmp_path_factory: pytest.TempPathFactory, raw: bytes, declared: str | None
) -> None:
    folder = tmp_path_factory.mktemp("bytes")
    path = with_name(folder / "a.dcm", raw, declared)
    header = read_header(path).dataset
    names = several(header.PatientName)
    assert not any(unicodedata.category(character) == "Cc" for one in names for character in one)
    header.save_as(folder / "b.dcm", enforce_file_format=True)
    again = several(dcmread(folder / "b.dcm").PatientName)
    assert [one.rstrip(" ") for one in again] == [one.rstrip(" ") for one in names]
