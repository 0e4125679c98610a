import json
import logging

import numpy as np
import pytest

from relclass.codebook import load_codebook
from relclass.config import DataSettings
from relclass.dataset import Dataset, load_dataset, make_splits, to_arrays, to_hf
from relclass.errors import DataError
from relclass.records import LabelledPassage
from relclass.split_file import text_hash

CODEBOOK_YAML = """
version: "1"
topics:
  - {name: security, definition: force}
  - {name: energy, definition: power}
"""
REAL = [f"شرکت برق منطقه‌ای از آغاز کار پست شماره {n} خبر داد." for n in range(12)]


def article(n, text=None):
    city = ["ارومیه", "اردبیل", "تبریز", "زنجان", "خوی"][n % 5]
    text = text or f"گزارشگر شماره {n * 37} ما از شهر {city}"
    passages = [
        {"text": text, "topics": ["energy"] if n % 2 else [], "note": None},
        {"text": f"{text}؛ دنباله {n}", "topics": ["security"]},
    ]
    return {"id": f"a{n}", "lang": "fa", "title": "عنوان", "passages": passages}


@pytest.fixture
def project(tmp_path):
    """Return the settings of a small project: 20 articles, 12 real passages, splits made."""
    (tmp_path / "codebook.yaml").write_text(CODEBOOK_YAML)
    write(tmp_path / "articles.jsonl", [article(n) for n in range(20)])
    write(tmp_path / "real.jsonl", [
        {"id": text_hash(text), "lang": "fa", "repo": "o/r", "path": "p", "doc": f"d{n // 2}",
         "para": n, "topics": ["energy"], "unsure": ["security"] if n == 0 else []}
        for n, text in enumerate(REAL)
    ])  # fmt: skip
    write(tmp_path / "texts.jsonl", [{"text": text, "title": f"t{n}"} for n, text in
                                     enumerate(REAL)])  # fmt: skip
    settings = DataSettings(
        codebook=tmp_path / "codebook.yaml",
        authored=(tmp_path / "articles.jsonl",),
        real_labels=tmp_path / "real.jsonl",
        real_texts=(tmp_path / "texts.jsonl",),
        splits=tmp_path / "splits.json",
    )
    make_splits(settings)
    return settings


