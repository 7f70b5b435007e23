"""`sonograph`: one command with subcommands."""

import importlib.metadata
from typing import Annotated

import typer

from sonograph.compare.command import compare
from sonograph.doctor import doctor
from sonograph.drain import drain
from sonograph.draw import draw
from sonograph.new.command import cli as new
from sonograph.render import render
from sonograph.rightsize.command import rightsize
from sonograph.rollouts.commands import cli as rollout
from sonograph.serve import serve
from sonograph.status import status
from sonograph.trace import trace

cli = typer.Typer(add_completion=False, no_args_is_help=True, help="Turn speech into pictures, and run the service that does.")
for subcommand in (draw, render, doctor, drain, serve, status, trace, compare, rightsize):
    cli.command()(subcommand)
cli.add_typer(rollout, name="rollout")
cli.add_typer(new, name="new")


def _version(requested: bool) -> None:
    if requested:
        print(f"sonograph {importlib.metadata.version('sonograph')}")
        raise typer.Exit


@cli.callback()
def sonograph(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    pass


def main() -> None:
    cli()
