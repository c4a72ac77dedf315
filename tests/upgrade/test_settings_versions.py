"""A settings file of each release is read by this one; one of a newer release is refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from app import settings_versions
from app.errors import SettingsError
from app.settings import load_settings
from app.settings_versions import VERSION, KeyChange, brought_up_to_date, renamed_variable
from tests.upgrade.frozen import FIRST

FILE = FIRST / "settings.yaml"
CHANGES = (
    KeyChange(3, "gateway.host", "gateway.listen_address"),
    KeyChange(4, "gateway.listen_address", "network.address", "It holds for the web server too."),
    KeyChange(4, "assembly.poll_seconds", None, "take the line out; studies are looked at as they come"),
)


@pytest.fixture(autouse=True)
def _no_settings_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUSMAP_CONFIG", "")


def test_every_setting_of_the_first_release_is_read(capsys: pytest.CaptureFixture[str]) -> None:
    given = yaml.safe_load(FILE.read_text())
    read = load_settings(FILE).model_dump(mode="json")
    for name, value in given.items():
        if isinstance(value, dict):
            taken: Any = {key: read[name][key] for key in value}
        else:
            taken = read[name]
        if name == "delivery":
            for one, was in zip(taken["destinations"], value["destinations"], strict=True):
                assert one | was == one
            taken = taken | {"destinations": value["destinations"]}
        assert taken == value, name
    assert capsys.readouterr().err == "".join(
        f"busmap: settings: {notice}\n" for notice in brought_up_to_date(given, FILE)[1]
    )


def test_file_of_a_newer_release_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "busmap.yaml"
    path.write_text(f"settings_version: {VERSION + 1}\ngateway: {{colour: green}}\n")
    with pytest.raises(SettingsError, match=rf"settings version {VERSION + 1}.*knows up to {VERSION}"):
        load_settings(path)
    path.write_text(f"settings_version: {VERSION}\ngateway: {{port: 104}}\n")
    assert load_settings(path).gateway.port == 104


def test_renamed_keys_are_taken_and_told_of_from_release_to_release() -> None:
    content = {"gateway": {"host": "192.0.2.1", "port": 104}}
    changed, notices = brought_up_to_date(content, FILE, CHANGES, version=4)
    assert changed == {"gateway": {"port": 104}, "network": {"address": "192.0.2.1"}}
    assert [notice.split(": ", 1)[1] for notice in notices] == [
        "gateway.host is called gateway.listen_address now: rename it.",
        "gateway.listen_address is called network.address now: rename it. It holds for the web server too.",
    ]
    assert content == {"gateway": {"host": "192.0.2.1", "port": 104}}


def test_removed_and_doubled_keys_are_refused_by_name() -> None:
    with pytest.raises(SettingsError, match=r"assembly\.poll_seconds is no setting any more: take the line"):
        brought_up_to_date({"assembly": {"poll_seconds": 1}}, FILE, CHANGES, version=4)
    both = {"gateway": {"host": "a", "listen_address": "b"}}
    with pytest.raises(SettingsError, match=r"gateway\.host is called gateway\.listen_address now, and both"):
        brought_up_to_date(both, FILE, CHANGES, version=4)


def test_variables_of_earlier_releases_name_the_new_one(monkeypatch: pytest.MonkeyPatch) -> None:
    new = "is called BUSMAP_NETWORK__ADDRESS now"
    assert renamed_variable("BUSMAP_GATEWAY__LISTEN_ADDRESS", "BUSMAP_", CHANGES) == new
    assert renamed_variable("BUSMAP_ASSEMBLY__POLL_SECONDS", "BUSMAP_", CHANGES) == (
        "is no setting any more: take the line out; studies are looked at as they come"
    )
    assert renamed_variable("BUSMAP_GATEWAY__PORT", "BUSMAP_", CHANGES) is None


def test_changes_of_this_release_lead_to_settings_there_are() -> None:
    from app.settings import known_keys

    assert all(one.version <= VERSION for one in settings_versions.CHANGES)
    ends = {one.new for one in settings_versions.CHANGES if one.new} - {
        one.old for one in settings_versions.CHANGES
    }
    assert ends <= set(known_keys())
