"""How a forked process ends: as an interpreter does, but without taking apart what it inherited.

At its end an interpreter clears all modules and frees all objects. In a forked process that copies
most of the memory it shares with its launcher, page by page, for nothing: 50 ms and more in which
a slot stays taken. Here what came after the fork is ended as the interpreter would: threads are
joined, exit functions called, the flow's own modules dropped, files flushed, the exit functions of
C libraries called. The rest goes with the process, as in children of `multiprocessing`.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import io
import os
import sys
import threading
from collections.abc import Callable, Collection
from typing import Any, NoReturn


def after(run: Callable[[], int], inherited: Collection[str]) -> NoReturn:
    """Run a task's program, and leave with its exit code.

    `inherited` names the modules that were there before. An error is left to the interpreter.
    """
    try:
        code: Any = run()
    except SystemExit as end:
        code = 0 if end.code is None else end.code
        if not isinstance(code, int):
            raise
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    _drop_modules(inherited)
    _flush_files()
    _exit(int(code))


def at_once(code: int) -> NoReturn:
    """Leave without further ado: everything has been written."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def _drop_modules(inherited: Collection[str]) -> None:
    """Let the objects in the flow's own modules end: some do something then."""
    for name in [n for n in sys.modules if n not in inherited]:
        del sys.modules[name]
    gc.collect()


def _flush_files() -> None:
    """Write what is left in the buffers of files that nobody closed."""
    buffered = (io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom)
    # Text first: it is written into the buffer below it. What was there before the fork is
    # frozen, and not among these.
    left = [o for o in gc.get_objects() if isinstance(o, buffered)]
    for file in [*(f for f in left if isinstance(f, io.TextIOWrapper)), *left]:
        with contextlib.suppress(OSError, ValueError):
            if not file.closed:
                file.flush()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()


def _exit(code: int) -> NoReturn:
    # C's `exit` flushes what C code has printed. The lock of the interpreter is kept, so that no
    # thread of Python runs on meanwhile.
    ctypes.PyDLL(None).exit(code & 0xFF)
    os._exit(code & 0xFF)
