import gzip
import io
import sys
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from relclass import reading
from relclass.errors import DataError
from relclass.reading import ByteStream, Record, read_jsonl, read_lines
from relclass.records import Reject

LINE = '{"text": "پل باز شد"}\n'.encode()


def records(path: Path) -> list[Record | Reject]:
    return list(read_jsonl(ByteStream(str(path))))


@given(st.lists(st.binary(max_size=9), max_size=12), st.data())
def test_lines_do_not_depend_on_how_the_bytes_arrive(
    parts: list[bytes], data: st.DataObject
) -> None:
    whole = b"\n".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=5)))
    chunks = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    lines = list(read_lines(chunks))
    assert b"".join(line.raw for line in lines) == whole
    assert [line.raw for line in lines] == whole.splitlines(keepends=True) or b"\r" in whole
    assert [line.number for line in lines] == list(range(1, len(lines) + 1))


def test_a_line_beyond_the_limit_is_broken_and_the_next_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reading, "MAX_RECORD_BYTES", 4)
    lines = list(read_lines([b"abc", b"defgh\nij", b"\n"]))
    assert [(line.raw, bool(line.broken)) for line in lines] == [(b"abcd", True), (b"ij\n", False)]
    assert "longer than" in lines[0].broken


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "cp1256"])
def test_records_are_read_in_each_encoding(tmp_path: Path, encoding: str) -> None:
    text = "اين پل تا پايان سال براي گذر كاميون ها آماده مي شود"
    path = tmp_path / "a.jsonl"
    path.write_bytes((f'{{"text": "{text}"}}\n' * 3).encode(encoding))
    assert [record.fields["text"] for record in records(path)] == [text] * 3  # type: ignore[union-attr]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_a_line_of_broken_utf16_costs_only_itself(tmp_path: Path, encoding: str) -> None:
    lines = ['{"text": "پل باز شد"}\n', '{"text": "پل \ud800"}\n', '{"text": "پل \ufffd"}\n']
    data = "".join(["\ufeff", *lines]).encode(encoding, errors="surrogatepass")
    path = tmp_path / "a.jsonl"
    path.write_bytes(data + b"\x01")
    first, broken, third, cut = records(path)
    assert isinstance(first, Record) and isinstance(third, Record)
    assert third.fields["text"] == "پل \ufffd"  # it stood in the file
    for reject, line in ((broken, 2), (cut, 4)):
        assert isinstance(reject, Reject) and reject.line == line
        assert reject.reason.startswith("invalid utf-16 at byte")


def test_a_byte_order_mark_between_joined_files_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes((b"\xef\xbb\xbf" + LINE) * 2 + b"\xef\xbb\xbf\n")
    assert [type(record) for record in records(path)] == [Record, Record]


def test_a_compressed_file_may_have_its_suffix_in_capitals(tmp_path: Path) -> None:
    path = tmp_path / "A.JSONL.GZ"
    path.write_bytes(gzip.compress(LINE))
    assert [type(record) for record in records(path)] == [Record]


@pytest.mark.parametrize(
    ("suffix", "compress"),
    [(".gz", gzip.compress), (".zst", zstandard.ZstdCompressor().compress)],
)
def test_compressed_files_of_several_members_are_read_whole(
    tmp_path: Path, suffix, compress
) -> None:
    path = tmp_path / f"a.jsonl{suffix}"
    path.write_bytes(compress(LINE) + compress(LINE * 2))
    assert [record.line for record in records(path)] == [1, 2, 3]


@pytest.mark.parametrize(
    ("suffix", "compress"),
    [(".gz", gzip.compress), (".zst", zstandard.ZstdCompressor().compress)],
)
def test_a_cut_compressed_file_gives_what_came_before_and_says_it_is_cut(
    tmp_path: Path, suffix, compress
) -> None:
    path = tmp_path / f"a.jsonl{suffix}"
    whole = compress(LINE) + compress(LINE * 1000)
    path.write_bytes(whole[:-9])
    found = records(path)
    assert isinstance(found[0], Record)
    assert isinstance(found[-1], Reject)
    assert f"broken {'gzip' if suffix == '.gz' else 'zstd'} data" in found[-1].reason


def test_standard_input_is_a_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    stdin = io.TextIOWrapper(io.BufferedReader(io.BytesIO(LINE * 2)))  # type: ignore[arg-type]
    monkeypatch.setattr(sys, "stdin", stdin)
    stream = ByteStream("-")
    assert stream.name == "<stdin>"
    assert len(list(read_jsonl(stream))) == 2


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"text": "cut in the mid', "not JSON: .*expected one object a line: was the line cut"),
        (b'["text"]', "expected a JSON object, got an array"),
        (b'"text"', "expected a JSON object, got a string"),
        (b"12", "expected a JSON object, got a number"),
        (b"null", "expected a JSON object, got null"),
        (b'{"text": "\xff\xfe"}', r"invalid UTF-8 at byte 10 \(ff fe"),
        (b'{"n": ' + b"9" * 5000 + b"}", "not JSON"),
        (b"[" * 100_000, "nested too deeply"),
    ],
)
def test_one_broken_line_costs_only_itself(tmp_path: Path, line: bytes, reason: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(LINE + line + b"\n" + b"\n" + LINE)
    first, broken, last = records(path)
    assert isinstance(first, Record) and isinstance(last, Record) and isinstance(broken, Reject)
    assert (broken.line, broken.raw, last.line) == (2, line + b"\n", 4)
    with pytest.raises(DataError, match=reason):
        raise DataError(str(broken))


def test_control_characters_inside_a_string_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "a\x00b\tc"}')
    (record,) = records(path)
    assert isinstance(record, Record) and record.fields["text"] == "a\x00b\tc"


def test_a_file_that_cannot_be_opened_says_why(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read: No such file"):
        ByteStream(str(tmp_path / "none.jsonl"))


def test_an_article_larger_than_any_article_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "MAX_RECORD_BYTES", 10)
    path = tmp_path / "a.txt"
    path.write_bytes(b"x" * 11)
    with pytest.raises(DataError, match="too long for one article; a file of many"):
        ByteStream(str(path)).read_all()
