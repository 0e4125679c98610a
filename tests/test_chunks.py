import itertools
import json

import pytest
from batch_stubs import write_articles

from relclass.chunks import ChunkSource
from relclass.errors import DataError
from relclass.records import Article, Reject


@pytest.fixture
def inputs(tmp_path):
    paths = [
        write_articles(tmp_path / "a.jsonl", 7),
        write_articles(tmp_path / "b.jsonl", 1, first=7),
        write_articles(tmp_path / "c.jsonl", 12, first=8),
    ]
    with paths[2].open("a", encoding="utf-8") as stream:
        stream.write('{"id": "cut", "text": "half a li\n')
    write_articles(tmp_path / "d.jsonl", 3, first=20)
    return tuple(str(path) for path in sorted(tmp_path.glob("*.jsonl")))


def read_ids(chunks):
    return [article.article_id for chunk in chunks for article in chunk.articles]


def finished(chunks):
    return {chunk.number: chunk.digest for chunk in chunks}


@pytest.mark.parametrize("chunk_chars", [1, 700, 3000, 10**6])
def test_every_record_is_in_one_chunk_in_order(inputs, chunk_chars):
    chunks = list(ChunkSource(inputs, chunk_chars=chunk_chars))
    assert read_ids(chunks) == [f"article-{number:06d}" for number in range(23)]
    assert [chunk.number for chunk in chunks] == list(range(len(chunks)))
    assert [reject.line for chunk in chunks for reject in chunk.rejects] == [13]


def test_a_reject_stands_where_it_was_met(inputs):
    chunks = list(ChunkSource(inputs, chunk_chars=1))
    (place,) = (chunk.number for chunk in chunks if chunk.rejects)
    assert read_ids(chunks[:place])[-1] == "article-000019"


def test_reading_twice_cuts_in_the_same_places(inputs):
    source = ChunkSource(inputs, chunk_chars=3000)
    assert list(source) == list(source)


def test_chunks_are_full_but_for_the_last(inputs):
    *full, _ = ChunkSource(inputs, chunk_chars=3000)
    assert len(full) > 2
    for chunk in full:
        sizes = [len(article.text) + 200 for article in chunk.articles]
        sizes += [len(reject.raw) + 200 for reject in chunk.rejects]
        assert sum(sizes) >= 3000
        assert sum(sizes) - sizes[-1] < 3000 or chunk.rejects


def test_whatever_is_finished_the_rest_comes_as_it_was(inputs):
    chunks = list(ChunkSource(inputs, chunk_chars=3000))
    assert 4 < len(chunks) < 10
    for n_done in (0, 1, 2, len(chunks)):
        for done in itertools.combinations(chunks, n_done):
            source = ChunkSource(inputs, chunk_chars=3000, finished=finished(done))
            assert list(source) == [chunk for chunk in chunks if chunk not in done]


def test_a_finished_chunk_that_holds_something_else_now_is_refused(inputs):
    done = finished(ChunkSource(inputs, chunk_chars=1))
    with open(inputs[0], encoding="utf-8") as stream:
        lines = stream.readlines()
    record = json.loads(lines[3])
    lines[3] = json.dumps({**record, "text": record["text"].replace("a", "e")}) + "\n"
    with open(inputs[0], "w", encoding="utf-8") as stream:
        stream.writelines(lines)
    message = r"inputs changed.* part 3 \(.*a\.jsonl from line 4\) .*--overwrite"
    with pytest.raises(DataError, match=message):
        list(ChunkSource(inputs, chunk_chars=1, finished=done))


@pytest.mark.parametrize(
    ("key", "value"),
    [("date", "2024-09-01"), ("language", "az"), ("title", "Another"), ("source", "Another")],
)
def test_a_finished_chunk_whose_summary_would_change_is_refused(tmp_path, key, value):
    path = write_articles(tmp_path / "a.jsonl", 1)
    done = finished(ChunkSource((str(path),)))
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}), encoding="utf-8")
    with pytest.raises(DataError, match="inputs changed"):
        list(ChunkSource((str(path),), finished=done))


def test_a_finished_chunk_whose_record_is_refused_for_another_reason_is_refused(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": 1}\n')
    done = finished(ChunkSource((str(path),)))
    path.write_text('\n{"text": 1}\n')
    with pytest.raises(DataError, match="inputs changed"):
        list(ChunkSource((str(path),), finished=done))


def test_a_missing_file_stays_the_same_whatever_lies_beside_it(tmp_path):
    source = ChunkSource((str(tmp_path / "mising.jsonl"),))
    (before,) = source
    (tmp_path / "missing.jsonl.run").mkdir()
    (after,) = source
    assert "did you mean" in after.rejects[0].reason
    assert before.digest == after.digest


def test_rejects_do_not_wait_for_an_article(monkeypatch):
    def read(paths, *, columns):
        for line in range(10):
            yield Reject("a.jsonl", line, "cut short", b"x" * 100)
        raise RuntimeError("read on")

    monkeypatch.setattr("relclass.chunks.read_outcomes", read)
    assert len(next(iter(ChunkSource(("a.jsonl",), chunk_chars=1000))).rejects) == 4


def test_a_finished_chunk_that_is_gone_is_missed(inputs):
    done = finished(ChunkSource(inputs, chunk_chars=1))
    with pytest.raises(DataError, match=r"inputs changed.* part 21 and what follows"):
        list(ChunkSource(inputs[:3], chunk_chars=1, finished=done))


def test_fail_fast_raises_at_the_first_record_refused(inputs):
    with pytest.raises(DataError, match=r"c\.jsonl:13: "):
        list(ChunkSource(inputs, fail_fast=True))


def test_chunks_hold_articles_as_they_were_read(inputs):
    chunk = next(iter(ChunkSource(inputs)))
    article = chunk.articles[0]
    assert isinstance(article, Article)
    assert (article.path, article.line) == (inputs[0], 1)
