import csv
import datetime
import gzip
import io
import json
import os
import sys
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from relclass.articles import Columns, parse_article, read_articles
from relclass.errors import DataError
from relclass.passages import split_passages
from relclass.records import Article, Reject

EXAMPLES = Path(__file__).parents[1] / "data" / "examples"
TEXT = (
    "پل تازه آستارا باز شد\n\n"
    "به گزارش راه‌نامه، مدیر گمرک گفت کامیون‌ها از فردا بدون توقف از پل تازه می‌گذرند.\n"
    "او افزود که ساعت کار پایانه تا نیمه‌شب ادامه می‌یابد و رانندگان روادید یک‌ساله می‌گیرند.\n"
    "کد خبر: ۱۲۳۴۵\n"
)
SENTENCE = "مدیر گمرک گفت کامیون‌ها از فردا بدون توقف از پل تازه می‌گذرند."


def read(*paths: Path | str, **options: object) -> tuple[list[Article], list[Reject]]:
    rejects: list[Reject] = []
    articles = list(read_articles(paths, on_reject=rejects.append, **options))  # type: ignore[arg-type]
    return articles, rejects


def refuse(path: Path | str) -> str:
    """Read one broken input; return what is said, which must be the same both ways."""
    articles, rejects = read(path)
    assert not articles and len(rejects) == 1
    with pytest.raises(DataError) as caught:
        list(read_articles([path]))
    assert str(caught.value) == str(rejects[0])
    return str(rejects[0])


def test_a_text_file_is_an_article_with_what_its_text_says(tmp_path: Path) -> None:
    path = tmp_path / "pol.txt"
    path.write_bytes(TEXT.encode())
    (article,), _ = read(path)
    assert (article.article_id, article.path, article.text) == ("pol", str(path), TEXT)
    assert (article.title, article.source) == ("پل تازه آستارا باز شد", "راه‌نامه")
    assert (article.news_code, article.date, article.line) == ("12345", None, None)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1256"])
def test_a_text_file_is_read_in_each_encoding(tmp_path: Path, encoding: str) -> None:
    text = TEXT.replace("ی", "ي").replace("ک", "ك").replace("۱۲۳۴۵", "12345")
    path = tmp_path / "a.txt"
    path.write_bytes(text.encode(encoding))
    (article,), _ = read(path)
    assert article.text == text


def make_formats(folder: Path) -> None:
    record = {"id": "n1", "text": SENTENCE, "title": "پل", "date": "۰۱ دی ۱۴۰۰", "source": "راه"}
    line = json.dumps(record, ensure_ascii=False).encode()
    buffer = io.StringIO(newline="")
    csv.writer(buffer).writerows([record.keys(), record.values()])
    (folder / "a.jsonl").write_bytes(line + b"\n")
    (folder / "b.jsonl.gz").write_bytes(gzip.compress(line))
    (folder / "c.ndjson.zst").write_bytes(zstandard.ZstdCompressor().compress(line))
    (folder / "d.csv").write_bytes(buffer.getvalue().encode("utf-8-sig"))
    (folder / "e.tsv").write_text("\t".join(record) + "\n" + "\t".join(record.values()) + "\n")
    (folder / "f.json").write_text(json.dumps([record], indent=2))
    (folder / "g.json").write_bytes(line + b"\n" + line)
    dated = record | {"date": datetime.datetime(2021, 12, 22, 9)}
    pq.write_table(pa.Table.from_pylist([dated]), folder / "h.parquet")


def test_every_format_gives_the_same_article(tmp_path: Path) -> None:
    make_formats(tmp_path)
    articles, rejects = read(tmp_path)
    assert rejects == [] and len(articles) == 9
    for article in articles:
        assert (article.text, article.title, article.source) == (SENTENCE, "پل", "راه")
        assert article.date == datetime.date(2021, 12, 22)
    ids = [article.article_id for article in articles]
    assert ids == ["n1", *(f"n1-{number}" for number in range(2, 10))]
    assert [article.line for article in articles] == [1, 1, 1, 2, 2, 1, 1, 2, 1]


