"""The errors busmap raises on purpose, each with a stable code and a message for a person.

BusmapError
├── SettingsError          settings-invalid        a setting is unknown, missing or out of range
├── OutputError            output-unwritable       the output folder cannot take the result
├── StoreError             store-unusable          the state folder or its database cannot be used
├── PeerError              peer-unreachable        a DICOM peer refused or could not be reached
├── AnalysisError          analysis-failed         the analysis process died or ran out of time
├── ExtraMissingError      extra-missing           a verb needs an optional extra that is not installed
├── StudiesFailedError     studies-failed          some studies of a folder could not be analysed
├── ResultsDifferError     results-differ          two nodes made other results of the same studies
└── AddressError           address-unusable        an address or port cannot be listened on

Two more are raised below this layer and carry `code` and `exit_status` in the same way:
operators.study.InputError     input-unusable       the input cannot be analysed at all
├── NoStudyError               input-no-study       nothing in the input is a DICOM study
└── MixedPatientError          input-mixed-patients one study UID carries two patients
models.runtime.engine.ModelError  model-unusable    a model file is missing or cannot be loaded
├── UntrustedModelError        model-untrusted      a bundle was changed, or nobody trusted signed it
└── KeyFileError               key-unusable         a file that should hold a key cannot be used

A message names cause and remedy, and holds no patient name.
"""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from pathlib import Path

INTERNAL_ERROR = 70  # EX_SOFTWARE of sysexits.h


class BusmapError(Exception):
    """Base of all errors raised on purpose. `code` is stable; `exit_status` is the process's."""

    code = "busmap-error"
    exit_status = 1


class SettingsError(BusmapError):
    """A setting is unknown, missing or out of range."""

    code = "settings-invalid"
    exit_status = 2


class OutputError(BusmapError):
    """The output folder cannot take the result."""

    code = "output-unwritable"
    exit_status = 4


class StoreError(BusmapError):
    """The state folder or its database cannot be used."""

    code = "store-unusable"
    exit_status = 6


class PeerError(BusmapError):
    """A DICOM peer refused or could not be reached."""

    code = "peer-unreachable"
    exit_status = 7


class AnalysisError(BusmapError):
    """The analysis process died or ran out of time."""

    code = "analysis-failed"
    exit_status = 8


class ExtraMissingError(BusmapError):
    """A verb needs an optional extra that is not installed."""

    code = "extra-missing"
    exit_status = 9


class StudiesFailedError(BusmapError):
    """Of a folder with several studies one or more could not be analysed."""

    code = "studies-failed"
    exit_status = 14


class AddressError(BusmapError):
    """An address or port cannot be listened on."""

    code = "address-unusable"
    exit_status = 16


class ResultsDifferError(BusmapError):
    """Two nodes made other results of the same studies."""

    code = "results-differ"
    exit_status = 17


@dataclass(frozen=True)
class Failure:
    """An error as it is told outside: stable code, a sentence for a person, the process's exit status."""

    code: str
    message: str
    exit_status: int

    @classmethod
    def of(cls, error: Exception) -> Failure:
        """What an error says of itself; of one not raised on purpose where it happened, never its words."""
        code, exit_status = getattr(error, "code", None), getattr(error, "exit_status", None)
        if isinstance(code, str) and isinstance(exit_status, int):
            return cls(code, str(error), exit_status)
        where = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{type(error).__name__} at {Path(where.filename).name}:{where.lineno}"
        return cls("internal-error", f"{place}. Please report it with this line.", INTERNAL_ERROR)
