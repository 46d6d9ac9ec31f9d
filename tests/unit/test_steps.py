"""What a signal does to a command."""

import subprocess
import sys
from pathlib import Path

import pytest

INTERRUPTED = """
import os, signal, sys
from clearflow.cli.steps import ends_by_signal
with ends_by_signal():
    try:
        # As when a module is imported: dataclasses compile their methods from strings.
        exec("os.kill(os.getpid(), signal.{name})\\nwhile True: pass")
    except KeyboardInterrupt:
        sys.exit(130)
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_command_that_is_interrupted_has_its_own_exit_code(name: str, tmp_path: Path):
    (tmp_path / "interrupted.py").write_text(INTERRUPTED.format(name=name))
    words = [sys.executable, "-m", "interrupted"]  # of scripts CPython forgets it
    assert subprocess.run(words, cwd=tmp_path, timeout=60, check=False).returncode == 130
