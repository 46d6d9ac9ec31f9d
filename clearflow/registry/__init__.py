"""The registry of datasets and models: who they are, and everything that happened to them.

The truth lies beside the data in the store: for each entry a folder of records that are written
once and never changed. What Prefect has of it are events, and an index that people read.
"""

from __future__ import annotations

from clearflow.registry.registry import Registry as Registry
