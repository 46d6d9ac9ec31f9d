"""Tasks: queued from a program, found, shown, followed, waited for and aborted."""
