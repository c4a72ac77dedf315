"""The documentation as a site: built strictly, complete, readable where there is no Internet."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from app.web.server import RESEARCH_USE
from tests.docs.pages import DOCS, ROOT
from tests.programs import program

_LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built from a copy of its sources."""
    if find_spec("zensical") is None:
        pytest.skip("the extra `docs` is not installed: make setup-docs")
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(DOCS, folder / "docs")
    shutil.copy(ROOT / ".mkdocs.yml", folder)
    done = subprocess.run(
        [sys.executable, "-m", "zensical", "build", "--strict", "-f", ".mkdocs.yml"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "site"


def _html(site: Path) -> list[Path]:
    return sorted(site.rglob("*.html"))


def test_every_page_says_what_it_is_for(site):
    assert len(_html(site)) > 30
    assert [page.name for page in _html(site) if RESEARCH_USE not in page.read_text()] == []


def test_nothing_is_loaded_from_elsewhere(site):
    class Loads(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.found: list[str] = []

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            value = dict(attrs).get(_LOADED.get(tag, ""))
            if value and re.match(r"(https?:)?//", value):
                self.found.append(value)

    outside = {}
    for page in _html(site):
        loads = Loads()
        loads.feed(page.read_text())
        outside[page.name] = loads.found
    assert {name: found for name, found in outside.items() if found} == {}
    styles = "".join(page.read_text() for page in site.rglob("*.css"))
    assert re.findall(r"url\([\"']?(?:https?:)?//[^)]*", styles) == []


def test_search_finds_an_error_code_without_a_server(site):
    assert "identity-mismatch" in (site / "search.js").read_text()
    assert (site / "assets" / "iframe-worker.js").exists()


@pytest.mark.viewer
def test_a_reader_without_a_server_or_the_internet_finds_an_error(site):
    playwright = pytest.importorskip("playwright.sync_api", reason="make viewers installs Playwright")
    outside: list[str] = []
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program("chromium"), args=["--no-sandbox"])
        page = browser.new_page()
        page.on("request", lambda one: outside.append(one.url) if one.url.startswith("http") else None)
        page.goto((site / "index.html").as_uri())
        page.get_by_role("button", name="Search").click()
        page.keyboard.type("identity-mismatch")
        page.get_by_text("Deliveries that wait for a person").first.click()
        page.wait_for_url(re.compile(r"/errors\.html\b.*#deliveries-that-wait-for-a-person"))
        browser.close()
    assert outside == []


def test_every_page_is_in_the_menu():
    def targets(entry: object) -> list[str]:
        if isinstance(entry, str):
            return [entry]
        entries = entry.values() if isinstance(entry, dict) else entry
        return [one for below in entries for one in targets(below)]

    menu = targets(yaml.safe_load((ROOT / ".mkdocs.yml").read_text())["nav"])
    assert sorted(menu) == sorted(str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md"))
