"""Prefect's profiles file: one profile changed, everything else as it was."""

from pathlib import Path

import pytest

from clearflow._prefect import profiles
from clearflow.errors import Refused, Usage

URL = {"PREFECT_API_URL": "http://127.0.0.1:4200/api"}

OTHERS = """\
# My own notes on these.
active = "team"  # the usual one

[profiles.team]
PREFECT_API_URL = "https://prefect.example.org/api"  # behind the VPN
PREFECT_API_KEY = "pnu_0123"

[profiles."with dots.and spaces"]
PREFECT_LOGGING_LEVEL = "DEBUG"
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "prefect" / "profiles.toml"


def test_the_first_profile_makes_the_file_for_its_owner_only(path: Path):
    profiles.write("clearflow", URL, activate=True, path=path)
    assert profiles.read(path) == ("clearflow", {"clearflow": URL})
    assert path.stat().st_mode & 0o777 == 0o600
    assert [p.name for p in path.parent.iterdir()] == [path.name], "no part is left"


def test_other_profiles_and_comments_stay_as_they_are(path: Path):
    path.parent.mkdir()
    path.write_text(OTHERS)
    profiles.write("clearflow", URL, activate=False, path=path)
    assert path.read_text().startswith(OTHERS)
    assert profiles.read(path)[0] == "team"
    profiles.write("clearflow", {"PREFECT_API_URL": "http://a/api"}, activate=True, path=path)
    active, found = profiles.read(path)
    assert active == "clearflow"
    assert found["clearflow"] == {"PREFECT_API_URL": "http://a/api"}
    assert found["team"]["PREFECT_API_KEY"] == "pnu_0123"
    assert "# behind the VPN" in path.read_text()


def test_a_profile_in_the_middle_is_replaced_and_not_repeated(path: Path):
    path.parent.mkdir()
    path.write_text('[profiles.clearflow]\nPREFECT_API_KEY = "old"\n\n' + OTHERS.split("\n", 2)[2])
    profiles.write("clearflow", URL, activate=True, path=path)
    active, found = profiles.read(path)
    assert (active, found["clearflow"]) == ("clearflow", URL)
    assert path.read_text().count("[profiles.clearflow]") == 1


def test_values_with_quotes_and_backslashes_survive(path: Path):
    values = {"PREFECT_API_AUTH_STRING": 'me:p"a\\ss\tw=é'}
    profiles.write("clearflow", values, activate=True, path=path)
    assert profiles.read(path)[1]["clearflow"] == values


@pytest.mark.parametrize(
    "text",
    [
        "this is = not [toml",
        '[profiles]\nclearflow = { PREFECT_API_URL = "http://other/api" }\n',
        '[profiles.team]\nPREFECT_API_KEY = """\n[profiles.clearflow]\nA = "b"\n"""\n',
    ],
    ids=["broken", "inline", "multi-line"],
)
def test_a_file_that_cannot_be_changed_without_risk_is_left_alone(path: Path, text: str):
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(Refused):
        profiles.write("clearflow", URL, activate=True, path=path)
    assert path.read_text() == text


@pytest.mark.parametrize("name", ["", "a b", 'a"]\n[x', "ü"])
def test_a_name_that_is_none(path: Path, name: str):
    with pytest.raises(Usage):
        profiles.write(name, URL, activate=True, path=path)
    assert not path.exists()


def test_a_link_to_the_file_stays_a_link(path: Path, tmp_path: Path):
    real = tmp_path / "dotfiles.toml"
    real.write_text(OTHERS)
    path.parent.mkdir()
    path.symlink_to(real)
    profiles.write("clearflow", URL, activate=True, path=path)
    assert path.is_symlink()
    assert profiles.read(real)[0] == "clearflow"


def test_prefect_reads_what_was_written(path: Path, monkeypatch: pytest.MonkeyPatch):
    from prefect.settings import PREFECT_PROFILES_PATH, load_profiles, temporary_settings

    path.parent.mkdir()
    path.write_text(OTHERS)
    profiles.write("clearflow", URL, activate=True, path=path)
    with temporary_settings({PREFECT_PROFILES_PATH: path}):
        found = load_profiles(include_defaults=False)
    assert found.active_name == "clearflow"
    assert found["clearflow"].to_environment_variables() == URL
