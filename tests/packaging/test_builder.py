"""The parts of the image builder that need no image: what goes in, and that the same goes in twice."""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
import json
import os
import re
import tarfile
import tomllib
import zipfile
from pathlib import Path

import archive
import debian
import engine
import layer
import pytest
import removals
import sizes
import tree
import wheels
from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

MAP = tree.HERE
NAMES, LEFT_OUT = wheels.read_names(MAP / "python-packages.txt")
PINS = wheels.read_pins(tree.PROJECT / "requirements.txt")


def _files(root: Path, order: int = 1) -> Path:
    """A small root file system, its files made in either order."""
    for name in ("usr/bin/a", "usr/lib/b.so", "usr/lib-x/c", "var/holoscan/output/.keep")[::order]:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (root / "usr/bin/a").chmod(0o755)
    (root / "bin").symlink_to("usr/bin")
    return root


def test_a_layer_is_the_same_whenever_and_however_its_files_came(tmp_path):
    first, second = _files(tmp_path / "1"), _files(tmp_path / "2", -1)
    os.utime(second / "usr/bin/a", (1, 1))
    (second / "usr/lib/b.so").chmod(0o600)
    (first / "usr/lib/b.so").chmod(0o600)
    for root in (first, second):
        layer.write_layer(root, root.with_suffix(".tar"), 1_700_000_000)
    assert first.with_suffix(".tar").read_bytes() == second.with_suffix(".tar").read_bytes()
    with tarfile.open(first.with_suffix(".tar")) as tar:
        members = {member.name: member for member in tar}
    assert {member.mtime for member in members.values()} == {1_700_000_000}
    assert {member.uname for member in members.values()} == {""}
    assert members["usr/bin/a"].mode == 0o755
    assert members["bin"].linkname == "usr/bin"
    output = members["var/holoscan/output"]
    assert (output.uid, output.gid, output.mode) == (1000, 0, 0o1777)


def test_a_layer_refuses_what_no_image_holds(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="pipe is neither"):
        layer.write_layer(tmp_path, tmp_path.with_suffix(".tar"), 0)


def test_an_unpacked_archive_is_what_went_in(tmp_path):
    root = _files(tmp_path / "root")
    layer.write_layer(root, tmp_path / "layer.tar", 0)
    image = archive.read_image(_archive(tmp_path, (tmp_path / "layer.tar").read_bytes()))
    archive.unpack(image, tmp_path / "out")
    assert layer.sha256sums(tmp_path / "out") == layer.sha256sums(root)
    assert "777 0:0 -> usr/bin bin\n" in archive.listing(image)


def test_a_flipped_byte_in_an_archive_is_refused(tmp_path):
    layer.write_layer(_files(tmp_path / "root"), tmp_path / "layer.tar", 0)
    whole = _archive(tmp_path, (tmp_path / "layer.tar").read_bytes())
    data = bytearray(whole.read_bytes())
    data[data.index(b"usr/lib/b.so", data.index(b"ustar"))] ^= 1
    whole.write_bytes(data)
    with pytest.raises(ValueError, match="damaged"):
        archive.read_image(whole)


def test_an_entry_outside_the_root_is_refused(tmp_path):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("../evil"))
    image = archive.read_image(_archive(tmp_path, stream.getvalue()))
    with pytest.raises(ValueError, match="evil"):
        archive.unpack(image, tmp_path / "out")


def _archive(folder: Path, tar: bytes) -> Path:
    """An archive in OCI form around one layer."""
    blobs = {}

    def blob(data: bytes) -> dict[str, object]:
        digest = hashlib.sha256(data).hexdigest()
        blobs[f"blobs/sha256/{digest}"] = data
        return {"digest": f"sha256:{digest}", "size": len(data)}

    manifest = blob(json.dumps({"config": blob(b"{}"), "layers": [blob(tar)]}).encode())
    target = folder / "image.tar"
    with tarfile.open(target, "w") as out:
        for name, data in {**blobs, "index.json": json.dumps({"manifests": [manifest]}).encode()}.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            out.addfile(entry, io.BytesIO(data))
    return target


