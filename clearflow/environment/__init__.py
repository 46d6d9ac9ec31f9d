"""The door to uv: virtual environments of tasks, one per recipe."""
