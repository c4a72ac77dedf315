"""The base root file system: Debian 12 by debootstrap, of which the image takes what is listed.

Promises: packages come from the machine's own Debian mirror, checked by debootstrap against Debian's
signature, and are replaced by newer versions of the security suite where the machine knows a mirror of it.
Once fetched they are used again; versions and hashes go into the image. No maintainer script is run.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from layer import sha256
from removals import clear

SUITE = "bookworm"
SUITE_PYTHON = "3.11"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
MIRROR_VARIABLE, SECURITY_VARIABLE = "BUSMAP_DEBIAN_MIRROR", "BUSMAP_DEBIAN_SECURITY"
TOYS = "basename cat chmod cp cut date dirname echo env false find grep head id kill ln ls mkdir mktemp mv"
TOYS += (
    " printenv ps pwd readlink realpath rm rmdir sed sha256sum sleep sort stat tail tar tee test touch true"
)
TOYS += " uname wc which xargs"
_USERS = "root:x:0:0:root:/tmp:/bin/sh\nbusmap:x:1000:1000:busmap:/tmp:/bin/sh\n"
_GROUP = "root:x:0:\nbusmap:x:1000:\n"
# Without their programs these modules of Python would only fail to load.
_MODULES_WITHOUT_LIBRARY = ("_curses", "_curses_panel", "_dbm", "nis", "readline")


@dataclass(frozen=True)
class Deb:
    """A package file and what its control fields say."""

    path: Path
    name: str
    version: str
    control: str


def read_names(path: Path) -> tuple[str, ...]:
    """The names of a list whose lines are a name and a reason."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return tuple(line.split()[0] for line in lines if line.strip() and not line.startswith("#"))


def fetch(names: Sequence[str], folder: Path) -> tuple[Deb, ...]:
    """The package files of `names` in `folder`; fetched where any is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    found = {deb.name: deb for deb in map(_read, sorted(folder.glob("*.deb")))}
    if not set(names) <= set(found):
        _download(names, folder)
        found = {deb.name: deb for deb in map(_read, sorted(folder.glob("*.deb")))}
    if missing := set(names) - set(found):
        raise ValueError(f"Debian {SUITE} has no {', '.join(sorted(missing))}")
    return tuple(found[name] for name in names)


def _download(names: Sequence[str], folder: Path) -> None:
    mirrors = _mirrors()
    work = clear(folder.parent / "debootstrap")
    flags = ["--variant=minbase", "--download-only", "--arch=amd64", f"--keyring={KEYRING}"]
    flags += [f"--include={','.join(names)}"]
    subprocess.run(
        ["debootstrap", *flags, SUITE, str(work), mirrors[SUITE]], check=True, stdout=subprocess.DEVNULL
    )
    for deb in map(_read, (work / "var/cache/apt/archives").glob("*.deb")):
        if deb.name in names:
            shutil.copyfile(deb.path, folder / f"{deb.name}.deb")
    shutil.rmtree(work)
    if f"{SUITE}-security" in mirrors:
        _newer(names, folder, mirrors)


def _newer(names: Sequence[str], folder: Path, mirrors: dict[str, str]) -> None:
    """Take the newest versions that suite and security updates offer, by apt with a state of its own."""
    state = clear(folder.parent / "apt")
    for place in ("lists/partial", "cache/archives/partial"):
        (state / place).mkdir(parents=True)
    (state / "status").touch()
    (state / "sources.list").write_text(
        "".join(
            f"deb [signed-by={KEYRING} arch=amd64] {url} {suite} main\n" for suite, url in mirrors.items()
        ),
        encoding="utf-8",
    )
    apt = [
        "apt-get",
        "-qq",
        "-o",
        f"Dir::State::lists={state}/lists",
        "-o",
        f"Dir::State::status={state}/status",
    ]
    apt += ["-o", f"Dir::Cache={state}/cache", "-o", f"Dir::Etc::sourcelist={state}/sources.list"]
    apt += ["-o", "Dir::Etc::sourceparts=-", "-o", "APT::Sandbox::User=root"]
    subprocess.run([*apt, "update"], check=True)
    subprocess.run([*apt, "download", *names], check=True, cwd=state)
    for deb in map(_read, state.glob("*.deb")):
        shutil.copyfile(deb.path, folder / f"{deb.name}.deb")
    shutil.rmtree(state)


def _mirrors() -> dict[str, str]:
    """The mirror of each suite: from the environment, or from the machine's apt sources."""
    places = [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]
    found = suites("\n\n".join(path.read_text(encoding="utf-8") for path in places if path.is_file()))
    if MIRROR_VARIABLE in os.environ:
        found[SUITE] = os.environ[MIRROR_VARIABLE]
    if SECURITY_VARIABLE in os.environ:
        found[f"{SUITE}-security"] = os.environ[SECURITY_VARIABLE]
    if SUITE not in found:
        raise ValueError(
            f"this machine's apt knows no Debian {SUITE}: set {MIRROR_VARIABLE} to a mirror of yours"
        )
    return {suite: url for suite, url in found.items() if suite in (SUITE, f"{SUITE}-security")}