def test_a_folder_is_read_with_its_subfolders_in_order_of_name(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ["b.txt", "a.txt", "sub/c.txt", "sub/c.html.gz", ".hidden.txt", "notes.pdf"]:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        data = f"<html><body><article><p>{SENTENCE * 3}</p></article></body></html>".encode()
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else SENTENCE.encode())
    articles, rejects = read(tmp_path)
    assert [article.article_id for article in articles] == ["a", "b", "sub/c", "sub/c-2"]
    assert rejects == []
    assert "passed over files that hold no articles: 1 x .txt, 1 x .pdf" in caplog.text


def test_a_linked_folder_is_read_once_and_a_loop_ends(tmp_path: Path) -> None:
    folder, other = tmp_path / "in", tmp_path / "other"
    for path in (folder, other):
        path.mkdir()
        (path / f"{path.name}.txt").write_bytes(SENTENCE.encode())
    (folder / "link").symlink_to(other)
    (folder / "same").symlink_to(other)
    (other / "up").symlink_to(folder)
    articles, rejects = read(folder)
    assert [article.article_id for article in articles] == ["in", "link/other"]
    assert rejects == []


def test_a_folder_that_cannot_be_listed_is_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.txt").write_bytes(SENTENCE.encode())
    (tmp_path / "shut").mkdir()
    scandir = os.scandir

    def refuse_shut(path: str) -> object:
        if str(path).endswith("shut"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse_shut)
    articles, (reject,) = read(tmp_path)
    assert len(articles) == 1
    assert str(reject) == f"{tmp_path / 'shut'}: cannot be listed: Permission denied"
    assert refuse(tmp_path / "shut").endswith("shut: cannot be listed: Permission denied")


def test_a_pages_labelled_date_goes_before_a_guessed_one(tmp_path: Path) -> None:
    path = tmp_path / "a.html"
    label = "<p>تاریخ انتشار: ۰۱ دی ۱۴۰۰</p>"
    guess = '<footer><time datetime="2023-05-06">Last updated</time></footer>'
    meta = '<meta property="article:published_time" content="1399-10-01T10:00">'
    page = "<html><head>{}</head><body>{}<article><p>{}</p></article>{}</body></html>"
    dates = []
    for parts in ((meta, label), ("", label), ("", "")):
        path.write_bytes(page.format(*parts, SENTENCE * 4, guess).encode())
        dates.append(read(path)[0][0].date)
    assert [str(date) for date in dates] == ["2020-12-21", "2021-12-22", "2023-05-06"]


def test_named_columns_are_read_and_ids_fall_back_on_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"matn": SENTENCE, "lang": "fas", "onvan": 7}) + "\n")
    (article,), _ = read(path, columns=Columns(text="matn", language="lang", title="onvan"))
    assert (article.article_id, article.language, article.title) == ("a:1", "fa", "7")


