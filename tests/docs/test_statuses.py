"""Every DIMSE status and every refusal that the gateway can answer has its line, and each line is true."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.association import Association

from app.conformance import ANSWERS, NOT_STORAGE, REJECTIONS
from app.node import intake
from tests.docs.pages import DOCS, ROOT
from tests.node.rig import Node, wait_for

ULTRASOUND = "1.2.840.10008.5.1.4.1.1.6.1"
STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    one = Node(
        tmp_path_factory.mktemp("statuses") / "state",
        gateway={"allowed_calling_ae_titles": ["SCANNER"], "maximum_associations_per_address": 1},
    )
    one.start("gateway")
    yield one
    one.stop()


def test_every_answer_of_the_code_has_its_line():
    assert set(ANSWERS) == _answered() | {NOT_STORAGE}


@pytest.mark.parametrize(
    ("page", "start"), [("conformance.md", "### 7.4"), ("receiving.md", "**Answered.**")]
)
def test_the_pages_name_the_same_statuses(page, start):
    text = (DOCS / page).read_text().split(start)[1]
    table = re.search(r"(?:^\|.*\n)+", text, re.M)
    assert table is not None
    assert {int(one, 16) for one in re.findall(r"^\| (0x[0-9A-F]{4}) ", table[0], re.M)} == set(ANSWERS)


def test_another_kind_of_request_gets_the_status_of_its_line(node):
    association = _associate(node, ULTRASOUND)
    question = Dataset()
    question.StudyInstanceUID = "1.2.3"
    status, _ = association.send_n_action(question, 1, ULTRASOUND, "1.2.3")
    association.release()
    assert status.Status == NOT_STORAGE


def test_refusals_are_as_written(node):
    told = [answer for _, answer in REJECTIONS]
    assert _rejection(_associate(node, ULTRASOUND, called="ELSEWHERE")) == told[0]
    assert _rejection(_associate(node, ULTRASOUND, calling="STRANGER")) == told[1]
    held = _associate(node, ULTRASOUND)
    assert _rejection(_associate(node, ULTRASOUND, alone=False)) == told[2]
    held.release()
    assert _refused_context(_associate(node, STUDY_ROOT_FIND)) == told[3]
    assert _refused_context(_associate(node, ULTRASOUND, syntax=DeflatedExplicitVRLittleEndian)) == told[4]


def _answered() -> set[int]:
    """What `Answer` is made of in the gateway."""
    found = set()
    for path in (ROOT / "app" / "node").glob("*.py"):
        for call in ast.walk(ast.parse(path.read_text())):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "Answer":
                assert isinstance(call.args[0], ast.Name), f"{path.name}: a status without a name"
                found.add(int(getattr(intake, call.args[0].id)))
    return found


def _associate(
    node: Node,
    abstract: str,
    called: str = "BUSMAP",
    calling: str = "SCANNER",
    syntax: str = "1.2.840.10008.1.2.1",
    *,
    alone: bool = True,
) -> Association:
    """Ask for an association; where nobody else has one, wait until the place of the last is given back."""

    def associate() -> Any:
        entity = AE(calling)
        entity.add_requested_context(abstract, syntax)
        found = entity.associate("127.0.0.1", node.port, ae_title=called)
        return None if alone and found.is_rejected and found.acceptor.primitive.result == 2 else found

    return wait_for(associate)


def _rejection(association: Association) -> str:
    assert association.is_rejected
    answer = association.acceptor.primitive
    result = {1: "permanent", 2: "transient"}[answer.result]
    source = {1: "service user", 2: "ACSE", 3: "presentation"}[answer.result_source]
    words = {7: "called AE title not recognised", 3: "calling AE title not recognised"}
    reason = (
        words[answer.diagnostic]
        if source == "service user"
        else {2: "local limit exceeded"}[answer.diagnostic]
    )
    return f"rejected, {result}, {source}, {answer.diagnostic}: {reason}"


def _refused_context(association: Association) -> str:
    [context] = association.rejected_contexts
    reason = {3: "abstract syntax not supported", 4: "transfer syntaxes not supported"}[context.result]
    return f"context refused, {context.result}: {reason}"
