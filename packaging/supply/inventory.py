"""What a tree holds: Python distributions, Debian packages and model bundles, read from their own records.

Promises: reads and runs nothing of the tree; the same tree gives the same list. An environment (.venv), the
unpacked root of an image, or any folder will do. Refuses to guess: a licence that no record states is
empty.

Sources: `*.dist-info/METADATA` (core metadata 2.4), `var/lib/dpkg/status` (deb-control(5)), copyright files
of Debian (machine-readable form 1.0, and free text that refers to common-licenses), `configs/metadata.json`
(MONAI).
"""

from __future__ import annotations

import email.parser
import email.policy
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from packageurl import PackageURL
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

Kind = Literal["python", "debian", "model"]
_PRUNED = {"proc", "sys", "dev", "__pycache__"}
_LICENCE_FILE = re.compile(r"licen[cs]e|copying|notice", re.IGNORECASE)
# What grants, not what mentions: MPL and PSF licences speak of the GPL too.
_COPYLEFT = re.compile(
    r"terms (?:and conditions )?of the GNU|^\s*GNU (?:LESSER |AFFERO |LIBRARY )?GENERAL PUBLIC LICENSE\s*$"
    r"|^License: [AL]?GPL|under GNU L?GPL|GNU LGPLv|section 7 of the GNU General",
    re.MULTILINE,
)
_COMMON_LICENCE = re.compile(r"/usr/share/common-licenses/([A-Za-z0-9.+-]*[A-Za-z0-9+])")
_WORDS = {
    "MIT": "Permission is hereby granted, free of charge",
    "BSD": "Redistribution and use in source and binary forms",
    "HPND": "Permission to use, copy, modify,? ",
    "public-domain": "public domain",
}


@dataclass(frozen=True)
class Component:
    """One thing that is in the tree. `licence` as its own record has it, `licence_from` says which record.

    `requires` names components of the same kind; `source` is Debian's source package with its version, which
    advisories go by; `copyleft` the licence files that grant under the GPL's family, whatever metadata say;
    `bundled` the foreign libraries in a wheel, of which no record tells version or licence.
    """

    kind: Kind
    name: str
    version: str
    purl: str
    licence: str
    licence_from: str
    supplier: str = ""
    requires: tuple[str, ...] = ()
    source: tuple[str, str] = ("", "")
    section: str = ""
    copyleft: tuple[str, ...] = ()
    bundled: tuple[str, ...] = ()
    sha256: str = ""

    @property
    def ref(self) -> str:
        """What other parts of a bill of materials call it."""
        return self.purl or f"{self.kind}:{self.name}@{self.version}"


def read_tree(root: Path) -> tuple[Component, ...]:
    """All components below `root`, sorted.

    Raises
    ------
    ValueError
        There is none: the path is wrong, or the tree keeps no records.
    """
    found: dict[str, Component] = {}
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(set(folders) - _PRUNED)
        here = Path(folder)
        if here.name.endswith(".dist-info") and "METADATA" in files:
            component = python_distribution(here)
            found.setdefault(component.ref, component)
            folders.clear()
        elif here.name == "configs" and "metadata.json" in files:
            for component in model_bundle(here.parent):
                found.setdefault(component.ref, component)
    for component in debian_packages(root):
        found.setdefault(component.ref, component)
    if not found:
        raise ValueError(f"{root} holds no Python distribution, Debian package or model bundle")
    return tuple(sorted(found.values(), key=lambda one: (one.kind, one.name, one.version, one.ref)))


def shipped(components: Iterable[Component], requirements: Sequence[str]) -> tuple[Component, ...]:
    """Of an environment, what the product requires, directly or through others; models and Debian stay.

    Extras of a requirement are followed where it names them.
    """
    everything = tuple(components)
    by_name = {one.name: one for one in everything if one.kind == "python"}
    wanted: set[str] = set()
    waiting = [Requirement(line) for line in requirements]
    seen: set[str] = set()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if str(requirement) in seen or not _applies(requirement, {""}) or name not in by_name:
            continue
        seen.add(str(requirement))
        wanted.add(name)
        extras = {"", *requirement.extras}
        for line in by_name[name].requires:
            inner = Requirement(line)
            if _applies(inner, extras):
                inner.marker = None
                waiting.append(inner)
    return tuple(one for one in everything if one.kind != "python" or one.name in wanted)


def _applies(requirement: Requirement, extras: set[str]) -> bool:
    marker = requirement.marker
    return marker is None or any(marker.evaluate({"extra": extra}) for extra in extras)


def python_distribution(folder: Path) -> Component:
    """A distribution from its `.dist-info` folder."""
    metadata = email.parser.HeaderParser(policy=email.policy.compat32).parsestr(_text(folder / "METADATA"))
    name, version = canonicalize_name(str(metadata["Name"])), str(metadata["Version"])
    classifiers = tuple(
        line.split("::")[-1].strip()
        for line in metadata.get_all("Classifier", [])
        if line.startswith("License ::") and "DFSG" not in line
    )
    licence, source = str(metadata.get("License-Expression") or ""), "License-Expression"
    if not licence:
        licence, source = str(metadata.get("License") or "").strip(), "License"
    if classifiers and ("\n" in licence or len(licence) > 60 or licence in ("", "UNKNOWN")):
        licence, source = " AND ".join(classifiers), "classifier"
    licence = licence.split("\n")[0][:60].strip()  # some put the whole text here: it begins with its name
    return Component(
        kind="python",
        name=name,
        version=version,
        purl=PackageURL("pypi", None, name, version).to_string(),
        licence=licence,
        licence_from=source if licence else "",
        supplier=str(metadata.get("Author") or metadata.get("Author-email") or "").split("\n")[0][:120],
        requires=tuple(str(line) for line in metadata.get_all("Requires-Dist", [])),
        copyleft=tuple(_copyleft_texts(folder)),
        bundled=tuple(_bundled(folder)),
    )


