"""The store that all machines use: opened, named, forgotten."""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path

from clearflow._prefect import places
from clearflow._prefect.http import Api
from clearflow.store import Store
from clearflow.words.places import Place


async def opened(api: Api) -> Store:
    """The store, which has been reached. Raises Refused in one line when it is not."""
    store = Store(await places.store_place(api))
    await store.check()
    return store


async def shared(api: Api) -> Store | None:
    """The store that others reach too; None where nobody has named one. Raises Refused."""
    place = await places.store_place(api)
    if not place.shared:
        return None
    store = Store(place)
    await store.check()
    return store


async def name(api: Api, url: str, credentials: str | None = None) -> Store:
    """Have all machines use this store from now on; what is in the old one stays there.

    Raises Usage and NotFound for credentials, Refused for a store that cannot be written.
    """
    from clearflow.blocks import ClearflowStore

    url = url if "://" in url else str(Path(url).expanduser().resolve())  # noqa: ASYNC240
    options = await places.credentials(api, credentials) if credentials else {}
    store = Store(Place(url, options))
    host = socket.gethostname() if store.local is not None else ""
    mark = await store.found()
    block = ClearflowStore(url=url, credentials=credentials, mark=mark, host=host)
    await block.save(places.NAME, overwrite=True)
    places.look_again(api)
    return Store(replace(store.place, mark=mark, host=host))


forget = places.forget_store
