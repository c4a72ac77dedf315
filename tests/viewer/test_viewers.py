"""What a radiologist sees of a result in two real viewers: OHIF and Orthanc's own, in Debian's Chromium.

Screenshots of each page go to the folder that SCREENSHOTS names, else to the test's own.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from app.demo.studies import make_study, read_samples
from app.send import send
from operators.report.wording import NOT_VERIFIED, RESEARCH_USE
from tests.orthanc import Orthanc, running_orthanc
from tests.viewer.ohif import running_ohif

pytestmark = pytest.mark.viewer
AT = datetime(2026, 5, 4, 12, 30, 15, tzinfo=UTC)
CALIBRATED, CINE, NOT_BREAST = "calibrated", "cine of 30 frames", "not breast ultrasound"
_PATIENCE_MS = 60_000
# Software rendering: OHIF draws outlines with WebGL only.
_CHROMIUM = ("--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")


@dataclass(frozen=True)
class Served:
    """Studies with their results in an Orthanc, OHIF in front of it, and a browser."""

    orthanc: Orthanc
    ohif: str
    browser: Any
    objects: dict[str, list[Dataset]]
    screenshots: Path

    def only(self, name: str, modality: str) -> Dataset:
        """The first object of a modality that belongs to a study."""
        return next(one for one in self.objects[name] if one.Modality == modality)

    def open(self, address: str) -> Any:
        """A new page at an address."""
        page = self.browser.new_page(viewport={"width": 1440, "height": 900})
        page.set_default_timeout(_PATIENCE_MS)
        page.goto(address)
        return page

    def open_ohif(self, name: str) -> Any:
        """OHIF's page of a study, its tour skipped and the first image drawn."""
        uid = self.objects[name][0].StudyInstanceUID
        page = self.open(f"{self.ohif}/viewer?StudyInstanceUIDs={uid}")
        page.get_by_text("Skip all").click()
        page.wait_for_function(f"{_SHOWN}() !== ''")
        return page

    def keep(self, page: Any, name: str) -> None:
        """Take a screenshot, and close the page."""
        page.screenshot(path=str(self.screenshots / f"{name}.png"))
        page.close()


# The image that OHIF's viewport shows, by its address; empty before there is one.
_SHOWN = "(() => window.cornerstone?.getEnabledElements()?.[0]?.viewport?.getCurrentImageId?.() ?? '')"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="Playwright is not installed: make viewers"
    )
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("Chromium is not installed: make viewers")
    folder = tmp_path_factory.mktemp("viewers")
    screenshots = Path(os.environ.get("SCREENSHOTS") or folder)
    screenshots.mkdir(parents=True, exist_ok=True)
    plugins = ("libOrthancDicomWeb.so", "libOrthancWebViewer.so")
    with (
        running_orthanc(folder / "orthanc", plugins) as orthanc,
        running_ohif(orthanc.root) as ohif,
        playwright.sync_playwright() as driver,
    ):
        objects = {name: _store(name, folder, orthanc) for name in (CALIBRATED, CINE, NOT_BREAST)}
        browser = driver.chromium.launch(executable_path=chromium, args=list(_CHROMIUM))
        yield Served(orthanc, ohif, browser, objects, screenshots)
        browser.close()


def _store(name: str, folder: Path, orthanc: Orthanc) -> list[Dataset]:
    """Analyse a sample study and store it with its results; all objects, source images first."""
    number, sample = next((n, one) for n, one in enumerate(read_samples(), 1) if one.name == name)
    source, results = folder / f"in-{number}", folder / f"out-{number}"
    source.mkdir()
    paths = make_study(sample, source, number, AT).paths
    command = [sys.executable, "-m", "app", "-i", str(source), "-o", str(results)]
    subprocess.run(command, check=True, capture_output=True)
    paths = (*paths, *sorted(results.rglob("*.dcm")))
    assert all(one.stored for one in send(paths, "127.0.0.1", orthanc.dicom_port, orthanc.ae_title))
    return [dcmread(path) for path in paths]


def test_ohif_opens_on_the_images_and_lists_the_results(served):
    page = served.open_ohif(CALIBRATED)
    source = served.only(CALIBRATED, "US")
    assert source.SOPInstanceUID in page.evaluate(_SHOWN + "()"), "an AI series hangs in front of the images"
    page.get_by_text("AI breast US report").first.wait_for()
    page.get_by_text("AI breast US captur").first.wait_for()
    served.keep(page, "ohif-study")


