"""The licence report: `python packaging/supply/licences.py --environment .venv`; fails on one not allowed.

Promises: every component is judged by what its own record says, against `licences.yaml`; what is allowed
for a reason is listed with it; what has no licence, or one that nobody decided on, fails. Looks into
licence files for grants under the GPL's family, because metadata speak of a package's own code and wheels
hold that of others. Refuses an entry of `licences.yaml` whose licence is not the one found: a decision
holds for what was decided on.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from inventory import Component
from source import add_source_arguments, program_parser, read_source
from spdx import holds

POLICY = Path(__file__).with_name("licences.yaml")
_BUNDLED = (
    "Named by their files alone: no record tells their version or licence, and no advisory finds them. What "
    "their wheel's own licence files say of them was looked at for grants under the GPL's family."
)
_DEBIAN_REASON = "part of the operating system, unmodified, from Debian's main"


@dataclass(frozen=True)
class Verdict:
    """A component with its licence in SPDX' terms; `reason` why it may ship, `fault` why it may not."""

    component: Component
    licence: str
    reason: str = ""
    fault: str = ""


def judge(components: Iterable[Component], policy: Mapping[str, Any]) -> tuple[Verdict, ...]:
    """One verdict for each component."""
    judges = {"python": _judge_python, "debian": _judge_debian, "model": _judge_plain}
    return tuple(judges[one.kind](one, policy) for one in components)


def in_spdx(licence: str, words: Mapping[str, str]) -> str:
    """Metadata's words as an SPDX expression, where they are known."""
    parts = []
    for part in licence.split(" AND "):
        known = [spdx for word, spdx in words.items() if part.startswith(word)]
        parts.append(known[0] if known else part)
    return " AND ".join(dict.fromkeys(parts))


def _judge_plain(one: Component, policy: Mapping[str, Any]) -> Verdict:
    licence = in_spdx(one.licence, policy["words"])
    if not licence:
        return Verdict(one, "", fault="no licence in its records")
    if holds(licence, lambda name: name in policy["allowed"]):
        return Verdict(one, licence)
    return Verdict(one, licence, fault="not among the allowed licences")


def _judge_python(one: Component, policy: Mapping[str, Any]) -> Verdict:
    verdict = _judge_plain(one, policy)
    decided = policy["python"].get(one.name)
    if verdict.fault and decided:
        if decided["licence"] != verdict.licence:
            fault = f"licences.yaml decided on {decided['licence'] or 'none'}: decide anew"
            return Verdict(one, verdict.licence, fault=fault)
        verdict = Verdict(one, decided.get("concluded", verdict.licence), reason=str(decided["reason"]))
    if one.copyleft and not verdict.fault:
        reason = policy["copyleft-texts"].get(one.name)
        if reason is None:
            fault = f"its licence files grant under the GPL's family ({', '.join(one.copyleft)}): decide"
            return Verdict(one, verdict.licence, fault=fault)
        if not verdict.reason:
            verdict = Verdict(one, verdict.licence, reason=str(reason))
    return verdict


def _judge_debian(one: Component, policy: Mapping[str, Any]) -> Verdict:
    rules = policy["debian"]
    licence = one.licence or str(rules["concluded"].get(one.name, ""))
    refused = [name for name in rules["refused"] if name.lower() in licence.lower()]
    if "/" in one.section:
        return Verdict(one, licence, fault=f"of Debian's section {one.section}, not of main")
    if not licence:
        return Verdict(one, "", fault="its copyright file is missing or names no licence that is read")
    if refused:
        return Verdict(one, licence, fault=f"{', '.join(refused)} is refused")
    return Verdict(one, licence, reason=_DEBIAN_REASON)


def report(verdicts: Sequence[Verdict]) -> str:
    """The verdicts as a page in Markdown."""
    faults = [one for one in verdicts if one.fault]
    lines = ["# Licences", "", f"{len(verdicts)} components, {len(faults)} not allowed.", ""]
    if faults:
        lines += ["## Not allowed", "", *_table(faults, "why", lambda one: one.fault)]
    explained = [one for one in verdicts if one.reason and one.component.kind != "debian"]
    if explained:
        lines += ["## Allowed for a reason", "", *_table(explained, "reason", lambda one: one.reason)]
    for kind, title in (("python", "Python"), ("model", "Models"), ("debian", "Debian")):
        of_kind = [one for one in verdicts if one.component.kind == kind]
        if of_kind:
            lines += [f"## {title}", ""]
            lines += [f"{_DEBIAN_REASON[0].upper()}{_DEBIAN_REASON[1:]}.", ""] if kind == "debian" else []
            lines += _table(of_kind, "found in", lambda one: one.component.licence_from)
    bundled = [one.component for one in verdicts if one.component.bundled]
    if bundled:
        lines += ["## Foreign libraries inside wheels", "", _BUNDLED, ""]
        lines += [f"- {one.name} {one.version}: {', '.join(one.bundled)}" for one in bundled] + [""]
    return "\n".join(lines)


def _table(verdicts: Iterable[Verdict], last: str, value: Any) -> list[str]:
    rows = [
        f"| {one.component.name} | {one.component.version} | {one.licence or 'none'} | {value(one)} |"
        for one in verdicts
    ]
    return [f"| component | version | licence | {last} |", "| --- | --- | --- | --- |", *rows, ""]


def main(arguments: Sequence[str] | None = None) -> int:
    """Judge a tree; answers 1 where something in it must not ship."""
    parser = program_parser("licences.py", __doc__)
    add_source_arguments(parser)
    parser.add_argument("--policy", type=Path, default=POLICY, help="what is allowed, and why")
    parser.add_argument("-o", "--output", type=Path, help="page to write (Markdown)")
    given = parser.parse_args(arguments)
    verdicts = judge(read_source(given), yaml.safe_load(given.policy.read_text(encoding="utf-8")))
    if given.output:
        given.output.write_text(report(verdicts), encoding="utf-8")
    faults = [one for one in verdicts if one.fault]
    for one in faults:
        part = one.component
        print(
            f"{part.kind} {part.name} {part.version}: {one.licence or 'none'}: {one.fault}", file=sys.stderr
        )
    kinds = Counter(one.component.kind for one in verdicts)
    counts = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    print(f"Licences: {counts}; {len(faults)} not allowed")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