def _copyleft_texts(folder: Path) -> Iterator[str]:
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and _LICENCE_FILE.search(name) and _COPYLEFT.search(_text(path)):
            yield name


def _bundled(folder: Path) -> Iterator[str]:
    """Libraries that auditwheel put beside a distribution: `NAME.libs`."""
    name = folder.name.split("-")[0]
    for path in sorted((folder.parent / f"{name}.libs").glob("*.so*")):
        yield path.name


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


def model_bundle(folder: Path) -> Iterator[Component]:
    """A bundle of busmap, from its metadata; other MONAI bundles have no digest and are left alone."""
    try:
        content = json.loads((folder / "configs" / "metadata.json").read_text(encoding="utf-8"))
        facts = content["busmap"]
        version, digest = str(content["version"]), str(facts["model_sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        return
    words = str(content.get("copyright", "")).split("; ")
    licence = words[-1] if len(words) > 1 else ""
    yield Component(
        kind="model",
        name=folder.name,
        version=version,
        purl="",
        licence=licence,
        licence_from="metadata.json" if licence else "",
        supplier=str(content.get("authors", "")),
        sha256=digest,
    )


def debian_packages(root: Path) -> Iterator[Component]:
    """Installed packages of the Debian system below `root`."""
    release = _release(root)
    for record in _dpkg_records(root):
        if record.get("Status", "install ok installed").split()[-1:] != ["installed"]:
            continue
        name, version, architecture = record["Package"], record["Version"], record.get("Architecture", "")
        source, _, source_version = record.get("Source", name).partition(" ")
        licence, licence_from = _debian_licence(root, name)
        distro = f"{release.get('ID', 'debian')}-{release.get('VERSION_ID', 'unknown')}"
        yield Component(
            kind="debian",
            name=name,
            version=version,
            purl=PackageURL(
                "deb", release.get("ID", "debian"), name, version, {"arch": architecture, "distro": distro}
            ).to_string(),
            licence=licence,
            licence_from=licence_from,
            supplier=record.get("Maintainer", ""),
            requires=tuple(_debian_requires(record)),
            source=(source, source_version.strip("()") or version),
            section=record.get("Section", ""),
        )


def _dpkg_records(root: Path) -> Iterator[Mapping[str, str]]:
    """Paragraphs of the status file; images without dpkg keep one file a package in status.d."""
    folder = root / "var" / "lib" / "dpkg"
    paths = [folder / "status", *sorted((folder / "status.d").glob("*"))]
    for path in paths:
        if path.is_file() and path.suffix != ".md5sums":
            for paragraph in re.split(r"\n\s*\n", _text(path)):
                if paragraph.strip():
                    yield _fields(paragraph)


def _fields(paragraph: str) -> dict[str, str]:
    fields: dict[str, str] = {}
    name = ""
    for line in paragraph.splitlines():
        if line[:1] in (" ", "\t"):
            fields[name] = f"{fields.get(name, '')}\n{line.strip()}"
        elif ":" in line:
            name, _, value = line.partition(":")
            fields[name] = value.strip()
    return fields


def _debian_requires(record: Mapping[str, str]) -> Iterator[str]:
    for entry in f"{record.get('Pre-Depends', '')},{record.get('Depends', '')}".split(","):
        for alternative in entry.split("|"):
            if alternative.strip():
                yield alternative.split()[0].split(":")[0]


def _release(root: Path) -> dict[str, str]:
    for place in ("usr/lib/os-release", "etc/os-release"):
        try:
            lines = (root / place).read_text(encoding="utf-8").splitlines()
        except OSError:
            continue
        pairs = (line.partition("=") for line in lines if "=" in line)
        return {key: value.strip('"') for key, _, value in pairs}
    return {}


def _debian_licence(root: Path, package: str) -> tuple[str, str]:
    """Licences that a package's copyright file names, joined by AND, and which kind of file said so."""
    docs = root / "usr" / "share" / "doc"
    folder = docs / package
    if folder.is_symlink():  # several packages of one source share a file
        folder = docs / folder.readlink().name
    try:
        text = _text(folder / "copyright")
    except OSError:
        return "", ""
    if re.match(r"Format(-Specification)?:", text):
        names = re.findall(r"^License:[ \t]*(\S[^\n]*)", text, re.MULTILINE)
        source = "copyright file"
    else:
        names = _COMMON_LICENCE.findall(text)
        names += [name for name, words in _WORDS.items() if re.search(r"\s+".join(words.split()), text, re.I)]
        source = "copyright file (free text)"
    found = sorted({name.strip() for name in names})
    return " AND ".join(found), source if found else ""
