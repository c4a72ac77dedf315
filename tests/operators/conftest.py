"""Results of the real models on the sample studies, made once for all tests here."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from app.demo.studies import make_study, read_samples
from models.runtime.loaded import Models, load_models
from operators.assess_lesions import assess_lesions
from operators.find_lesions import find_lesions
from operators.findings import StudyResult
from operators.load_study import load_study
from operators.report.composed import ReportContext
from operators.select_frames import select_frames

AT = datetime(2026, 5, 4, 12, 30, 15, tzinfo=UTC)


@pytest.fixture(scope="session")
def models() -> Models:
    return load_models()


@pytest.fixture
def context() -> ReportContext:
    return ReportContext(composed_at=AT)


@pytest.fixture(scope="session")
def sample_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, ...]]:
    """Files of the sample studies by name."""
    folder = tmp_path_factory.mktemp("samples")
    return {
        sample.name: make_study(sample, folder, number, AT).paths
        for number, sample in enumerate(read_samples(), start=1)
    }


@pytest.fixture(scope="session")
def analysed(models: Models, sample_files: dict[str, tuple[Path, ...]]) -> Callable[..., StudyResult]:
    """Analyse files, or a sample by its name, up to the study's result."""
    kept: dict[object, StudyResult] = {}

    def analyse(what: str | tuple[Path, ...], digest: str = "0123456789ab") -> StudyResult:
        if (what, digest) not in kept:
            study = load_study(sample_files[what] if isinstance(what, str) else what)[0]
            selection = select_frames(study, maximum_frames_per_instance=8, maximum_frames_per_study=50)
            found = find_lesions(selection, models.lesion, models.marks, maximum_lesions_per_frame=3)
            kept[what, digest] = assess_lesions(
                found, models, malignant_prevalence=0.33, settings_digest=digest
            )
        return kept[what, digest]

    return analyse
