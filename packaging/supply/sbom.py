"""The bill of materials in CycloneDX 1.6: `python packaging/supply/sbom.py --root DIR -o FILE`.

Promises: the same tree gives the same bytes (serial number from the content, time from SOURCE_DATE_EPOCH or
none); each component has name, version, supplier, package URL, licence as found and its dependencies (the
minimum elements of NTIA, 2021). Writes by cyclonedx-python-lib.
"""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component as CdxComponent
from cyclonedx.model.component import ComponentType
from cyclonedx.model.contact import OrganizationalEntity
from cyclonedx.model.license import DisjunctiveLicense, LicenseExpression
from cyclonedx.output.json import JsonV1Dot6
from inventory import Component
from packageurl import PackageURL
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from source import add_source_arguments, program_parser, project, read_source
from spdx import is_spdx

_TYPES = {
    "python": ComponentType.LIBRARY,
    "debian": ComponentType.LIBRARY,
    "model": ComponentType.MACHINE_LEARNING_MODEL,
}


def make_sbom(components: Sequence[Component], name: str, version: str, licence: str) -> str:
    """The document as JSON text, for the application `name` that contains `components`."""
    # What the components are and require decides the serial number: the same content, the same document.
    content = "\n".join(f"{one.ref} {one.sha256} {one.licence} {one.requires}" for one in components)
    bom = Bom(serial_number=uuid.uuid5(uuid.NAMESPACE_URL, f"{name}@{version}\n{content}"))
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    bom.metadata.timestamp = datetime.fromtimestamp(int(epoch), UTC) if epoch else None  # type: ignore[assignment]
    whole = CdxComponent(
        name=name,
        version=version,
        type=ComponentType.APPLICATION,
        bom_ref=f"{name}@{version}",
        licenses=[LicenseExpression(licence)],
    )
    bom.metadata.component = whole
    made = {one.ref: _component(one) for one in components if one.name != name}
    bom.components.update(made.values())
    references = {(one.kind, one.name): one.ref for one in components}
    for one in components:
        if one.ref in made:
            wanted = {references.get((one.kind, required)) for required in _names(one)} - {one.ref, None}
            bom.register_dependency(
                made[one.ref], [made[ref] for ref in sorted(filter(None, wanted)) if ref in made]
            )
    bom.register_dependency(whole, made.values())
    return JsonV1Dot6(bom).output_as_string(indent=1) + "\n"


def _names(component: Component) -> Iterable[str]:
    """What a component requires, by name; of Python's those whose marker holds without extras."""
    if component.kind != "python":
        return component.requires
    parsed = (Requirement(line) for line in component.requires)
    return [
        canonicalize_name(one.name)
        for one in parsed
        if one.marker is None or one.marker.evaluate({"extra": ""})
    ]


def _component(one: Component) -> CdxComponent:
    found = [Property(name="busmap:licence-from", value=one.licence_from)] if one.licence_from else []
    return CdxComponent(
        name=one.name,
        version=one.version,
        type=_TYPES[one.kind],
        bom_ref=one.ref,
        purl=PackageURL.from_string(one.purl) if one.purl else None,
        supplier=OrganizationalEntity(name=one.supplier) if one.supplier else None,
        licenses=_licences(one.licence),
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=one.sha256)] if one.sha256 else [],
        properties=[
            Property(name="busmap:kind", value=one.kind),
            *found,
            *(Property(name="busmap:bundled-library", value=name) for name in one.bundled),
        ],
    )


def _licences(found: str) -> list[DisjunctiveLicense | LicenseExpression]:
    """An SPDX expression where it is one, otherwise the words as found."""
    if not found:
        return []
    if is_spdx(found):
        return [LicenseExpression(found)]
    return [DisjunctiveLicense(name=found)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Read a tree and write its document."""
    parser = program_parser("sbom.py", __doc__)
    add_source_arguments(parser)
    parser.add_argument("-o", "--output", type=Path, help="file to write; stdout without it")
    given = parser.parse_args(arguments)
    facts = project()
    text = make_sbom(read_source(given), facts.name, facts.version, facts.licence)
    if given.output:
        given.output.write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
