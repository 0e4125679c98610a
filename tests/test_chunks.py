import itertools
import json

import pytest
from batch_stubs import write_articles

from relclass.chunks import ChunkSource, Cursor, Finished
from relclass.errors import DataError
from relclass.records import Article


@pytest.fixture
def files(tmp_path):
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
    return {chunk.number: Finished(chunk.end, chunk.digest) for chunk in chunks}


@pytest.mark.parametrize("chunk_chars", [1, 700, 3000, 10**6])
def test_every_record_is_in_one_chunk_in_order(files, chunk_chars):
    chunks = list(ChunkSource(files, chunk_chars=chunk_chars))
    assert read_ids(chunks) == [f"article-{number:06d}" for number in range(23)]
    assert [chunk.number for chunk in chunks] == list(range(len(chunks)))
    assert [r.line for chunk in chunks for r in chunk.rejects] == [13]
    assert chunks[-1].end in (Cursor(3, 3), Cursor(4, 0))


def test_reading_twice_cuts_in_the_same_places(files):
    source = ChunkSource(files, chunk_chars=3000)
    assert list(source) == list(source)


def test_chunks_are_full_but_for_the_last(files):
    *full, _ = ChunkSource(files, chunk_chars=3000)
    assert len(full) > 2
    for chunk in full:
        sizes = [len(article.text) + 200 for article in chunk.articles]
        assert sum(sizes) + 200 * len(chunk.rejects) + 100 > 3000
        assert sum(sizes[:-1]) < 3000


def test_whatever_is_finished_the_rest_comes_as_it_was(files):
    chunks = list(ChunkSource(files, chunk_chars=2000))
    assert 4 < len(chunks) < 12
    for n_done in range(len(chunks) + 1):
        for done in itertools.combinations(chunks, n_done):
            source = ChunkSource(files, chunk_chars=2000, finished=finished(done))
            assert list(source) == [chunk for chunk in chunks if chunk not in done]


def test_files_that_are_wholly_finished_are_not_read_again(files, monkeypatch):
    chunks = list(ChunkSource(files, chunk_chars=10**4))
    import relclass.chunks

    opened = []
    read = relclass.chunks.read_articles

    def spy(paths, **options):
        opened.extend(paths)
        return read(paths, **options)

    monkeypatch.setattr(relclass.chunks, "read_articles", spy)
    done = finished(chunks[:1])
    assert done[0].end.file == 2
    list(ChunkSource(files, chunk_chars=10**4, finished=done))
    assert opened == [files[2], files[3]]


def test_a_finished_chunk_that_holds_something_else_now_is_refused(files):
    done = finished(ChunkSource(files, chunk_chars=1))
    with open(files[0], encoding="utf-8") as stream:
        lines = stream.readlines()
    record = json.loads(lines[3])
    lines[3] = json.dumps({**record, "text": record["text"].replace("a", "e")}) + "\n"
    with open(files[0], "w", encoding="utf-8") as stream:
        stream.writelines(lines)
    with pytest.raises(DataError, match=r"a\.jsonl: the input changed.*part 3.*--overwrite"):
        list(ChunkSource(files, chunk_chars=1, finished=done))


def test_fail_fast_raises_at_the_first_record_refused(files):
    with pytest.raises(DataError, match=r"c\.jsonl:13: "):
        list(ChunkSource(files, fail_fast=True))


def test_no_input_gives_no_chunk(tmp_path):
    (tmp_path / "empty.jsonl").write_text("")
    chunks = list(ChunkSource((str(tmp_path / "empty.jsonl"),)))
    assert read_ids(chunks) == []


def test_chunks_hold_articles_as_they_were_read(files):
    chunk = next(iter(ChunkSource(files)))
    article = chunk.articles[0]
    assert isinstance(article, Article)
    assert (article.path, article.line) == (files[0], 1)