def write(path, rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")


def without_real(settings):
    return settings.model_copy(update={"real_labels": None, "real_texts": ()})


def test_every_passage_comes_with_its_split_and_no_article_is_cut(project):
    dataset = load_dataset(project)
    assert len(dataset.passages) == len(dataset.splits) == 52
    by_article = {}
    for passage, split in zip(dataset.passages, dataset.splits, strict=True):
        assert by_article.setdefault((passage.origin, passage.article_id), split) == split
    parts = [dataset.part(name) for name in ("train", "validation", "test")]
    assert sum(map(len, parts)) == 52 and len(parts[0]) > len(parts[1])
    real = dataset.part("train", origin="real")
    assert real and all(passage.origin == "real" for passage in real)
    assert real[0].title == f"t{REAL.index(real[0].text)}"


def test_authored_data_alone_needs_no_real_texts(project):
    dataset = load_dataset(without_real(project))
    assert len(dataset.passages) == 40 and dataset.n_missing == 0
    assert set(dataset.checksum) == {"splits", "authored", "labels"}


def test_real_texts_that_are_not_found_are_counted_and_warned_of(project, caplog):
    rows = project.real_texts[0].read_text("utf-8").splitlines()
    project.real_texts[0].write_text("\n".join(rows[3:]), "utf-8")
    with caplog.at_level(logging.WARNING):
        dataset = load_dataset(project)
    assert dataset.n_missing == 3 and len(dataset.passages) == 49
    assert "the texts of 3 of 12 real passages were not found" in caplog.text


def test_a_new_article_without_a_split_names_the_command(project):
    write(project.authored[0], [article(n) for n in range(21)])
    with pytest.raises(DataError, match=r"'a20/0' of article 'a20' has no split; run: relclass "
                                        r"data split with the same --authored"):  # fmt: skip
        load_dataset(project)
    make_splits(project)
    assert len(load_dataset(project).passages) == 54


@pytest.mark.parametrize("change", ["edited", "removed"])
def test_authored_texts_that_changed_are_refused(project, change):
    rows = [article(n) for n in range(20)]
    rows = rows[:-1] if change == "removed" else [article(0, text="متن دیگر"), *rows[1:]]
    write(project.authored[0], rows)
    with pytest.raises(DataError, match="the authored passages are not those that were split"):
        load_dataset(project)


def test_a_removed_real_label_is_refused_even_when_its_text_is_absent(project):
    rows = project.real_labels.read_text("utf-8").splitlines()
    project.real_labels.write_text("\n".join(rows[1:]), "utf-8")
    with pytest.raises(DataError, match="the real passages are not those that were split"):
        load_dataset(project)


def test_a_mended_label_is_no_reason_to_refuse_but_is_on_record(project):
    before = load_dataset(project).checksum
    rows = [article(n) for n in range(20)]
    rows[0]["passages"][0]["topics"] = ["security"]
    write(project.authored[0], rows)
    after = load_dataset(project).checksum
    assert before["labels"] != after["labels"]
    assert {k: v for k, v in before.items() if k != "labels"} == {
        k: v for k, v in after.items() if k != "labels"
    }


def test_a_missing_splits_file_is_refused(project):
    project.splits.unlink()
    with pytest.raises(DataError, match=r"splits\.json: there is no splits file"):
        load_dataset(project)


def test_one_passage_in_two_places_is_refused(project):
    twice = project.model_copy(update={"authored": project.authored * 2})
    with pytest.raises(DataError, match="passage 'a0/0' is given twice"):
        load_dataset(twice)


def test_splits_are_not_made_while_real_texts_are_missing(project):
    with pytest.raises(DataError, match=r"12 passages have no text; give data\.real_texts"):
        make_splits(project.model_copy(update={"real_texts": ()}))


def test_what_has_a_split_and_is_not_given_keeps_it_unless_it_is_to_be_forgotten(project):
    before = project.splits.read_bytes()
    with pytest.raises(DataError, match=r"it holds 12 real passages \(--real-labels, --real-texts"
                                        r"\) that are not .* or --forget"):  # fmt: skip
        make_splits(without_real(project))
    write(project.authored[0], [article(n) for n in range(3, 20)])
    with pytest.raises(DataError, match=r"it holds 3 authored articles \(--authored\) that are"):
        make_splits(project)
    assert project.splits.read_bytes() == before
    splits = make_splits(project, forget=True)
    assert splits.version == 2 and len(splits.articles) == 17 and len(splits.passages) == 12


def test_splits_made_again_are_left_alone(project):
    before = project.splits.read_bytes()
    assert make_splits(project).version == 1
    assert project.splits.read_bytes() == before


def test_a_part_of_another_name_is_refused(project):
    with pytest.raises(ValueError, match="Got split='dev' but expected one of train"):
        load_dataset(without_real(project)).part("dev")


def test_arrays_hold_topics_in_codebook_order_and_weights_by_topic(project):
    codebook = load_codebook(project.codebook)
    passages = [
        LabelledPassage("1", "1", "متن", "fa", ("energy",), unsure=("security",)),
        LabelledPassage("2", "2", "نص", "ar", ("security", "energy"), origin="real",
                        unsure=("energy",)),
        LabelledPassage("3", "3", "text", "en", ()),
    ]  # fmt: skip
    arrays = to_arrays(passages, codebook, unsure_weight=0.5, authored_weight=0.25)
    texts, languages, y_true, weights = arrays
    assert texts == ["متن", "نص", "text"] and languages == ["fa", "ar", "en"]
    assert y_true.dtype == np.uint8 and weights.dtype == np.float32
    assert y_true.tolist() == [[0, 1], [1, 1], [0, 0]]
    assert weights.tolist() == [[0.125, 0.25], [1.0, 0.5], [0.25, 0.25]]
    assert to_arrays([], codebook).y_true.shape == (0, 2)


def test_the_hugging_face_tables_hold_every_field_and_float_labels(project):
    dataset = load_dataset(project)
    tables = to_hf(dataset)
    assert list(tables) == ["train", "validation", "test"]
    assert [len(table) for table in tables.values()] == [len(dataset.part(name)) for name in tables]
    passage, row = dataset.part("train")[0], tables["train"][0]
    assert row["text"] == passage.text and tuple(row["topics"]) == passage.topics
    assert row["labels"] == [float(name in passage.topics) for name in dataset.codebook.names]
    assert str(tables["train"].features["labels"].feature.dtype) == "float32"


def test_the_hugging_face_table_of_an_empty_part_keeps_its_columns(project):
    dataset = load_dataset(without_real(project))
    empty = Dataset(passages=(), splits=np.array([], dtype="<U10"), codebook=dataset.codebook)
    assert to_hf(empty)["test"].column_names == to_hf(dataset)["test"].column_names


class TestTheProjectsOwnData:
    @pytest.fixture(scope="class")
    def dataset(self):
        return load_dataset()

    def test_all_authored_passages_are_there_and_split(self, dataset):
        assert len(dataset.passages) == 3858
        assert len({passage.article_id for passage in dataset.passages}) == 612
        later = ("fa11-", "mx3-", "mx4-", "mx5-")  # all in training
        names = ("train", "validation", "test")
        parts = [[passage.article_id for passage in dataset.part(name)] for name in names]
        dealt = [sum(not name.startswith(later) for name in part) for part in parts]
        assert sum(dealt) == 3055
        assert [n / 3055 for n in dealt] == pytest.approx([0.7, 0.15, 0.15], abs=0.05)
        assert not any(name.startswith(later) for part in parts[1:] for name in part)

    @pytest.mark.parametrize("split", ["train", "validation", "test"])
    def test_each_topic_is_in_each_split(self, dataset, split):
        y_true = to_arrays(dataset.part(split), dataset.codebook).y_true
        assert (y_true.mean(axis=0) > 0.1).all()

    def test_real_labels_carry_no_text_and_all_have_a_split(self, dataset):
        from relclass.real_passages import read_real_labels
        from relclass.split_file import read_splits

        labels = read_real_labels("data/real_labels.jsonl", dataset.codebook)
        splits = read_splits("data/splits.json")
        assert len(labels) >= 6136
        assert {label.id for label in labels} == set(splits.passages)
        by_article = {}
        for label in labels:
            split = splits.passages[label.id]
            assert by_article.setdefault(label.article_id, split) == split
