import json
import runpy
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from evaluation_data import CODEBOOK, make_gold, make_output, make_predictions, marks_of
from test_predictions_file import to_row, write_jsonl

from relclass.calibration import Calibration
from relclass.cli import main
from relclass.codebook import Codebook, Topic
from relclass.comparison import Comparison
from relclass.config import BaselineSettings, NormalizeSettings
from relclass.evaluation import read_evaluation
from relclass.labelled import write_labelled
from relclass.models.base import Classifier
from relclass.models.baseline import fit_baseline
from relclass.models.store import load_model, save_model

GOLD = make_gold(12)
SMALL = BaselineSettings(min_df=1, max_word_features=200, max_char_features=200)


def run(capsys, *arguments):
    """Run the command line; returns its exit code, output and complaints."""
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    printed = capsys.readouterr()
    return caught.value.code, printed.out, printed.err


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Gold, a codebook, a fitted model folder, and predictions of two skills."""
    folder = tmp_path_factory.mktemp("files")
    write_labelled(GOLD, folder / "gold.jsonl")
    codebook = json.dumps(CODEBOOK.model_dump(mode="json"))
    (folder / "codebook.yaml").write_text(codebook, encoding="utf-8")
    texts = [p.text for p in GOLD]
    scorer = fit_baseline(texts, marks_of(GOLD).astype(np.float32), None, SMALL)
    save_model(
        Classifier("small", CODEBOOK, scorer, NormalizeSettings(), Calibration(), np.full(4, 0.5)),
        folder / "model",
    )
    for name, skill in (("good.jsonl", 0.45), ("poor.jsonl", 0.1)):
        predictions = make_predictions(GOLD, *make_output(GOLD, skill=skill))
        write_jsonl(folder / name, [to_row(prediction) for prediction in predictions])
    return folder


def data(files):
    return "--data", files / "gold.jsonl", "--codebook", files / "codebook.yaml"


def test_a_model_is_evaluated_and_written_in_every_format(capsys, files, tmp_path):
    outputs = [tmp_path / f"e{suffix}" for suffix in (".json", ".html", ".md")]
    flags = [part for path in outputs for part in ("--output", path)]
    code, out, _ = run(capsys, "evaluate", files / "model", *data(files), "--resamples", 20, *flags)
    assert code == 0
    assert "karabakh" in out and "macro" in out
    evaluation = read_evaluation(outputs[0])
    assert (evaluation.model, evaluation.data) == ("small", "gold.jsonl")
    assert evaluation.bootstrap.n_resamples == 20
    assert outputs[1].read_text("utf-8").startswith("<!doctype html>")
    assert outputs[2].read_text("utf-8").startswith("## small")


def test_predictions_on_disk_are_evaluated_without_a_model(capsys, files, tmp_path):
    code, _, _ = run(
        capsys, "evaluate", *data(files), "--predictions", files / "good.jsonl",
        "--resamples", 0, "--mistakes", 2, "-o", tmp_path / "e.json",
    )  # fmt: skip
    assert code == 0
    evaluation = read_evaluation(tmp_path / "e.json")
    assert evaluation.model == "good.jsonl" and len(evaluation.mistakes) == 2


def test_predictions_that_lack_passages_are_refused_unless_partial(capsys, files, tmp_path):
    rows = (files / "good.jsonl").read_text("utf-8").splitlines(keepends=True)
    (tmp_path / "part.jsonl").write_text("".join(rows[:9]), encoding="utf-8")
    arguments = ("evaluate", *data(files), "--predictions", tmp_path / "part.jsonl",
                 "--resamples", 0)  # fmt: skip
    code, _, err = run(capsys, *arguments)
    assert code == 1 and "27 gold passages have no prediction" in err and "--partial" in err
    code, out, _ = run(capsys, *arguments, "--partial")
    assert code == 0 and "9 passages of 3" in out.replace("\n", " ")


def test_models_are_compared(capsys, files, tmp_path):
    code, out, _ = run(
        capsys, "compare", files / "poor.jsonl", files / "good.jsonl", files / "model",
        *data(files), "--resamples", 50, "--shuffles", 200, "-o", tmp_path / "c.json",
        "-o", tmp_path / "c.md",
    )  # fmt: skip
    assert code == 0 and "verdict" in out
    comparison = Comparison.from_json((tmp_path / "c.json").read_text("utf-8"))
    assert comparison.models == ("poor.jsonl", "good.jsonl", "small")
    assert comparison.differences[0].verdict == "second"
    assert "good.jsonl is better" in (tmp_path / "c.md").read_text("utf-8")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("compare", "one"), "give two or more models"),
        (("evaluate", "no-such-model"), "no-such-model"),
        (("evaluate", "--output", "x.pdf"), "expected an output named .html"),
        (("evaluate", "--origin", "press"), "expected real or authored"),
        (("evaluate", "--seed", "-1"), "Invalid value for '--seed'"),
        (("cross-validate", "x.yaml", "--seed", "-1"), "Invalid value for '--seed'"),
        (("cross-validate", "x.yaml", "--share", "0"), "Invalid value for '--share'"),
        (("cross-validate", "x.yaml", "--share", "1.5"), "Invalid value for '--share'"),
        (("cross-validate", "x.yaml", "--origin", "press"), "Invalid value for '--origin'"),
        (("report", "none.json"), "cannot read the evaluation"),
        (("report", "none.jsonl"), "cannot read the file"),
        (("report", "a.json", "b.jsonl"), "not both"),
        (("report", "a.json", "-o", "x.pdf"), "expected an output named .html"),
    ],
)
def test_wrong_arguments_end_with_a_message(capsys, files, monkeypatch, arguments, message):
    monkeypatch.chdir(files)
    known = data(files) if arguments[0] in ("evaluate", "compare") else ()
    code, _, err = run(capsys, *arguments, *known)
    assert code == 1 and message in err and "Traceback" not in err


def test_a_config_is_cross_validated(capsys, files, tmp_path, monkeypatch):
    monkeypatch.setattr("relclass.cross_validation.find_near_duplicates", lambda texts: [])
    splits = {"version": 1, "seed": 0, "shares": [0.7, 0.15, 0.15], "checksum": {},
              "articles": {}, "passages": {}}  # fmt: skip
    (tmp_path / "splits.json").write_text(json.dumps(splits), encoding="utf-8")
    from relclass.dataset import Dataset

    names = np.array(["train", "validation", "test"] * 12)
    dataset = Dataset(passages=tuple(GOLD), splits=names, codebook=CODEBOOK)
    monkeypatch.setattr("relclass.dataset.load_dataset", lambda settings: dataset)
    config = tmp_path / "small.yaml"
    config.write_text(f"name: small\nmodel: {SMALL.model_dump_json()}\n", encoding="utf-8")
    code, out, _ = run(
        capsys, "cross-validate", config, "--folds", 2, "--seed", 3, "--share", 0.5,
        "-o", tmp_path / "cv.json", "-o", tmp_path / "cv.md",
    )  # fmt: skip
    assert code == 0 and "training articles" in out
    written = json.loads((tmp_path / "cv.json").read_text("utf-8"))
    assert written["name"] == "small" and written["seeds"] == [3]
    assert sum(f["n_test_passages"] for f in written["folds"] if f["share"] == 1) == 24
    assert "### Learning curve" in (tmp_path / "cv.md").read_text("utf-8")


def test_a_report_is_made_of_evaluations(capsys, files, tmp_path):
    for name in ("good", "poor"):
        run(capsys, "evaluate", *data(files), "--predictions", files / f"{name}.jsonl",
            "--resamples", 0, "-o", tmp_path / f"{name}.json")  # fmt: skip
    code, out, _ = run(
        capsys, "report", tmp_path / "good.json", tmp_path / "poor.json",
        "-o", tmp_path / "page.html", "--title", "Two models",
    )  # fmt: skip
    assert code == 0 and "page.html" in out
    page = (tmp_path / "page.html").read_text("utf-8")
    assert "<title>Two models</title>" in page and "Models side by side" in page


def test_a_report_is_made_of_labelled_articles(capsys, files, tmp_path):
    articles = tmp_path / "articles.jsonl"
    rows = [
        {"id": f"a{k}", "title": f"عنوان {k}", "date": f"2021-{1 + k % 12:02d}-05",
         "text": "\n".join(p.text for p in GOLD if p.article_id == f"a{k}")}
        for k in range(12)
    ]  # fmt: skip
    write_jsonl(articles, rows)
    code, _, err = run(
        capsys, "report", files / "good.jsonl", "--articles", articles,
        "-o", tmp_path / "read.html", "--max-articles", 10,
    )  # fmt: skip
    assert code == 0 and "12 articles; the page shows the newest 10" in err
    page = (tmp_path / "read.html").read_text("utf-8")
    assert "عنوان 11" in page and "timeline" in page
    assert "عنوان 0<" not in page


def test_a_report_without_dates_shows_the_first_articles(capsys, files, tmp_path):
    arguments = ("report", files / "good.jsonl", "-o", tmp_path / "read.html")
    code, _, err = run(capsys, *arguments, "--max-articles", 10)
    assert code == 0 and "12 articles; the page shows the first 10" in err


def test_a_report_reads_articles_by_the_columns_named_and_goes_past_a_broken_one(
    capsys, files, tmp_path
):
    rows = [
        {
            "nid": f"a{k}",
            "head": f"عنوان {k}",
            "day": "2021-03-05",
            "agency": "نمونه",
            "body": "متن",
        }
        for k in range(12)
    ]
    path = write_jsonl(tmp_path / "articles.jsonl", rows)
    lines = path.read_text("utf-8").splitlines()
    path.write_text("\n".join([*lines[:4], '{"nid": ', *lines[5:]]) + "\n", encoding="utf-8")
    code, out, err = run(
        capsys, "report", files / "good.jsonl", "--articles", path, "-o", tmp_path / "read.html",
        "--text-column", "body", "--id-column", "nid", "--title-column", "head",
        "--date-column", "day", "--source-column", "agency",
    )  # fmt: skip
    assert code == 2 and "wrote" in out
    assert "refused 1, the first: " in err and "articles.jsonl:5: " in err
    page = (tmp_path / "read.html").read_text("utf-8")
    assert "عنوان 3" in page and "عنوان 4" not in page
    assert "2021-03-05" in page and "نمونه" in page and 'id="a11"' in page


def test_the_script_does_what_the_command_does(monkeypatch, capsys, files):
    script = Path(__file__).parents[1] / "scripts" / "evaluate.py"
    arguments = ["evaluate", "--predictions", files / "good.jsonl", "--resamples", 0, *data(files)]
    monkeypatch.setattr(sys, "argv", [str(script), *map(str, arguments[1:])])
    with pytest.raises(SystemExit) as caught:
        runpy.run_path(str(script), run_name="__main__")
    assert caught.value.code == 0
    assert "good.jsonl on gold.jsonl" in capsys.readouterr().out


def test_gold_that_was_changed_since_is_noticed(capsys, files, tmp_path):
    changed = [replace(GOLD[0], text="متن دیگر"), *GOLD[1:]]
    write_labelled(changed, tmp_path / "gold.jsonl")
    code, _, err = run(
        capsys, "evaluate", "--data", tmp_path / "gold.jsonl", "--codebook",
        files / "codebook.yaml", "--predictions", files / "good.jsonl",
    )  # fmt: skip
    assert code == 1 and "its text is not the gold passage's" in err


def test_a_labelled_file_is_read_by_the_models_own_codebook(capsys, files, tmp_path, monkeypatch):
    own = Codebook(version="7", topics=(Topic(name="trade", definition="x"), *CODEBOOK.topics))
    marks = np.hstack([np.eye(len(GOLD), 1, dtype=np.float32), marks_of(GOLD)])
    scorer = fit_baseline([p.text for p in GOLD], marks, None, SMALL)
    save_model(
        Classifier("own", own, scorer, NormalizeSettings(), Calibration(), np.full(5, 0.5)),
        tmp_path / "model",
    )
    gold = [replace(GOLD[0], topics=("trade",)), *GOLD[1:]]
    write_labelled(gold, tmp_path / "gold.jsonl")
    monkeypatch.chdir(tmp_path)  # where no data/codebook.yaml lies
    code, out, _ = run(capsys, "evaluate", "model", "--data", "gold.jsonl", "--resamples", 0)
    assert code == 0 and "trade" in out
    save_model(load_model("model"), tmp_path / "twin")
    options = ("--data", "gold.jsonl", "--resamples", 0, "--shuffles", 10)
    code, out, _ = run(capsys, "compare", "model", "twin", *options)
    assert code == 0 and "within" in out


def test_names_are_printed_whole_and_as_they_are(capsys, files, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    for folder in ("first", "second"):
        (tmp_path / folder).mkdir()
        rows = (files / "good.jsonl").read_bytes()
        (tmp_path / folder / "preds[fa].jsonl").write_bytes(rows)
    paths = [tmp_path / folder / "preds[fa].jsonl" for folder in ("first", "second")]
    flags = [part for path in paths for part in ("--predictions", path)]
    code, out, _ = run(
        capsys, "evaluate", *data(files), *flags, "--resamples", 0, "-o", tmp_path / "e.md"
    )
    assert code == 0 and "preds[fa].jsonl on gold.jsonl" in out.replace("\n", " ")
    written = (tmp_path / "e.md").read_text("utf-8").replace("\\", "")
    assert "\n## preds[fa].jsonl\n" in written and f"\n## {paths[1]}\n" in written
    code, out, _ = run(capsys, "compare", *paths, *data(files), "--resamples", 50, "--shuffles", 10)
    assert code == 0 and "…" not in out
    first_column = "".join(line.split("│")[1].strip() for line in out.splitlines() if "│" in line)
    assert "macro_average_precision" in first_column
