import csv
import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relclass.errors import DataError
from relclass.reading import ByteStream, Record
from relclass.records import Reject
from relclass.tables import check_column, read_csv, read_parquet


def read(path: Path) -> list[Record | Reject]:
    return list(read_csv(ByteStream(str(path)), text_column="text"))


def write(path: Path, content: str) -> Path:
    path.write_bytes(content.encode())
    return path


fields = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20)


@given(st.lists(st.tuples(fields, fields), min_size=1, max_size=8), st.sampled_from(",;\t|"))
def test_what_a_csv_writer_wrote_is_read_back(tmp_path_factory, rows, delimiter: str) -> None:
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, delimiter=delimiter, quoting=csv.QUOTE_ALL)
    writer.writerows([("id", "text"), *rows])
    path = write(tmp_path_factory.mktemp("csv") / "a.csv", buffer.getvalue())
    assert [(r.fields["id"], r.fields["text"]) for r in read(path)] == rows  # type: ignore[union-attr]


def test_a_text_of_many_lines_is_one_record_and_lines_are_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", 'id,text\r\n1,"الف\n\nب"\r\n\r\n2,پ\r\n')
    first, second = read(path)
    assert isinstance(first, Record) and isinstance(second, Record)
    assert (first.fields["text"], first.line, second.line) == ("الف\n\nب", 2, 6)
    assert first.raw == '1,"الف\n\nب"\r\n'.encode()


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ('2,"پل باز شد', "broken quotes"),
        ('2,"پل" باز شد', "broken quotes"),
        ("2,پل, باز شد", "3 fields, but the header names 2"),
        ("2", "1 fields, but the header names 2"),
    ],
)
def test_one_broken_row_costs_only_itself(tmp_path: Path, row: str, reason: str) -> None:
    path = write(tmp_path / "a.csv", f'id,text\n1,"الف"\n{row}\n3,"پ"\n4,ت\n')
    found = read(path)
    assert [r.fields["id"] for r in found if isinstance(r, Record)] == ["1", "3", "4"]
    (broken,) = (r for r in found if isinstance(r, Reject))
    assert (broken.line, broken.raw) == (3, f"{row}\n".encode())
    with pytest.raises(DataError, match=reason):
        raise DataError(str(broken))


def test_a_row_with_broken_bytes_costs_only_itself(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes("id,text\n1,الف\n2,".encode() + b"\xff\n" + "3,پ\n".encode())
    first, broken, last = read(path)
    assert isinstance(broken, Reject) and "invalid UTF-8 at byte 2" in broken.reason
    assert isinstance(first, Record) and isinstance(last, Record)


def test_a_missing_column_is_refused_with_those_that_exist(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "id;titel;texts\n1;a;b\n")
    with pytest.raises(
        DataError, match=r"no column 'text'; it has 'id', 'titel', 'texts' \(did you"
    ):
        read(path)
    with pytest.raises(DataError, match=r"no column 'text'; it has 'id', 'body';"):
        check_column("text", ["id", "body"])


def test_a_column_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="2 columns are named 'text'; rename all but one"):
        read(write(tmp_path / "a.csv", "id,text,text\n1,a,b\n"))
    path = str(tmp_path / "a.parquet")
    columns = [pa.array(["a"]), pa.array(["b"]), pa.array(["c"])]
    pq.write_table(pa.table(columns, names=["text", "id", "id"]), path)
    with pytest.raises(DataError, match="2 columns are named 'id'; rename all but one"):
        list(read_parquet(path, text_column="text", columns=["text", "id"]))
    assert len(list(read_parquet(path, text_column="text", columns=["text"]))) == 1


@pytest.mark.parametrize("content", ["", "\n\n", "\ufeff"])
def test_an_empty_table_is_refused(tmp_path: Path, content: str) -> None:
    with pytest.raises(DataError, match="the file is empty"):
        read(write(tmp_path / "a.csv", content))


def test_a_field_longer_than_the_csv_modules_own_limit_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "id,text\n1," + "ا" * 300_000 + "\n")
    (record,) = read(path)
    assert isinstance(record, Record) and len(record.fields["text"]) == 300_000


def test_parquet_rows_are_read_with_the_columns_asked_for(tmp_path: Path) -> None:
    path = str(tmp_path / "a.parquet")
    table = pa.table({"id": [1, 2], "text": ["الف", None], "extra": [0.5, 0.7]})
    pq.write_table(table, path)
    rows = list(read_parquet(path, text_column="text", columns=["text", "id", "title"]))
    assert [(r.fields, r.line) for r in rows] == [  # type: ignore[union-attr]
        ({"text": "الف", "id": 1}, 1),
        ({"text": None, "id": 2}, 2),
    ]


def test_a_parquet_row_with_broken_utf8_costs_only_itself(tmp_path: Path) -> None:
    path = str(tmp_path / "a.parquet")
    values = pa.array([b"a", b"\xff", b"c"]).view(pa.binary())
    pq.write_table(pa.table({"text": values.view(pa.string())}), path)
    first, broken, last = read_parquet(path, text_column="text", columns=["text"])
    assert isinstance(broken, Reject) and broken.reason == "invalid UTF-8 at byte 0"
    assert isinstance(first, Record) and isinstance(last, Record)


def test_a_parquet_row_with_a_date_that_python_has_not_costs_only_itself(tmp_path: Path) -> None:
    path = str(tmp_path / "a.parquet")
    dates = pa.array([0, 2**40], pa.timestamp("s"))
    pq.write_table(pa.table({"text": ["a", "b"], "date": dates}), path)
    first, broken = read_parquet(path, text_column="text", columns=["text", "date"])
    assert isinstance(first, Record) and isinstance(broken, Reject)
    assert broken.line == 2 and "the value of 'date' cannot be read: " in broken.reason


def test_what_is_no_parquet_or_lacks_the_column_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(b"PAR1 but no more")
    with pytest.raises(DataError, match="no Parquet file, or a broken one"):
        list(read_parquet(str(path), text_column="text", columns=["text"]))
    pq.write_table(pa.table({"tekst": ["a"]}), path)
    with pytest.raises(DataError, match=r"no column 'text'; it has 'tekst' \(did you mean 'tekst'"):
        list(read_parquet(str(path), text_column="text", columns=["text"]))
    with pytest.raises(DataError, match="cannot be read: "):
        list(read_parquet(str(tmp_path / "no.parquet"), text_column="text", columns=["text"]))
