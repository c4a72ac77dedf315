"""Two hundred studies through one process: time and memory stay flat."""

from __future__ import annotations

import gc
import shutil
import time
from datetime import UTC, datetime

import numpy as np
import psutil
import pytest

from app.analyse import load, run
from app.application import Job
from app.demo.studies import make_study, read_samples
from app.settings import Settings
from operators.report.composed import ReportContext

STUDIES, WARM_UP = 200, 40
MAXIMUM_GROWTH_MIB = 24.0


@pytest.mark.timeout(1200)  # several minutes with the screen reader, on a busy machine more
def test_two_hundred_studies_leave_no_trace(tmp_path):
    settings = Settings()
    engines = load(settings)
    at = datetime(2026, 5, 4, tzinfo=UTC)
    # One of each kind in turn, but the cine, which takes as long as the others together.
    studies = [
        make_study(one, tmp_path, number, at)
        for number, one in enumerate(read_samples())
        if one.kind != "cine"
    ]
    process = psutil.Process()
    seconds, memory, descriptors, threads = [], [], [], []
    for number in range(STUDIES):
        folder = tmp_path / f"result{number}"
        started = time.process_time()
        paths = studies[number % len(studies)].paths
        run(Job(paths, folder, ReportContext(at)), engines=engines, settings=settings)
        seconds.append(time.process_time() - started)
        assert (folder / "result.json").is_file()
        shutil.rmtree(folder)
        if number >= WARM_UP and number % 10 == 0:
            gc.collect()
            memory.append(process.memory_info().rss / 2**20)
            descriptors.append(process.num_fds())
            threads.append(process.num_threads())
    growth = float(np.mean(memory[-4:]) - np.mean(memory[:4]))
    assert growth < MAXIMUM_GROWTH_MIB, f"memory grew by {growth:.1f} MiB over {STUDIES - WARM_UP} studies"
    assert max(descriptors) - min(descriptors) <= 2
    assert max(threads) - min(threads) <= 2
    early, late = np.median(seconds[WARM_UP:100]), np.median(seconds[-60:])
    assert late < 1.35 * early, f"a study took {late:.3f} s of CPU at the end, {early:.3f} s at the start"
