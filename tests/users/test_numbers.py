"""Numbers as they are typed: anything else is none, and nothing is an error."""

import pytest

from users.numbers import LAST_ID, number


@pytest.mark.parametrize(
    ("text", "named"),
    [("12", 12), (" #12 ", 12), ("0", 0), (str(2**63 - 1), 2**63 - 1), (str(2**63), None), ("9" * 5_000, None)]
    + [(text, None) for text in ("", "#", "-1", "1.5", "1e3", "²", "٣", "12\n13", "##12", "twelve")],
)
def test_a_number_is_read_and_anything_else_is_none(text, named):
    assert number(text) == named


def test_no_id_is_larger_than_the_last():
    assert number(str(LAST_ID), most=LAST_ID) == LAST_ID
    assert number(str(LAST_ID + 1), most=LAST_ID) is None