def test_every_package_is_pinned_by_hash_and_named_once():
    assert len(set(NAMES)) == len(NAMES)
    assert not set(NAMES) & set(LEFT_OUT)
    for pin in wheels.choose(NAMES, PINS):
        assert pin.hashes, pin.name
        assert all(re.fullmatch("[0-9a-f]{64}", one) for one in pin.hashes)


def test_a_package_that_is_not_in_the_lock_is_named():
    with pytest.raises(ValueError, match="no-such-package"):
        wheels.choose(("numpy", "no-such-package"), PINS)


def test_what_the_project_and_its_packages_need_is_in_the_image_or_left_out_with_a_reason():
    project = tomllib.loads((tree.PROJECT / "pyproject.toml").read_text())["project"]["dependencies"]
    needed = [Requirement(one) for one in project]
    known = {*NAMES, *LEFT_OUT}
    looked: set[tuple[str, frozenset[str]]] = set()
    while needed:
        one = needed.pop()
        name, extras = canonicalize_name(one.name), frozenset(one.extras)
        assert name in known, name
        if name in LEFT_OUT or (name, extras) in looked:
            continue
        looked.add((name, extras))
        for text in importlib.metadata.requires(name) or []:
            wanted = Requirement(text)
            environments = [{"extra": extra} for extra in extras or [""]]
            if wanted.marker is None or any(wanted.marker.evaluate(each) for each in environments):
                needed.append(wanted)
    assert all(LEFT_OUT.values()), "each has its reason"
    assert {name for name, _ in looked} == set(NAMES), "nothing is in it that nobody needs"


def test_no_training_code_is_copied():
    assert not [part for part in tree.CODE if re.match(r"models/(?!runtime|__init__)|validation|tests", part)]


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("a/b.py", "a/b.py"),
        ("a-1.data/purelib/a/b.py", "a/b.py"),
        ("a-1.data/platlib/a.so", "a.so"),
        ("a-1.data/scripts/a", None),
        ("a-1.data/data/share/man/a.1", None),
        ("a-1.data/", None),
    ],
)
def test_a_wheels_entry_goes_where_an_installer_puts_it(name, place):
    assert wheels.placed(name) == (None if place is None else Path(place))


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/x"])
def test_a_wheel_cannot_write_elsewhere(name):
    with pytest.raises(ValueError, match="outside"):
        wheels.placed(name)


def test_links_of_a_wheel_are_made_and_their_maker_is_gone(tmp_path):
    wheel = tmp_path / "holo-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as out:
        out.writestr("holo-1.0.data/purelib/holo/lib.so.1.0", "library")
        out.writestr("holo-1.0.data/purelib/holo-1.0.pth", "import wheel_axle.runtime")
        out.writestr("holo-1.0.dist-info/symlinks.txt", "holo-1.0.data/purelib/holo/lib.so,lib.so.1.0,0\n")
    wheels.install(wheel, tmp_path / "site")
    assert (tmp_path / "site/holo/lib.so").read_text() == "library"
    assert (tmp_path / "site/holo/lib.so").is_symlink()
    assert list((tmp_path / "site").glob("*.pth")) == []


@pytest.mark.parametrize(
    ("pattern", "hits", "misses"),
    [
        ("**/tests/**", ["tests/a", "x/tests/y/z"], ["x/mytests/a", "tests"]),
        ("a/*.so*", ["a/b.so", "a/b.so.1"], ["a/c/b.so", "a/b.sx"]),
        ("*.dist-info/RECORD", ["a-1.dist-info/RECORD"], ["x/a.dist-info/RECORD"]),
    ],
)
def test_patterns(pattern, hits, misses):
    one = removals.matcher(pattern)
    assert all(one.fullmatch(hit) for hit in hits)
    assert not any(one.fullmatch(miss) for miss in misses)


def test_a_removal_that_finds_nothing_or_has_no_reason_is_refused(tmp_path):
    (tmp_path / "a.h").touch()
    with pytest.raises(ValueError, match=r"nothing matches \*\.x"):
        removals.remove(tmp_path, {"*.h": "headers", "*.x": "gone"})
    (tmp_path / "list").write_text("*.h\n")
    with pytest.raises(ValueError, match="no reason"):
        removals.read_patterns(tmp_path / "list")
    assert removals.read_patterns(MAP / "removed.txt")


