"""Names of any kind, in places that allow few characters."""

import re

from hypothesis import assume, given
from hypothesis import strategies as st

from clearflow.words import names

anything = st.text(st.characters(exclude_categories=["Cs"]))
FULL_WIDTH = set("／％＆＜＞")


@given(anything)
def test_a_slug_is_a_key(name: str) -> None:
    slug = names.slug(name)
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", slug)
    assert len(slug) <= 49


@given(anything, anything)
def test_two_names_have_two_slugs(one: str, other: str) -> None:
    assume(one != other)
    assert names.slug(one) != names.slug(other)


def test_a_slug_can_be_read() -> None:
    assert re.fullmatch(r"project-alice-[0-9a-f]{8}", names.slug("Project Älice 🚀"))
    assert re.fullmatch(r"[0-9a-f]{8}", names.slug("🚀"))


@given(anything)
def test_what_prefect_keeps_can_be_shown(name: str) -> None:
    assume(not FULL_WIDTH & set(name))
    assert names.shown(names.stored(name)) == name


@given(anything)
def test_prefect_refuses_no_stored_name(name: str) -> None:
    assert not set("/%&<>") & set(names.stored(name))
    assert names.stored(names.stored(name)) == names.stored(name)


def test_the_name_of_a_flow() -> None:
    assert names.flow_name("Vision/2026", "a < b") == "Vision／2026 · a ＜ b"


def test_the_name_of_an_agent() -> None:
    assert names.agent_name(1, host="gpu/box") == "gpu／box:1"
    assert names.agent_name().endswith(":0")


@given(anything, anything)
def test_the_distance_of_an_agent(agent: str, key: str) -> None:
    assert 0 <= names.rendezvous(agent, key) < 1
    assert names.rendezvous(agent, key) == names.rendezvous(agent, key)


def test_each_of_four_agents_is_the_nearest_about_equally_often() -> None:
    agents = [f"box:{n}" for n in range(4)]
    nearest = [min(agents, key=lambda a: names.rendezvous(a, f"task-{n}")) for n in range(1000)]
    assert all(180 < nearest.count(agent) < 320 for agent in agents)


def test_an_agent_that_leaves_changes_only_what_was_nearest_to_it() -> None:
    agents = [f"box:{n}" for n in range(4)]

    def nearest(number: int, among: list[str]) -> str:
        return min(among, key=lambda a: names.rendezvous(a, f"task-{number}"))

    for number in range(200):
        before = nearest(number, agents)
        if before != "box:3":
            assert nearest(number, agents[:3]) == before
