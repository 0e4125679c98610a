import json

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from relclass.commands import data
from relclass.errors import DataError
from relclass.labelled import read_labelled, write_labelled
from relclass.records import LabelledPassage
from relclass.split_file import text_hash

CODEBOOK_YAML = """
version: "1"
topics:
  - {name: security, definition: force}
  - {name: energy, definition: power}
"""
REAL = "پالایشگاه تبریز از فردا بنزین یورو پنج می‌دهد. صف‌ها کوتاه شده است."
PASSAGES = [
    LabelledPassage(f"a{n // 2}/{n % 2}", f"a{n // 2}", f"متن {n * 7919} {'ابپتثجچح'[n % 8] * 8}",
                    "fa", (("energy",), (), ("security",))[n % 3])
    for n in range(40)
]  # fmt: skip


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Stand in a folder with a codebook, 20 articles and one label of a real passage."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data" / "articles").mkdir(parents=True)
    (tmp_path / "data" / "codebook.yaml").write_text(CODEBOOK_YAML)
    write_labelled(PASSAGES, tmp_path / "data" / "articles" / "a.jsonl")
    label = {"id": text_hash(REAL), "lang": "fa", "repo": "o/r", "path": "n.txt", "doc": "1",
             "para": 0, "topics": ["energy"], "unsure": []}  # fmt: skip
    (tmp_path / "data" / "real_labels.jsonl").write_text(json.dumps(label) + "\n")
    (tmp_path / "o" / "r").mkdir(parents=True)
    (tmp_path / "o" / "r" / "n.txt").write_text(f"عنوان خبر\n{REAL} پایان.\n", "utf-8")
    return tmp_path


