"""Notebooks as programs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from clearflow.words import notebooks
from tests.support.processes import clean_environment


def notebook(*cells: str) -> str:
    made = [{"cell_type": "code", "source": cell.splitlines(True)} for cell in cells]
    return json.dumps({"cells": [{"cell_type": "markdown", "source": "# Words"}, *made]})


def test_what_only_a_notebook_can_do_is_left_out_in_its_place():
    assert notebooks.plain("x = 1\n!ls\nif x:\n    %time y = 2\nx?") == (
        "x = 1\npass\nif x:\n    pass\npass",
        ["!ls", "%time y = 2", "x?"],
    )
    assert notebooks.plain("%%time\nx = 1") == ("\nx = 1", [])
    assert notebooks.plain("%%bash\nls") == ("", ["%%bash"])
    assert notebooks.as_script(notebook("x = 1", "y = 2")) == ("# In[1]\nx = 1\n\n# In[2]\ny = 2\n")
    with pytest.raises(ValueError, match="no cells"):
        notebooks.cells("[]")


def test_it_runs_as_a_program_and_says_which_cell_failed(tmp_path: Path):
    file = tmp_path / "train.ipynb"
    (tmp_path / "helper.py").write_text("value = 42")
    code = "import sys, helper\n%matplotlib inline\nprint(helper.value, sys.argv[1:], __name__)"
    file.write_text(notebook(code, "def f():\n    return 1 / 0", "f()"))
    done = subprocess.run(
        [sys.executable, "-m", "clearflow.client.notebook", str(file), "--lr", "0.1"],
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout == "42 ['--lr', '0.1'] __main__\n"
    assert "clearflow: left out of cell 1: %matplotlib inline" in done.stderr
    assert 'File "train.ipynb[2]", line 2, in f' in done.stderr
