"""The machine's time goes to whoever was open, equally at each moment, and none of it is lost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bessemer.meter import occupancy

spans = st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 100)), min_size=1, max_size=40).map(sorted)


@given(spans)
def test_shares_and_gaps_are_the_whole_time(found: list[tuple[int, int]]) -> None:
    shares = list(occupancy((number, start, length) for number, (start, length) in enumerate(found)))
    whole = max(start + length for start, length in found) - found[0][0]
    assert sum(share.seconds for share in shares) == pytest.approx(whole)
    assert sorted(share.of for share in shares if share.of is not None) == list(range(len(found)))


@given(spans)
def test_a_share_is_what_counting_second_by_second_finds(found: list[tuple[int, int]]) -> None:
    shares = {share.of: share.seconds for share in occupancy((n, *span) for n, span in enumerate(found))}
    for number, (start, length) in enumerate(found):
        open_at = [sum(s <= second < s + n for s, n in found) for second in range(start, start + length)]
        assert shares[number] == pytest.approx(sum(1 / count for count in open_at), abs=1e-6)


def test_gaps_begin_where_the_last_span_ended() -> None:
    gaps = [share for share in occupancy([("a", 5, 3), ("b", 6, 1), ("c", 20, 1)]) if share.of is None]
    assert [(gap.started_at, gap.seconds) for gap in gaps] == [(8, 12)]
