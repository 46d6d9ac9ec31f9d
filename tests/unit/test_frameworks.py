"""What libraries evaluate is reported, once for each round; with the libraries themselves."""

import subprocess
import sys

import pytest

from tests.support.processes import clean_environment

WATCHED = """
import json
import numpy as np
{before}
from clearflow.client import frameworks

class Logger:
    said = []
    def report_scalar(self, title, series, value, iteration):
        self.said.append((title, series, iteration))

frameworks._report = lambda act: act(Logger())
frameworks.capture({wanted})
x = np.random.default_rng(0).normal(size=(200, 4))
y = (x[:, 0] > 0).astype(int)
{program}
print(json.dumps(Logger.said))
"""
LIGHTGBM = """
import lightgbm
data = lightgbm.Dataset(x, y)
options = {"objective": "binary", "verbose": -1, "metric": "binary_logloss"}
lightgbm.train(options, data, 3, valid_sets=[data], valid_names=["train"])
"""
OF_SKLEARN = """
import lightgbm
lightgbm.LGBMClassifier(n_estimators=3, verbose=-1).fit(x, y, eval_set=[(x, y)])
"""
XGBOOST = """
import xgboost
data = xgboost.DMatrix(x, y)
xgboost.train({"objective": "binary:logistic"}, data, 3, evals=[(data, "train")])
"""


@pytest.mark.parametrize(
    ("program", "before", "wanted", "said"),
    [
        (LIGHTGBM, "", "True", ["binary_logloss", "train"]),
        (LIGHTGBM, "import lightgbm", "True", ["binary_logloss", "train"]),
        (OF_SKLEARN, "", "True", ["binary_logloss", "training"]),
        (XGBOOST, "", "True", ["logloss", "train"]),
        (LIGHTGBM, "", "{'lightgbm': False}", None),
    ],
    ids=["lightgbm", "imported before", "its scikit-learn face", "xgboost", "switched off"],
)
def test_each_round_is_reported(program, before, wanted, said):
    code = WATCHED.format(program=program, before=before, wanted=wanted)
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    wanted_lines = [] if said is None else [[*said, i] for i in range(3)]
    assert done.stdout.splitlines()[-1] == str(wanted_lines).replace("'", '"')
