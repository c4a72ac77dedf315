"""JSON that one verb writes and another reads: whatever else lies there is refused in one line."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from models.data.facts import Facts, read_facts
from models.data.record import DataError
from models.generation.cli import app


class Inner(Facts):
    share: float


class Shape(Facts):
    count: int
    inner: Inner | None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "EOF"),
        ("[]", "object"),
        ("{}", "count: Field required"),
        ('{"count": "3", "inner": null}', "count: Input should be a valid integer"),
        ('{"count": true, "inner": null}', "count: Input should be a valid integer"),
        ('{"count": 3, "inner": {"share": NaN}}', "inner.share: Input should be a finite number"),
        ('{"count": 3, "inner": {"share": 1e999}}', "inner.share: Input should be a finite number"),
    ],
)
def test_another_shape_is_refused_by_place(tmp_path, text, said):
    path = tmp_path / "facts.json"
    path.write_text(text)
    with pytest.raises(DataError) as refused:
        read_facts(path, Shape, "write it again")
    message = str(refused.value)
    assert message.startswith(str(path))
    assert said in message
    assert message.endswith(": write it again")
    assert "\n" not in message


def test_what_is_not_asked_for_is_kept(tmp_path):
    path = tmp_path / "facts.json"
    content = {"count": 3, "inner": {"share": 1, "more": [1]}, "beside": "kept"}
    path.write_text(json.dumps(content))
    assert read_facts(path, Shape, "") == content
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    for other in ("binary.json", "missing.json"):
        with pytest.raises(DataError, match="cannot be read"):
            read_facts(tmp_path / other, Shape, "")


@pytest.mark.parametrize(
    "manifest", ["", "[]", '{"format": 1}', '{"format": 1, "files": [{"sha256": "0"}]}', '{"format": "1"}']
)
def test_a_damaged_manifest_is_one_line(tmp_path, manifest):
    (tmp_path / "manifest.json").write_text(manifest)
    result = CliRunner().invoke(app, ["verify", str(tmp_path)])
    assert result.exit_code == 10
    assert isinstance(result.exception, SystemExit)
    assert "give the folder of a set" in " ".join(result.output.split())
