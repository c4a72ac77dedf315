"""The codes of the report that no dictionary of pydicom or highdicom names.

Sources: PS3.16 (CID 244, 6018, 6022, 6047, 6152, 6165) and busmap's own scheme 99BUSMAP, which every document
that uses it identifies.
"""

from __future__ import annotations

from highdicom.sr import CodedConcept
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from operators.findings import Assessment
from operators.report.uids import PRIVATE_SCHEME
from operators.report.wording import CATEGORY_NAME, TOO_FEW, TOO_WIDE
from operators.site import CLOCK_CODES

BREAST = Code("76752008", "SCT", "Breast")
SIDES = {"L": Code("7771000", "SCT", "Left"), "R": Code("24028007", "SCT", "Right")}
# The title of a report that measures nothing (an extension of CID 7021): OHIF 3.13 fails on an Imaging
# Measurement Report without measurements, and shows this one as text.
BREAST_REPORT = Code("24601-7", "LN", "US Breast Report")
ULTRASOUND_OF_BREAST = Code("47079000", "SCT", "Ultrasonography of breast")
MASS = Code("4147007", "SCT", "Mass")
LONG_AXIS = Code("103339001", "SCT", "Long Axis")
SHORT_AXIS = Code("103340004", "SCT", "Short Axis")
AREA = Code("42798000", "SCT", "Area")
DISTANCE_FROM_SKIN = Code("121243", "DCM", "Distance from skin")  # CID 6165
ORIENTATION = Code("111354", "DCM", "Orientation")  # values: CID 6152
PARALLEL, NOT_PARALLEL = Code("111355", "DCM", "Parallel"), Code("111356", "DCM", "Not parallel")
PROBABILITY = Code("111047", "DCM", "Probability of cancer")
CERTAINTY = Code("111012", "DCM", "Certainty of Finding")
YES, NO = Code("373066001", "SCT", "Yes"), Code("373067005", "SCT", "No")
COMMENT = Code("121106", "DCM", "Comment")
QUALITATIVE_EVALUATIONS = Code("C0034375", "UMLS", "Qualitative Evaluations")
SUMMARY = Code("111017", "DCM", "CAD Processing and Findings Summary")
PROCESSING_EQUIPMENT = Code("109102", "DCM", "Processing Equipment")

# CID 6047: (something was set aside, something was found) or nothing could be analysed.
WITHOUT_FINDINGS = Code("111241", "DCM", "All algorithms succeeded; without findings")
WITH_FINDINGS = Code("111242", "DCM", "All algorithms succeeded; with findings")
PARTLY_WITHOUT_FINDINGS = Code("111243", "DCM", "Not all algorithms succeeded; without findings")
PARTLY_WITH_FINDINGS = Code("111244", "DCM", "Not all algorithms succeeded; with findings")
NOT_ANALYSED = Code("111245", "DCM", "No algorithms succeeded; without findings")

PROBABILITY_LOW = Code("PROBLOW", PRIVATE_SCHEME, "Lower probability")
PROBABILITY_HIGH = Code("PROBHIGH", PRIVATE_SCHEME, "Upper probability")
CATEGORY = Code("CAT", PRIVATE_SCHEME, CATEGORY_NAME)
SENSITIVE = Code("SENS95", PRIVATE_SCHEME, "At or above the threshold of 95% sensitivity")
SPECIFIC = Code("SPEC90", PRIVATE_SCHEME, "At or above the threshold of 90% specificity")
CUT = Code("CUT", PRIVATE_SCHEME, "Reaches the edge of the picture: sizes are lower bounds")

MILLIMETRE, SQUARE_MILLIMETRE = Code("mm", "UCUM", "millimeter"), Code("mm2", "UCUM", "square millimeter")
PERCENT = Code("%", "UCUM", "percent")


def clock_face(hour: int) -> Code:
    """Position on the clock face of the breast (CID 6018), hour 1 to 12."""
    return Code(CLOCK_CODES[hour - 1], "SCT", f"{hour} o'clock position")


def category_value(assessment: Assessment) -> CodedConcept:
    """The code of a BI-RADS-aligned category; `CATNONE` or `CATFEW` where interval or data support none."""
    category = assessment.category
    if category is None and assessment.deciding_ceiling is None:
        return CodedConcept("CATNONE", PRIVATE_SCHEME, f"No category: {TOO_WIDE}")
    if category is None:
        return CodedConcept("CATFEW", PRIVATE_SCHEME, f"No category: {TOO_FEW}")
    return CodedConcept(f"CAT{category}", PRIVATE_SCHEME, f"BI-RADS-aligned category {category}")


def scheme_identification() -> Dataset:
    """The item that says whose scheme 99BUSMAP is (PS3.3 C.12.1.1.8)."""
    item = Dataset()
    item.CodingSchemeDesignator = PRIVATE_SCHEME
    item.CodingSchemeName = "busmap codes"
    item.CodingSchemeResponsibleOrganization = "The busmap project"
    return item


def own_codes() -> tuple[Code, ...]:
    """Every concept of busmap's own scheme that this module names, in its order; no category values."""
    return tuple(
        one for one in globals().values() if isinstance(one, Code) and one.scheme_designator == PRIVATE_SCHEME
    )
