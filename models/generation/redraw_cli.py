"""`busmap generator redraw`: draw stored images again from their rows and compare."""

from __future__ import annotations

from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from models.training.border import border

_border = partial(border, "generator")


def redraw(
    repository: Annotated[Path, typer.Argument(help="Folder of drawn images (busmap generator sample).")],
    model: Annotated[Path, typer.Option(help="Folder of the generator that drew them.")],
    adapter: Annotated[Path | None, typer.Option(help="Adapter that they were drawn with.")] = None,
    count: Annotated[int, typer.Option(min=1, help="Images that are drawn again, the first ones.")] = 24,
) -> None:
    """Draw images again from their rows; exit status 1 where one is not the one on disk, within tolerance."""
    with _border():
        module = import_module("models.generation.redraw")
        device = import_module("models.training.device").best_device()
        generator = import_module("models.generation.product").load_generator(model, device)
        if adapter is not None:
            generator = import_module("models.generation.adapter").with_adapter(generator, adapter)
        rows = import_module("models.generation.repository").read_rows(repository)[:count]
        found, masks, exact = [], 0, 0
        for row, again in zip(rows, module.redraw_all(generator, rows), strict=True):
            image, mask = module.stored(repository, row)
            found.append(module.difference(again.image, image))
            masks += int((again.mask != mask).any())
            exact += again.exact is True
    allowed = module.TOLERANCE
    outside = sum(not one.within(allowed) for one in found)
    mean, most = sum(one.share for one in found) / len(found), max(one.share for one in found)
    typer.echo(f"Drawn again: {len(rows)} images, {exact} of them byte for byte; masks that differ: {masks}")
    typer.echo(
        f"Pixels that differ: {mean:.4%} in the mean, {most:.4%} of an image at most, "
        f"by {max(one.most for one in found)} grey levels at most"
    )
    typer.echo(f"Outside {allowed.share:.1%} of an image and {allowed.most} grey levels: {outside}")
    if outside or masks:
        raise typer.Exit(1)
