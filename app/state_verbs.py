"""`busmap state`: thin verbs over app.node.state."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

state = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="The state folder's database: its schema, copies of it, the way back to an earlier release.",
)
Config = Annotated[Path | None, typer.Option("--config", "-c", help="settings file (YAML)")]


@state.command()
def show(config: Config = None) -> None:
    """Show the schema, the releases that brought it there, and the copies that are kept."""
    from app.node.state import read_state, render_state
    from app.settings import load_settings

    typer.echo(render_state(read_state(load_settings(config))))


@state.command()
def backup(
    target: Annotated[Path, typer.Argument(help="new file for the copy")], config: Config = None
) -> None:
    """Copy the database to a file, while the node runs or not."""
    from app.node.state import back_up
    from app.settings import load_settings

    back_up(load_settings(config), target)
    typer.echo(f"copied to {target}")


@state.command()
def downgrade(
    to: Annotated[str | None, typer.Option(help="schema to go back to; without it the one before")] = None,
    config: Config = None,
) -> None:
    """Bring the database back to the schema of an earlier release. The node must be stopped."""
    from app.node.state import downgrade as step_back
    from app.settings import load_settings

    done = step_back(load_settings(config), to)
    typer.echo(
        f"the database has schema {done.schema} now: start {done.release}. Copy of before: {done.kept}"
    )


@state.command()
def restore(
    source: Annotated[Path | None, typer.Argument(help="copy to restore; without it the newest")] = None,
    config: Config = None,
) -> None:
    """Put a copy in the database's place and keep the images that came since. The node must be stopped."""
    from app.node.state import restore as bring_back
    from app.settings import load_settings

    done = bring_back(load_settings(config), source)
    typer.echo(
        f"restored from {done.used}; images kept that came since: {done.swept.adopted}; results to be made "
        f"anew: {done.results_set_aside}; the database of before: {done.set_aside}"
    )
