"""The job variables of a task: what the pool sets, the deployment asks for, and the run changes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_PLACEHOLDER = re.compile(r"^\{\{\s*([A-Za-z0-9_]+)\s*\}\}$")


def effective(
    template: Mapping[str, Any], deployment: Mapping[str, Any], run: Mapping[str, Any]
) -> dict[str, Any]:
    """The variables that hold for a run, as Prefect's workers work them out.

    The run's come before the deployment's, those before the pool's defaults. A pool whose
    configuration holds a plain value instead of a placeholder sets that value for every task.
    Environment variables are added up, key by key.
    """
    properties = (template.get("variables") or {}).get("properties") or {}
    values = {k: p["default"] for k, p in properties.items() if "default" in p}
    env = dict(values.get("env") or {})
    for layer in (deployment, run):
        values.update({k: v for k, v in layer.items() if v is not None})
        env.update(layer.get("env") or {})
    if env:
        values["env"] = env
    for key, value in (template.get("job_configuration") or {}).items():
        placeholder = _PLACEHOLDER.match(value) if isinstance(value, str) else None
        if placeholder is None:
            values[key] = value
        elif placeholder[1] != key and placeholder[1] in values:
            values[key] = values[placeholder[1]]
    return values
