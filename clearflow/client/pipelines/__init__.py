"""Pipelines: tasks that start tasks, in the order in which one needs what the other makes."""