def suites(sources: str) -> dict[str, str]:
    """Suite to mirror, from apt sources in either form (sources.list(5)); comments do not count."""
    found: dict[str, str] = {}
    text = re.sub(r"^\s*#.*\n?", "", sources, flags=re.MULTILINE)
    for options_free in re.sub(r"\[[^]]*\]", "", text).splitlines():
        words = options_free.split()
        if len(words) > 3 and words[0] == "deb" and "main" in words[3:]:
            found.setdefault(words[2], words[1].rstrip("/"))
    for stanza in re.split(r"\n\s*\n", text):
        fields = dict(re.findall(r"^([A-Za-z-]+):\s*(.*)$", stanza, flags=re.MULTILINE))
        if "deb" in fields.get("Types", "").split() and "main" in fields.get("Components", "").split():
            for suite in fields.get("Suites", "").split():
                found.setdefault(suite, fields["URIs"].split()[0].rstrip("/"))
    return found


def _read(path: Path) -> Deb:
    control = subprocess.run(
        ["dpkg-deb", "--field", str(path)], check=True, capture_output=True, text=True
    ).stdout
    fields = dict(re.findall(r"^([A-Za-z-]+):[ \t]*(.*)$", control, flags=re.MULTILINE))
    return Deb(path, fields["Package"], fields["Version"], control)


def unpack(debs: Iterable[Deb], root: Path) -> None:
    """Unpack the packages into `root`, and do the little that their scripts would."""
    for place in ("bin", "sbin", "lib", "lib64"):
        (root / "usr" / place).mkdir(parents=True, exist_ok=True)
        (root / place).symlink_to(f"usr/{place}")
    for deb in debs:
        # By tar, for dpkg-deb would replace the links from /bin to /usr/bin by folders.
        files = subprocess.run(["dpkg-deb", "--fsys-tarfile", str(deb.path)], check=True, capture_output=True)
        subprocess.run(
            ["tar", "--extract", "--keep-directory-symlink", "--no-same-owner", "--directory", str(root)],
            input=files.stdout,
            check=True,
        )
    (root / "usr/bin/python3").symlink_to(f"python{SUITE_PYTHON}")
    for toy in TOYS.split():
        link = root / "usr/bin" / toy
        if not link.exists():
            link.symlink_to("toybox")
    (root / "etc/localtime").symlink_to("/usr/share/zoneinfo/Etc/UTC")
    (root / "etc/passwd").write_text(_USERS, encoding="utf-8")
    (root / "etc/group").write_text(_GROUP, encoding="utf-8")
    (root / "etc/nsswitch.conf").write_text(
        "passwd: files\ngroup: files\nhosts: files dns\n", encoding="utf-8"
    )
    (root / "etc/ld.so.conf").write_text("/usr/local/lib\n/usr/lib/x86_64-linux-gnu\n", encoding="utf-8")
    subprocess.run(["ldconfig", "-r", str(root)], check=True)


def slim(root: Path) -> None:
    """Take out what nobody reads in a container: manuals, translations, hooks of absent programs."""
    for place in (
        "usr/share/man",
        "usr/share/info",
        "usr/share/locale",
        "usr/share/lintian",
        "usr/share/bug",
    ):
        shutil.rmtree(root / place, ignore_errors=True)
    for place in ("usr/share/menu", "usr/share/debianutils", "usr/share/applications", "usr/share/pixmaps"):
        shutil.rmtree(root / place, ignore_errors=True)
    for place in ("var/cache", "var/log", "var/lib/dpkg", "usr/lib/x86_64-linux-gnu/gconv", "usr/share/gcc"):
        shutil.rmtree(root / place, ignore_errors=True)
    for path in (root / "usr/share/doc").rglob("*"):
        if path.is_file() and path.name != "copyright":
            path.unlink()
    dynload = root / f"usr/lib/python{SUITE_PYTHON}/lib-dynload"
    for module in _MODULES_WITHOUT_LIBRARY:
        for path in dynload.glob(f"{module}.cpython-*.so"):
            path.unlink()


def record(debs: Iterable[Deb], root: Path) -> None:
    """Say what is installed: dpkg's status file, which scanners read, and a list with hashes."""
    status = root / "var/lib/dpkg/status"
    status.parent.mkdir(parents=True, exist_ok=True)
    stanzas, lines = [], []
    for deb in sorted(debs, key=lambda deb: deb.name):
        package, _, rest = deb.control.partition("\n")
        stanzas.append(f"{package}\nStatus: install ok installed\n{rest.rstrip()}\n")
        lines.append(f"{deb.name} {deb.version} sha256:{sha256(deb.path)}\n")
    status.write_text("\n".join(stanzas), encoding="utf-8")
    target = root / "opt/holoscan/docs/debian-packages.txt"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text("".join(lines), encoding="utf-8")
