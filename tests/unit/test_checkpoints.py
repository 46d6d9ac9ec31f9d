"""Models that libraries save into files are taken; with the libraries themselves, if not too large.

In the places of PyTorch, Keras and CatBoost stand modules with what these document: the classes,
where they lie, how their methods are called.
"""

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
CATBOOST = """
import catboost
model = catboost.CatBoostClassifier()
model.save_model("model.cbm")
model.save_model(fname="model.json", format="json", pool=None)
"""
KERAS = """
import keras
model = keras.Sequential()
model.save("model.keras", overwrite=True)
model.save(filepath="folder")
model.save_weights("w.weights.h5")
"""
OF_CATBOOST = '[["model.cbm", "CatBoost"], ["model.json", "CatBoost"]]'
OF_KERAS = '[["model.keras", "Keras"], ["folder", "Keras"], ["w.weights.h5", "Keras"]]'
STAND_INS = {
    "torch/__init__.py": "from .serialization import save\n",
    "torch/serialization.py": "def save(obj, f):\n    pass\n",
    "catboost/__init__.py": "from .core import CatBoost, CatBoostClassifier\n",
    "catboost/core.py": """
class CatBoost:
    def save_model(self, fname, format="cbm", export_parameters=None, pool=None):
        pass
class CatBoostClassifier(CatBoost):
    pass
""",
    "keras/__init__.py": "from keras.src.models.sequential import Sequential\n",
    "keras/src/models/model.py": """
class Model:
    def save(self, filepath, overwrite=True, zipped=None, **kwargs):
        if zipped is None and filepath == "model.keras":
            self.save_weights("inner.weights.h5")
    def save_weights(self, filepath, overwrite=True, max_shard_size=None):
        pass
""",
    "keras/src/models/sequential.py": """
from keras.src.models.model import Model
class Sequential(Model):
    pass
""",
}


@pytest.mark.parametrize(
    ("program", "before", "wanted", "said"),
    [
        (JOBLIB, "", "True", '[["model.joblib", "scikit-learn"]]'),
        (JOBLIB, "import joblib", "True", '[["model.joblib", "scikit-learn"]]'),
        (LIGHTGBM, "", "True", '[["model.txt", "LightGBM"]]'),
        (XGBOOST, "", "True", '[["model.json", "XGBoost"]]'),
        (TORCH, "", "True", '["model.pt", "PyTorch"]'),
        (TORCH, "import torch", "True", '["model.pt", "PyTorch"]'),
        (CATBOOST, "", "True", OF_CATBOOST),
        (KERAS, "", "True", OF_KERAS),
        (KERAS, "import keras", "True", OF_KERAS),
        (JOBLIB, "", "{'joblib': False}", "[]"),
        (CATBOOST + KERAS, "", "{'keras': False, 'catboost': False}", "[]"),
    ],
)
def test_what_is_saved_is_taken(
    program: str, before: str, wanted: str, said: str, tmp_path: Path
) -> None:
    for name, code in STAND_INS.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(code)
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
