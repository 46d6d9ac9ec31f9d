"""The house keeps its shape: floors, doors, private names, budgets.

Each rule runs over the whole package, and over small sources that break it, so that a rule which
sees nothing any more is noticed.
"""

import ast
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.architecture import (
    MAX_FILE_LINES,
    MAX_FUNCTION_LINES,
    Module,
    long_ones,
    machine_paths,
    modules_of,
    private_prefect,
    unfinished,
    upward_imports,
    wrong_doors,
)
from tests.support.processes import clean_environment

REPOSITORY = Path(__file__).parents[1]
PACKAGE = REPOSITORY / "clearflow"

Rule = Callable[[Module], Iterator[str]]
RULES: list[Rule] = [
    upward_imports,
    private_prefect,
    wrong_doors,
    long_ones,
    unfinished,
    machine_paths,
]

BROKEN: list[tuple[Rule, str, str]] = [
    (upward_imports, "words/order.py", "import clearflow.tasks"),
    (upward_imports, "words/order.py", "from clearflow import tasks"),
    (upward_imports, "clock.py", "from clearflow.errors import NotFound"),
    (upward_imports, "words/order.py", "from ..tasks import record"),
    (upward_imports, "words/order.py", "from .. import settings"),
    (upward_imports, "words/order.py", "def f():\n    from clearflow.agent import loop"),
    (upward_imports, "words/order.py", "if TYPE_CHECKING:\n    import clearflow.cli.main"),
    (upward_imports, "words/order.py", 'importlib.import_module("clearflow.store")'),
    (upward_imports, "tasks/record.py", "import clearflow.queues"),
    (upward_imports, "tasks/__init__.py", "from ..queues import Queue"),
    (upward_imports, "agent/loop.py", "from clearflow import Task"),
    (upward_imports, "agent/loop.py", "import clearflow"),
    (upward_imports, "cli/main.py", "from clearflow.board import page"),
    (upward_imports, "cli/main.py", "from clearflow.attic import box"),
    (upward_imports, "attic/box.py", ""),
    (private_prefect, "agent/worker.py", "import prefect._internal"),
    (private_prefect, "agent/worker.py", "import prefect.runner._process_manager as p"),
    (private_prefect, "agent/worker.py", "from prefect.workers.base import _thing"),
    (private_prefect, "agent/worker.py", "from prefect.client._adapters import A"),
    (private_prefect, "agent/worker.py", "from prefect import server"),
    (private_prefect, "agent/worker.py", "from prefect.server.schemas import core"),
    (private_prefect, "agent/worker.py", "import prefect\nprefect.server.api"),
    (private_prefect, "_prefect/runs.py", "def f():\n    from prefect import _vendor"),
    (private_prefect, "runtimes/docker.py", "from prefect_docker._containers import c"),
    (wrong_doors, "tasks/record.py", "import httpx"),
    (wrong_doors, "tasks/record.py", "def f():\n    from websockets.asyncio import client"),
    (wrong_doors, "runtimes/process.py", "from docker.errors import NotFound"),
    (wrong_doors, "cloud/gcp.py", "import boto3"),
    (wrong_doors, "apps/slack.py", "from slack_sdk import WebClient"),
    (wrong_doors, "runtimes/process.py", "from uv import find_uv_bin"),
    (wrong_doors, "runtimes/process.py", 'subprocess.run(["uv", "sync"])'),
    (wrong_doors, "runtimes/process.py", 'await create_subprocess_exec("uv", "sync")'),
    (wrong_doors, "runtimes/process.py", 'os.path.exists(shutil.which("uv"))'),
    (long_ones, "clock.py", "x = 1\n" * (MAX_FILE_LINES + 1)),
    (long_ones, "clock.py", "class C:\n  def f(self):\n" + "    x = 1\n" * MAX_FUNCTION_LINES),
    (unfinished, "clock.py", "# TODO later"),
    (unfinished, "clock.py", "raise NotImplementedError"),
    (machine_paths, "clock.py", 'x = "/tmp/socket"'),
    (machine_paths, "clock.py", 'x = f"file:/home/{name}/data"'),
    (machine_paths, "clock.py", "def f():\n    '''Reads /root/.ssh/config.'''"),
]

