"""The bundle for a machine without a network: `python packaging/supply/airgap.py IMAGE --key KEY --out DIR`.

Promises: image, bill of materials of what is in it, licence report, advisories, documentation, public key,
sums of all files and a signature over them; the folder appears whole or not at all. It is verified with sh,
sha256sum and openssl. Refuses an image with a licence that is not allowed, a key of another kind than ECDSA
on P-256, and a folder that is there already. The private key is read by openssl alone, which asks for its
passphrase.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import jinja2
import yaml
from advisories import Database, Finding, accept, find, read_accepted, read_database
from advisories import report as advisories_page
from image_archive import Image, read_image
from inventory import Component
from licences import POLICY, judge
from licences import report as licences_page
from sbom import make_sbom
from source import ROOT, fail, program_parser, project, read_archive

_PARTS = Path(__file__).with_name("bundle")
_SUMS, _SIGNATURE = "SHA256SUMS", "SHA256SUMS.sig"


class BundleError(ValueError):
    """The bundle cannot be made; the message says why."""


def make_bundle(archive: Path, key: Path, target: Path, database: Path | None = None) -> None:
    """Write the bundle of an image into `target`, signed with a private key.

    Raises
    ------
    BundleError, ArchiveError, ValueError
        Key, image, database or a licence does not do.
    """
    if target.exists():
        raise BundleError(f"{target} is there already: remove it, or give another folder")
    image = read_image(archive)
    components = read_archive(archive)
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        fingerprint = _write_public_key(key, unfinished / "keys" / "public.pem")
        _write_image(archive, image, unfinished / "image")
        _write_checks(components, database, unfinished)
        shutil.copytree(ROOT / "docs", unfinished / "docs", ignore=shutil.ignore_patterns("theme", "assets"))
        shutil.copytree(ROOT / "packaging" / "appliance", unfinished / "appliance")
        shutil.copyfile(ROOT / "LICENSE", unfinished / "LICENSE")
        shutil.copyfile(ROOT / "NOTICE", unfinished / "NOTICE")
        shutil.copyfile(_PARTS / "verify.sh", unfinished / "verify.sh")
        _write_guide(unfinished / "README.md", archive.name, image, fingerprint)
        _sign(unfinished, key)
        unfinished.chmod(0o755)
        unfinished.rename(target)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


def _write_public_key(key: Path, target: Path) -> str:
    """The public half of a private key; answers its fingerprint, the SHA-256 of its DER form."""
    target.parent.mkdir(parents=True)
    _openssl("pkey", "-in", str(key), "-pubout", "-out", str(target))
    if "prime256v1" not in _openssl("pkey", "-pubin", "-in", str(target), "-noout", "-text").decode():
        raise BundleError(f"{key} is not ECDSA on P-256: see docs/supply-chain.md")
    return hashlib.sha256(_openssl("pkey", "-pubin", "-in", str(target), "-outform", "DER")).hexdigest()


def _openssl(*arguments: str) -> bytes:
    done = subprocess.run(["openssl", *arguments], capture_output=True, check=False)
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().splitlines()
        raise BundleError(f"openssl {arguments[0]} failed: {last[-1] if last else done.returncode}")
    return done.stdout


def _write_image(archive: Path, image: Image, folder: Path) -> None:
    folder.mkdir()
    shutil.copyfile(archive, folder / archive.name)
    (folder / "digests.txt").write_text(
        f"archive   {archive.name}\nmanifest  {image.manifest_digest}\nconfig    {image.config_digest}\n",
        encoding="utf-8",
    )


def _write_checks(components: Sequence[Component], database: Path | None, folder: Path) -> None:
    facts = project()
    for name in ("sbom", "checks"):
        (folder / name).mkdir()
    text = make_sbom(components, facts.name, facts.version, facts.licence)
    (folder / "sbom" / "busmap.cdx.json").write_text(text, encoding="utf-8")
    verdicts = judge(components, yaml.safe_load(POLICY.read_text(encoding="utf-8")))
    faults = [f"{one.component.name}: {one.fault}" for one in verdicts if one.fault]
    if faults:
        raise BundleError(f"the image holds what must not ship: {'; '.join(faults)}")
    (folder / "checks" / "licences.md").write_text(licences_page(verdicts), encoding="utf-8")
    findings: tuple[Finding, ...] = ()
    found: Database | None = None
    if database is not None:
        found = read_database(database)
        findings = accept(find(components, found), read_accepted(), date.today())
    page = advisories_page(findings, found, {one.kind for one in components})
    (folder / "checks" / "advisories.md").write_text(page, encoding="utf-8")


def _write_guide(target: Path, archive: str, image: Image, fingerprint: str) -> None:
    template = jinja2.Template(  # text for people, no HTML
        (_PARTS / "README.md.j2").read_text(encoding="utf-8"), keep_trailing_newline=True
    )
    facts = {"version": project().version, "archive": archive, "architecture": image.architecture}
    target.write_text(template.render(**facts, fingerprint=fingerprint), encoding="utf-8")


def _sign(folder: Path, key: Path) -> None:
    lines = []
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            path.chmod(0o644)
            with path.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
            lines.append(f"{digest}  {path.relative_to(folder).as_posix()}\n")
    (folder / _SUMS).write_text("".join(lines), encoding="utf-8")
    _openssl("dgst", "-sha256", "-sign", str(key), "-out", str(folder / _SIGNATURE), str(folder / _SUMS))


def main(arguments: Sequence[str] | None = None) -> int:
    """Make a bundle; answers 1 with a line that says why where it cannot be made."""
    parser = program_parser("airgap.py", __doc__)
    parser.add_argument("archive", type=Path, help="the image as an OCI archive")
    parser.add_argument("--key", type=Path, required=True, help="private key (PEM, ECDSA on P-256)")
    parser.add_argument("--out", type=Path, required=True, help="folder of the bundle; must not be there yet")
    parser.add_argument("--database", type=Path, help="folder of OSV records for checks/advisories.md")
    given = parser.parse_args(arguments)
    try:
        make_bundle(given.archive, given.key, given.out, given.database)
    except (ValueError, OSError) as error:
        return fail(f"bundle: {error}")
    print(f"Bundle: {given.out}; verify it with: sh {given.out}/verify.sh --key PUBLIC.pem")
    return 0


if __name__ == "__main__":
    sys.exit(main())
