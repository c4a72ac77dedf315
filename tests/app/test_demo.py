"""`make demo` as a new user runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
from PIL import Image

ROOT = Path(__file__).parents[2]


def test_the_demo_shows_six_results_and_tidies_up(tmp_path):
    environment = {key: value for key, value in os.environ.items() if not key.startswith("BUSMAP_")}
    done = subprocess.run(
        [sys.executable, "-m", "app.demo"],
        cwd=ROOT,
        env={**environment, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Research use" in done.stdout
    assert "no result in time" not in done.stdout
    words = " ".join(done.stdout.replace("│", " ").split())
    assert "L1 on 2 image(s)" in words, "one lesion in two views is one lesion"
    assert " mm" in words, "the calibrated image shows a size"
    assert "not-breast-ultrasound-by-pixels" in words
    (folder,) = tmp_path.glob("busmap-demo-*")
    assert len(list(folder.glob("*.html"))) == 6
    pictures = list(folder.glob("*.png"))
    assert len(pictures) >= 6
    for path in pictures:
        assert str(path) in done.stdout.replace("\n", "")
        with Image.open(path) as picture:
            picture.verify()
    assert not [path for path in folder.iterdir() if path.is_dir()], "nothing but the results is left"
    started_here = [
        process
        for process in psutil.process_iter(["environ"])
        if (process.info["environ"] or {}).get("TMPDIR") == str(tmp_path)
    ]
    assert started_here == [], "everything that was started has been stopped"