def test_removing_leaves_no_link_to_nowhere_and_no_empty_folder(tmp_path):
    (tmp_path / "a/tests").mkdir(parents=True)
    (tmp_path / "a/tests/x").write_text("1234")
    (tmp_path / "a/link").symlink_to("tests/x")
    (tmp_path / "b").touch()
    assert removals.remove(tmp_path, {"**/tests/**": "tests"}) == 4
    assert [path.name for path in tmp_path.rglob("*")] == ["b"]


def test_copies_of_a_library_become_links(tmp_path):
    for name in ("libx.so", "libx.so.1", "libx.so.1.2", "liby.so"):
        (tmp_path / name).write_text("x" if "x" in name else "y")
    assert removals.link_copies(tmp_path) == 2
    assert {path.name for path in tmp_path.iterdir() if path.is_symlink()} == {"libx.so", "libx.so.1"}
    assert (tmp_path / "libx.so").read_text() == "x"


SOURCES = """# deb http://comment.invalid/debian bookworm main
deb [signed-by=/k.gpg arch=amd64] http://one.invalid/debian/ bookworm main contrib
deb http://two.invalid/x bookworm-extra nonfree

Types: deb
# http://snapshot.invalid/
URIs: http://three.invalid/debian-security
Suites: bookworm-security
Components: main
"""


def test_mirrors_are_those_of_the_machine_and_not_of_comments():
    assert debian.suites(SOURCES) == {
        "bookworm": "http://one.invalid/debian",
        "bookworm-security": "http://three.invalid/debian-security",
    }


def test_every_package_of_debian_has_its_reason():
    for line in (MAP / "debian-packages.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            assert len(line.split()) > 1, line
    assert {"libc6", "dash", "python3.11-minimal"} <= set(debian.read_names(MAP / "debian-packages.txt"))


def test_no_committed_file_names_a_registry():
    for path in MAP.rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            assert not re.search(r"https?://(?!127\.0\.0\.1)", path.read_text()), path


@given(
    st.dictionaries(st.sampled_from(["A", "B_C", "PATH"]), st.text(st.characters(codec="ascii")), max_size=3)
)
def test_variables_stand_quoted_in_the_recipe(environment):
    recipe = engine.containerfile(environment, {"org.x": "y"}, "/bin/e", "/w")
    lines = [line for line in recipe.split("\n") if line.startswith("ENV ")]
    assert {
        name: json.loads(value) for name, value in (line[4:].split("=", 1) for line in lines)
    } == environment
    assert recipe.startswith("FROM scratch\nADD layer.tar /\n")
    assert 'ENTRYPOINT ["/bin/e"]' in recipe


@pytest.mark.parametrize(
    ("name", "part"),
    [
        (f"{tree.SITE}/numpy.libs/x.so", "numpy"),
        (f"{tree.SITE}/numpy-2.4.6.dist-info/METADATA", "numpy"),
        (f"{tree.SITE}/scikit_image-0.26.0.dist-info/METADATA", "scikit-image"),
        (f"{tree.SITE}/skimage/io.py", "scikit-image"),
        (f"{tree.SITE}/_cffi_backend.cpython-311-x86_64-linux-gnu.so", "cffi"),
        (f"{tree.SITE}/_CharLS.cpython-311-x86_64-linux-gnu.so", "pyjpegls"),
        ("opt/holoscan/app/app/cli.py", "busmap: application"),
        ("opt/holoscan/models/a/model.onnx", "busmap: models"),
        ("usr/bin/python3.11", "Debian: C library, Python, programs"),
    ],
)
def test_each_file_belongs_to_a_part(name, part):
    assert sizes.part(name) == part


def test_the_table_adds_up():
    told = sizes.table({"a": 5_000_000, "b": 2_400_000, "c": 300_000, "d": 200_000})
    assert "| a | 5.0 |" in told
    assert "| 2 parts under 1 MB | 0.5 |" in told
    assert "| **together** | **7.9** |" in told


def test_every_part_of_the_gpu_recipe_says_when_it_was_run():
    rows = re.findall(r"^\|.*\| ([^|]+) \|$", (MAP / "gpu/README.md").read_text(), flags=re.MULTILINE)
    assert rows[:2] == ["last run", "---"]
    assert len(rows) > 6
    assert all(re.match(r"never run|2\d{3}-\d\d-\d\d", row) for row in rows[2:]), rows
