"""How much a repair may delete by itself."""

from __future__ import annotations

import pytest

from flask_dualmedia.upkeep.check import Decision, decide
from flask_dualmedia.upkeep.check.decision import Tally


def judge(deletions: int, size: int, share: float = 0.01, **options: list[str]) -> Decision:
    tally = Tally()
    for number in range(deletions):
        tally.add("bytes_missing", str(number), ("files",))
    return decide(tally, {"files": size}, share, **options)


@pytest.mark.parametrize(
    ("deletions", "size", "is_safe"),
    [
        (0, 0, True),
        (0, 5, True),
        (1, 1, True),
        (1, 2, True),
        (2, 2, False),
        (2, 3, False),
        (2, 4, True),
        (6, 6, False),
        (8, 8, False),
        (10, 19, False),
        (10, 20, True),
        (11, 22, False),
        (11, 1_000, False),
        (11, 1_099, False),
        (11, 1_100, True),
        (20, 2_000, True),
        (21, 2_000, False),
        (10_000, 1_000_000, True),
        (10_001, 1_000_000, False),
    ],
)
def test_at_most_ten_or_one_percent_and_never_more_than_half(
    deletions: int, size: int, is_safe: bool
) -> None:
    """A single one may always be deleted."""
    assert judge(deletions, size).is_safe is is_safe


def test_the_share_is_the_hosts_to_choose() -> None:
    assert judge(200, 2_000, share=0.1).is_safe
    assert not judge(201, 2_000, share=0.1).is_safe
    assert judge(10, 2_000, share=0).is_safe
    assert not judge(1_001, 2_000, share=1).is_safe


def test_one_is_too_many_where_nothing_else_was_found() -> None:
    assert not judge(1, 2_000, groundless=["files"]).is_safe
    assert judge(0, 2_000, groundless=["files"]).is_safe


def test_two_single_ones_are_not_one() -> None:
    """Every table of a small deployment may have lost its only record for the same reason."""
    tally = Tally()
    tally.add("bytes_missing", "a", ("files",))
    tally.add("bytes_missing", "b", ("product-images",))
    decision = decide(tally, {"files": 1, "product-images": 1}, 0.01)
    assert [population.name for population in decision.excessive] == ["files", "product-images"]


def test_a_record_counts_once_however_much_is_wrong_with_it() -> None:
    tally = Tally()
    tally.add("owner_missing", "a", ("files", "media of users"))
    tally.add("bytes_missing", "a", ("files", "media in database"))
    tally.add("bytes_missing", "b", ("files", "media in database"))
    decision = decide(tally, {"files": 100, "media of users": 40, "media in database": 3}, 0.01)
    assert decision.deletions == 2
    assert decision.lines() == [
        "bytes_missing     1 of 100 files",
        "owner_missing     1 of 100 files",
    ]
    assert decision.reasons() == ["media in database: 2 of 3"]
    assert decision.as_json()["excessive"] == [
        {"population": "media in database", "deletions": 2, "of": 3}
    ]
