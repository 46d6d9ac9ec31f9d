"""A task that runs here, outside of any agent: its companion, and what is told to it.

The companion is a process beside this one. It keeps the task's record on the server, so that this
program needs to wait for nothing, and sees how this program ends.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

from clearflow.client import door, outbox
from clearflow.client.door import Line
from clearflow.client.later import Later
from clearflow.errors import ClearflowError, Usage
from clearflow.words.environ import TASK

if TYPE_CHECKING:
    import subprocess

    from clearflow.client import notebook, packages
else:
    subprocess = Later("subprocess")
    notebook = Later("clearflow.client.notebook")
    packages = Later("clearflow.client.packages")


_PACKAGE_HOME = str(Path(__file__).resolve().parents[2])
_EVERY, _SELDOM = 0.25, 0.05


class _Session:
    def __init__(self, line: Line, owner: int) -> None:
        self.line, self.owner = line, owner
        self.failure: str | None = None
        self.code: Any = None
        self.streams: list[_Stream] = []
        self.over = threading.Event()
        self.flushed = 0.0


_session: _Session | None = None


def running() -> bool:
    """Whether this very process is a task here."""
    return _session is not None and _session.owner == os.getpid()


def begin(
    project: str | None, name: str | None, tags: Sequence[str], streams: bool
) -> dict[str, Any]:
    """Make this program a task. What the server says about it. Raises ClearflowError."""
    global _session
    line = _companion()
    script = getattr(sys.modules.get("__main__"), "__file__", None) or notebook.file_of_kernel()
    seen = line.ask(
        "begin",
        script=script and os.path.abspath(script),
        project=project,
        name=name,
        tags=list(tags),
        arguments=sys.argv[1:],
        pid=os.getpid(),
    )
    _hook()
    _session = _Session(line, os.getpid())
    door.use(line)
    os.environ[TASK] = seen["id"]
    print(f"clearflow: task {seen['id']}: {seen['url']}", file=sys.stderr)
    if streams:
        _tee(_session)
    return dict(seen)


def _companion() -> Line:
    ours, theirs = socket.socketpair()
    env = {**os.environ, "PYTHONSAFEPATH": "1"}
    env["PYTHONPATH"] = os.pathsep.join(filter(None, (_PACKAGE_HOME, env.get("PYTHONPATH"))))
    with theirs:
        subprocess.Popen(
            [sys.executable, "-m", "clearflow.supervisor.companion", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            env=env,
            # Ctrl-C in the terminal is for this program.
            start_new_session=True,
        )
    return Line(ours)


def send(queue: str | None, clone: bool) -> dict[str, Any]:
    """Have the task queued elsewhere. Raises ClearflowError; then nothing has been queued."""
    session = _own()
    _flush(session)
    outbox.flush()
    # A notebook has grown since the task began.
    asked = {"queue": queue, "clone": clone, "script": notebook.file_of_kernel()}
    return dict(session.line.ask("send", **asked, imported=packages.imported()))


def keep() -> None:
    """Have the code of this program kept with its task: other tasks are made from it."""
    if running():
        _own().line.ask("keep.code", imported=packages.imported())


def end(status: str, reason: str) -> None:
    """The task ends here; the program may go on."""
    global _session
    session = _own()
    _flush(session)
    outbox.close()
    for stream in session.streams:
        stream.restore()
    session.over.set()
    imported = packages.imported()
    with contextlib.suppress(ClearflowError):
        session.line.ask("end", status=status, reason=reason, imported=imported)
    session.line.close()
    door.use(None)
    os.environ.pop(TASK, None)
    _session = None


def leave() -> None:
    """End this program, however it is caught: what would come next runs elsewhere."""
    global _session
    session = _own()
    for stream in session.streams:
        stream.restore()
    session.over.set()
    _session = None
    atexit._run_exitfuncs()
    for each in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            each.flush()
    os._exit(0)


def _own() -> _Session:
    if _session is None or not running():
        raise Usage("this program is no task", hint="Task.init() makes it one")
    return _session


# -- how this program ends --------------------------------------------------------------------


_hooked = 0  # the process that has been hooked


def _hook() -> None:
    """See exceptions, exit codes and the end of the interpreter, and let them pass."""
    global _hooked
    if _hooked == os.getpid():
        return  # by an earlier task of this program
    _hooked = os.getpid()
    hook, leaving = sys.excepthook, sys.exit

    def on_exception(
        kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        if _session is not None:
            words = f"{kind.__name__}: {error}".splitlines()[0][:300]
            _session.failure = "KeyboardInterrupt" if kind is KeyboardInterrupt else words
        hook(kind, error, trace)

    def on_exit(code: Any = None) -> Any:
        if _session is not None:
            _session.code = code
        leaving(code)

    sys.excepthook = on_exception
    sys.exit = on_exit
    atexit.register(_at_exit)


def _at_exit() -> None:
    if _session is None or not running():
        return
    failure, code = _session.failure, _session.code
    if failure == "KeyboardInterrupt":
        end("aborted", "Ctrl-C")
    elif failure is not None:
        end("failed", failure)
    elif code not in (None, 0):
        end("failed", f"exit code {code}" if isinstance(code, int) else str(code)[:300])
    else:
        end("completed", "")


def say_errors_plainly() -> None:
    """An error of clearflow's that ends the program is a line and a hint, and no traceback."""
    before = sys.excepthook
    if getattr(before, "plain", False):
        return

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if not isinstance(error, ClearflowError):
            before(kind, error, trace)
            return
        print(f"clearflow: error: {error.message}", file=sys.stderr)
        if error.hint:
            print(f"clearflow: hint: {error.hint}", file=sys.stderr)

    hook.plain = True  # type: ignore[attr-defined]
    sys.excepthook = hook


