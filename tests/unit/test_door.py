"""The line between a task's process and its supervisor: questions may overlap."""

from __future__ import annotations

import json
import socket
import threading

import pytest

from clearflow.client.door import Line
from clearflow.errors import ClearflowError, NotFound


def test_answers_find_whoever_asked_in_any_order() -> None:
    ours, theirs = socket.socketpair()
    line = Line(ours)
    got: dict[str, object] = {}
    threads = [
        threading.Thread(target=lambda v=verb: got.update({v: line.ask(v)})) for verb in "abc"
    ]
    for thread in threads:
        thread.start()
    with theirs, theirs.makefile("rb") as heard:
        asked = [json.loads(heard.readline()) for _ in threads]
        for question in reversed(asked):
            answer = {"number": question["number"], "answer": question["ask"] * 2}
            theirs.sendall(json.dumps(answer).encode() + b"\n")
        for thread in threads:
            thread.join()
    assert got == {"a": "aa", "b": "bb", "c": "cc"}
    with pytest.raises(ClearflowError, match="does not answer"):
        line.ask("d")
    line.close()


def test_an_error_is_raised_as_what_it_was() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        theirs.sendall(b'{"number": 1, "error": "gone", "kind": "NotFound"}\n')
        line = Line(ours)
        with pytest.raises(NotFound, match="gone"):
            line.ask("a")
        line.close()


def test_closing_ends_a_question_that_waits() -> None:
    """A pipeline's thread waits for its steps when the program ends."""
    ours, theirs = socket.socketpair()
    line = Line(ours)
    told: list[str] = []

    def wait() -> None:
        try:
            line.ask("a")
        except ClearflowError as error:
            told.append(error.message)

    thread = threading.Thread(target=wait)
    thread.start()
    with theirs, theirs.makefile("rb") as heard:
        heard.readline()
        line.close()
        thread.join(10)
    assert not thread.is_alive()
    assert len(told) == 1
