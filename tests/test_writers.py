import base64
import csv
import errno
import gzip
import io
import json
from pathlib import Path

import pytest
from batch_stubs import SENTENCES, TOPICS, make_classifier, make_passage
from hypothesis import given
from hypothesis import strategies as st

from relclass.errors import ConfigError
from relclass.predict import article_topics, predict_passages
from relclass.records import Reject
from relclass.writers import (
    SUFFIXES,
    count_records,
    csv_columns,
    encode_part,
    encode_rejects,
    join_parts,
    output_format,
    to_row,
)

TEXTS = (*SENTENCES, 'a "quoted", text;\nwith a line', "", "U+2028 here:\u2028end", "old\rline")


@pytest.fixture(scope="module")
def predictions():
    passages = [make_passage(text, index=index) for index, text in enumerate(TEXTS)]
    return list(predict_passages(passages, make_classifier()))


def write(records, path, *, unit="passage", n_parts=3):
    """Write through parts, as a job does."""
    output = output_format(path, unit=unit, topics=TOPICS)
    parts = []
    for number in range(n_parts):
        part = path.with_name(f"part{number}")
        data, n_records = encode_part(records[number::n_parts], output)
        assert n_records == len(records[number::n_parts])
        part.write_bytes(data)
        parts.append(part)
    join_parts(parts, path, output)
    return output


def read_bytes(path):
    if path.suffix == ".gz":
        return gzip.decompress(path.read_bytes())
    if path.suffix == ".zst":
        import zstandard

        with zstandard.ZstdDecompressor().stream_reader(path.open("rb")) as stream:
            return stream.read()
    return path.read_bytes()


def in_parts_order(records, n_parts=3):
    return [record for number in range(n_parts) for record in records[number::n_parts]]


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".jsonl.zst"])
def test_json_lines_read_back_as_they_were(tmp_path, predictions, suffix):
    path = tmp_path / f"out{suffix}"
    output = write(predictions, path)
    rows = [json.loads(line) for line in io.BytesIO(read_bytes(path))]
    assert rows == [to_row(prediction) for prediction in in_parts_order(predictions)]
    assert count_records(path, output) == len(predictions)


def test_a_row_has_the_fields_of_a_passage_in_order(predictions):
    row = to_row(predictions[0])
    assert list(row) == [
        "article_id", "passage_id", "index", "start", "end", "language", "text", "topics",
        "probabilities", "model",
    ]  # fmt: skip
    assert row["topics"] == ["transit"]
    assert row["probabilities"]["transit"] == pytest.approx(
        predictions[0].probabilities["transit"], abs=1e-6
    )


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".csv.zst"])
def test_csv_reads_back_with_topics_joined_and_a_column_a_probability(
    tmp_path, predictions, suffix
):
    path = tmp_path / f"out{suffix}"
    output = write(predictions, path)
    rows = list(csv.DictReader(io.StringIO(read_bytes(path).decode(), newline="")))
    assert list(rows[0]) == csv_columns(output)
    for row, prediction in zip(rows, in_parts_order(predictions), strict=True):
        assert row["text"] == prediction.text
        assert row["topics"] == ";".join(prediction.topics)
        for topic, probability in prediction.probabilities.items():
            assert float(row[f"probability_{topic}"]) == pytest.approx(probability, abs=1e-6)
    assert count_records(path, output) == len(predictions)


def test_parquet_reads_back_with_a_list_and_a_struct(tmp_path, predictions):
    import pyarrow.parquet as pq

    path = tmp_path / "out.parquet"
    output = write(predictions, path)
    table = pq.read_table(path)
    expected = [to_row(prediction) for prediction in in_parts_order(predictions)]
    for row, other in zip(table.to_pylist(), expected, strict=True):
        numbers = row.pop("probabilities")
        assert numbers == pytest.approx(other.pop("probabilities"), abs=1e-6)
        assert row == other
    assert table.schema.field("topics").type.value_type == "string"
    assert count_records(path, output) == len(predictions)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_same_records_give_the_same_bytes(tmp_path, predictions, suffix):
    files = [tmp_path / name / f"out{suffix}" for name in ("one", "two")]
    for path in files:
        path.parent.mkdir()
        write(predictions, path)
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("unit", ["passage", "article"])
def test_no_record_still_makes_a_file_that_counts_none(tmp_path, suffix, unit):
    path = tmp_path / f"out{suffix}"
    output = output_format(path, unit=unit, topics=TOPICS)
    join_parts([], path, output)
    assert count_records(path, output) == 0


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_articles_are_written_with_their_counts(tmp_path, predictions, suffix):
    records = [article_topics("a", predictions, TOPICS, "m"), article_topics("b", [], TOPICS, "m")]
    path = tmp_path / f"out{suffix}"
    output = write(records, path, unit="article", n_parts=1)
    assert count_records(path, output) == 2
    if suffix == ".csv":
        rows = list(csv.DictReader(path.open(encoding="utf-8", newline="")))
        assert [row["n_passages_transit"] for row in rows] == ["2", "0"]
    elif suffix == ".jsonl":
        rows = [json.loads(line) for line in path.read_bytes().splitlines()]
        assert [row["n_passages_by_topic"]["transit"] for row in rows] == [2, 0]
        assert list(rows[0]) == [
            "article_id", "language", "n_passages", "topics", "probabilities",
            "n_passages_by_topic", "model",
        ]  # fmt: skip


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's full device")
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_full_disk_shows_as_such_in_every_format(tmp_path, predictions, suffix):
    output = output_format(f"out{suffix}", unit="passage", topics=TOPICS)
    part = tmp_path / "part"
    part.write_bytes(encode_part(predictions, output)[0])
    with pytest.raises(OSError, match="No space left") as caught:
        join_parts([part], Path("/dev/full"), output)
    assert caught.value.errno == errno.ENOSPC


def test_an_unknown_suffix_is_refused_with_those_there_are():
    with pytest.raises(ConfigError, match=r"out.xlsx: cannot tell.*\.jsonl.*\.parquet"):
        output_format("out.xlsx", unit="passage", topics=TOPICS)


def test_the_suffix_counts_in_any_case_and_standard_output_is_json_lines():
    assert output_format("OUT.CSV.GZ", unit="passage", topics=TOPICS).compression == "gz"
    assert output_format("-", unit="passage", topics=TOPICS).kind == "jsonl"


@given(st.binary(max_size=50))
def test_the_raw_bytes_of_a_reject_come_back_whole(raw):
    row = json.loads(encode_rejects([Reject("a.jsonl", 3, "cut short", raw)]))
    assert (row["file"], row["line"], row["reason"]) == ("a.jsonl", 3, "cut short")
    if row["raw_encoding"] == "utf-8":
        assert row["raw"].encode() == raw
    else:
        assert base64.b64decode(row["raw"]) == raw


def test_rejects_are_a_line_each_also_with_a_name_that_is_not_unicode():
    rejects = [Reject("bad\udcffname.txt", None, "no text"), Reject("b", 1, "r", b"x\ny")]
    lines = encode_rejects(rejects).splitlines()
    assert len(lines) == 2
    assert json.loads(lines[1])["raw"] == "x\ny"


def test_rows_of_csv_end_in_a_line_feed_alone(predictions):
    output = output_format("out.csv", unit="passage", topics=TOPICS)
    data, _ = encode_part(predictions[:2], output)
    assert data.count(b"\n") == 2 and b"\r" not in data
