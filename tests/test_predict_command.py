import csv
import errno
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from batch_stubs import SENTENCES, TOPICS, save_lexicon_model, write_articles

from relclass.cli import main


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_lexicon_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def archive(tmp_path):
    folder = tmp_path / "archive"
    folder.mkdir()
    write_articles(folder / "a.jsonl", 5, n_sentences=3)
    write_articles(folder / "b.jsonl", 4, n_sentences=3, first=5)
    return folder


@pytest.fixture
def run(capfd, model):
    """Run the command; give its exit code, standard output and standard error."""

    def run_command(*arguments):
        with pytest.raises(SystemExit) as stop:
            main(["predict", "--model", model, *map(str, arguments)])
        out, err = capfd.readouterr()
        return stop.value.code, out, err

    return run_command


def break_a_line(archive):
    with (archive / "a.jsonl").open("ab") as stream:
        stream.write(b'{"id": "cut", "text": "half \xff\n')


def test_without_output_a_table_of_every_passage_is_printed(run, archive):
    code, out, err = run(archive)
    assert code == 0
    assert out.count("Title ") == 9
    assert re.search(r"1 +transit +\d+ % +The railway", out)
    assert "9 articles read = 9 labelled + 0 refused; 27 passages" in err


def test_a_minus_gives_json_lines_on_standard_output_and_nothing_else(run, archive):
    code, out, _ = run(archive, "--output", "-")
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert len(rows) == 27
    assert set(rows[0]["probabilities"]) == set(TOPICS)
    assert rows[0]["model"] == "tiny"


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.zst", ".csv", ".parquet"])
def test_an_output_file_is_written_by_its_suffix(run, archive, tmp_path, suffix):
    code, _, err = run(archive, "--output", tmp_path / f"topics{suffix}")
    assert code == 0
    assert "9 articles read = 9 labelled + 0 refused; 27 passages; 27 records in" in err


def test_the_file_holds_what_the_pipe_gives(run, archive, tmp_path):
    _, out, _ = run(archive, "--output", "-")
    run(archive, "--output", tmp_path / "topics.jsonl")
    assert (tmp_path / "topics.jsonl").read_text(encoding="utf-8") == out


def test_articles_are_the_unit_on_demand(run, archive, tmp_path):
    code, _, _ = run(archive, "--unit", "article", "--output", tmp_path / "topics.csv")
    rows = list(csv.DictReader((tmp_path / "topics.csv").open(encoding="utf-8")))
    assert code == 0
    assert len(rows) == 9
    assert {row["n_passages"] for row in rows} == {"3"}
    assert ";" in rows[0]["topics"]
    _, out, _ = run(archive, "--unit", "article")
    assert re.search(r"transit in 1 of 3 passages", out)


@pytest.mark.parametrize("output", [None, "-", "topics.parquet"])
def test_a_broken_record_costs_only_itself_and_the_exit_code_says_so(
    run, archive, tmp_path, output
):
    break_a_line(archive)
    where = [] if output is None else ["--output", output]
    where = ["--output", tmp_path / output] if output == "topics.parquet" else where
    code, _, err = run(archive, *where)
    assert code == 2
    assert "10 articles read = 9 labelled + 1 refused; 27 passages" in err
    if output == "topics.parquet":
        (line,) = (tmp_path / "topics.parquet.rejects.jsonl").read_text().splitlines()
        reject = json.loads(line)
        assert reject["file"].endswith("a.jsonl") and reject["line"] == 6
        assert reject["raw_encoding"] == "base64"
    else:
        assert re.search(r"refused: .*a\.jsonl:6: ", err)


@pytest.mark.parametrize("output", [None, "topics.jsonl"])
def test_fail_fast_stops_with_the_place_of_the_record(run, archive, tmp_path, output):
    break_a_line(archive)
    where = [] if output is None else ["--output", tmp_path / output]
    code, _, err = run(archive, "--fail-fast", *where)
    assert code == 1
    assert re.search(r"^relclass: .*a\.jsonl:6: ", err, re.MULTILINE)


def test_the_same_command_again_says_that_all_is_done(run, archive, tmp_path):
    output = tmp_path / "topics.jsonl"
    run(archive, "--output", output)
    code, _, err = run(archive, "--output", output)
    assert code == 0
    assert "topics.jsonl: done before by the same job" in err


def test_an_output_of_another_job_is_replaced_only_on_demand(run, archive, tmp_path):
    output = tmp_path / "topics.jsonl"
    run(archive, "--output", output)
    code, _, err = run(archive / "a.jsonl", "--output", output)
    assert code == 1
    assert re.search(r"relclass: .*b\.jsonl: the input changed: it is no longer among", err)
    code, _, _ = run(archive / "a.jsonl", "--output", output, "--overwrite")
    assert code == 0
    assert len(output.read_text(encoding="utf-8").splitlines()) == 15


def test_several_workers_write_the_same(run, archive, tmp_path):
    run(archive, "--output", tmp_path / "one.csv")
    code, _, _ = run(archive, "--output", tmp_path / "two.csv", "--workers", "2")
    assert code == 0
    assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "two.csv").read_bytes()


def test_other_columns_are_named_by_options(run, tmp_path):
    path = tmp_path / "news.csv"
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([["nr", "body"], ["n1", SENTENCES[0]], ["n2", SENTENCES[1]]])
    code, out, _ = run(path, "--text-column", "body", "--id-column", "nr", "--output", "-")
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [(row["article_id"], row["topics"]) for row in rows] == [
        ("n1", ["transit"]),
        ("n2", ["energy"]),
    ]


