"""`busmap`: thin verbs, nothing else. Each calls one function of the module that does the work.

Verbs outside the hospital's path (train, validate) come in by entry points of the group `busmap.verbs` and
are imported when they are called for. Promises: an error on purpose is one line and a true exit status.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import entry_points, version
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from app.bootstrap import prepare_process
from app.errors import BusmapError
from app.model_verbs import models
from app.state_verbs import state
from app.stopping import block_stop_signals

_VERBS = "busmap.verbs"
_SHORT = {
    "train": "Train a model (needs the extra `train`).",
    "validate": "Figures with intervals from predictions or a data set.",
}
Config = Annotated[Path | None, typer.Option("--config", "-c", help="settings file (YAML)")]
Study = Annotated[str, typer.Argument(help="Study Instance UID, or the study_ref that `status` shows")]


class _Verbs(TyperGroup):
    """The verbs of this module, and those of the entry points, loaded only when called."""

    def list_commands(self, ctx: Any) -> list[str]:
        return sorted({*super().list_commands(ctx), *(point.name for point in entry_points(group=_VERBS))})

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        command = super().get_command(ctx, cmd_name)
        for point in entry_points(group=_VERBS) if command is None else ():
            if point.name == cmd_name:
                loaded: Any = typer.main.get_command(point.load())
                for one in _with_its_verbs(loaded):
                    one.rich_markup_mode = None  # the same plain help everywhere, on screen and in docs/
                loaded.name, loaded.short_help = cmd_name, _SHORT.get(cmd_name)
                return loaded
        return command


def _with_its_verbs(command: Any) -> Iterator[Any]:
    """`command` and all verbs below it."""
    yield command
    for below in getattr(command, "commands", {}).values():
        yield from _with_its_verbs(below)


app = typer.Typer(
    cls=_Verbs,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Breast ultrasound AI node: DICOM study in, structured report and captures out. "
    "Research use. Not a cleared device.",
)


app.add_typer(models, name="models")


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"busmap {version('busmap')}")
        raise typer.Exit


@app.callback()
def _busmap(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="print the version")
    ] = False,
) -> None:
    """Breast ultrasound AI node. Research use. Not a cleared device."""


@app.command()
def serve(config: Config = None) -> NoReturn:
    """Run gateway and worker under one supervisor, until SIGTERM."""
    from app.node.supervise import serve as run
    from app.settings import load_settings

    raise SystemExit(run(load_settings(config)))


@app.command()
def gateway(config: Config = None) -> NoReturn:
    """Run the gateway alone: receive images."""
    from app.node.gateway import main as run
    from app.settings import load_settings

    raise SystemExit(run(settings=load_settings(config)))


@app.command()
def worker(config: Config = None) -> NoReturn:
    """Run the worker alone: analyse closed studies and deliver results."""
    from app.node.worker import main as run
    from app.settings import load_settings

    raise SystemExit(run(load_settings(config)))


@app.command()
def run(
    source: Annotated[Path | None, typer.Option("--input", "-i", help="folder with DICOM files")] = None,
    target: Annotated[Path | None, typer.Option("--output", "-o", help="new or empty folder")] = None,
    config: Config = None,
) -> NoReturn:
    """Analyse a folder once: the same as `python -m app`."""
    block_stop_signals()
    prepare_process()
    from app.oneshot import main as run_once

    raise SystemExit(run_once(source, target, config))


@app.command()
def send(
    paths: Annotated[list[Path], typer.Argument(help="DICOM files, or folders of them")],
    host: Annotated[str, typer.Option(help="host name or address of the peer")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="TCP port of the peer")] = 11112,
    ae_title: Annotated[str, typer.Option(help="AE title of the peer")] = "BUSMAP",
) -> None:
    """Send DICOM files by C-STORE, as a scanner would."""
    from app.send import Outcome
    from app.send import send as store

    files = [
        file
        for path in paths
        for file in (sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path])
    ]

    def tell(outcome: Outcome) -> None:
        answer = "no answer" if outcome.status is None else f"0x{outcome.status:04X}"
        typer.echo(f"{answer}  {outcome.path.name}")

    outcomes = store(files, host, port, ae_title, progress=tell)
    stored = sum(outcome.stored for outcome in outcomes)
    typer.echo(f"{stored} of {len(outcomes)} objects stored by {ae_title}")
    if stored < len(outcomes):
        raise typer.Exit(7)


@app.command()
def status(
    config: Config = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON instead of a table")] = False,
) -> None:
    """Show studies, results, deliveries and what failed."""
    from app.node.status import read_status, render_status, status_json
    from app.settings import load_settings

    found = read_status(load_settings(config))
    typer.echo(status_json(found) if as_json else render_status(found))


@app.command()
def close(study: Study, config: Config = None) -> None:
    """Close a study now, without waiting for its quiet period."""
    from app.node.status import close_study
    from app.settings import load_settings

    close_study(load_settings(config), study)
    typer.echo("closed: it is analysed next")


@app.command()
def retry(
    study: Study,
    config: Config = None,
    use_resent: Annotated[
        bool, typer.Option(help="take the newest version of images that came again with other bytes")
    ] = False,
) -> None:
    """Analyse a study that failed again, after its cause is mended."""
    from app.node.status import retry as again
    from app.settings import load_settings

    again(load_settings(config), study, use_resent=use_resent)
    typer.echo("opened again: it is analysed next")


@app.command()
def resend(
    study: Study,
    config: Config = None,
    release_identity: Annotated[
        bool, typer.Option(help="send although the destination's study names another patient")
    ] = False,
) -> None:
    """Send the results of a study again: the same objects, byte for byte."""
    from app.node.status import resend as again
    from app.settings import load_settings

    count = again(load_settings(config), study, release_identity=release_identity)
    typer.echo(f"{count} objects queued again")


@app.command()
def compare(
    old_state: Annotated[Path, typer.Argument(help="state folder of the node in charge")],
    new_state: Annotated[Path, typer.Argument(help="state folder of the node beside it")],
    tolerance: Annotated[float, typer.Option(help="difference of probability that is none")] = 0.001,
    json: Annotated[bool, typer.Option("--json", help="print JSON instead of a table")] = False,
) -> None:
    """Compare what two nodes made of the same studies; exit status 17 where they differ."""
    from app import compare as comparing

    found = comparing.compare(old_state, new_state, tolerance)
    typer.echo(comparing.as_json(found) if json else comparing.render(found))
    comparing.judge(found)


app.add_typer(state, name="state")


@app.command("config")
def show_config(
    config: Config = None,
    markdown: Annotated[bool, typer.Option(help="print the page docs/settings.md")] = False,
) -> None:
    """Show every setting with type, unit, default and where its value comes from."""
    from app.settings import load_settings
    from app.settings_page import settings_page, settings_table

    if markdown:
        typer.echo(settings_page(), nl=False)
    else:
        settings_table(load_settings(config))


def markdown_page() -> str:
    """The page docs/cli.md: every verb with its help."""
    root: Any = typer.main.get_command(app)
    context = root.context_class(root, info_name="busmap")
    parts = ["# Commands", "", "Written by `make docs` from the program itself.", ""]
    for name in root.list_commands(context):
        parts += _help_of(root.get_command(context, name), context, name)
    return "\n".join(parts)


def _help_of(command: Any, parent: Any, name: str) -> list[str]:
    context = command.context_class(
        command, info_name=name, parent=parent, terminal_width=100, max_content_width=100
    )
    lines = [f"## {context.command_path}", "", "```", command.get_help(context), "```", ""]
    for child in getattr(command, "commands", {}):
        lines += _help_of(command.commands[child], context, child)
    return lines


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point: run a verb; an error on purpose is told in one line."""
    try:
        app(args=arguments)
    except BusmapError as error:
        typer.echo(f"busmap: {error.code}: {error}", err=True)
        raise SystemExit(error.exit_status) from None
    except Exception as error:
        told = _told_by_a_lower_layer(error)
        if told is None:
            raise
        typer.echo(told[0], err=True)
        raise SystemExit(told[1]) from None


def _told_by_a_lower_layer(error: Any) -> tuple[str, int] | None:
    """InputError, ModelError and their like carry `code` and `exit_status` without being BusmapErrors."""
    code, exit_status = getattr(error, "code", None), getattr(error, "exit_status", None)
    if isinstance(code, str) and isinstance(exit_status, int):
        return f"busmap: {code}: {error}", exit_status
    return None


if __name__ == "__main__":
    if sys.argv[1:] == ["--markdown"]:
        sys.stdout.write(markdown_page())
    else:
        main()
