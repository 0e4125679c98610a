import json

import numpy as np
import pytest
from tiny_project import WORDS, write_project

from relclass.config import BaselineSettings, TrainConfig
from relclass.dataset import load_dataset
from relclass.errors import DataError
from relclass.pseudo_labels import make_pseudo_examples, pseudo_checksums
from relclass.training import train

NEW = ("واژه‌ای تازه که هیچ‌جا نیامده است", "کشتی‌های بزرگ در بندر پهلو گرفتند و بار زدند")


def write_predictions(path, texts, y_prob, **changes):
    rows = [
        {
            "article_id": f"u{number}",
            "passage_id": f"u{number}#0",
            "index": 0,
            "start": 0,
            "end": len(text),
            "language": "fa",
            "text": text,
            "topics": [],
            "probabilities": dict(zip(WORDS, map(float, row), strict=True)),
            "model": "teacher",
        }
        | changes
        for number, (text, row) in enumerate(zip(texts, y_prob, strict=True))
    ]
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), "utf-8")
    return path


@pytest.fixture
def config(tmp_path):
    settings = write_project(tmp_path, n_articles=40)
    path = write_predictions(
        tmp_path / "pseudo.jsonl", NEW, [[0.1, 0.2, 0.3, 0.4], [0.0, 0.9, 0.0, 0.0]]
    )
    data = settings.model_copy(update={"pseudo_labels": (path,), "pseudo_weight": 0.5})
    model = BaselineSettings(min_df=1)
    return TrainConfig(name="student", data=data, model=model)


def test_the_teachers_probabilities_are_the_targets(config):
    examples = make_pseudo_examples(load_dataset(config.data), config)
    assert examples.texts == list(NEW)
    np.testing.assert_allclose(examples.y_true[0], [0.1, 0.2, 0.3, 0.4], rtol=1e-6)
    assert (examples.weights == 0.5).all()


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_a_labelled_passage_does_not_come_back_as_a_pseudo_labelled_one(config, tmp_path, split):
    dataset = load_dataset(config.data)
    held = dataset.part(split)[0].text
    almost = held.replace(".", " !")
    path = write_predictions(tmp_path / "more.jsonl", [held, almost, NEW[0]], np.full((3, 4), 0.5))
    data = config.data.model_copy(update={"pseudo_labels": (path,)})
    examples = make_pseudo_examples(dataset, config.model_copy(update={"data": data}))
    assert examples.texts == [NEW[0]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"text": ""}, "'u0#0' has no text"),
        ({"probabilities": {"transit": 0.5}}, "no probability of 'security'"),
    ],
)
def test_predictions_that_cannot_teach_are_refused(config, tmp_path, changes, message):
    path = write_predictions(tmp_path / "bad.jsonl", NEW[:1], np.full((1, 4), 0.5), **changes)
    data = config.data.model_copy(update={"pseudo_labels": (path,)})
    with pytest.raises(DataError, match=message):
        make_pseudo_examples(load_dataset(config.data), config.model_copy(update={"data": data}))


def test_a_student_learns_from_its_teacher_and_the_record_says_from_which(config, tmp_path):
    student = train(config, tmp_path / "run")
    plain = config.model_copy(update={"data": config.data.model_copy(update={"pseudo_labels": ()})})
    untaught = train(plain, tmp_path / "plain")
    transit = student.topics.index("transit")
    at_ships = [
        clf.predict_proba(["کشتی‌های بزرگ"], ["fa"])[0, transit] for clf in (student, untaught)
    ]
    assert at_ships[0] > at_ships[1]
    record = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))
    assert "pseudo_labels pseudo.jsonl" in record["data"]


def test_files_of_one_name_have_each_its_checksum(config, tmp_path):
    paths = tuple(tmp_path / folder / "pseudo.jsonl" for folder in ("a", "b"))
    for path in paths:
        path.parent.mkdir()
        write_predictions(path, [path.parent.name], np.full((1, 4), 0.5))
    data = config.data.model_copy(update={"pseudo_labels": paths})
    found = pseudo_checksums(config.model_copy(update={"data": data}))
    assert len(set(found.values())) == len(found) == 2


def test_pseudo_labels_that_are_not_there_are_refused(config, tmp_path):
    data = config.data.model_copy(update={"pseudo_labels": (tmp_path / "none.jsonl",)})
    with pytest.raises(DataError, match=r"none\.jsonl: cannot read the pseudo-labels: No such"):
        pseudo_checksums(config.model_copy(update={"data": data}))
