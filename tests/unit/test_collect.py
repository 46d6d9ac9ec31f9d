"""What a project says it needs, in which file, and which file goes first."""

from pathlib import Path

import pytest

from clearflow.environment.collect import collect, of_process
from clearflow.errors import Refused, Usage

POETRY = """
[[package]]
name = "numpy"
version = "2.1.0"
groups = ["main", "dev"]
markers = {main = "python_version >= '3.10'"}
[[package]]
name = "pytest"
version = "8.0"
groups = ["dev"]
[[package]]
name = "extra"
version = "1.0"
optional = true
groups = ["main"]
[[package]]
name = "ours"
version = "0.1"
groups = ["main"]
[package.source]
type = "git"
url = "https://git.example/ours.git"
reference = "main"
resolved_reference = "0123abc"
"""
OLD_POETRY = """
[[package]]
name = "numpy"
version = "1.20"
category = "main"
[[package]]
name = "pytest"
version = "7.0"
category = "dev"
"""
PYLOCK = """
lock-version = "1.0"
default-groups = ["base"]
[[packages]]
name = "numpy"
version = "2.1.0"
marker = "sys_platform != 'win32'"
[[packages]]
name = "based"
version = "1.0"
marker = "'base' in dependency_groups"
[[packages]]
name = "pytest"
version = "8.0"
marker = "'dev' in dependency_groups"
[[packages]]
name = "more"
version = "3.0"
marker = "'cuda' in extras"
[[packages]]
name = "ours"
vcs = {type = "git", url = "https://git.example/ours.git", commit-id = "0123abc"}
[[packages]]
name = "wheel-of-ours"
archive = {url = "https://files.example/ours-1.0.zip"}
"""


def needed(root: Path, **files: str) -> tuple[list[str], str | None]:
    for name, text in files.items():
        (root / name.replace("_", ".")).write_text(text)
    found = collect(root / "train.py", root)
    return list(found.requirements), found.source


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "train.py").write_text("print(1)\n")
    return tmp_path


def test_a_lock_of_poetry(root: Path):
    assert needed(root, poetry_lock=POETRY) == (
        [
            "numpy==2.1.0 ; python_version >= '3.10'",
            "ours @ git+https://git.example/ours.git@0123abc",
        ],
        "poetry.lock",
    )


def test_an_older_lock_of_poetry(root: Path):
    assert needed(root, poetry_lock=OLD_POETRY) == (["numpy==1.20"], "poetry.lock")


def test_a_lock_of_pep_751(root: Path):
    assert needed(root, pylock_toml=PYLOCK) == (
        [
            "numpy==2.1.0 ; sys_platform != 'win32'",
            "based==1.0",
            "ours @ git+https://git.example/ours.git@0123abc",
            "wheel-of-ours @ https://files.example/ours-1.0.zip",
        ],
        "pylock.toml",
    )


def test_which_goes_first(root: Path):
    project = '[project]\ndependencies = ["a"]\n'
    assert needed(root, pyproject_toml=project) == (["a"], "pyproject.toml")
    assert needed(root, requirements_txt="b\n") == (["b"], "requirements.txt")
    assert needed(root, pylock_toml=PYLOCK)[1] == "pylock.toml"
    assert needed(root, poetry_lock=POETRY)[1] == "poetry.lock"
    header = '# /// script\n# dependencies = ["c"]\n# ///\n'
    (root / "train.py").write_text(header)
    assert needed(root) == (["c"], "train.py")


def test_a_file_above_the_script_counts_up_to_the_root(root: Path):
    (root / "deep" / "er").mkdir(parents=True)
    script = root / "deep" / "er" / "train.py"
    script.write_text("")
    (root / "requirements.txt").write_text("a\n")
    assert collect(script, root).requirements == ("a",)
    assert collect(script, root / "deep").requirements == ()


@pytest.mark.parametrize(
    "text",
    [
        "no toml at all [",
        "package = 3",
        '[[package]]\nversion = "1"\n',
        '[[package]]\nname = "a"\nversion = "1"\n[package.source]\ntype = "directory"\n',
    ],
)
def test_a_lock_that_cannot_be_used_is_told_in_one_line(root: Path, text: str):
    with pytest.raises(Usage) as told:
        needed(root, poetry_lock=text)
    assert "poetry.lock" in told.value.message
    assert "\n" not in told.value.message


def imported(**packages: object) -> dict[str, object]:
    found = [{"name": n, "version": "1.0", "origin": o} for n, o in packages.items()]
    return {"python": "3.12", "packages": found}


def test_what_a_program_has_imported(root: Path):
    (root / "lib" / "src").mkdir(parents=True)
    found = of_process(
        imported(
            numpy=None,
            ours='{"url": "https://git.example/o", "vcs_info": {"vcs": "git", "commit_id": "1f"}}',
            wheel='{"url": "https://files.example/w.whl", "archive_info": {}}',
            local=f'{{"url": "file://{root}/lib", "dir_info": {{"editable": true}}}}',
        ),
        root,
    )
    assert found.requirements == (
        "numpy==1.0",
        "ours @ git+https://git.example/o@1f",
        "wheel @ https://files.example/w.whl",
    )
    assert (found.paths, found.python_version) == (("lib/src",), "3.12")


def test_a_package_that_lies_elsewhere_comes_along(
    root: Path, tmp_path_factory: pytest.TempPathFactory
):
    far = tmp_path_factory.mktemp("far")
    found = of_process(imported(far=f'{{"url": "file://{far}"}}'), root)
    assert (found.outside, found.requirements) == ((("far", far),), ())
    with pytest.raises(Refused, match=r"was installed from .*gone, which is gone"):
        of_process(imported(far=f'{{"url": "file://{far / "gone"}"}}'), root)
