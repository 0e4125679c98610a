import csv
import gzip
import json
from dataclasses import replace

import numpy as np
import pytest
from evaluation_data import (
    CODEBOOK,
    TOPICS,
    make_gold,
    make_output,
    make_predictions,
)

from relclass.codebook import Codebook, Topic
from relclass.errors import DataError
from relclass.predictions_file import align_predictions, read_predictions

GOLD = make_gold(4)
Y_PROB, Y_PRED = make_output(GOLD)
PREDICTIONS = make_predictions(GOLD, Y_PROB, Y_PRED)


def to_row(prediction):
    return {
        "article_id": prediction.article_id,
        "passage_id": prediction.passage_id,
        "index": prediction.index,
        "start": prediction.start,
        "end": prediction.end,
        "language": prediction.language,
        "text": prediction.text,
        "topics": list(prediction.topics),
        "probabilities": dict(prediction.probabilities),
        "model": prediction.model,
    }


def write_jsonl(path, rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return path


def write(path, rows):
    """Write rows in the format of the suffix, as `relclass predict` lays them out."""
    if ".csv" in path.name:
        flat = []
        for row in rows:
            row = dict(row)
            probabilities = row.pop("probabilities")
            row["topics"] = ";".join(row["topics"])
            flat.append(row | {f"probability_{k}": v for k, v in probabilities.items()})
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(flat[0]))
            writer.writeheader()
            writer.writerows(flat)
        return path
    if path.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist(rows), path)
        return path
    return write_jsonl(path, rows)


@pytest.mark.parametrize("name", ["p.jsonl", "p.csv", "p.parquet"])
def test_predictions_are_read_back_from_every_format(tmp_path, name):
    path = write(tmp_path / name, [to_row(prediction) for prediction in PREDICTIONS])
    assert read_predictions(path) == PREDICTIONS


def test_packed_predictions_are_read_back(tmp_path):
    plain = write_jsonl(tmp_path / "p.jsonl", [to_row(p) for p in PREDICTIONS]).read_bytes()
    packed = tmp_path / "p.jsonl.gz"
    packed.write_bytes(gzip.compress(plain))
    assert read_predictions(packed) == PREDICTIONS
    zstandard = pytest.importorskip("zstandard")
    squeezed = tmp_path / "p.jsonl.zst"
    squeezed.write_bytes(zstandard.ZstdCompressor().compress(plain))
    assert read_predictions(squeezed) == PREDICTIONS


def test_order_of_passages_and_topics_does_not_matter():
    shuffled = [
        replace(
            p,
            topics=tuple(reversed(p.topics)),
            probabilities=dict(reversed(list(p.probabilities.items()))),
        )
        for p in reversed(PREDICTIONS)
    ]
    kept, y_pred, y_prob = align_predictions(GOLD, shuffled, CODEBOOK)
    assert kept == GOLD
    np.testing.assert_array_equal(y_pred, Y_PRED)
    np.testing.assert_array_equal(y_prob, Y_PROB)


def test_passages_that_the_gold_lacks_are_refused_by_name():
    with pytest.raises(DataError, match=r"gold lacks 2 predicted passages: 'a0/0', 'a0/1'"):
        align_predictions(GOLD[2:], PREDICTIONS, CODEBOOK)


def test_gold_passages_without_prediction_are_refused_by_name():
    with pytest.raises(DataError, match=r"4 gold passages have no prediction: .* and 1 more"):
        align_predictions(GOLD, PREDICTIONS[4:], CODEBOOK)


def test_the_passages_that_both_have_can_be_scored():
    kept, y_pred, _ = align_predictions(GOLD[2:], PREDICTIONS[:5], CODEBOOK, partial=True)
    assert kept == GOLD[2:5]
    np.testing.assert_array_equal(y_pred, Y_PRED[2:5])


def test_predictions_of_other_articles_are_refused_even_in_part():
    strangers = [replace(p, passage_id="z" + p.passage_id) for p in PREDICTIONS]
    with pytest.raises(DataError, match="no gold passage is among the predictions"):
        align_predictions(GOLD, strangers, CODEBOOK, partial=True)


def test_predictions_of_another_codebook_are_refused():
    codebook = Codebook(
        version="2", topics=tuple(Topic(name=n, definition=n) for n in (*TOPICS[:3], "trade"))
    )
    with pytest.raises(DataError, match=r"'karabakh' is not in the codebook.*another codeb"):
        align_predictions(GOLD, PREDICTIONS, codebook)


def test_predictions_that_lack_a_topic_are_refused():
    fewer = [replace(p, probabilities={"security": 0.5}) for p in PREDICTIONS]
    with pytest.raises(DataError, match="no probability of energy, karabakh, transit"):
        align_predictions(GOLD, fewer, CODEBOOK)


def test_another_text_under_the_same_id_is_refused():
    changed = [replace(PREDICTIONS[0], text="چیز دیگر"), *PREDICTIONS[1:]]
    with pytest.raises(DataError, match="'a0/0': its text is not the gold passage's"):
        align_predictions(GOLD, changed, CODEBOOK)


def row_with(**changes):
    return {**to_row(PREDICTIONS[0]), **changes}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (row_with(passage_id=None), r"p\.jsonl:1: the field 'passage_id' is missing"),
        (row_with(probabilities={"energy": 1.2}), r"'energy' must be a number in \[0, 1\], got 1"),
        (row_with(probabilities={"energy": "x"}), "'energy' must be a number"),
        (row_with(probabilities={"energy": True}), "'energy' must be a number"),
        (row_with(probabilities=[0.5]), "'probabilities' must map topics to numbers"),
        (row_with(topics=[1]), "'topics' must be a list of names"),
        (row_with(start="x"), "'start' must be a number"),
        ([1], "expected an object, got list"),
    ],
)
def test_a_broken_record_is_refused_with_its_place(tmp_path, row, message):
    with pytest.raises(DataError, match=message):
        read_predictions(write_jsonl(tmp_path / "p.jsonl", [row]))


def test_a_nan_probability_is_refused(tmp_path):
    path = write_jsonl(tmp_path / "p.jsonl", [row_with(probabilities={"energy": float("nan")})])
    with pytest.raises(DataError, match=r"must be a number in \[0, 1\]"):
        read_predictions(path)


def test_a_passage_that_comes_twice_is_refused(tmp_path):
    path = write_jsonl(tmp_path / "p.jsonl", [to_row(PREDICTIONS[0])] * 2)
    with pytest.raises(DataError, match=r":2: passage 'a0/0' was already labelled at .*:1"):
        read_predictions(path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("p.xlsx", b"", "predictions are kept as .jsonl"),
        ("p.jsonl", b"", "no predictions in the file"),
        ("p.jsonl", b'{"article_id": "a', "not JSON, was the file cut"),
        ("p.jsonl", b"\xff\xfe{}", "not UTF-8"),
        ("p.jsonl.gz", b"plain", "cannot read the file"),
        ("p.parquet", b"PAR", "not a Parquet file"),
        ("p.csv", b"article_id,passage_id\n1\n", "expected 2 cells"),
    ],
)
def test_a_file_that_is_no_predictions_is_refused(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_predictions(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(DataError, match="cannot read the file"):
        read_predictions(tmp_path / "none.jsonl")