def test_ohif_shows_the_capture_as_it_was_made(served):
    page = served.open_ohif(CALIBRATED)
    capture = served.only(CALIBRATED, "OT")
    page.locator('[data-cy="study-browser-thumbnail"]').nth(1).dblclick()
    drawn = "window.cornerstone.getEnabledElements()[0].viewport.getImageData()?.dimensions"
    page.wait_for_function(f"{_SHOWN}().includes('{capture.SOPInstanceUID}') && {drawn}")
    shown = page.evaluate(
        "() => { const v = window.cornerstone.getEnabledElements()[0].viewport;"
        "const d = v.getImageData(); return [d.dimensions[0], d.dimensions[1], Array.from("
        "v.getCornerstoneImage().voxelManager.getScalarData().slice(0, 3 * d.dimensions[0] * 200))]; }"
    )
    columns, rows, pixels = shown
    assert (rows, columns) == (capture.Rows, capture.Columns)
    assert pixels == capture.pixel_array[:200].reshape(-1).tolist()
    served.keep(page, "ohif-capture")


@pytest.mark.parametrize("name", [CALIBRATED, CINE])
def test_ohif_draws_the_outline_of_the_report_on_its_frame(served, name):
    page = served.open_ohif(name)
    page.locator('[data-cy="study-browser-thumbnail-no-image"]').first.dblclick()
    page.wait_for_selector("svg.svg-layer polyline, svg.svg-layer path")
    shown = page.evaluate(_SHOWN + "()")
    group = served.only(name, "SR").ContentSequence
    measurements = next(item for item in group if item.ConceptNameCodeSequence[0].CodeValue == "126010")
    region = next(
        item
        for item in measurements.ContentSequence[0].ContentSequence
        if item.ConceptNameCodeSequence[0].CodeValue == "111030"
    )
    reference = region.ContentSequence[0].ReferencedSOPSequence[0]
    assert reference.ReferencedSOPInstanceUID in shown
    assert f"/frames/{reference.get('ReferencedFrameNumber', 1)}" in shown
    page.get_by_text(re.compile("Probability of cancer: ")).first.wait_for()
    served.keep(page, f"ohif-report-{name.split()[0]}")


def test_ohif_shows_a_report_without_lesion_as_text(served):
    page = served.open_ohif(NOT_BREAST)
    page.locator('[data-cy="study-browser-thumbnail-no-image"]').first.dblclick()
    page.get_by_text(re.compile("nothing was analysed")).first.wait_for()
    words = page.locator("body").inner_text()
    assert NOT_VERIFIED in words
    assert RESEARCH_USE in words
    assert "Something went wrong" not in words
    served.keep(page, "ohif-no-lesion")


def test_orthanc_shows_captures_and_the_tree(served):
    capture, report = served.only(CALIBRATED, "OT"), served.only(CALIBRATED, "SR")
    by_uid = {one["MainDicomTags"]["SOPInstanceUID"]: one for one in served.orthanc.json("/instances?expand")}
    series = by_uid[capture.SOPInstanceUID]["ParentSeries"]
    page = served.open(f"{served.orthanc.root}/web-viewer/app/viewer.html?series={series}")
    bright = "(() => { const c = document.querySelector('canvas'); if (!c || !c.width) return 0;"
    bright += "const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
    bright += "let n = 0; for (let i = 0; i < d.length; i += 4) n += d[i] > 200; return n; })()"
    page.wait_for_function(f"{bright} > 500")
    page.get_by_text("AI breast US captures").first.wait_for()
    served.keep(page, "orthanc-capture")
    identity = by_uid[report.SOPInstanceUID]["ID"]
    page = served.open(f"{served.orthanc.root}/app/explorer.html#instance?uuid={identity}")
    page.get_by_text("VerificationFlag").first.wait_for()
    page.evaluate("document.querySelectorAll('a.toggler.closed').forEach(one => one.click())")
    words = page.get_by_text("Probability of cancer").first
    words.scroll_into_view_if_needed()
    shown = page.locator("body").inner_text()
    assert "UNVERIFIED" in shown
    assert NOT_VERIFIED in shown
    served.keep(page, "orthanc-report")
