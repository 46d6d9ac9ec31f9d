"""One process per running task, from its claim to its final state."""
