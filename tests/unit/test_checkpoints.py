"""Models that libraries save into files are taken; with the libraries themselves, but for torch."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from clearflow.client import checkpoints
from clearflow.client.task import Task
from tests.support.processes import clean_environment

WATCHED = """
import json
import numpy as np
{before}
from clearflow.client import checkpoints, frameworks

said = []
checkpoints.saved = lambda path, framework: said.append([str(path), framework])
frameworks.capture({wanted})
x = np.random.default_rng(0).normal(size=(50, 4))
y = (x[:, 0] > 0).astype(int)
{program}
print(json.dumps(said))
"""
JOBLIB = """
import joblib
from sklearn.linear_model import LogisticRegression
joblib.dump(LogisticRegression().fit(x, y), "model.joblib")
joblib.dump({"no": "model"}, "data.joblib")
"""
LIGHTGBM = """
import lightgbm
lightgbm.train({"verbose": -1}, lightgbm.Dataset(x, y), 1).save_model("model.txt")
"""
XGBOOST = """
import xgboost
xgboost.XGBClassifier(n_estimators=1).fit(x, y).save_model("model.json")
"""
TORCH = """
import torch
torch.save({"w": 1}, "model.pt")
torch.save({"w": 1}, open("other.pt", "wb"))
"""


@pytest.mark.parametrize(
    ("program", "before", "wanted", "said"),
    [
        (JOBLIB, "", "True", '[["model.joblib", "scikit-learn"]]'),
        (JOBLIB, "import joblib", "True", '[["model.joblib", "scikit-learn"]]'),
        (LIGHTGBM, "", "True", '[["model.txt", "LightGBM"]]'),
        (XGBOOST, "", "True", '[["model.json", "XGBoost"]]'),
        (TORCH, "", "True", '["model.pt", "PyTorch"]'),
        (TORCH, "import torch", "True", '["model.pt", "PyTorch"]'),
        (JOBLIB, "", "{'joblib': False}", "[]"),
    ],
)
def test_what_is_saved_is_taken(
    program: str, before: str, wanted: str, said: str, tmp_path: Path
) -> None:
    stand_in = tmp_path / "torch"
    stand_in.mkdir()
    (stand_in / "__init__.py").write_text("from .serialization import save\n")
    (stand_in / "serialization.py").write_text("def save(obj, f):\n    pass\n")
    done = subprocess.run(
        [sys.executable, "-c", WATCHED.format(program=program, before=before, wanted=wanted)],
        env=clean_environment(),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert said in done.stdout.splitlines()[-1]


class Standing:
    """A task that keeps models; the first upload lasts until it is let go."""

    id, name = "t", "train"

    def __init__(self) -> None:
        self.kept: list[tuple[str, str, bytes]] = []
        self.begun, self.go_on = threading.Event(), threading.Event()

    def upload_model(self, path: Path, name: str, framework: str) -> None:
        content = path.read_bytes()
        self.begun.set()
        self.go_on.wait(10)
        self.kept.append((name, framework, content))


@pytest.fixture
def task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    standing = Standing()
    monkeypatch.setattr(Task, "_current", standing)
    monkeypatch.chdir(tmp_path)
    return standing


def test_the_last_content_of_a_file_counts(task: Standing, tmp_path: Path) -> None:
    file = tmp_path / "model.pt"
    file.write_bytes(b"one")
    checkpoints.saved(file, "PyTorch")
    assert task.begun.wait(10)
    file.write_bytes(b"three")
    checkpoints.saved(str(file), "PyTorch")
    task.go_on.set()
    checkpoints.settle()
    assert task.kept == [
        ("train - model", "PyTorch", b"one"),
        ("train - model", "PyTorch", b"three"),
    ]


def test_what_is_no_model_to_stay_is_left_alone(
    task: Standing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    file = tmp_path / "passing.pt"
    file.write_bytes(b"x")
    checkpoints.saved(file, "PyTorch")
    with file.open("rb") as stream:
        checkpoints.saved(stream, "PyTorch")
    task.go_on.set()
    checkpoints.settle()
    assert task.kept == []


def test_a_large_file_is_told_once(
    task: Standing,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(checkpoints, "LARGEST", 2)
    file = tmp_path / "large.pt"
    for content in (b"abc", b"abcd"):
        file.write_bytes(content)
        checkpoints.saved(file, "PyTorch")
        checkpoints.settle()
    assert task.kept == []
    assert capsys.readouterr().err.count("is not kept by itself: it is large") == 1
