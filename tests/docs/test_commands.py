"""What a page tells a reader to type exists: verbs and options to its parser, targets to make."""

from __future__ import annotations

import pytest

from tests.docs.commands import command_lines, fault
from tests.docs.pages import ROOT, Code, code, pages


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_exist(page):
    told = [
        (" ".join(command), why)
        for piece in code(page)
        if piece.is_shell
        for command in command_lines(piece)
        if (why := fault(command, mention=piece.inline))
    ]
    assert told == []


def test_the_pages_hold_commands_to_check():
    """Else the test above would pass by finding nothing."""
    found = {
        " ".join(command[:2])
        for page in pages()
        for piece in code(page)
        if piece.is_shell
        for command in command_lines(piece)
    }
    assert {"make demo", ".venv/bin/busmap run", "busmap serve", "busmap status"} <= found


@pytest.mark.parametrize(
    ("line", "right"),
    [
        ("busmap serve -c busmap.yaml && busmap status --json  # look", True),
        (".venv/bin/busmap run -i IN -o OUT | tee log", True),
        ("BUSMAP_LOG_LEVEL=debug sudo busmap worker", True),
        ("docker compose exec gateway busmap resend STUDY --release-identity", True),
        ("kubectl exec deploy/busmap -- busmap status", True),
        ("busmap train lesion|diagnosis --data D --out RUNS", True),
        ("busmap serve --verbose", False),
        ("busmap restart", False),
        ("busmap close", False),
        ("busmap close ONE TWO", False),
        ("docker exec node busmap stats", False),
        ("sudo -u busmap /opt/busmap/.venv/bin/busmap status", True),
        ("sudo -u busmap /opt/busmap/.venv/bin/busmap stats", False),
        ("make demo PYTHON=python3.12", True),
        ("make it-work", False),
        (".venv/bin/python -m app -i IN", True),
        (".venv/bin/python -m app.nowhere", False),
        ("systemctl status busmap", True),
    ],
)
def test_what_counts_as_wrong(line, right):
    faults = [
        fault(one, mention=False) for one in command_lines(Code(ROOT / "README.md", "sh", line, inline=False))
    ]
    assert (not any(faults)) is right, faults
