"""The recipe of an environment: what it is made from, and when two are the same."""

import sys

import pytest

from clearflow.environment.recipe import Recipe, own_version
from clearflow.errors import Usage


def recipe(*requirements: str, prefect: bool = False, python: str | None = None) -> Recipe:
    found = Recipe.of(
        {"requirements": list(requirements), "python_version": python}, prefect=prefect
    )
    assert found is not None
    return found


def test_nothing_asked_for_means_the_agents_own_environment():
    assert Recipe.of({}, prefect=True) is None
    assert Recipe.of({"requirements": [], "python_version": None}, prefect=False) is None


def test_the_order_of_requirements_does_not_matter():
    assert recipe("numpy", "pandas>=2").hash == recipe("pandas>=2", "numpy", "numpy").hash
    assert recipe("numpy").hash != recipe("numpy<2").hash


def test_the_python_version_is_part_of_it_and_defaults_to_the_agents():
    assert recipe("numpy").python_version == own_version()
    assert own_version() == ".".join(map(str, sys.version_info[:2]))
    assert recipe("numpy", python="python3.12").python_version == "3.12"
    assert recipe("numpy", python="3.12").hash != recipe("numpy", python="3.13").hash


def test_only_a_python_version_is_a_recipe_too():
    found = Recipe.of({"python_version": "3.12"}, prefect=False)
    assert found is not None
    assert found.requirements == ()


@pytest.mark.parametrize("version", ["2.7", "three", "3.12; rm -rf /", "--help", "3.12.1.1"])
def test_what_is_no_python_version_is_refused(version: str):
    with pytest.raises(Usage, match="is not a Python version"):
        recipe("numpy", python=version)


def test_a_flow_gets_prefect_within_the_bounds_that_work():
    lines = recipe("scikit-learn", prefect=True).requirements
    assert any(line.startswith("prefect==") for line in lines)
    assert {"sqlalchemy<2.1", "pydantic>=2", "scikit-learn"} <= set(lines)
    assert any(line.startswith("fastapi<") for line in lines)


def test_what_the_task_names_itself_is_left_to_it():
    lines = recipe("Prefect[aws]==3.8.8", "SQLAlchemy==2.0.54", prefect=True).requirements
    assert [line for line in lines if line.lower().startswith("prefect")] == ["Prefect[aws]==3.8.8"]
    assert "sqlalchemy<2.1" not in lines


def test_a_whole_requirements_file_in_one_string():
    text = """
    # a comment
    --extra-index-url https://${TOKEN}@example.org/simple
    numpy  # for the sums
    thing @ https://example.org/thing-1.0-py3-none-any.whl#sha256=00
    """
    found = Recipe.of({"requirements": text}, prefect=False)
    assert found is not None
    assert found.index_options == ("--extra-index-url https://${TOKEN}@example.org/simple",)
    assert found.requirements == (
        "numpy",
        "thing @ https://example.org/thing-1.0-py3-none-any.whl#sha256=00",
    )
    assert found.hash != recipe("numpy").hash


@pytest.mark.parametrize(
    "line",
    ["-e .", "-r other.txt", "./package", "/srv/package", "~/package", "--target=/etc", "a\nb"],
)
def test_what_means_something_on_one_machine_only_is_refused(line: str):
    with pytest.raises(Usage):
        recipe(line)
