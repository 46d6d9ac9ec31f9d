"""Queues: lines of tasks whose order people can change."""

from clearflow.queues.face import Queue

__all__ = ["Queue"]
