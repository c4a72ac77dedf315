"""Every link within the project leads somewhere, and every page of docs/ stands on its own as a site."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.docs.pages import DOCS, ROOT, anchors, links, pages


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    assert [link for link in links(page) if (why := _wrong(page, link)) and print(link, why) is None] == []


def _wrong(page: Path, link: str) -> str | None:
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return None if parts.scheme in ("https", "mailto") else "neither https nor within the project"
    target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
    if not target.is_relative_to(ROOT) or not target.exists():
        return "leads nowhere"
    if page.is_relative_to(DOCS) and not target.is_relative_to(DOCS):
        return "leaves docs/: the site would not hold it"
    if parts.fragment and (target.suffix != ".md" or parts.fragment not in anchors(target)):
        return (
            f"no heading makes this anchor on the site and in the repository alike: {sorted(anchors(target))}"
        )
    return None


@pytest.mark.parametrize(
    ("link", "right"),
    [
        ("errors.md", True),
        ("errors.md#deliveries-that-wait-for-a-person", True),
        ("errors.md#nowhere", False),
        ("nowhere.md", False),
        ("../README.md", False),
        ("http://example.org", False),
        ("https://example.org", True),
    ],
)
def test_what_counts_as_wrong(link, right):
    assert (_wrong(DOCS / "limits.md", link) is None) is right
