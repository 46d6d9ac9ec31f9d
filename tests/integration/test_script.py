"""Scripts as they stand here, run by an agent that shares nothing with here but the server."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from clearflow._prefect import claims, pools
from tests.integration.test_supervisor_console import small_disk
from tests.support.agents import AgentProcess, Client, Site
from tests.support.commands import command
from tests.support.gates import closed, open_gate
from tests.support.git import Laptop, git

__all__ = ["small_disk"]

HELPER = "def half(x):\n    return x / 2\n"
TRAIN = """
import os, sys
from lib.helper import half
print("arguments", sys.argv[1:])
print("half", half(3))
print("data", open("data/numbers.txt").read().strip())
print("prefect", sorted(k for k in os.environ if k.startswith("PREFECT")))
print("task", os.environ["CLEARFLOW_TASK_ID"])
sys.exit(int(os.environ.get("CODE", "0")))
"""


@pytest.fixture
def site(shared_site: Site, shared_agent: AgentProcess) -> Site:
    """All share a pool and the agent of its queue `q`."""
    return shared_site


@pytest.fixture
async def ask(shared: Client) -> Client:
    return shared


@pytest.fixture
def project(remotes: tuple[Path, str], tmp_path: Path) -> Path:
    """A working copy whose first commit is pushed, with changes that nobody has committed."""
    laptop = Laptop(tmp_path, *remotes)
    laptop.write("train.py", b"print('as it was pushed')\n")
    laptop.write("data/numbers.txt", b"1 2 3\n")
    laptop.save()
    laptop.push()
    laptop.write("train.py", TRAIN.encode())
    laptop.write("lib/helper.py", HELPER.encode())
    return laptop.root


def run(site, folder: Path, *words: str, env: Mapping[str, str] | None = None):
    """`clearflow task run` in a folder."""
    its = {**site.env, "CLEARFLOW_HOME": str(folder.parent / "laptop-home"), **(env or {})}
    return command(its, "task", "run", "--pool", site.pool, *words, folder=folder)


def queued(done) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


async def lines(ask, run_id: str) -> list[str]:
    return await ask.console(run_id, "console")


async def test_a_script_with_uncommitted_changes_runs_elsewhere(site, ask, project):
    done = run(site, project, "train.py", "--queue", "q", "--", "--lr", "0.1", "two words")
    task = queued(done)
    assert "kB to send, the rest from git://" in done.stderr
    ended = await ask.ended(task)
    assert ended.state.type == "COMPLETED", await ask.report(task)
    assert await lines(ask, task) == [
        "arguments ['--lr', '0.1', 'two words']",
        "half 1.5",
        "data 1 2 3",
        "prefect []",
        f"task {task}",
    ]
    texts = [s.note.text for s in await ask.history(task)]
    assert [t.split(" ")[0] for t in texts] == ["queued", "claimed", "running", "exit"]
    assert (ended.name, ended.project) == ("train.py", project_name(project))
    assert not list(site.folder.glob("home/agents/*/*/code"))


def project_name(project: Path) -> str:
    return git(project, "remote", "get-url", "origin").rpartition("/")[2].removesuffix(".git")


async def test_the_servers_key_is_nowhere_in_a_task(own_site, own_ask, project, tmp_path):
    canary = "canary-0123456789abcdef"
    own_site.agent("q", env={"PREFECT_API_KEY": canary})
    (project / "train.py").write_text(
        "import os, sys\n"
        "from clearflow import Task\n"
        "print(dict(os.environ), Task.current_task().name, flush=True)\n"
        "open(sys.argv[1]).read()\n"
    )
    go = closed(tmp_path / "go")
    task = queued(run(own_site, project, "train.py", "--queue", "q", "--", str(go)))
    printed = await own_ask.until_printed(task, "CLEARFLOW_TASK_ID")
    child = _process_of(str(go))
    places = [child / "environ", child / "cmdline", *_all_below(own_site.folder / "home")]
    assert canary not in "".join(map(_text, places))
    assert canary not in "".join(printed)
    open_gate(go)
    assert (await own_ask.ended(task)).state.type == "COMPLETED"


def _process_of(word: str) -> Path:
    (found,) = [p for p in Path("/proc").glob("[0-9]*") if word in _text(p / "cmdline")]
    return found


def _all_below(folder: Path) -> list[Path]:
    return list(folder.rglob("*"))


def _text(file: Path) -> str:
    """What a file holds, if it is one that can be read."""
    try:
        return file.read_bytes().decode(errors="replace") if not file.is_dir() else ""
    except OSError:
        return ""


async def test_it_starts_in_the_folder_the_user_stands_in(site, ask, project):
    (project / "data/look.py").write_text("print(open('numbers.txt').read().strip())\n")
    task = queued(run(site, project / "data", "look.py", "--queue", "q"))
    assert (await ask.ended(task)).state.type == "COMPLETED", await ask.report(task)
    assert await lines(ask, task) == ["1 2 3"]


async def test_a_script_outside_any_repository_brings_what_it_imports(site, ask, tmp_path):
    folder = tmp_path / "scratch"
    folder.mkdir()
    (folder / "other.py").write_text("VALUE = 7\n")
    (folder / "unrelated.bin").write_bytes(b"x")
    (folder / "go.py").write_text("import os, other\nprint(other.VALUE, sorted(os.listdir()))\n")
    task = queued(run(site, folder, "go.py", "--queue", "q"))
    assert (await ask.ended(task)).state.type == "COMPLETED", await ask.report(task)
    (line,) = await lines(ask, task)
    assert "7" in line
    assert "unrelated" not in line


async def test_packages_of_the_project_are_installed(site, ask, project):
    """With an old pydantic, that Prefect could not live with."""
    (project / "requirements.txt").write_text("pydantic<2\n")
    (project / "old.py").write_text("import pydantic\nprint(pydantic.VERSION.split('.')[0])\n")
    done = run(site, project, "old.py", "--queue", "q")
    assert "packages by requirements.txt" in done.stderr
    task = queued(done)
    ended = await ask.ended(task, timeout=110)
    assert ended.state.type == "COMPLETED", await ask.report(task)
    assert "1" in await lines(ask, task)


async def test_arguments_can_be_changed_while_it_waits(own_site, own_ask, project):
    await pools.ensure_queue(own_ask.api, own_site.pool, "q")
    task = queued(run(own_site, project, "train.py", "--queue", "q", "--", "before"))
    await own_ask.api.patch(f"/flow_runs/{task}", {"parameters": {"arguments": ["after"]}})
    own_site.agent("q")
    await own_ask.ended(task)
    assert "arguments ['after']" in await lines(own_ask, task)


async def test_it_fails_with_its_exit_code(site, ask, project):
    (project / "ends.py").write_text("raise SystemExit(7)\n")
    task = queued(run(site, project, "ends.py", "--queue", "q"))
    ended = await ask.ended(task)
    assert (ended.state.type, ended.note.text) == ("FAILED", "exit code 7")


async def test_an_abort_ends_it(site, ask, project):
    (project / "waits.py").write_text("import threading\nprint('here')\nthreading.Event().wait()\n")
    task = queued(run(site, project, "waits.py", "--queue", "q"))
    await ask.until_printed(task, "here")
    await claims.abort(ask.api, task, "ada")
    ended = await ask.ended(task)
    assert (ended.state.type, ended.note.by) == ("CANCELLED", "ada")


async def test_a_lost_script_starts_again(own_site, own_ask, project, tmp_path):
    agent = own_site.agent("q")
    (project / "once.py").write_text(
        "import pathlib, sys, threading\n"
        "mark = pathlib.Path(sys.argv[1])\n"
        "again = mark.exists()\n"
        "mark.touch()\n"
        "print('here')\n"
        "if not again:\n    threading.Event().wait()\n"
    )
    task = queued(run(own_site, project, "once.py", "--queue", "q", "--", str(tmp_path / "mark")))
    await own_ask.until_printed(task, "here")
    (supervisor,) = agent.processes("cf-supervisor")
    supervisor.kill()
    ended = await own_ask.ended(task)
    assert (ended.state.type, ended.note.attempt) == ("COMPLETED", 2)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["nothing.py", "--queue", "q"], 2, "there is no file nothing.py"),
        (["train.py", "--queue", "nowhere"], 3, "nowhere"),
        (["secret.py", "--queue", "q"], 5, ".env"),
        (["train.py", "--queue", "q", "--requirements", "none.txt"], 2, "none.txt"),
        (["train.py", "--queue", "q", "--python", "three"], 2, "three"),
        (["huge.py", "--queue", "q"], 5, "weights.bin (2,000.0 MB) is too much to send"),
        (["large.py", "--queue", "q"], 5, "the largest new file is weights.bin (20.0 MB)"),
    ],
)
async def test_bad_input_is_told_before_anything_is_queued(
    own_site, own_ask, project, words, code, said
):
    await pools.ensure_queue(own_ask.api, own_site.pool, "q")
    (project / "secret.py").write_text("")
    if words[0] == "secret.py":
        (project / ".env").write_text("TOKEN=1")
    for name, size in (("huge.py", 2_000_000_000), ("large.py", 20_000_000)):
        (project / name).write_text("")
        if words[0] == name:
            with (project / "weights.bin").open("wb") as weights:
                weights.write(os.urandom(20_000_000))
                weights.truncate(size)
    done = run(own_site, project, *words)
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    found = await own_ask.api.post(
        "/flow_runs/count", {"work_pools": {"name": {"any_": [own_site.pool]}}}
    )
    assert found == 0


async def test_what_the_agent_has_not_is_said_in_the_task(own_site, own_ask, project, small_disk):
    """An index that is down, and a disk that is full; what comes after them runs."""
    down = {"UV_HTTP_RETRIES": "0", "UV_DEFAULT_INDEX": "http://127.0.0.1:9/simple"}
    own_site.agent("q", home=small_disk, env=down)
    (project / "needs.py").write_text("# /// script\n# dependencies = ['cowsay==6.0']\n# ///\n")
    (project / "fine.py").write_text("print('fine')\n")
    needs = queued(run(own_site, project, "needs.py", "--queue", "q"))
    small = project.parent / "small"
    small.mkdir()
    (small / "fine.py").write_text("print('fine')\n")
    ended = await own_ask.ended(needs)
    assert ended.state.type == "FAILED"
    assert "127.0.0.1:9" in ended.note.text, ended.note
    assert any("uv: " in line for line in await own_ask.console(needs)), "the resolver's own words"
    (project / "weights.bin").write_bytes(os.urandom(3_000_000))
    full = queued(run(own_site, project, "fine.py", "--queue", "q"))
    ended = await own_ask.ended(full)
    assert (ended.state.type, ended.note.attempt) == ("FAILED", 1), await own_ask.report(full)
    assert "o space left on device" in ended.note.text, ended.note
    after = queued(run(own_site, small, "fine.py", "--queue", "q"))
    assert (await own_ask.ended(after)).state.type == "COMPLETED", await own_ask.report(after)


UNKIND = {
    "import os, shutil; shutil.rmtree(os.getcwd()); print('gone')": ("COMPLETED", "gone"),
    "import os; os.chdir('/'); print('elsewhere')": ("COMPLETED", "elsewhere"),
    "open('train.py', 'w').write('x'); print('changed')": ("COMPLETED", "changed"),
    "import os; print('short', flush=True); os._exit(4)": ("FAILED", "short"),
    "import os; print('alone', flush=True); os.kill(os.getpid(), 9)": ("CRASHED", "alone"),
}


async def test_scripts_that_are_unkind_to_their_folder_or_themselves(site, ask, project):
    for number, program in enumerate(UNKIND):
        (project / f"unkind{number}.py").write_text(f"{program}\n")
    (project / "kind.py").write_text("print(open('train.py').read()[:20].strip())\n")
    words = [f"unkind{number}.py" for number in range(len(UNKIND))]
    tasks = [queued(run(site, project, word, "--queue", "q")) for word in words]
    for task, (end, said) in zip(tasks, UNKIND.values(), strict=True):
        assert (await ask.ended(task)).state.type == end, await ask.report(task)
        assert said in await lines(ask, task)
    # The mirror that later tasks start from is as it was.
    task = queued(run(site, project, "kind.py", "--queue", "q"))
    assert (await ask.ended(task)).state.type == "COMPLETED", await ask.report(task)
    assert "import os, sys" in await lines(ask, task)


@pytest.mark.parametrize("state", ["detached", "merging", "pointer", "nested", "bare submodule"])
async def test_any_state_of_a_repository_is_taken_as_it_is(site, ask, project, state):
    (project / "train.py").write_text("import os\nprint(sorted(os.listdir('data')))\n")
    git(project, "add", ".")
    git(project, "commit", "-qm", "second")
    if state == "detached":
        git(project, "checkout", "-q", "--detach", "HEAD")
    elif state == "merging":
        git(project, "checkout", "-qb", "other", "HEAD~1")
        (project / "data/numbers.txt").write_text("4\n")
        git(project, "commit", "-qam", "other")
        git(project, "merge", "-q", "--no-commit", "--no-ff", "-")
    elif state == "pointer":
        pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12345\n"
        (project / "data/weights.bin").write_text(pointer)
        (project / ".gitattributes").write_text("*.bin filter=lfs diff=lfs merge=lfs -text\n")
    elif state == "nested":
        (project / "data/inner").mkdir()
        git(project / "data/inner", "init", "-q")
        (project / "data/inner/file").write_text("x")
    else:
        (project / ".gitmodules").write_text('[submodule "s"]\n\tpath = data/s\n\turl = ../s\n')
        gone = "160000,0123456789012345678901234567890123456789,data/s"
        git(project, "update-index", "--add", "--cacheinfo", gone)
        git(project, "commit", "-qm", "a submodule that nobody has checked out")
    task = queued(run(site, project, "train.py", "--queue", "q"))
    assert (await ask.ended(task)).state.type == "COMPLETED", await ask.report(task)
    found = (await lines(ask, task))[-1]
    assert "numbers.txt" in found
    assert ("weights.bin" in found) == (state == "pointer")
    assert ("inner" in found) == (state == "nested")
