"""What people type: numbers, or none; names and searches as they are stored; nothing is an error."""

import pytest

from users.typed import LAST_ID, is_visible, number, searched, tidy


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


@pytest.mark.parametrize(
    ("text", "looked_for"),
    [("  Grace \t Hopper ", "Grace Hopper"), ("Zoe\u0308", "Zoë"), ("a\x00b", "ab"), ("x" * 300, "x" * 200), ("", "")],
)
def test_a_search_is_looked_for_as_names_are_stored(text, looked_for):
    assert searched(text) == looked_for


@pytest.mark.parametrize(
    ("text", "stored"), [("  Zu\u0308rich\u00a0 West ", "Zürich West"), ("می\u200cگل", "می\u200cگل"), (" \t ", "")]
)
def test_what_looks_the_same_is_stored_as_the_same(text, stored):
    assert tidy(text) == stored


@pytest.mark.parametrize(
    ("text", "visible"),
    [("Zoë d'Arc-李", True), ("می\u200cگل", True), ("क्\u200dष", True), ("", True)]
    + [(text, False) for text in ("Zo\u200bë", "\u200cZoë", "Zoë\u200d", "Zo\u200c\u200cë", "Zo \u200dë", "a\u202eb", "a\x00b")],
)
def test_a_joiner_is_part_of_a_name_between_two_letters_only(text, visible):
    assert is_visible(text) is visible