def test_a_record_may_carry_passages_in_place_of_a_text(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    passages = [{"text": SENTENCE, "topics": []}, SENTENCE]
    path.write_text(json.dumps({"id": "a", "passages": passages}) + "\n")
    (article,), _ = read(path)
    assert article.text == f"{SENTENCE}\n\n{SENTENCE}"


@pytest.mark.parametrize(
    ("data", "n_articles"),
    [
        (b'{"text": "a b"}\n{"text": "c d"}\n', 2),
        (b'{"text": "a\tb"}\n{"text": "c d"}\n', 2),
        (b'{"text": "' + b"a " * 200_000 + b'"}\n{"text": "c d"}\n', 2),
        (b'{"passages": [\n{"text": "a"},\n{"text": "b"}\n]}\n', 1),
        (b'[{"text": "a b"},\n{"text": "c d"}]', 2),
        (b'id,text\n1,"a, b"\n2,"c"\n', 2),
        (b'\xef\xbb\xbfid;"text"\r\n1;a\r\n', 1),
        (b"[1] The text of a note", 1),
        (b"The text, or what is left of it.\nAnother line.\n", 1),
        (TEXT.encode(), 1),
        (f"<!DOCTYPE html><html><body><p>{SENTENCE * 4}</p></body></html>".encode(), 1),
    ],
)
def test_standard_input_is_told_by_its_content(
    monkeypatch: pytest.MonkeyPatch, data: bytes, n_articles: int
) -> None:
    stdin = io.TextIOWrapper(io.BufferedReader(io.BytesIO(data)))  # type: ignore[arg-type]
    monkeypatch.setattr(sys, "stdin", stdin)
    articles, rejects = read("-")
    assert len(articles) == n_articles and not rejects
    assert {article.path for article in articles} == {"<stdin>"}


def test_a_broken_first_line_of_unknown_lines_costs_only_itself(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b'{"text": "bro\n{"text": "one a"}\n{"text": "two b"}\n')
    articles, (reject,) = read(path)
    assert [article.text for article in articles] == ["one a", "two b"]
    assert reject.line == 1


def test_deep_nesting_is_refused_and_not_a_crash(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b"[" * 100_000)
    with pytest.raises(DataError, match=r"a\.json: not JSON"):
        raise DataError(refuse(path))


def test_one_path_may_be_given_by_itself() -> None:
    path = EXAMPLES / "baku_visit.txt"
    assert len(list(read_articles(path))) == len(list(read_articles(str(path)))) == 1


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a.txt", b"", "a.txt: the file is empty"),
        ("a.txt", b" \n\n", "a.txt: the file is empty"),
        ("a.txt", b"-- * --", "no text: not a letter or a digit in it"),
        (
            "a.txt",
            SENTENCE.encode() + b"\xff" * 3 + SENTENCE.encode(),
            "a.txt: invalid UTF-8 at by",
        ),
        ("a.txt", b"%PDF-1.4", "the file is a PDF document, not text"),
        ("a.html", b"<html></html>", "no article text found in the page"),
        ("a.jsonl", b'{"text": "cut', "a.jsonl:1: not JSON: .*was the line cut"),
        (
            "a.jsonl",
            b'{"id": 1, "txt": "a"}',
            r"a.jsonl:1: no column 'text'; it has 'id', 'txt' \(did",
        ),
        ("a.jsonl", b'{"text": null}', "a.jsonl:1: no text: 'text' is null"),
        ("a.jsonl", b'{"text": ["a"]}', r"a.jsonl:1: 'text' is \['a'\], expected a string"),
        ("a.jsonl", b'{"text": "\\u200f"}', "a.jsonl:1: no text: not a letter"),
        ("a.jsonl", b'{"passages": []}', "a.jsonl:1: no text: not a letter"),
        ("a.json", b"{", "a.json: not JSON"),
        ("a.json", b"[1]", "a.json:1: item 1 of the array is not an object"),
        (
            "a.jsonl",
            b'{"passages": [{"text": "a"}, {"matn": "b"}]}',
            r"a.jsonl:1: passage 2 is \{'matn': 'b'\}, expected a string, or an object with one",
        ),
        ("a.jsonl", b'{"passages": ["a", null]}', "a.jsonl:1: passage 2 is None, expected"),
        ("a.csv", b"id,matn\n1,a\n", "a.csv: no column 'text'; it has 'id', 'matn'"),
        ("a.csv", b'id,text\n1,"a\n', "a.csv:2: broken quotes"),
        ("a.tsv", b"", "a.tsv: the file is empty"),
        ("a.parquet", b"PAR1", "a.parquet: no Parquet file"),
        ("a.parquet.gz", b"\x1f\x8b\x08", "broken gzip data"),
        ("a.txt.gz", b"not gzip", "broken gzip data"),
        ("a.jsonl.zst", b"not zstd", "broken zstd data"),
        ("a.docx", b"PK\x03\x04", "a zip archive or an Office document, not text"),
    ],
)
def test_bad_input_is_refused_with_file_line_and_reason(
    tmp_path: Path, name: str, data: bytes, reason: str
) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(DataError, match=reason):
        raise DataError(refuse(path))


def test_a_missing_file_and_a_folder_without_articles_are_refused(tmp_path: Path) -> None:
    (tmp_path / "maqale.txt").write_text("a")
    with pytest.raises(DataError, match=r"no such file or folder \(did you mean 'maqale.txt'\?\)"):
        raise DataError(refuse(tmp_path / "maqaleh.txt"))
    folder = tmp_path / "empty"
    folder.mkdir()
    with pytest.raises(
        DataError, match=r"no article in the folder: no file; expected \.txt, \.html"
    ):
        raise DataError(refuse(folder))
    (folder / "a.pdf").write_bytes(b"%PDF")
    with pytest.raises(DataError, match=r"no article in the folder: only 1 x \.pdf; expected"):
        raise DataError(refuse(folder))