SOUND: list[tuple[Rule, str, str]] = [
    (
        upward_imports,
        "tasks/record.py",
        "from clearflow import errors\nimport clearflow.words.order",
    ),
    (upward_imports, "tasks/record.py", "from . import status\nfrom ..words import order"),
    (upward_imports, "__init__.py", "from clearflow.tasks import Task\nfrom .queues import Queue"),
    (upward_imports, "__main__.py", "from clearflow.cli.main import main"),
    (private_prefect, "_prefect/private.py", "from prefect._internal import x"),
    (private_prefect, "agent/worker.py", "from prefect.workers.base import BaseWorker"),
    (private_prefect, "agent/worker.py", "from prefect import __version__"),
    (wrong_doors, "_prefect/http.py", "import httpx, websockets"),
    (wrong_doors, "environment/build.py", 'from uv import find_uv_bin\nrun(["uv", "sync"])'),
    (wrong_doors, "runtimes/docker.py", "import docker, prefect_docker"),
    (wrong_doors, "runtimes/process.py", "import clearflow.runtimes.docker"),
    (wrong_doors, "cli/main.py", 'print("uv is needed")\ntools = ["uv"]'),
    (machine_paths, "clock.py", 'x = f"{base}/work/{y}"\ny = "http://host/home/page"'),
    (machine_paths, "clock.py", 'x = "run/tmp/x"\ny = "~/work/x"'),
]


def _name(case: object) -> str:
    return getattr(case, "__name__", str(case)[-50:])


@pytest.mark.parametrize("rule", RULES, ids=_name)
def test_the_package_keeps_the_rule(rule: Rule) -> None:
    modules = modules_of(PACKAGE)
    assert modules, "no source found: is the package where this test looks for it?"
    broken = [complaint for module in modules for complaint in rule(module)]
    assert not broken, f"{rule.__doc__}\n" + "\n".join(broken)


@pytest.mark.parametrize(("rule", "path", "source"), BROKEN, ids=_name)
def test_a_broken_rule_is_seen(rule: Rule, path: str, source: str) -> None:
    assert list(rule(Module(path, source)))


@pytest.mark.parametrize(("rule", "path", "source"), SOUND, ids=_name)
def test_sound_code_is_left_alone(rule: Rule, path: str, source: str) -> None:
    assert not list(rule(Module(path, source)))


OUTSIDERS_AFTER = """
import sys
before = set(sys.modules)
import {module}
known = sys.stdlib_module_names | {{"clearflow"}}
print(*sorted({{name.split(".")[0] for name in set(sys.modules) - before}} - known))
"""


def _outsiders_after_importing(module: str) -> str:
    """Third-party modules that a fresh interpreter has loaded after one import."""
    done = subprocess.run(
        [sys.executable, "-c", OUTSIDERS_AFTER.format(module=module)],
        cwd=REPOSITORY,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_importing_clearflow_loads_nothing_else() -> None:
    assert _outsiders_after_importing("clearflow") == ""


LOADED_IN_TASKS = """
import sys
from clearflow import Task
Task.init
print(*(m.__file__ for n, m in sys.modules.items() if n.split(".")[0] == "clearflow"))
"""


def _loaded_in_tasks() -> list[Path]:
    """The files of clearflow that a program has loaded which uses `Task`."""
    done = subprocess.run(
        [sys.executable, "-c", LOADED_IN_TASKS],
        cwd=REPOSITORY,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    return [Path(name) for name in done.stdout.split()]


def test_what_runs_inside_of_tasks_needs_nothing_but_python() -> None:
    assert _outsiders_after_importing("clearflow.client.task") == ""


def test_what_runs_inside_of_tasks_is_written_for_python_3_9() -> None:
    files = _loaded_in_tasks()
    assert PACKAGE / "client" / "task.py" in files
    for file in {*files, *(PACKAGE / "client").rglob("*.py")} - {PACKAGE / "client" / "flows.py"}:
        ast.parse(file.read_text(), str(file), feature_version=(3, 9))


def test_the_look_for_outsiders_sees_one() -> None:
    assert "httpx" in _outsiders_after_importing("httpx").split()
