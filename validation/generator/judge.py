"""From a folder of studies to the parts of the report: whatever lies there is judged.

Promises: every part is judged from its own files; a folder with none of them is refused.
"""

from __future__ import annotations

from pathlib import Path

from validation.generator.confirmation import judge_confirmation
from validation.generator.few_shot import judge_few_shot
from validation.generator.fidelity import judge_fidelity
from validation.generator.files import StudyFacts, read_facts, read_scores
from validation.generator.privacy_report import judge_privacy
from validation.generator.report import Section
from validation.generator.stopping import judge_stopping
from validation.generator.usefulness import judge_study
from validation.generator.usefulness_tables import usefulness_section
from validation.predictions import PredictionError


def sections_of(folder: Path, resamples: int, seed: int) -> list[Section]:
    """The parts of the report that the files of `folder` allow.

    Raises
    ------
    PredictionError
        There is nothing to judge, or a file cannot be judged.
    """
    parts = (
        (folder / "diagnosis.parquet", _usefulness),
        (folder / "neighbours.parquet", judge_privacy),
        (folder / "obedience.parquet", judge_fidelity),
        (folder / "stop.parquet", _stopping),
        (folder / "few.parquet", judge_few_shot),
        (folder / "confirm.parquet", _confirmation),
    )
    sections = [judge(folder, resamples, seed) for path, judge in parts if path.exists()]
    if not sections:
        raise PredictionError(
            f"{folder} holds no study of a generator: give the --out of "
            "busmap generator study, privacy, fidelity, stop, few-shot or confirm"
        )
    return sections


def _usefulness(folder: Path, resamples: int, seed: int) -> Section:
    facts = read_facts(folder / "study.json", StudyFacts)
    images = int(facts["learned"]["images"])
    sizes = {name: images * arm["times"] for name, arm in facts["arms"].items() if not arm["real"]}
    shortcut, segmentation = folder / "shortcut.parquet", folder / "segmentation.parquet"
    return usefulness_section(
        judge_study(
            read_scores(folder / "diagnosis.parquet", "logit"),
            read_scores(shortcut, "score") if shortcut.exists() else None,
            read_scores(segmentation, "dice") if segmentation.exists() else None,
            sizes,
            facts["settings"]["seeds"],
            resamples=resamples,
            seed=seed,
        )
    )


def _stopping(folder: Path, resamples: int, seed: int) -> Section:
    return judge_stopping(folder)


def _confirmation(folder: Path, resamples: int, seed: int) -> Section:
    return judge_confirmation(folder)