def run(*arguments):
    app = typer.Typer()
    data.register(app)
    app.callback()(lambda: None)
    result = CliRunner().invoke(app, ["data", *map(str, arguments)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_split_then_describe_then_check(project):
    assert "version 1; 20 articles and 0 real passages (+20)" in run("split").output
    assert "version 1, nothing to add" in run("split").output
    described = run("describe", "--markdown").output
    assert "| authored | fa | 20 | 40 | 13 | 14 | 13 |" in described
    checked = run("check", "--no-label-errors", "--output", "report.json")
    assert checked.exit_code == 0
    assert "0  passages of one article are in two splits" in checked.output
    report = json.loads((project / "report.json").read_text("utf-8"))
    assert report["counts"]["duplicate_leak"] == 0 and "label_error" not in report["counts"]


def test_the_table_in_a_terminal_shows_every_column(project):
    output = run("describe", "--real-labels", "data/real_labels.jsonl").output
    assert "By language" in output and "90 % within" in output and "text not at hand" in output


def test_a_leak_is_shown_and_ends_with_one(project, monkeypatch):
    run("split")
    splits = json.loads((project / "data" / "splits.json").read_text())
    twin = LabelledPassage("z/0", "z", PASSAGES[0].text + "!", "fa", ())
    write_labelled([*PASSAGES, twin], project / "data" / "articles" / "a.jsonl")
    run("split")
    made = json.loads((project / "data" / "splits.json").read_text())
    assert made["articles"]["z"] == splits["articles"]["a0"]
    made["articles"]["z"] = "test" if made["articles"]["z"] != "test" else "train"
    (project / "data" / "splits.json").write_text(json.dumps(made))
    checked = run("check", "--no-label-errors")
    assert checked.exit_code == 1
    assert "1  near-duplicates are in two splits" in checked.output
    assert "one is in" in checked.output and "energy / no topic" in checked.output


def test_likely_label_errors_are_listed_with_their_text(project, monkeypatch):
    run("split")
    y_prob = np.array([[name in p.topics for name in ("security", "energy")] for p in PASSAGES])
    y_prob = np.where(y_prob, 0.9, 0.1)
    y_prob[0] = [0.1, 0.02]
    monkeypatch.setattr("relclass.quality.predict_out_of_fold", lambda *_: y_prob)
    output = run("check").output
    assert "has energy" in output and "0.020" in output and PASSAGES[0].text[:9] in output


def test_texts_are_rebuilt_and_then_used(project):
    output = run("hydrate", project, "-o", "texts.jsonl", "--named-files-only").output
    assert "texts.jsonl: 1 of 1 texts" in output and "o/r" in output
    options = ("--real-labels", "data/real_labels.jsonl", "--real-texts", "texts.jsonl")
    assert "20 articles and 1 real passages (+21)" in run("split", *options).output
    assert "| real | fa | 1 | 1 | 0 | 1 | 0 |" in run("describe", "--markdown", *options).output


def test_a_split_without_the_real_passages_is_refused_unless_they_are_to_be_forgotten(project):
    run("hydrate", project, "-o", "texts.jsonl")
    run("split", "--real-labels", "data/real_labels.jsonl", "--real-texts", "texts.jsonl")
    with pytest.raises(DataError, match="it holds 1 real passages"):
        run("split")
    assert "20 articles and 0 real passages (-1)" in run("split", "--forget").output


def test_data_of_ones_own_are_led_to_a_splits_file_of_their_own(project):
    run("split")
    own = project / "own.jsonl"
    write_labelled([LabelledPassage("o/0", "o", "قطار باری به مرز رسید", "fa", ())], own)
    with pytest.raises(DataError, match=r"'o' has no split; .* --splits own/splits\.json"):
        run("check", "--authored", own)
    with pytest.raises(DataError, match="another file as --splits"):
        run("split", "--authored", own)
    options = ("--authored", own, "--splits", "own_splits.json")
    assert "1 articles" in run("split", *options).output
    assert run("check", *options, "--no-label-errors").exit_code == 0


@pytest.mark.parametrize("name", ["out.json", "out.csv", "out.jsonl"])
def test_labels_are_converted_there_and_back(project, name):
    assert "40 passages as" in run("convert", "data/articles", name).output
    run("convert", name, "back.jsonl")
    from relclass.codebook import load_codebook

    codebook = load_codebook("data/codebook.yaml")
    assert read_labelled("back.jsonl", codebook) == PASSAGES


def test_doccano_is_written_when_asked_and_known_when_read(project):
    assert (
        "40 passages as doccano"
        in run("convert", "data/articles", "d.jsonl", "--to", "doccano").output
    )
    assert '"label": ["energy"]' in (project / "d.jsonl").read_text("utf-8")
    assert "40 passages as labelled" in run("convert", "d.jsonl", "back.csv").output


def test_agreement_names_figures_and_disagreements(project):
    from dataclasses import replace

    other = [replace(PASSAGES[0], topics=("security",)), *PASSAGES[1:30]]
    write_labelled(other, "other.csv")
    result = run("agreement", "data/articles/a.jsonl", "other.csv", "--output", "agreement.json")
    assert "30 passages labelled twice or more" in result.output
    assert "1 disagreements" in result.output and "other: security" in result.output
    assert "sets (MASI)" in result.output
    content = json.loads((project / "agreement.json").read_text("utf-8"))
    assert content["n_unpaired"] == {"a": 10, "other": 0}
    assert 0.9 < content["alpha_masi"] < 1


def test_what_is_undefined_is_said_so(project):
    rows = [LabelledPassage(str(n), str(n), "متن", "fa", ()) for n in range(3)]
    write_labelled(rows, "one.csv")
    write_labelled(rows, "two.csv")
    assert "undefined" in run("agreement", "one.csv", "two.csv").output


def export(project):
    choice = {"type": "choices", "value": {"choices": ["energy"]}}
    task = {"id": 1, "data": {"text": "متن", "language": "fa"},
            "annotations": [{"result": [choice], "completed_by": 7},
                            {"result": [], "completed_by": 8}]}  # fmt: skip
    (project / "export.json").write_text(json.dumps([task]), "utf-8")


def test_annotators_of_one_export_are_compared(project):
    export(project)
    assert "1 disagreements" in run("agreement", "export.json").output


def test_one_of_several_annotators_must_be_chosen_to_convert(project):
    export(project)
    with pytest.raises(DataError, match=r"several annotators; choose with --annotator 7\|8"):
        run("convert", "export.json", "out.csv")
    with pytest.raises(DataError, match="no annotator '9'; there are 7, 8"):
        run("convert", "export.json", "out.csv", "--annotator", "9")
    assert "1 passages" in run("convert", "export.json", "out.csv", "--annotator", "8").output


def test_one_annotator_alone_is_refused(project):
    with pytest.raises(DataError, match="the labels of one annotator alone"):
        run("agreement", "data/articles")
    with pytest.raises(DataError, match="given twice"):
        run("agreement", "data/articles", "data/articles", "data/articles")


@pytest.mark.parametrize("script", ["make_splits", "hydrate"])
def test_the_scripts_hand_over_to_the_command_line(script, monkeypatch):
    import runpy
    import sys

    monkeypatch.setattr(sys, "argv", [f"{script}.py", "--help"])
    handed = []
    monkeypatch.setattr("relclass.cli.main", handed.append)
    runpy.run_path(f"scripts/{script}.py", run_name="__main__")
    assert handed == [["data", {"make_splits": "split", "hydrate": "hydrate"}[script], "--help"]]
