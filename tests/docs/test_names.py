"""Settings, metrics and files that a page names exist: a renamed one takes its pages along."""

from __future__ import annotations

import ast
import re

import pytest

from app.settings import OTHER_VARIABLES, DestinationSettings, Settings, known_keys
from app.web.metrics import FAMILIES
from tests.docs.pages import ROOT, named, pages

_OURS = ("app", "operators", "models", "validation", "packaging", "tests", "docs")
_SECTIONS = {key.split(".")[0] for key in known_keys() if "." in key}
_SETTING = re.compile(rf"^({'|'.join(sorted(_SECTIONS))})\.[a-z_]+(\[\])?(\.[a-z_]+)?$")
_PATH = re.compile(rf"^({'|'.join(_OURS)})/[\w./-]*$")
_VARIABLE = re.compile(r"^BUSMAP_[A-Z0-9_]+$")
# Variables that are no settings; the first names the test data.
_OTHER_VARIABLES = {"BUSMAP_SHARED", *OTHER_VARIABLES}
# What a past version did, in the words of its time.
_HISTORY = {ROOT / "CHANGELOG.md"}
PAGES = [page for page in pages() if page not in _HISTORY]


def _settings() -> set[str]:
    return {*known_keys(), *(f"delivery.destinations[].{name}" for name in DestinationSettings.model_fields)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_names_exists(page):
    lost = []
    for name in named(page):
        if _SETTING.match(name) and not name.endswith((".html", ".json", ".py")):
            lost += [name] if name not in _settings() else []
        elif _PATH.match(name):
            lost += (
                [name]
                if not (ROOT / name).exists() and not any((near / name).exists() for near in page.parents[:2])
                else []
            )
        elif re.fullmatch(r"busmap_[a-z_]+", name):
            lost += [name] if name not in FAMILIES else []
        elif _VARIABLE.match(name) and name not in _OTHER_VARIABLES:
            key = name.removeprefix("BUSMAP_").lower().replace("__", ".")
            lost += [name] if key not in known_keys() else []
    assert lost == []


def test_every_setting_has_its_line():
    page = set(named(ROOT / "docs" / "settings.md"))
    assert set(known_keys()) <= page
    assert set(Settings.model_fields) <= {key.split(".")[0] for key in page}


def test_every_metric_has_its_line():
    assert set(FAMILIES) <= set(named(ROOT / "docs" / "metrics.md"))


def test_every_address_of_the_web_side_is_named():
    server = (ROOT / "app" / "web" / "server.py").read_text()
    routes = re.findall(r'@app\.[a-z]+\("([^"]+)"', server)
    page = (ROOT / "docs" / "getting-started.md").read_text()
    assert "/readyz" in routes
    assert [route for route in routes if route not in page] == []


def test_troubleshooting_names_every_dependency_of_readyz():
    health = (ROOT / "app" / "web" / "health.py").read_text()
    names = set(re.findall(r'Check\("([a-z-]+)"', health))
    assert "dicom-listener" in names
    assert names <= set(named(ROOT / "docs" / "troubleshooting.md"))


def test_codes_and_events_of_troubleshooting_are_the_programs_own():
    said = {
        node.value
        for folder in ("app", "operators", "models/runtime")
        for path in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    told = {
        one for one in named(ROOT / "docs" / "troubleshooting.md") if re.fullmatch(r"[a-z]+(-[a-z]+)+", one)
    }
    assert len(told) > 10
    assert told - said == set()
