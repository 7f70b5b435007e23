"""`python -m tests.kubernetes up --nodes 6`, `down`, `kubectl ...`: the cluster of the tests, to work in by hand."""

import subprocess
import sys
from typing import Annotated

import typer

from tests.kubernetes import cluster, machine

cli = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__)


@cli.command()
def up(nodes: Annotated[int, typer.Option(min=1, max=20)] = 6) -> None:
    """Start a cluster, in place of the one that runs; the first time its programs are built, in about ten minutes."""
    if reason := machine.lacks():
        raise typer.Exit(_refuse(reason))
    with cluster.alone():
        cluster.up(nodes)


@cli.command()
def down() -> None:
    """End the cluster, and remove all that it made but the cache of its programs."""
    with cluster.alone():
        machine.clear()


@cli.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []})
def kubectl() -> None:
    """Run kubectl in the cluster."""
    words = sys.argv[sys.argv.index("kubectl") + 1 :]  # typer would drop `--`
    if not cluster.KUBECONFIG.exists():
        raise typer.Exit(_refuse("no cluster runs: `python -m tests.kubernetes up` starts one"))
    raise typer.Exit(subprocess.run([*cluster.kubectl().command, *words], check=False).returncode)


def _refuse(reason: str) -> int:
    print(reason, file=sys.stderr)
    return 1


if __name__ == "__main__":
    cli()
