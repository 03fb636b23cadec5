"""The command line of the nodes of docker-compose.yml: ``splitvote up``, ``down``, ``ps``, ``logs`` and ``ssh``."""

from __future__ import annotations

from typing import Final

import click


@click.command()
@click.argument("nodes", nargs=-1)
@click.option("--with", "extras", multiple=True, metavar="NAME", help="docker-compose.NAME.yml as well (clock, disk).")
@click.option("--build", "is_built_anew", is_flag=True, help="Build the image, though there is one.")
def up(nodes: tuple[str, ...], extras: tuple[str, ...], is_built_anew: bool) -> None:
    """Bring the nodes of docker-compose.yml up (all of them, or NODES) for `run --cluster compose`."""
    from splitvote.harness.clusters.remote import compose_commands

    compose_commands.up(nodes, extras, is_built_anew=is_built_anew, say=click.echo)


@click.command()
def down() -> None:
    """Remove the nodes of docker-compose.yml with all they hold."""
    from splitvote.harness.clusters.remote import compose_commands

    compose_commands.down(click.echo)


@click.command()
def ps() -> None:
    """Tell of each node of docker-compose.yml where it is and what runs in it."""
    from splitvote.harness.clusters.remote import compose_commands

    compose_commands.ps(click.echo)


@click.command()
@click.argument("node")
def logs(node: str) -> None:
    """Print what the last etcd on NODE of docker-compose.yml has said."""
    from splitvote.harness.clusters.remote import compose_commands

    compose_commands.logs(node, click.echo)


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("node")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def ssh(node: str, command: tuple[str, ...]) -> None:
    """Log in to NODE of docker-compose.yml, or run COMMAND there."""
    from splitvote.harness.clusters.remote import compose_commands

    compose_commands.ssh(node, command)


COMMANDS: Final = (up, down, ps, logs, ssh)
