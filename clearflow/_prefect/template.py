"""The base job template of clearflow pools: what the Prefect UI shows as a form.

The same table says what a task may ask for, so there is one place to add something.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from clearflow.errors import Usage

VARIABLES: dict[str, dict[str, Any]] = {
    "runtime": {
        "title": "Runtime",
        "description": "Where a script runs; empty: as the agent was started. Flows are processes.",
        "enum": ["process", "docker"],
    },
    "image": {
        "title": "Image",
        "type": "string",
        "description": "The Docker image, for the Docker runtime.",
    },
    "docker_args": {
        "title": "Docker arguments",
        "type": "string",
        "description": "Further arguments of `docker run`, for the Docker runtime.",
    },
    "gpus": {
        "title": "GPUs",
        "type": "integer",
        "minimum": 0,
        "description": "How many GPUs the task gets for itself; empty: all of an agent that runs"
        " one task at a time, none of another.",
    },
    "cpus": {
        "title": "CPUs",
        "type": "number",
        "minimum": 0,
        "description": "How many processors the task needs free.",
    },
    "memory_mb": {
        "title": "Memory (MB)",
        "type": "integer",
        "minimum": 0,
        "description": "How much memory the task needs free, in megabytes.",
    },
    "env": {
        "title": "Environment variables",
        "type": "object",
        "additionalProperties": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "description": "Environment variables of the task. Secrets belong in blocks.",
    },
    "python_version": {
        "title": "Python version",
        "type": "string",
        "description": "For an environment of its own, such as 3.12.",
    },
    "requirements": {
        "title": "Requirements",
        "type": "array",
        "items": {"type": "string"},
        "description": "Packages, one requirement each; empty: the agent's own environment.",
    },
    "setup_script": {
        "title": "Set-up script",
        "type": "string",
        "description": "Shell commands that run in the working directory before the task.",
    },
    "working_dir": {
        "title": "Working directory",
        "type": "string",
        "description": "Where the task runs; empty: where its code is.",
    },
    "grace_seconds": {
        "title": "Grace period (seconds)",
        "type": "integer",
        "minimum": 0,
        "maximum": 300,
        "description": "On abort: from Ctrl-C to SIGTERM, and from there to SIGKILL.",
    },
    "time_limit_seconds": {
        "title": "Time limit (seconds)",
        "type": "number",
        "exclusiveMinimum": 0,
        "description": "How long the task may run; then it is aborted.",
    },
    "max_attempts": {
        "title": "Maximum attempts",
        "type": "integer",
        "minimum": 1,
        "description": "How often the task is started before its loss is final.",
    },
    "exclusive": {
        "title": "Exclusive",
        "type": "boolean",
        "default": False,
        "description": "Never run twice at once, even while the network is cut: a machine that is"
        " cut off freezes the task.",
    },
}


def base_job_template() -> dict[str, Any]:
    """The template of a new pool: every variable, passed on under its own name."""
    return {
        "job_configuration": {name: "{{ " + name + " }}" for name in VARIABLES},
        "variables": {"type": "object", "properties": deepcopy(VARIABLES)},
    }


_TYPES: dict[str, tuple[type, ...]] = {
    "array": (list, tuple),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
    "object": (dict,),
    "string": (str,),
}


def check_variables(given: Mapping[str, Any]) -> None:
    """Raise Usage for a job variable that is not as the form says; others may hold anything."""
    for name, value in given.items():
        form = VARIABLES.get(name)
        if form is not None and value is not None and (wrong := _wrong(value, form)):
            raise Usage(f"{name} is {value!r}, and has to be {wrong}")


def _wrong(value: Any, form: Mapping[str, Any]) -> str | None:
    """What a value would have to be, when it is something else."""
    if "enum" in form:
        return None if value in form["enum"] else "one of " + ", ".join(form["enum"])
    kind = form["type"]
    if not isinstance(value, _TYPES[kind]) or (kind != "boolean" and isinstance(value, bool)):
        return f"of the type {kind}"
    if "minimum" in form and value < form["minimum"]:
        return f"at least {form['minimum']}"
    if "exclusiveMinimum" in form and value <= form["exclusiveMinimum"]:
        return f"more than {form['exclusiveMinimum']}"
    if "maximum" in form and value > form["maximum"]:
        return f"at most {form['maximum']}"
    return None
