"""Notes in the messages of states, as people read them."""

from clearflow.words.notes import Note, without_fields


def test_prefects_own_lines_are_shown_without_the_fields() -> None:
    note = Note("completed on box:0", by="box:0", attempt=2, agent="box:0", claim="0f1e2d3c4b5a")
    line = f"Finished in state Completed('{note}')"
    assert without_fields(line) == "Finished in state Completed('completed on box:0')"
    assert without_fields("epoch [attempt=1] of 3") == "epoch [attempt=1] of 3"
