"""Blocks of clearflow's own, which Prefect's UI shows as forms."""

from __future__ import annotations

from prefect.blocks.core import Block
from pydantic import Field


class ClearflowStore(Block):
    """Where large files go: snapshots and artifacts above 16 MB, datasets and models.

    The document `clearflow-store` is the one that counts. Secrets stay in a credentials block.
    """

    _block_type_name = "Clearflow Store"
    _block_type_slug = "clearflow-store"

    url: str = Field(
        description="A folder that all machines share, or s3://…, gs://… or az://… with the extra."
    )
    credentials: str | None = Field(
        default=None,
        description="A credentials block as TYPE/NAME, such as aws-credentials/training.",
    )
    mark: str = Field(default="", description="What stands in the store; written by clearflow.")
    host: str = Field(default="", description="Where a local folder is; written by clearflow.")
