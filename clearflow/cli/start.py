"""The first commands a person types: `quickstart`, `init`, `up`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clearflow.cli.output import Json, Yes, say
from clearflow.cli.steps import ends_by_signal, step, undisturbed, working
from clearflow.errors import ClearflowError, Unauthorized, Usage
from clearflow.settings import settings

if TYPE_CHECKING:
    from clearflow._prefect.connection import Connection

PROFILE = "clearflow"
SQLITE = (
    "SQLite is right for one person and a few agents;"
    " `clearflow up --postgres postgresql://…` for more."
)


def register(app: typer.Typer) -> None:
    """Add the commands of this file to the command line."""
    app.command()(quickstart)
    app.command()(init)
    app.command()(up)


def quickstart(
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave the server and the agents running.")
    ] = False,
    trainings: Annotated[
        int, typer.Option(min=4, max=100, help="How many trainings to enqueue.")
    ] = 6,
    json: Json = False,
) -> None:
    """See trainings go through a queue to two agents, on this machine, in a minute or two.

    Starts a temporary Prefect server when none is configured, and cleans up at the end.
    """
    from clearflow.cli.quickstart import run

    raise typer.Exit(run(keep=keep, trainings=trainings, as_json=json))


def init(
    url: Annotated[
        str | None, typer.Option(help="Address of the Prefect server or workspace.")
    ] = None,
    key: Annotated[
        str | None, typer.Option(envvar="PREFECT_API_KEY", help="API key (Prefect Cloud).")
    ] = None,
    auth_string: Annotated[
        str | None,
        typer.Option(
            envvar="PREFECT_API_AUTH_STRING", help="user:password of a self-hosted server."
        ),
    ] = None,
    profile: Annotated[str, typer.Option(help="The Prefect profile to write.")] = PROFILE,
    yes: Yes = False,
) -> None:
    """Connect this machine to a Prefect server that is there already.

    Checks the address and the key, makes the work pool and its queues, and writes a Prefect
    profile, which becomes the active one. Other profiles stay as they are.
    """
    from clearflow._prefect import compat, setting_up
    from clearflow._prefect.connection import Connection

    asks = not yes and sys.stdin.isatty()
    where = Connection(
        url=setting_up.api_url(url or _known_url(asks)), key=key, auth_string=auth_string
    )
    try:
        made, version = _connected(where)
    except Unauthorized:
        if not asks or key or auth_string:
            raise
        where = _with_secret(where)
        made, version = _connected(where)
    step(f"prefect config set PREFECT_API_URL={where.url}", _described(where, version))
    _told_of_pool(made)
    _write_profile(where, profile, activate=True)
    if version and not compat.fits(version):
        say(f"warning: clearflow is made for Prefect {compat.MADE_FOR}")
    if "prefect.cloud" not in where.url:
        say(SQLITE)
    say("Next: `clearflow agent start --queue cpu` on every machine that is to work.")


def up(
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port; left out: 4200 or a free one.")
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen at; 0.0.0.0 lets other machines in.")
    ] = "127.0.0.1",
    postgres: Annotated[
        str | None,
        typer.Option(
            envvar="CLEARFLOW_POSTGRES", help="Keep the data in this PostgreSQL database."
        ),
    ] = None,
    background: Annotated[
        bool, typer.Option("--background/--foreground", help="Return when the server answers.")
    ] = False,
    stop: Annotated[bool, typer.Option("--stop", help="Stop the server of this machine.")] = False,
) -> None:
    """Start a Prefect server on this machine, with the work pool and queues of clearflow.

    It stays until Ctrl-C, or with --background until `clearflow up --stop`. Its data are kept
    for the next time.
    """
    from clearflow._prefect import local_server

    folder = settings().home_path / "server"
    if stop:
        ended = local_server.stop(folder)
        say(f"Stopped the server at {ended.ui_url}" if ended else "No server runs here.")
        return
    if running := local_server.find(folder):
        say(f"A server runs here already: {running.ui_url}   (stop it: clearflow up --stop)")
        return
    with ends_by_signal():
        try:
            _start_and_stay(folder, host, port, postgres, background)
        except KeyboardInterrupt:
            with undisturbed():
                local_server.stop(folder)
            say("\nThe server has stopped; its data are kept.")


def _start_and_stay(
    folder: Path, host: str, port: int | None, postgres: str | None, background: bool
) -> None:
    from clearflow._prefect import local_server
    from clearflow._prefect.connection import Connection

    with working("Starting the Prefect server") as waiting:
        server = local_server.start(
            folder, host=host, port=port, postgres=postgres, waiting=waiting
        )
    where = Connection(server.url, auth_string=os.environ.get("PREFECT_SERVER_API_AUTH_STRING"))
    try:
        made, _ = _connected(where)
    except ClearflowError:
        local_server.stop(folder)
        raise
    step("prefect server start", f"{server.ui_url}   (log: {folder / 'server.log'})")
    _told_of_pool(made)
    write_own_profile(where)
    if server.database == "sqlite":
        say(SQLITE)
    if host != "127.0.0.1":
        _told_of_others(server.port, locked=where.auth_string is not None)
    say("Next: `clearflow agent start --queue cpu` in another terminal, or `clearflow quickstart`.")
    if background:
        say("The server stays; `clearflow up --stop` stops it.")
        return
    say("Ctrl-C stops the server.")
    if not local_server.wait(server, folder):
        raise ClearflowError("the Prefect server has ended", hint=f"see {folder / 'server.log'}")
    say("The server has stopped; its data are kept.")


def _connected(where: Connection) -> tuple[list[str], str | None]:
    import asyncio

    return asyncio.run(_connect(where))


async def _connect(where: Connection) -> tuple[list[str], str | None]:
    """The queues that were made there, and the server's version."""
    from clearflow._prefect import setting_up
    from clearflow._prefect.http import Api

    async with Api(where, give_up_after=5.0) as api:
        version = await setting_up.check(api)
        return await setting_up.make(api, settings().pool), version


