import json
import logging
import zipfile

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from relclass import hydration
from relclass.codebook import Codebook, Topic
from relclass.errors import DataError
from relclass.hydration import NO_REPOSITORY, hydrate, write_texts
from relclass.real_passages import RealLabel, find_texts
from relclass.split_file import text_hash

PASSAGE = "قطار باری به مرز رسید. رانندگان دو روز منتظر ماندند! آیا راه باز می‌شود؟"
ARTICLE = (
    "خبرنگار ما از آستارا گزارش می‌دهد.\n  قطار باری   به مرز رسید. رانندگان دو روز منتظر ماندند!\n"
    "آیا راه باز می‌شود؟ پاسخی نیامد.\n"
)
CODEBOOK = Codebook(version="1", topics=(Topic(name="transit", definition="roads"),))


def label(text=PASSAGE, *, repo="owner/news", path="data/a.txt"):
    return RealLabel(text_hash(text), "fa", repo, path, "1", 0, ("transit",))


def zipped(path, member, text):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(member, text)
        archive.writestr("picture.png", b"\x89PNG")


LAYOUTS = {
    "a.txt": lambda p: p.write_text(ARTICLE, "utf-8"),
    "a.json": lambda p: p.write_text(json.dumps({"rows": [{"body": ARTICLE}]}), "utf-8"),
    "a.jsonl": lambda p: p.write_text('{"broken\n' + json.dumps({"t": ARTICLE}) + "\n", "utf-8"),
    "lines.json": lambda p: p.write_text('{"a": 1}\n' + json.dumps([ARTICLE]) + "\n", "utf-8"),
    "a.csv": lambda p: p.write_text('id,text\n1,"' + ARTICLE + '"\n', "utf-8"),
    "a.tsv": lambda p: p.write_text('id\ttext\n1\t"' + ARTICLE + '"\n', "utf-8"),
    "a.html": lambda p: p.write_text(f"<p>{ARTICLE.replace('رسید', '<b>رسید</b>')}</p>"
                                     f"<p>{PASSAGE}</p>", "utf-8"),
    "a.md": lambda p: p.write_text(ARTICLE.replace("مرز", "[مرز](http://x.example)"), "utf-8"),
    "a.parquet": lambda p: parquet.write_table(pa.table({"n": [1], "body": [ARTICLE]}), p),
    "a.zip": lambda p: zipped(p, "inner/a.txt", ARTICLE),
    "utf16.txt": lambda p: p.write_text(ARTICLE, "utf-16"),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_run_of_sentences_is_found_in_any_layout(tmp_path, name):
    LAYOUTS[name](tmp_path / name)
    found = hydrate([label()], [tmp_path])
    assert found.texts == {text_hash(PASSAGE): PASSAGE}
    assert found.unread == ()


@pytest.mark.parametrize("suffix", ["csv", "tsv"])
def test_tables_whose_lines_end_as_on_an_old_mac_are_read(tmp_path, suffix):
    mark = "," if suffix == "csv" else "\t"
    (tmp_path / f"a.{suffix}").write_bytes(f"id{mark}text\r1{mark}{PASSAGE}\r".encode())
    found = hydrate([label()], [tmp_path])
    assert (len(found.texts), found.unread) == (1, ())


@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
@pytest.mark.parametrize("mark", ["\u2028", "\u0085"])
def test_a_text_with_a_rare_line_end_in_it_is_one_text(tmp_path, name, mark):
    text = f"قطار باری{mark}به مرز رسید"
    lines = [json.dumps({"text": row}, ensure_ascii=False) for row in ("x", text)]
    (tmp_path / name).write_text("\r\n".join(lines), "utf-8")
    assert set(hydrate([label(text)], [tmp_path]).texts) == {text_hash(text)}


def test_title_and_summary_of_a_feed_are_read_as_one(tmp_path):
    text = "گذرگاه باز شد. کامیون‌ها از نیمه‌شب می‌گذرند"
    row = {"title": "گذرگاه باز شد", "summary": "کامیون‌ها از نیمه‌شب می‌گذرند"}
    (tmp_path / "feed.json").write_text(json.dumps([row]), "utf-8")
    assert hydrate([label(text)], [tmp_path]).texts == {text_hash(text): text}


def test_counts_are_by_repository_and_what_is_absent_is_not_invented(tmp_path):
    (tmp_path / "a.txt").write_text(ARTICLE, "utf-8")
    labels = [label(), label("absent", repo="owner/other"), label("gone", repo=None, path=None)]
    found = hydrate(labels, [tmp_path])
    assert found.wanted == {"owner/news": 1, "owner/other": 1, NO_REPOSITORY: 1}
    assert found.found == {"owner/news": 1, "owner/other": 0, NO_REPOSITORY: 0}


@pytest.mark.parametrize("folder", ["owner/news", "news"])
def test_only_the_named_file_of_a_repository_is_read_when_asked(tmp_path, folder):
    for name in ("data/a.txt", "data/b.txt"):
        path = tmp_path / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(ARTICLE if name.endswith("a.txt") else "یک متن دیگر.", "utf-8")
    labels = [label(), label("یک متن دیگر.", path="data/zz.txt")]
    found = hydrate(labels, [tmp_path], named_files_only=True)
    assert set(found.texts) == {text_hash(PASSAGE)}
    assert len(hydrate(labels, [tmp_path]).texts) == 2


def test_a_named_member_of_an_archive_is_found_through_its_archive(tmp_path):
    (tmp_path / "news").mkdir()
    zipped(tmp_path / "news" / "all.zip", "x.txt", ARTICLE)
    found = hydrate([label(path="all.zip:x.txt")], [tmp_path], named_files_only=True)
    assert set(found.texts) == {text_hash(PASSAGE)}


def test_what_was_rebuilt_serves_as_a_file_of_texts(tmp_path):
    (tmp_path / "a.txt").write_text(ARTICLE, "utf-8")
    labels = [label(), label("absent")]
    write_texts(hydrate(labels, [tmp_path / "a.txt"]), labels, tmp_path / "texts.jsonl")
    found = find_texts([tmp_path / "texts.jsonl"], {item.id for item in labels})
    assert found == {text_hash(PASSAGE): (PASSAGE, None)}


def test_a_file_that_cannot_be_read_is_named_and_the_rest_is_read(tmp_path, caplog, monkeypatch):
    (tmp_path / "a.zip").write_bytes(b"no archive")
    (tmp_path / "b.parquet").write_bytes(b"PAR1")
    (tmp_path / "c.txt").write_text(ARTICLE, "utf-8")
    with caplog.at_level(logging.WARNING):
        found = hydrate([label()], [tmp_path])
    assert len(found.texts) == 1 and len(found.unread) == 2
    assert "not read:" in caplog.text and "a.zip" in caplog.text
    monkeypatch.setattr(hydration, "MAX_FILE_BYTES", 10)
    assert "larger than" in hydrate([label()], [tmp_path / "c.txt"]).unread[0]


def with_password(content: bytes) -> bytes:
    """Mark an archive's only member as encrypted."""
    marked = bytearray(content)
    marked[marked.find(b"PK\x03\x04") + 6] |= 1
    marked[marked.find(b"PK\x01\x02") + 8] |= 1
    return bytes(marked)


def test_files_that_their_readers_choke_on_are_named_too(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.txt", ARTICLE)
    (tmp_path / "a.zip").write_bytes(with_password((tmp_path / "a.zip").read_bytes()))
    (tmp_path / "b.json").write_bytes(b"[" * 100_000 + b"]" * 100_000)
    with zipfile.ZipFile(tmp_path / "c.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.txt", ARTICLE)
    damaged = bytearray((tmp_path / "c.zip").read_bytes())
    damaged[35:80] = b"\xff" * 45
    (tmp_path / "c.zip").write_bytes(bytes(damaged))
    (tmp_path / "d.txt").write_text(ARTICLE, "utf-8")
    found = hydrate([label()], [tmp_path])
    assert len(found.texts) == 1
    assert [problem.split(": ")[0] for problem in found.unread] == [
        str(tmp_path / name) for name in ("a.zip", "b.json", "c.zip")
    ]


def test_binary_files_and_the_git_folder_are_passed_over(tmp_path):
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "packed").write_text(ARTICLE, "utf-8")
    (tmp_path / "model.bin").write_text(ARTICLE, "utf-8")
    assert hydrate([label()], [tmp_path]).texts == {}


def test_a_place_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(DataError, match="no such file or folder; fetch the repositories"):
        hydrate([label()], [tmp_path / "none"])


def test_lone_surrogates_in_a_source_do_no_harm(tmp_path):
    (tmp_path / "a.json").write_text('["\\ud800 x.", ' + json.dumps(ARTICLE) + "]", "utf-8")
    assert len(hydrate([label()], [tmp_path]).texts) == 1


words = st.text("ابپتabc‌", min_size=1, max_size=6).filter(str.strip)
sentences = st.lists(st.lists(words, min_size=1, max_size=6).map(" ".join), min_size=1, max_size=9)


@given(parts=sentences, data=st.data())
@settings(max_examples=60, deadline=None)
def test_any_run_of_whole_sentences_is_found(parts, data, tmp_path_factory):
    parts = [part + data.draw(st.sampled_from([".", "؟", "!", "…"])) for part in parts]
    start = data.draw(st.integers(0, len(parts) - 1))
    end = data.draw(st.integers(start + 1, len(parts)))
    wanted = " ".join(" ".join(parts[start:end]).split())
    separators = [data.draw(st.sampled_from([" ", "  ", "\n", "\n\n "])) for _ in parts]
    path = tmp_path_factory.mktemp("hydration") / "a.txt"
    path.write_text("".join(p + s for p, s in zip(parts, separators, strict=True)), "utf-8")
    assert hydrate([label(wanted)], [path]).texts == {text_hash(wanted): wanted}
