"""No process starts beside a changed model: one-shot, gateway, worker, and the node as a whole."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.errors import SettingsError
from app.model_check import check_models
from app.model_verbs import _bundles, models
from app.node.analyst import AnalysisRefused, Analyst
from app.node.process import DEFAULT_ANALYSER
from app.settings import AnalysisSettings, GatewaySettings, Settings, WebSettings
from models.runtime.bundle import SHIPPED, bundle_folders
from models.runtime.manifest import MANIFEST, UntrustedModelError, sign_bundle
from tests.models.test_manifest import flip, key_pair, openssl

ROOT = Path(__file__).parents[2]
FILES = [len((folder / MANIFEST).read_text().splitlines()) for folder in bundle_folders()]


@pytest.fixture
def bundles(tmp_path: Path) -> Path:
    """A copy of the bundles that ship."""
    return Path(shutil.copytree(SHIPPED, tmp_path / "bundles"))


def start(arguments: Sequence[object], bundles: Path, state: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", *map(str, arguments)],
        cwd=ROOT,
        env={
            **os.environ,
            "BUSMAP_CONFIG": "",
            "BUSMAP_ANALYSIS__MODEL_FOLDER": str(bundles),
            "BUSMAP_STATE_FOLDER": str(state),
            "BUSMAP_GATEWAY__PORT": "0",
            "BUSMAP_WEB__PORT": "0",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_nothing_starts_beside_a_changed_model(bundles: Path, tmp_path: Path) -> None:
    """A byte of a config, which no weight's digest covers; each way of starting ends by itself."""
    flip(bundles / "breast_us_diagnosis" / "configs" / "metadata.json")
    ways = {
        "gateway": ["app.node.gateway"],
        "worker": ["app.node.worker"],
        "node": ["app.cli", "serve"],
        "verify": ["app.cli", "models", "verify", bundles],
    }
    running = {name: start(way, bundles, tmp_path / name) for name, way in ways.items()}
    for name, process in running.items():
        said, _ = process.communicate(timeout=120)
        assert process.returncode == 5, (name, said)
        assert "breast_us_diagnosis/configs/metadata.json was changed" in said, name
        assert "model-untrusted" in said, name
        assert "Traceback" not in said, name


def test_what_was_proven_stands_in_the_log(tmp_path: Path) -> None:
    """A gateway of a site with a key, stopped by the end of its stdin."""
    private, public = key_pair(tmp_path, "site")
    bundles = shutil.copytree(SHIPPED, tmp_path / "bundles")
    key_ids = {sign_bundle(bundle, private).name.split(".")[-2] for bundle in bundles.iterdir()}
    settings = Settings(
        state_folder=tmp_path / "state",
        analysis=AnalysisSettings(model_folder=bundles, model_keys=(public,)),
        gateway=GatewaySettings(port=0),
        web=WebSettings(port=0),
    )
    done = subprocess.run(
        [sys.executable, "-m", "app.node.gateway", "--supervised"],
        cwd=ROOT,
        input=settings.model_dump_json() + "\n",
        capture_output=True,
        text=True,
        timeout=120,
    )
    [line] = [json.loads(one) for one in done.stderr.splitlines() if '"models-verified"' in one]
    assert line["signed_by"] == sorted(key_ids)
    assert line["count"] == sum(FILES)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_an_analysis_process_that_starts_later_says_what_was_changed(bundles: Path, tmp_path: Path) -> None:
    """What the worker is told, and tells in status and /readyz, where models change while it runs."""
    flip(bundles / "breast_us_lesion" / "models" / "gate.npz")
    settings = Settings(state_folder=tmp_path, analysis=AnalysisSettings(model_folder=bundles))
    with pytest.raises(AnalysisRefused, match=r"^breast_us_lesion/models/gate\.npz was changed") as caught:
        Analyst(settings, DEFAULT_ANALYSER).prepare()
    assert (caught.value.code, caught.value.permanent) == ("model-untrusted", False)


def test_the_verbs_list_sign_and_verify(bundles: Path, tmp_path: Path) -> None:
    private, public = key_pair(tmp_path, "site")
    locked = tmp_path / "locked.pem"
    openssl("pkcs8", "-topk8", "-in", private, "-out", locked, "-passout", "pass:owl")
    verbs = CliRunner()
    flip(bundles / "breast_us_marks" / "docs" / "README.md")
    refused = verbs.invoke(models, ["sign", "--key", str(private), str(bundles)])
    assert isinstance(refused.exception, UntrustedModelError)
    assert verbs.invoke(models, ["manifest", str(bundles)]).exit_code == 0
    assert verbs.invoke(models, ["sign", "--key", str(locked), str(bundles)], input="owl\n").exit_code == 0
    told = verbs.invoke(models, ["verify", "--key", str(public), str(bundles)]).output
    assert told.count("files as in the manifest; signed by ") == 3
    assert verbs.invoke(models, ["verify"]).output.count("signature not checked: no --key given") == 3


def test_with_a_key_an_unsigned_bundle_is_refused(bundles: Path, tmp_path: Path) -> None:
    private, public = key_pair(tmp_path, "site")
    analysis = AnalysisSettings(model_folder=bundles, model_keys=(public,))
    settings = Settings(state_folder=tmp_path, analysis=analysis)
    sign_bundle(bundles / "breast_us_lesion", private)
    with pytest.raises(UntrustedModelError, match=r"breast_us_diagnosis/.*carries no signature"):
        check_models(settings)
    for name in ("diagnosis", "marks"):
        sign_bundle(bundles / f"breast_us_{name}", private)
    assert [one.files for one in check_models(settings)] == FILES


def test_the_shipped_marks_are_verified_where_a_site_has_none(bundles: Path, tmp_path: Path) -> None:
    shutil.rmtree(bundles / "breast_us_marks")
    settings = Settings(state_folder=tmp_path, analysis=AnalysisSettings(model_folder=bundles))
    assert check_models(settings)[2].folder == SHIPPED / "breast_us_marks"


def test_bundles_are_found_by_their_metadata(bundles: Path, tmp_path: Path) -> None:
    assert len(_bundles([bundles])) == 3
    assert _bundles([bundles / "breast_us_marks"]) == [bundles / "breast_us_marks"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(SettingsError, match=r"no model bundle in .*empty"):
        _bundles([tmp_path / "empty"])
