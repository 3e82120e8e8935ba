"""A file of people is read as it comes: any usual encoding, delimiter and spelling of its columns."""

from pathlib import Path

import pytest

from users.sheets import InvalidFile, Sheet


def sheet(folder: Path, content: str | bytes, **options: str) -> Sheet:
    path = folder / "people.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return Sheet.at(path, **options)


@pytest.mark.parametrize(
    ("encoding", "found"),
    [("utf-8", "utf-8"), ("utf-8-sig", "utf-8-sig"), ("utf-16", "utf-16"), ("utf-32", "utf-32"), ("cp1252", "cp1252")],
)
def test_the_encoding_is_found_out(tmp_path: Path, encoding: str, found: str) -> None:
    read = sheet(tmp_path, "email,last name\na@x.example,Ångström\n".encode(encoding))
    assert read.encoding == found
    assert [record.cells for record in read.records()] == [["a@x.example", "Ångström"]]


def test_one_bad_line_does_not_turn_a_utf_8_file_into_another(tmp_path: Path) -> None:
    read = sheet(tmp_path, "email,last name\na@x.example,Ångström\n".encode() + b"b@x.example,\xc5ngstr\xf6m\n")
    assert read.encoding == "utf-8"
    assert [record.cells[1] for record in read.records()] == ["Ångström", "\udcc5ngstr\udcf6m"]


def test_the_encoding_can_be_given(tmp_path: Path) -> None:
    read = sheet(tmp_path, "email,last name\na@x.example,Škoda\n".encode("cp1250"), encoding="cp1250")
    assert [record.cells[1] for record in read.records()] == ["Škoda"]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_found_out(tmp_path: Path, delimiter: str) -> None:
    read = sheet(tmp_path, f"email{delimiter}groups\na@x.example{delimiter}Sales\n")
    assert (read.delimiter, [record.cells for record in read.records()]) == (delimiter, [["a@x.example", "Sales"]])


@pytest.mark.parametrize(("given", "delimiter"), [("tab", "\t"), ("\\t", "\t"), ("#", "#")])
def test_the_delimiter_can_be_given(tmp_path: Path, given: str, delimiter: str) -> None:
    assert sheet(tmp_path, f"email{delimiter}role\n", delimiter=given).columns == ("email", "role")


def test_columns_are_known_in_any_spelling_and_order(tmp_path: Path) -> None:
    read = sheet(tmp_path, '"Last Name ",E-MAIL,first_name,Time zone,timezones\n'.replace(",timezones", ",User Groups"))
    assert read.columns == ("last_name", "email", "first_name", "time_zone", "groups")


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("", {}, "empty"),
        ("\n\n", {}, "email"),
        ("name,role\n", {}, "no column “name”"),
        ("email,\n", {}, "no column “”"),
        ("email,E-Mail\n", {}, "twice"),
        ("first name\n", {}, "email"),
        ("email\n", {"encoding": "klingon"}, "klingon"),
        ("email\n", {"delimiter": ",,"}, "one character"),
        ("email\n", {"delimiter": '"'}, "one character"),
        ("email\n".encode("utf-16-be"), {}, "utf-16 perhaps"),
        (b"\xff\xfe\x00", {}, "utf-16"),
    ],
)
def test_a_file_that_is_no_list_of_people_is_refused(
    tmp_path: Path, content: str | bytes, options: dict[str, str], message: str
) -> None:
    with pytest.raises(InvalidFile, match=message):
        sheet(tmp_path, content, **options)


def test_lines_are_numbered_as_an_editor_shows_them(tmp_path: Path) -> None:
    read = sheet(tmp_path, 'email,last name\r\n\r\na@x.example,"two\r\nlines"\r\n,\r\nb@x.example,one\r\n')
    assert [(record.first_line, record.last_line) for record in read.records()] == [(3, 4), (6, 6)]


@pytest.mark.parametrize("line", ["a@x.example", "a@x.example,b,c", 'a@x.example,"b"c', 'a@x.example,"never closed'])
def test_a_broken_line_is_a_problem_of_its_own(tmp_path: Path, line: str) -> None:
    problem, *others = sheet(tmp_path, f"email,last name\n{line}\n").records()
    assert problem.problem
    assert problem.first_line == 2
    assert not others


def test_lines_are_copied_as_they_are(tmp_path: Path) -> None:
    read = sheet(tmp_path, b'email,last name\r\na@x.example,\xff\r\nb@x.example,"x\r\ny"\r\nc@x.example,z', encoding="utf-8")
    read.copy_lines([(2, 2), (3, 4)], tmp_path / "some.csv")
    assert (tmp_path / "some.csv").read_bytes() == b'email,last name\r\na@x.example,\xff\r\nb@x.example,"x\r\ny"\r\n'
