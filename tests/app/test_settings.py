"""Settings: sources in their order, unknown keys refused with the nearest known one, ranges held."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import SettingsError
from app.settings import GatewaySettings, Settings, known_keys, load_settings
from app.settings_page import settings_table


@pytest.fixture(autouse=True)
def _no_settings_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUSMAP_CONFIG", "")


def write(folder: Path, text: str) -> Path:
    path = folder / "busmap.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_environment_wins_over_file_and_file_over_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, "gateway:\n  port: 104\n  ae_title: FROMFILE\n")
    monkeypatch.setenv("BUSMAP_GATEWAY__PORT", "11113")
    settings = load_settings(path)
    assert settings.gateway.port == 11113
    assert settings.gateway.ae_title == "FROMFILE"
    assert settings.gateway.maximum_associations == 32


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("gateway:\n  prot: 104\n", ("gateway.prot", "did you mean gateway.port")),
        ("assembly:\n  quiet_period: 5\n", ("assembly.quiet_period", "quiet_period_seconds")),
        ("gateway:\n  port: 70000\n", ("gateway.port", "65535", "70000")),
        ("gateway:\n  ae_title: AN_AE_TITLE_THAT_IS_TOO_LONG\n", ("gateway.ae_title", "16")),
        ("gateway: [\n", ("not valid YAML",)),
        (
            "delivery: {destinations: [{name: a, ae_title: A, host: h, port: 1, identity_check: qido}]}\n",
            ("delivery.destinations", "needs qido_url"),
        ),
    ],
)
def test_a_wrong_file_is_refused_by_name(tmp_path: Path, text: str, words: tuple[str, ...]) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(write(tmp_path, text))
    for word in words:
        assert word in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"absent\.yaml does not exist"):
        load_settings(tmp_path / "absent.yaml")


@pytest.mark.parametrize("text", ["- a\n- b\n", "just words\n", "1: 2\n", "gateway: [1]\n"])
def test_a_file_without_sections_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.delenv("BUSMAP_CONFIG", raising=False)
    path = tmp_path / "busmap.yaml"
    path.write_text(text)
    with pytest.raises(SettingsError):
        load_settings(path)


def test_the_file_of_a_map_counts_where_none_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounted, named = tmp_path / "app.yaml", tmp_path / "busmap.yaml"
    monkeypatch.setenv("HOLOSCAN_CONFIG_PATH", str(mounted))
    assert load_settings().gateway.port == 11112
    mounted.write_text("gateway:\n  port: 1\n")
    named.write_text("gateway:\n  port: 2\n")
    assert load_settings().gateway.port == 1
    assert load_settings(named).gateway.port == 2


def test_the_file_that_the_container_ships_changes_nothing() -> None:
    shipped = Path(__file__).parents[2] / "packaging" / "map" / "rootfs" / "var" / "holoscan" / "app.yaml"
    assert load_settings(shipped) == Settings()


def test_what_a_host_says_counts_over_all_and_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUSMAP_REPORT__MAXIMUM_LESION_CAPTURES", "5")
    report = load_settings(None, {"report": {"malignant_prevalence_percent": 20}}).report
    assert (report.malignant_prevalence_percent, report.maximum_lesion_captures) == (20, 5)
    with pytest.raises(SettingsError, match="did you mean report"):
        load_settings(None, {"report": {"malignant_prevalence": 20}})


def test_an_unknown_variable_names_the_nearest_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUSMAP_GATEWAY__PROT", "104")
    with pytest.raises(SettingsError, match="BUSMAP_GATEWAY__PORT"):
        load_settings()


def test_every_setting_is_described() -> None:
    for key, section in known_keys().items():
        assert section.model_fields[key.split(".")[-1]].description, key


@given(st.text(max_size=20))
def test_ae_titles_are_what_dicom_allows_or_refused(title: str) -> None:
    try:
        kept = GatewaySettings(ae_title=title).ae_title
    except ValueError:
        assert (
            not title.strip()
            or len(title.strip()) > 16
            or not title.isascii()
            or not title.isprintable()
            or "\\" in title
        )
    else:
        assert 1 <= len(kept) <= 16
        assert kept.isascii()


def test_two_destinations_of_one_name_are_refused(monkeypatch):
    one = '{"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": 104}'
    monkeypatch.setenv("BUSMAP_DELIVERY__DESTINATIONS", f"[{one}, {one}]")
    with pytest.raises(SettingsError, match="name of its own"):
        load_settings()


def test_the_password_of_the_database_is_never_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SettingsError, match="postgresql://") as caught:
        load_settings(write(tmp_path, "database_url: mysql://busmap:secret@host/busmap\n"))
    assert "secret" not in str(caught.value)
    settings = load_settings(write(tmp_path, "database_url: postgres://busmap:secret@host/busmap\n"))
    assert settings.database_url.startswith("postgresql://")
    settings_table(settings)
    shown = capsys.readouterr().out
    assert "database_url" in shown
    assert "secret" not in shown


def test_a_run_folder_counts_with_a_shared_database_alone(tmp_path: Path) -> None:
    """On an SQLite file the locks lie beside it: neither a second node nor a migration gets past them."""
    text = f"state_folder: {tmp_path / 'state'}\nrun_folder: {tmp_path / 'run'}\n"
    assert load_settings(write(tmp_path, text)).own_folder == tmp_path / "state"
    shared = load_settings(write(tmp_path, text + "database_url: postgresql://busmap@host/busmap\n"))
    assert shared.own_folder == tmp_path / "run"