_before: Any = None


def on_interrupt(act: Callable[[], Any] | None) -> None:
    """Call `act` before the first Ctrl-C or SIGTERM does what it does; None takes that back."""
    global _before
    if threading.current_thread() is not threading.main_thread():
        raise Usage("an abort callback is registered in the main thread")
    if _before is not None:
        signal.signal(signal.SIGINT, _before)
        _before = None
    if act is None:
        return
    before = signal.getsignal(signal.SIGINT)

    def interrupted(number: int, frame: FrameType | None) -> None:
        on_interrupt(None)
        act()
        if callable(before):
            before(number, frame)

    _before = before if before is not None else signal.SIG_DFL
    signal.signal(signal.SIGINT, interrupted)


# -- what it prints ---------------------------------------------------------------------------


class _Stream:
    """One of Python's two output streams, with a second pair of eyes."""

    def __init__(self, session: _Session, name: str) -> None:
        self._session, self._name = session, name
        self._stream = getattr(sys, name)
        self._text: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        if os.getpid() == self._session.owner:
            self._text.append(text)
        count = int(self._stream.write(text))
        # What is printed seldom goes at once: the program may be killed in the next moment.
        if "\n" in text and time.monotonic() - self._session.flushed > _SELDOM:
            _flush(self._session)
        return count

    def writelines(self, lines: Sequence[str]) -> None:
        for line in lines:
            self.write(line)

    def take(self) -> str:
        text, self._text = self._text, []
        return "".join(text)

    def restore(self) -> None:
        if getattr(sys, self._name) is self:
            setattr(sys, self._name, self._stream)


def _tee(session: _Session) -> None:
    session.streams = [_Stream(session, name) for name in ("stdout", "stderr")]
    sys.stdout, sys.stderr = session.streams

    def keep_sending() -> None:
        while not session.over.wait(_EVERY):
            _flush(session)

    threading.Thread(target=keep_sending, daemon=True, name="clearflow-console").start()


def _flush(session: _Session) -> None:
    session.flushed = time.monotonic()
    text = "".join(stream.take() for stream in session.streams)
    if text:
        with contextlib.suppress(ClearflowError):
            session.line.tell("console", text=text)
