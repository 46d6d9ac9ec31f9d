"""Where a task runs, with which code, and in which environment."""

import os
import subprocess
import sys

import pytest

from tests.support.agents import FLOWS
from tests.support.processes import clean_environment


async def lines_of(ask, flow, parameters=None, **job_variables):
    """Run a flow to its end; what it printed, by the first word of each line."""
    run_id = await ask.enqueue(f"features.py:{flow}", "q", parameters, **job_variables)
    run = await ask.ended(run_id, timeout=100)
    assert run.state.type == "COMPLETED", await ask.report(run.id)
    return run, dict(
        line.partition(" ")[::2] for line in await ask.console(run.id, "console") if " " in line
    )


async def test_a_flow_runs_where_its_file_lies(shared):
    run, said = await lines_of(shared, "tells_where_it_is")
    assert said["folder"] == str(FLOWS)
    assert said["run"] == run.id
    assert said["CLEARFLOW_TASK_ID"] == run.id
    assert said["python"] == sys.executable


async def test_environment_variables_are_set_and_taken_away(shared):
    env = {"COLOUR": "blue", "SHAPE": None}
    _, said = await lines_of(shared, "tells_where_it_is", env=env)
    assert said["COLOUR"] == "blue"
    assert said["SHAPE"] == "None"


async def test_the_working_directory_can_be_chosen(shared, tmp_path):
    (tmp_path / "here.txt").touch()
    _, said = await lines_of(shared, "tells_where_it_is", working_dir=str(tmp_path))
    assert said["folder"] == str(tmp_path)
    assert said["file"] == "here.txt"


async def test_a_set_up_script_runs_first_and_is_on_the_console(shared, tmp_path):
    script = "echo setting up; echo made > made.txt"
    run, said = await lines_of(
        shared, "tells_where_it_is", working_dir=str(tmp_path), setup_script=script
    )
    assert said["file"] == "made.txt"
    console = await shared.console(run.id, "console")
    assert console[0] == "setting up"


async def test_a_set_up_script_that_fails_is_the_end(shared, tmp_path):
    run_id = await shared.enqueue(
        "features.py:tells_where_it_is", "q", working_dir=str(tmp_path), setup_script="exit 7"
    )
    run = await shared.ended(run_id)
    assert run.state.type == "FAILED"
    assert run.note.text == "the set-up script ended with exit code 7"


async def test_requirements_make_an_environment_of_its_own(shared):
    parameters = {"name": "iniconfig"}
    _, said = await lines_of(shared, "uses_a_package", parameters, requirements=["iniconfig"])
    where = said["imported"].rpartition(" ")[2]
    assert "environments" in where
    assert not where.startswith(sys.prefix)
    _, again = await lines_of(shared, "uses_a_package", parameters, requirements=["iniconfig"])
    assert again == said


async def test_requirements_that_cannot_be_met_are_told(shared):
    run_id = await shared.enqueue(
        "features.py:tells_where_it_is", "q", requirements=["clearflow-no-such-package==1.2.3"]
    )
    run = await shared.ended(run_id, timeout=100)
    assert run.state.type == "FAILED"
    assert "clearflow-no-such-package" in "\n".join(await shared.console(run_id))


def git(*arguments, cwd):
    env = clean_environment(
        {
            "GIT_AUTHOR_NAME": "a",
            "GIT_AUTHOR_EMAIL": "a@b",
            "GIT_COMMITTER_NAME": "a",
            "GIT_COMMITTER_EMAIL": "a@b",
        }
    )
    subprocess.run(["git", *arguments], cwd=cwd, env=env, check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path):
    """A bare repository that holds `flows/hello.py`."""
    work = tmp_path / "work"
    (work / "flows").mkdir(parents=True)
    (work / "flows" / "hello.py").write_text(
        "from pathlib import Path\n"
        "from prefect import flow\n"
        "@flow\n"
        "def hello():\n"
        "    print('cloned', Path(__file__).resolve())\n"
    )
    git("init", "-q", "-b", "main", cwd=work)
    git("add", ".", cwd=work)
    git("commit", "-q", "-m", "one", cwd=work)
    bare = tmp_path / "project.git"
    git("clone", "-q", "--bare", str(work), str(bare), cwd=tmp_path)
    return bare


async def pulled(ask, steps, entrypoint):
    """Run a deployment with pull steps, as `prefect deploy` makes it."""
    flow_id = (await ask.api.post("/flows/", {"name": f"{ask.site.pool} pulled"}))["id"]
    deployment = await ask.api.post(
        "/deployments/",
        {
            "name": "pulled",
            "flow_id": flow_id,
            "work_pool_name": ask.site.pool,
            "work_queue_name": "q",
            "entrypoint": entrypoint,
            "pull_steps": steps,
        },
    )
    made = await ask.api.post(f"/deployments/{deployment['id']}/create_flow_run", {})
    return await ask.ended(made["id"])


def exists(path):
    return os.path.exists(path)


async def test_pull_steps_clone_a_repository(shared, repository):
    step = {
        "prefect.deployments.steps.git_clone": {
            "repository": f"file://{repository}",
            "branch": "main",
        }
    }
    run = await pulled(shared, [step], "flows/hello.py:hello")
    assert run.state.type == "COMPLETED", await shared.report(run.id)
    (line,) = [x for x in await shared.console(run.id, "console") if x.startswith("cloned")]
    assert not exists(line.removeprefix("cloned ")), "what was cloned goes with the task"
    assert line.endswith("flows/hello.py")
    assert not line.startswith(f"cloned {os.getcwd()}")


async def test_pull_steps_may_only_name_a_folder(shared):
    step = {"prefect.deployments.steps.set_working_directory": {"directory": str(FLOWS)}}
    run = await pulled(shared, [step], "endings.py:completes")
    assert run.state.type == "COMPLETED", await shared.report(run.id)


async def test_pull_steps_that_fail_are_told(shared, tmp_path):
    step = {"prefect.deployments.steps.git_clone": {"repository": f"file://{tmp_path}/nowhere"}}
    run = await pulled(shared, [step], "flows/hello.py:hello")
    assert run.state.type == "FAILED"
    assert "could not be loaded" in run.note.text
