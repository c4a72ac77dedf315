"""What an image can be asked for: class, device, BI-RADS, histology.

Promises: every vocabulary holds "unknown" (index 0, the null of guidance) and, where a lesion is
described, "no lesion" (index 1) as two different entries; a name that is in no vocabulary is an error.
Histology is grouped: BUS-BRA has types with two images.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Final

from models.data.record import DataError, Record

UNKNOWN: Final = "unknown"
NO_LESION: Final = "no lesion"
# Of a solver, in the usual scale: beyond them pictures are noise, or take for ever.
MOST_STEPS: Final = 1000
MOST_GUIDANCE: Final = 20.0

CLASSES: Final = (UNKNOWN, NO_LESION, "benign", "malignant")
DEVICES: Final = (UNKNOWN, "GE Logiq 5", "GE Logiq 7", "Toshiba Aplio 300", "U-Systems")
BIRADS: Final = (UNKNOWN, NO_LESION, "2", "3", "4", "5")
HISTOLOGY: Final = (
    UNKNOWN,
    NO_LESION,
    "fibroadenoma",
    "cyst",
    "fibrocystic and proliferative",
    "papilloma",
    "other benign",
    "ductal carcinoma",
    "lobular carcinoma",
    "special carcinoma",
    "other malignant",
)

_PROLIFERATIVE = (
    "fibrocystic changes",
    "sclerosing adenosis",
    "hyperplasia",
    "proliferative lesions",
    "metaplasia apocrina",
    "fibrosis",
    "lobular atrophy",
)
_GROUPS: Final[Mapping[str, str]] = {
    "fibroadenoma": "fibroadenoma",
    "cyst": "cyst",
    "galactocele": "cyst",
    "intraductal papilloma": "papilloma",
    "invasive ductal carcinoma": "ductal carcinoma",
    "invasive lobular carcinoma": "lobular carcinoma",
    "mucinous carcinoma": "special carcinoma",
    "papillary carcinoma": "special carcinoma",
    "medullary carcinoma": "special carcinoma",
    "ductal carcinoma in situ": "special carcinoma",
    "lobular carcinoma in situ": "special carcinoma",
    **dict.fromkeys(_PROLIFERATIVE, "fibrocystic and proliferative"),
}


@dataclass(frozen=True)
class Condition:
    """What one image shows or is asked to show; each field is an entry of its vocabulary."""

    lesion_class: str = UNKNOWN
    device: str = UNKNOWN
    birads: str = UNKNOWN
    histology: str = UNKNOWN

    def indices(self) -> tuple[int, ...]:
        """Positions in the vocabularies, in the order of `VOCABULARIES`.

        Raises
        ------
        DataError
            A name is in no vocabulary.
        """
        return tuple(_index(name, getattr(self, name)) for name in VOCABULARIES)


VOCABULARIES: Final[Mapping[str, tuple[str, ...]]] = dict(
    zip(
        (field.name for field in fields(Condition)),
        (CLASSES, DEVICES, BIRADS, HISTOLOGY),
        strict=True,
    )
)
# The fields that a lesion has and lesion-free tissue has not.
LESION_FIELDS: Final = ("lesion_class", "birads", "histology")


def _index(name: str, value: str) -> int:
    try:
        return VOCABULARIES[name].index(value)
    except ValueError:
        raise DataError(
            f"{name} {value!r} is not known to the generator: it knows {', '.join(VOCABULARIES[name])}"
        ) from None


def condition_of(record: Record) -> Condition:
    """What is recorded of an image with a lesion; a device or category outside the vocabulary is unknown."""
    group = _GROUPS.get(record.histology, "other malignant" if record.malignant else "other benign")
    return Condition(
        lesion_class="malignant" if record.malignant else "benign",
        device=record.device if record.device in DEVICES else UNKNOWN,
        birads=record.birads if record.birads in BIRADS else UNKNOWN,
        histology=group if record.histology else UNKNOWN,
    )


def tissue_condition(device: str) -> Condition:
    """Lesion-free tissue of a device."""
    return Condition(NO_LESION, device if device in DEVICES else UNKNOWN, NO_LESION, NO_LESION)
