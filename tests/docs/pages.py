"""The documentation as data: pages, headings, links, code. Read with a real Markdown parser."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
_SHELLS = ("", "sh", "bash", "shell", "console")


@dataclass(frozen=True)
class Code:
    """A piece of code of a page: a fenced block, or inline."""

    page: Path
    language: str
    text: str
    inline: bool

    @property
    def is_shell(self) -> bool:
        """Whether a reader may take it for something to type."""
        return self.inline or self.language in _SHELLS


def pages() -> list[Path]:
    """Every page a reader may meet: docs/, and the Markdown files beside the code."""
    found = [*ROOT.glob("*.md")]
    for folder in ("docs", "packaging", "models/bundles", "tests", "validation"):
        found += (ROOT / folder).rglob("*.md")
    return sorted(found)


@cache
def tokens(page: Path) -> tuple[Token, ...]:
    """The page, parsed."""
    return tuple(MarkdownIt("commonmark").enable("table").parse(page.read_text(encoding="utf-8")))


def links(page: Path) -> list[str]:
    """Addresses of links and images of a page."""
    return [
        str(child.attrs[key])
        for child in _inline(page)
        for kind, key in (("link_open", "href"), ("image", "src"))
        if child.type == kind
    ]


def code(page: Path) -> list[Code]:
    """Every piece of code of a page."""
    fenced = [
        Code(page, token.info.strip().split(" ")[0], token.content, inline=False)
        for token in tokens(page)
        if token.type in ("fence", "code_block")
    ]
    return fenced + [
        Code(page, "", child.content, inline=True) for child in _inline(page) if child.type == "code_inline"
    ]


def named(page: Path) -> list[str]:
    """What a page names in inline code."""
    return [one.text for one in code(page) if one.inline]


@cache
def anchors(page: Path) -> frozenset[str]:
    """Anchors that both the site and a repository's own view make of the page's headings."""
    headings = [
        "".join(child.content for child in after.children or () if child.type in ("text", "code_inline"))
        for before, after in zip(tokens(page), tokens(page)[1:], strict=False)
        if before.type == "heading_open"
    ]
    return frozenset(_numbered(headings, _site_slug, "_")) & frozenset(_numbered(headings, _forge_slug, "-"))


def _inline(page: Path) -> Iterator[Token]:
    for token in tokens(page):
        if token.type == "inline":
            yield from token.children or ()


def _numbered(headings: list[str], slug, separator: str) -> Iterator[str]:
    seen: dict[str, int] = {}
    for heading in headings:
        one = slug(heading)
        seen[one] = seen.get(one, -1) + 1
        yield f"{one}{separator}{seen[one]}" if seen[one] else one


def _site_slug(heading: str) -> str:
    """Python-Markdown's `toc`, which the site is built with."""
    plain = unicodedata.normalize("NFKD", heading).encode("ascii", "ignore").decode()
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", plain).strip().lower())


def _forge_slug(heading: str) -> str:
    """As the forges that show repositories do."""
    return re.sub(r"\s", "-", re.sub(r"[^\w\s-]", "", heading.strip().lower()))