def test_the_summary_has_a_row_a_month_and_is_written_beside_the_output(run, archive, tmp_path):
    output = tmp_path / "topics.parquet"
    code, out, _ = run(archive, "--summary", "--output", output)
    assert code == 0
    assert "2023-01" in out and "2023-09" in out
    rows = list(csv.DictReader((tmp_path / "topics.parquet.summary.csv").open(encoding="utf-8")))
    assert len(rows) == 9 * len(TOPICS)
    assert (tmp_path / "topics.parquet.summary.png").stat().st_size > 1000


def test_the_summary_of_a_stream_counts_the_same(run, archive, tmp_path):
    _, stream, _ = run(archive, "--summary")
    _, job, _ = run(archive, "--summary", "--output", tmp_path / "topics.jsonl")
    table = job[job.index("Share of passages") :]
    assert stream.endswith(table)
    _, out, err = run(archive, "--summary", "--output", "-")
    assert "Share of passages" not in out
    assert "Share of passages" in err


def test_an_unknown_suffix_model_or_option_is_a_usage_error(run, archive, tmp_path, model, capfd):
    code, _, err = run(archive, "--output", tmp_path / "topics.xlsx")
    assert (code, "cannot tell the format" in err) == (1, True)
    with pytest.raises(SystemExit) as stop:
        main(["predict", str(archive), "--model", "no-such-model"])
    assert stop.value.code == 1
    assert "relclass: model 'no-such-model'" in capfd.readouterr().err
    code, _, err = run(archive, "--unit", "word")
    assert code == 1


@pytest.mark.parametrize("output", [(), ("--output", "-")])
@pytest.mark.parametrize("options", [("--engine", "ray"), ("--workers", "7"), ("--overwrite",)])
def test_what_only_an_output_file_can_heed_is_refused_without_one(run, archive, output, options):
    code, out, err = run(archive, *output, *options)
    assert (code, out) == (1, "")
    assert f"{' '.join(options)}: for an output file only; name one with --output" in err


def relclass(*arguments, **options):
    command = [sys.executable, "-m", "relclass", "predict", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, check=False, **options)


def test_articles_come_through_a_pipe(archive, model):
    content = (archive / "a.jsonl").read_bytes()
    done = relclass("-", "--model", model, "--output", "-", input=content)
    assert done.returncode == 0, done.stderr.decode()
    rows = [json.loads(line) for line in io.BytesIO(done.stdout)]
    assert len(rows) == 15


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's full device")
@pytest.mark.parametrize("output", [[], ["--output", "-"]])
def test_a_full_disk_behind_standard_output_is_one_message(archive, model, output):
    command = [sys.executable, "-m", "relclass", "predict", str(archive), "--model", model]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*command, *output], stdout=full, stderr=subprocess.PIPE, check=False, text=True
        )
    assert done.returncode == 1
    assert done.stderr.startswith("relclass: standard output: cannot write there: No space left")
    assert len(done.stderr.splitlines()) == 1


def test_a_summary_that_must_not_be_written_is_one_message(run, archive, tmp_path, monkeypatch):
    def refuse(summary, path):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr("relclass.summary.Summary.write_csv", refuse)
    code, _, err = run(archive, "--summary", "--output", tmp_path / "topics.jsonl")
    assert code == 1
    assert "topics.jsonl.summary.csv: cannot write there: Permission denied" in err


def test_a_reader_that_has_seen_enough_is_no_error(archive, model, tmp_path):
    write_articles(tmp_path / "many.jsonl", 400)
    command = f"{sys.executable} -m relclass predict {tmp_path}/many.jsonl --model {model}"
    done = subprocess.run(
        ["bash", "-c", f"{command} --output - | head -n 1"], capture_output=True, check=False
    )
    assert len(done.stdout.splitlines()) == 1
    assert b"Traceback" not in done.stderr and b"BrokenPipe" not in done.stderr


def test_predicting_imports_no_torch_and_no_ray(archive, model, tmp_path):
    script = (
        "import sys\nfrom relclass.cli import main\n"
        f"try:\n    main(['predict', {str(archive)!r}, '--model', {model!r},"
        f" '--output', {str(tmp_path / 'topics.parquet')!r}])\n"
        "except SystemExit as stop:\n    assert stop.code == 0\n"
        "heavy = {'torch', 'transformers', 'datasets', 'ray', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()


PEAK = """
import sys
from relclass.benchmark.measure import peak_mb
from relclass.cli import main
try:
    main(sys.argv[1:])
except SystemExit as stop:
    assert stop.code == 0
print(peak_mb())
"""


def peak_of(*arguments):
    done = subprocess.run(
        [sys.executable, "-c", PEAK, "predict", *map(str, arguments)],
        capture_output=True,
        check=False,
        env={**os.environ, "MALLOC_ARENA_MAX": "2"},
    )
    assert done.returncode == 0, done.stderr.decode()
    return float(done.stdout.split()[-1])


def test_memory_does_not_grow_with_the_archive(model, tmp_path):
    short = write_articles(tmp_path / "short.jsonl", 500)
    long = write_articles(tmp_path / "long.jsonl", 5000)
    options = ("--model", model, "--output")
    small = peak_of(short, *options, tmp_path / "short-topics.jsonl")
    large = peak_of(long, *options, tmp_path / "long-topics.jsonl")
    assert large < small + 15  # ten times the articles, 3 MB of text
    assert large < 600
