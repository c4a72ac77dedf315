"""Whether the models are those that were made: looked at by each process before it starts work.

Promises: compares all files of the bundles that will be used with their hashes, and these with signatures
where `analysis.model_keys` names public keys. Loads no model and no engine, so the gateway can do it too.
"""

from __future__ import annotations

from app.logs import log
from app.settings import Settings
from models.runtime.bundle import bundle_folders
from models.runtime.manifest import Verified, verify_bundle
from models.runtime.signature import read_public_key


def check_models(settings: Settings) -> tuple[Verified, ...]:
    """Verify the bundles that the settings name, before anything of them is used.

    Raises
    ------
    ModelError
        A bundle is not the one that was made, nobody trusted signed for it, or a file of
        `analysis.model_keys` holds no public key; the message names the file.
    """
    keys = [read_public_key(path) for path in settings.analysis.model_keys]
    return tuple(verify_bundle(folder, keys) for folder in bundle_folders(settings.analysis.model_folder))


def check_and_log(settings: Settings) -> None:
    """Verify as `check_models` does, and say in the log what was proven.

    Raises
    ------
    ModelError
        As `check_models`.
    """
    verified = check_models(settings)
    log().info("models-verified", count=sum(one.files for one in verified), signed_by=signers(verified))


def signers(verified: tuple[Verified, ...]) -> list[str]:
    """Ids of the keys that signed any of the bundles; none where no key was asked for."""
    return sorted({key_id for one in verified for key_id in one.signed_by})
