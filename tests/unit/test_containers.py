"""What a task may ask of a container, and what an agent allows."""

import pytest

from clearflow.errors import ClearflowError, Refused, Usage
from clearflow.words.containers import Options, Policy, allowed, options, size


@pytest.mark.parametrize(
    ("words", "config"),
    [
        ("", {}),
        ("-v /data:/data:ro -v cache:/cache", {"Binds": ["/data:/data:ro", "cache:/cache"]}),
        ("--volume=/a:/b", {"Binds": ["/a:/b"]}),
        ("--network host --ipc=host", {"NetworkMode": "host", "IpcMode": "host"}),
        ("--net=none", {"NetworkMode": "none"}),
        ("--shm-size=8g -m 512m", {"ShmSize": 8 << 30, "Memory": 512 << 20}),
        ("-m1k", {"Memory": 1024}),
        ("--cpus 1.5 --gpus all", {"NanoCpus": 1_500_000_000}),
        (
            "--ulimit memlock=-1 --ulimit nofile=1:2",
            {
                "Ulimits": [
                    {"Name": "memlock", "Soft": -1, "Hard": -1},
                    {"Name": "nofile", "Soft": 1, "Hard": 2},
                ]
            },
        ),
        (
            "--mount type=bind,source=/a,dst=/b,readonly",
            {"Mounts": [{"Type": "bind", "Source": "/a", "Target": "/b", "ReadOnly": True}]},
        ),
    ],
)
def test_arguments_become_the_engines_own(words, config):
    assert options(words).host_config() == config


def test_variables_and_user():
    found = options("-e A=1 --env B='two words' -u 1000:1000")
    assert (found.env, found.user) == ({"A": "1", "B": "two words"}, "1000:1000")


def test_a_task_says_more_than_its_agent_and_overrules_it():
    agents = options("-v /a:/a --network none -e A=1 --privileged", own={})
    both = options("-v /b:/b --network host -e B=2 --privileged", agents)
    assert both == Options(
        binds=("/a:/a", "/b:/b"), network="host", env={"A": "1", "B": "2"}, privileged=True
    )


def test_only_the_agent_passes_its_own_variables_on():
    own = {"TOKEN": "t", "PREFECT_API_KEY": "k"}
    assert options("-e TOKEN -e MISSING", own=own).env == {"TOKEN": "t"}
    for words, given in (("-e TOKEN", None), ("-e PREFECT_API_KEY", own)):
        with pytest.raises(Refused):
            options(words, own=given)


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("--cap-add ALL", Refused),
        ("--privileged", Refused),
        ("--gpus 2", Refused),
        ("ubuntu", Refused),
        ("-v /a:/clearflow/code", Refused),
        ("--mount type=npipe,source=a,target=/b", Refused),
        ("-v ../a:/b", Usage),
        ("-v /a", Usage),
        ("-v /a:/b:wrong", Usage),
        ("--memory", Usage),
        ("--memory much", Usage),
        ("--cpus x", Usage),
        ("--ulimit nofile", Usage),
        ("-e 'open", Usage),
    ],
)
def test_anything_else_is_refused_in_a_line(words, kind):
    with pytest.raises(kind) as told:
        options(words)
    assert "\n" not in told.value.message
    assert isinstance(told.value, ClearflowError)


def test_sizes():
    assert [size(t) for t in ("7", "2b", "1K", "1.5m", "2gb")] == [7, 2, 1024, 1572864, 2 << 30]


def test_images_are_allowed_by_patterns():
    assert allowed("anything", ())
    assert allowed("python:3.12-slim", ["python:*"])
    assert allowed("python", ["python:*"])
    assert allowed("host:5000/team/x", ["host:5000/team/*"])
    assert not allowed("evil/python:3", ["python:*"])


def test_the_agents_own_image_needs_no_permission():
    policy = Policy("own:1", ("python:*",))
    assert policy.choose("") == policy.choose("own:1") == "own:1"
    assert policy.choose("python:3") == "python:3"
    with pytest.raises(Refused, match=r"other:1 is not allowed on this agent \(python:\*\)"):
        policy.choose("other:1")
    assert Policy("own:1").choose("other:1") == "other:1"
