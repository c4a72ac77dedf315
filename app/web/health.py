"""Whether a process of the node can do its work, said of each thing it needs.

Promises: looks, changes nothing, holds no patient data; every check that fails names cause and remedy.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from typing import Literal

from sqlalchemy.exc import SQLAlchemyError

from app.node.process import GATEWAY_FILE, WORKER_FILE, read_runtime_file
from app.node.store.database import FILE_NAME, Store
from app.settings import Settings

_MIB = 1024 * 1024


@dataclass(frozen=True)
class Check:
    """One thing the node needs. `detail` names cause and remedy where it is not there."""

    name: str
    ready: bool
    detail: str


Process = Literal["gateway", "worker"]


def check_node(settings: Settings, store: Store, process: Process) -> tuple[Check, ...]:
    """All checks of what a process needs, the receiving half first.

    On one machine the gateway answers for the worker too. Where gateways and workers run apart, each answers
    for itself: a gateway without a worker still receives.
    """
    both = (_database(store), _disk(settings, store))
    if process == "worker":
        return (*both, _worker(settings))
    if store.is_shared:
        return (_listener(settings), *both)
    return (_listener(settings), *both, _worker(settings))


def _listener(settings: Settings) -> Check:
    facts = read_runtime_file(settings.own_folder / GATEWAY_FILE)
    if facts is None:
        return Check("dicom-listener", False, "the gateway does not listen: see its log")
    return Check("dicom-listener", True, f"port {facts['port']} as {facts['ae_title']}")


def _database(store: Store) -> Check:
    try:
        store.check()
    except SQLAlchemyError as error:
        detail = f"the database cannot be read ({type(error).__name__}): check the disk, or restore a backup"
        return Check("database", False, detail)
    if not store.is_shared and not os.access(
        store.folder / FILE_NAME, os.W_OK
    ):  # where the disk was mounted again read-only, too
        return Check("database", False, "the database cannot be written: see the disk and its mount")
    return Check("database", True, "readable and writable")


def _disk(settings: Settings, store: Store) -> Check:
    try:
        free = shutil.disk_usage(store.folder).free // _MIB
    except OSError as error:
        return Check("disk", False, f"the state folder cannot be reached ({error.strerror}): mount it")
    least = settings.gateway.minimum_free_disk_mib
    if free < least:
        return Check("disk", False, f"{free} MiB free, {least} MiB needed: free space in the state folder")
    return Check("disk", True, f"{free} MiB free")


def _worker(settings: Settings) -> Check:
    facts = read_runtime_file(settings.own_folder / WORKER_FILE)
    if facts is None:
        return Check("worker", False, "no worker runs: start it, or see its log")
    if not facts.get("ready"):
        return Check("worker", False, str(facts.get("message") or "loading the models"))
    return Check("worker", True, ", ".join(facts.get("engines") or ()) or "models loaded")
