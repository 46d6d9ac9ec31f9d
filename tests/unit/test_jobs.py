"""Job variables: what the pool sets, the deployment asks for, and the run changes."""

from clearflow._prefect.template import VARIABLES, base_job_template
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
