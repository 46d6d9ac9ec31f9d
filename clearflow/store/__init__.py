"""Where large things are kept: a store over fsspec, and what it needs to read and write."""

from __future__ import annotations

from clearflow.store.store import Store as Store
from clearflow.store.streams import Content as Content
from clearflow.store.streams import Progress as Progress
from clearflow.store.streams import quiet as quiet
