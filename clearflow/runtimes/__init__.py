"""Where a task's process runs, and how its whole tree is ended."""
