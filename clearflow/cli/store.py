"""`clearflow store`: where large files go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from clearflow.cli.output import Json, Yes, ask, confirm, print_json, print_table, say

if TYPE_CHECKING:
    from clearflow._prefect.http import Api

app = typer.Typer(
    rich_markup_mode=None,
    no_args_is_help=True,
    help="The store: where snapshots and artifacts above 16 MB, datasets and models are kept.",
)


@app.command()
def show(json: Json = False) -> None:
    """Where the store is, and whether this machine reaches it."""

    async def act(api: Api) -> dict[str, Any]:
        from clearflow._prefect import places
        from clearflow.errors import ClearflowError
        from clearflow.store import Store

        place = await places.store_place(api)
        row = {"url": place.url, "shared": place.shared, "host": place.host or None}
        try:
            store = Store(place)
            await store.check()
        except ClearflowError as error:
            return row | {"reached": False, "why": error.message}
        return row | {"url": store.url, "reached": True, "why": ""}

    found = ask(act)
    if json:
        print_json(found)
    else:
        yes = {True: "yes", False: "no"}
        columns = ["URL~", "SHARED", "REACHED", "WHY~"]
        row = [found["url"], yes[found["shared"]], yes[found["reached"]], found["why"]]
        print_table(columns, [row])
        if not found["shared"]:
            say("hint: `clearflow store set URL` names one that all machines reach")
    if not found["reached"]:
        raise typer.Exit(5)


@app.command("set")
def set_(
    url: Annotated[
        str, typer.Argument(help="A folder that all machines share, or s3://… gs://… az://…")
    ],
    credentials: Annotated[
        str | None,
        typer.Option(help="A credentials block, such as aws-credentials/training."),
    ] = None,
) -> None:
    """Have all machines use this store from now on; what is in the old one stays there."""

    async def act(api: Api) -> str:
        from clearflow import stores

        return (await stores.name(api, url, credentials)).url

    say(f"the store is {ask(act)}")


@app.command()
def gc(
    hours: Annotated[
        float, typer.Option(help="What was stored or used since then stays.", min=0)
    ] = 24.0,
) -> None:
    """Delete what only deleted datasets and models had, and what is left of broken uploads."""

    async def act(api: Api) -> tuple[int, int]:
        from datetime import timedelta

        from clearflow import stores
        from clearflow.registry import collecting

        return await collecting.collect(api, await stores.opened(api), timedelta(hours=hours))

    count, size = ask(act)
    say(f"deleted {count} objects, {size / 1e6:.1f} MB")


@app.command()
def unset(yes: Yes = False) -> None:
    """Have each machine use a folder of its own again; nothing is deleted."""
    confirm("Forget where the store is?", yes)

    async def act(api: Api) -> None:
        from clearflow import stores

        await stores.forget(api)

    ask(act)
    say("each machine has a folder of its own")
