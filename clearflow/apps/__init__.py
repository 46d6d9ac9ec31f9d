"""Applications: flows that clearflow brings along, run by agents like any other."""
