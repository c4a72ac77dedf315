"""`busmap models`: thin verbs over manifests and signatures of model bundles."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from app.errors import SettingsError

models = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Verify model bundles; list and sign their files.",
)
Folders = Annotated[
    list[Path] | None, typer.Argument(help="bundles, or folders of them; those that ship where none is given")
]


@models.command()
def verify(
    folders: Folders = None,
    key: Annotated[
        list[Path] | None, typer.Option(help="public key (PEM) of which one must have signed each bundle")
    ] = None,
) -> None:
    """Compare bundles with their manifests, and these with their signatures."""
    from models.runtime.manifest import verify_bundle
    from models.runtime.signature import read_public_key

    keys = [read_public_key(path) for path in key or ()]
    for folder in _bundles(folders):
        verified = verify_bundle(folder, keys)
        by = f"signed by {', '.join(verified.signed_by)}" if keys else "signature not checked: no --key given"
        typer.echo(f"{folder.name}: {verified.files} files as in the manifest; {by}")


@models.command()
def manifest(folders: Folders = None) -> None:
    """Write the manifest of bundles of your own: it states that they are as they should be."""
    from models.runtime.manifest import write_manifest

    for folder in _bundles(folders):
        typer.echo(f"{write_manifest(folder)} written; an earlier signature is gone")


@models.command()
def sign(
    key: Annotated[Path, typer.Option(help="private key (PEM, ECDSA on P-256)")],
    folders: Folders = None,
) -> None:
    """Sign bundles that are as their manifests say."""
    from models.runtime.manifest import sign_bundle
    from models.runtime.signature import is_encrypted

    passphrase = typer.prompt("Passphrase", hide_input=True, err=True) if is_encrypted(key) else None
    for folder in _bundles(folders):
        typer.echo(f"{sign_bundle(folder, key, passphrase.encode() if passphrase else None)} written")


def _bundles(folders: list[Path] | None) -> list[Path]:
    """The bundles among `folders`, and those directly below them.

    Raises
    ------
    SettingsError
        There is none.
    """
    from models.runtime.bundle import SHIPPED

    found = []
    for folder in folders or [SHIPPED]:
        inside = sorted(path.parent.parent for path in folder.glob("*/configs/metadata.json"))
        found += [folder] if (folder / "configs" / "metadata.json").is_file() else inside
    if not found:
        raise SettingsError(
            f"no model bundle in {', '.join(map(str, folders or []))}: a bundle has configs/metadata.json"
        )
    return found
