"""Whether MongoDB, SQL and the bytes agree, and how to make them.

    finding    reads everything and changes nothing                                :mod:`.finder`
    deciding   compares what a repair would delete with how much there is          :mod:`.decision`
    repairing  looks at each finding again, and mends what is still wrong          :mod:`.repair`

Nothing is repaired before everything was looked at. Records are read in batches in the order of
their ids, and what belongs to a batch is asked for at once; findings wait for their repair in a
temporary file. So memory grows with neither.
"""

from .checker import Checker, last_check
from .decision import Decision, Population, decide
from .finder import unknown_storages
from .findings import EXPLAINED, Check, Finding, Problem

__all__ = [
    "EXPLAINED",
    "Check",
    "Checker",
    "Decision",
    "Finding",
    "Population",
    "Problem",
    "decide",
    "last_check",
    "unknown_storages",
]
