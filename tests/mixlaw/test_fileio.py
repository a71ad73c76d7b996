"""JSON lines survive a crash between and within lines."""

from mixlaw.fileio import append_line, read_lines


def test_a_line_that_a_crash_truncated_is_none_and_the_next_one_is_whole(tmp_path):
    path = tmp_path / "x.jsonl"
    assert read_lines(path) == []
    append_line(path, {"a": 1})
    path.write_bytes(path.read_bytes() + b'{"a": 2, "b')
    append_line(path, {"a": 3})
    assert read_lines(path) == [{"a": 1}, None, {"a": 3}]
    path.write_text("[1]\n")
    assert read_lines(path) == [None]
