"""Names of any kind, in places that allow few characters."""

import re

from hypothesis import given
from hypothesis import strategies as st

from clearflow.words import names

ANY_NAME = st.text(min_size=1, max_size=60)


@given(ANY_NAME, ANY_NAME)
def test_slugs_are_keys_and_tell_names_apart(one: str, other: str) -> None:
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", names.slug(one))
    assert (names.slug(one) == names.slug(other)) == (one == other)


def test_a_slug_can_be_read() -> None:
    assert names.slug("Müller's GPU queue / 2 🚀").startswith("muller-s-gpu-queue-2-")


@given(st.text(alphabet="ab /%&<>é🚀'\"", max_size=30))
def test_what_prefect_refuses_is_stored_otherwise_and_shown_as_it_was(name: str) -> None:
    stored = names.stored(name)
    assert not set(stored) & set("/%&<>")
    assert names.shown(stored) == name


@given(st.lists(ANY_NAME, min_size=2, max_size=20, unique=True), ANY_NAME)
def test_every_agent_has_a_distance_of_its_own(agents: list[str], key: str) -> None:
    distances = [names.rendezvous(a, key) for a in agents]
    assert all(0 <= d < 1 for d in distances)
    assert len(set(distances)) == len(agents)
    assert distances == [names.rendezvous(a, key) for a in agents]
