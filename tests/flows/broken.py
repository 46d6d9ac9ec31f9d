"""A file that cannot be imported."""

raise RuntimeError("broken on purpose")
