"""Environment variables by which a task's process knows that it is one."""

TASK = "CLEARFLOW_TASK_ID"
"""The id of the task."""

SOCKET = "CLEARFLOW_TASK_SOCKET"
"""Where its supervisor listens; there is none in a program that no agent runs."""

PATHS = "CLEARFLOW_PATHS"
"""What folders of a task's container are outside of it, as JSON."""