def test_one_broken_record_costs_only_itself(tmp_path: Path) -> None:
    lines = [b'{"text": "%d a"}' % number for number in range(6)]
    lines[2], lines[4] = lines[2][:10], b'{"text": 5}'
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\n".join(lines))
    articles, rejects = read(path)
    assert [article.line for article in articles] == [1, 2, 4, 6]
    assert [(reject.line, reject.raw.strip()) for reject in rejects] == [
        (3, lines[2]),
        (5, lines[4]),
    ]


def test_one_bad_item_of_an_array_costs_only_itself(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b'[{"text": "one a"}, null, {"text": "two b"}]')
    articles, (reject,) = read(path)
    assert [article.text for article in articles] == ["one a", "two b"]
    assert (reject.line, reject.raw) == (2, b"null")


def test_what_says_nothing_is_taken_as_not_given(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"id": NaN, "title": NaN, "source": NaN, "lang": "und", "text": "a b"}')
    (article,), _ = read(path, columns=Columns(language="lang"))
    assert (article.article_id, article.source, article.language) == ("a:1", None, None)
    assert article.title != "nan"


def test_a_row_of_parquet_without_text_is_kept_in_its_reject(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"id": ["x", "y"], "text": ["a b", ""]}), path)
    articles, (reject,) = read(path)
    assert len(articles) == 1
    assert (reject.line, json.loads(reject.raw)) == (2, {"text": "", "id": "y"})


def test_nul_and_direction_marks_stay_and_a_lone_surrogate_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"id": "\\ud800", "text": "a\\u0000b \\u202ec\\ud83d d \\ud83d\\ude00"}')
    (article,), _ = read(path)
    assert article.text == "a\x00b \u202ec\ufffd d \U0001f600"
    assert article.article_id == "\ufffd"
    assert split_passages(article)[0].text.encode()


def test_a_text_of_nul_bytes_between_letters_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(f"{SENTENCE}\x00{SENTENCE}".encode())
    (article,), _ = read(path)
    assert article.text == f"{SENTENCE}\x00{SENTENCE}"


def test_parse_article_prefers_what_is_given_and_refuses_no_text() -> None:
    day = datetime.date(2020, 1, 1)
    article = parse_article(TEXT, article_id="a", title="t", date=day, source="s", language="fa")
    assert (article.title, article.date, article.source, article.language) == ("t", day, "s", "fa")
    with pytest.raises(DataError, match="no text: not a letter or a digit in it"):
        parse_article("؟!", article_id="a")


@given(st.text(max_size=300))
def test_any_text_is_kept_in_place_or_refused(text: str) -> None:
    try:
        article = parse_article(text, article_id="a")
    except DataError:
        assert not any(map(str.isalnum, text))
        return
    assert len(article.text) == len(text)
    assert article.text.encode()
    covered = {at for span in article.furniture for at in range(span.start, span.end)}
    covered |= {at for p in split_passages(article) for at in range(p.start, p.end)}
    assert all(at in covered or char.isspace() for at, char in enumerate(article.text))


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_memory_does_not_grow_with_the_file(tmp_path: Path, suffix: str) -> None:
    peaks = []
    for n_articles in (300, 2000):
        path = tmp_path / f"{n_articles}{suffix}"
        if suffix == ".parquet":
            pq.write_table(pa.table({"text": ["ا ب " * 100] * n_articles}), path)
        else:
            row = "ا ب " * 100 if suffix == ".csv" else json.dumps({"text": "ا ب " * 100})
            head = "text\n" if suffix == ".csv" else ""
            path.write_text(head + f"{row}\n" * n_articles)
        tracemalloc.start()
        assert sum(1 for _ in read_articles([path])) == n_articles
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 1_500_000


def test_the_examples_are_read_with_titles_and_no_furniture_in_their_passages() -> None:
    articles, rejects = read(EXAMPLES)
    assert rejects == [] and len(articles) == 10
    assert {article.article_id for article in articles} >= {"baku_visit", "wire-0312"}
    assert all(article.title and article.path for article in articles)
    passages = [passage for article in articles for passage in split_passages(article)]
    assert {passage.language for passage in passages} == {"fa", "ar", "az", "en", "ru"}
    for word in [
        "بخوانید",
        "بخوانيد",
        "انتهای پیام",
        "کد خبر",
        "انتهى",
        "Mənbə",
        "Read more",
        "منبع:",
    ]:
        assert not any(word in passage.text for passage in passages)
