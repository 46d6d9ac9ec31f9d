"""Job variables: what the pool sets, the deployment asks for, and the run changes."""

import pytest

from clearflow._prefect.template import VARIABLES, base_job_template, check_variables
from clearflow.errors import Usage
from clearflow.words.jobs import effective


def test_the_run_comes_before_the_deployment_and_that_before_the_pool() -> None:
    template = base_job_template()
    template["variables"]["properties"]["grace_seconds"] = {"default": 10}
    deployment = {"gpus": 1, "grace_seconds": 20, "env": {"A": "1", "B": "2"}}
    run = {"gpus": 2, "env": {"B": "3"}}
    found = effective(template, deployment, run)
    assert (found["gpus"], found["grace_seconds"]) == (2, 20)
    assert found["env"] == {"A": "1", "B": "3"}


def test_a_value_that_the_pool_has_fixed_holds_for_every_task() -> None:
    template = base_job_template()
    template["job_configuration"]["exclusive"] = True
    assert effective(template, {}, {"exclusive": False})["exclusive"] is True


def test_the_form_holds_everything_a_task_may_ask_for() -> None:
    assert set(base_job_template()["job_configuration"]) == set(VARIABLES)
    for name, variable in VARIABLES.items():
        assert variable["title"], name
        assert variable["description"].endswith("."), name


def test_what_the_form_would_take_is_taken_and_what_it_does_not_know_too() -> None:
    check_variables(
        {
            "gpus": 0,
            "cpus": 0.5,
            "memory_mb": None,
            "env": {"A": None},
            "requirements": ["numpy"],
            "runtime": "docker",
            "exclusive": True,
            "something_else": object(),
        }
    )


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("gpus", "two", "of the type integer"),
        ("gpus", True, "of the type integer"),
        ("gpus", -1, "at least 0"),
        ("grace_seconds", 301, "at most 300"),
        ("time_limit_seconds", 0, "more than 0"),
        ("runtime", "podman", "one of process, docker"),
        ("requirements", "numpy", "of the type array"),
        ("env", [], "of the type object"),
    ],
)
def test_a_job_variable_that_no_machine_could_read_is_refused(
    name: str, value: object, wanted: str
) -> None:
    with pytest.raises(Usage, match=f"{name} is .*, and has to be {wanted}"):
        check_variables({name: value})