def _known_url(asks: bool) -> str:
    """The address that is configured now; a person is asked for it."""
    from clearflow._prefect.connection import connection
    from clearflow.errors import Unreachable

    try:
        known = connection().url
    except Unreachable:
        known = ""
    if asks:
        default = known or "http://127.0.0.1:4200/api"
        return str(typer.prompt("Address of the Prefect server", default=default, err=True))
    if not known:
        raise Usage("no server is named", hint="clearflow init --url http://HOST:4200/api")
    return known


def _with_secret(where: Connection) -> Connection:
    from clearflow._prefect.connection import Connection

    cloud = "prefect.cloud" in where.url
    question = "API key" if cloud else "user:password (or an API key)"
    secret = str(typer.prompt(f"The server asks for a key. {question}", hide_input=True, err=True))
    if cloud or ":" not in secret:
        return Connection(url=where.url, key=secret)
    return Connection(url=where.url, auth_string=secret)


def _described(where: Connection, version: str | None) -> str:
    return f"Prefect {version}" if version else "Prefect Cloud"


def _told_of_pool(made: list[str]) -> None:
    pool = settings().pool
    what = f"with new queues {', '.join(made)}" if made else "was there, with its queues"
    step(f"prefect work-pool create {pool} --type clearflow", what)


def _told_of_others(port: int, locked: bool) -> None:
    import socket

    url = f"http://{socket.gethostname()}:{port}"
    say(f"Other machines: clearflow init --url {url}" + (" --auth-string …" if locked else ""))
    if not locked:
        say(
            "Anybody who reaches this port can have agents run code;"
            " PREFECT_SERVER_API_AUTH_STRING=user:password locks it."
        )


def write_own_profile(where: Connection) -> None:
    """The profile of this machine's own server: active unless another server was chosen."""
    from clearflow._prefect import profiles

    active, found = profiles.read()
    chosen = active != PROFILE and "PREFECT_API_URL" in found.get(active or "", {})
    _write_profile(where, PROFILE, activate=not chosen)


def _write_profile(where: Connection, profile: str, *, activate: bool) -> None:
    from clearflow._prefect import profiles

    values = {"PREFECT_API_URL": where.url}
    if where.key:
        values["PREFECT_API_KEY"] = where.key
    if where.auth_string:
        values["PREFECT_API_AUTH_STRING"] = where.auth_string
    before, _ = profiles.read()
    profiles.write(profile, values, activate=activate)
    if activate:
        was = f"; `prefect profile use {before}` goes back" if before not in {None, profile} else ""
        step(f"prefect profile use {profile}", f"is active now{was}")
    else:
        step(f"prefect profile use {profile}", f"to work with it: {before!r} stays active")
    for name, wanted in (("PREFECT_API_URL", where.url), ("PREFECT_PROFILE", profile)):
        if os.environ.get(name, wanted) != wanted:
            say(f"{name}={os.environ[name]} is set in this shell and wins over the profile.")
