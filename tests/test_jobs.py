import errno
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from batch_stubs import SENTENCES, save_lexicon_model, write_articles

import relclass.parts
from relclass.chunks import ChunkSource
from relclass.errors import ConfigError, DataError
from relclass.job_folder import list_files
from relclass.jobs import Job, Workforce, choose_workforce, run_job
from relclass.loading import model_reference
from relclass.passages import PassageSettings
from relclass.writers import SUFFIXES


@pytest.fixture
def model(tmp_path):
    return save_lexicon_model(tmp_path / "model")


@pytest.fixture
def job(tmp_path, model):
    """Twenty parts or so, a broken line among them."""
    path = write_articles(tmp_path / "a.jsonl", 60)
    with path.open("a", encoding="utf-8") as stream:
        stream.write('{"id": "cut", "text": "half a li\n')
    other = write_articles(tmp_path / "b.jsonl", 40, first=60)
    return Job(
        inputs=(str(path), str(other)),
        output=tmp_path / "out.jsonl",
        model=model_reference(model),
        chunk_chars=3000,
    )


class Interrupted(Exception):
    pass


def interrupt_after(n_parts):
    """Give a callback that stands for a kill once so many new parts are written."""
    left = n_parts

    def on_part(part, is_new):
        nonlocal left
        left -= is_new
        if left < 0:
            raise Interrupted

    return on_part


def interrupt(job, n_parts=3, **options):
    with pytest.raises(Interrupted):
        run_job(job, on_part=interrupt_after(n_parts), **options)
    assert not job.output.exists()


def read_rows(path):
    return [json.loads(line) for line in path.open(encoding="utf-8")]


def test_every_passage_is_written_once_and_the_counts_agree(job):
    report = run_job(job)
    rows = read_rows(job.output)
    assert len(rows) == len({row["passage_id"] for row in rows}) == report.n_written == 600
    assert (report.n_read, report.n_articles, report.n_rejects) == (101, 100, 1)
    assert [row["article_id"] for row in rows[::6]] == [f"article-{n:06d}" for n in range(100)]
    (reject,) = read_rows(job.rejects)
    assert reject["file"] == job.inputs[0] and reject["line"] == 61
    assert reject["raw"].startswith('{"id": "cut"')


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_interrupted_job_gives_the_same_bytes(job, tmp_path, suffix):
    whole = replace(job, output=tmp_path / f"whole{suffix}")
    broken = replace(job, output=tmp_path / f"broken{suffix}")
    run_job(whole)
    for n_parts in (0, 1, 4):
        interrupt(broken, n_parts)
    old = []
    report = run_job(broken, on_part=lambda part, is_new: old.append(part) if not is_new else None)
    assert len(old) >= 5
    assert broken.output.read_bytes() == whole.output.read_bytes()
    assert broken.rejects.read_bytes() == whole.rejects.read_bytes()
    assert report == run_job_again(whole, was_done=False)


def run_job_again(job, *, was_done):
    return replace(run_job(job), was_done=was_done)


@pytest.mark.parametrize("unit", ["passage", "article"])
def test_two_workers_give_the_same_bytes_as_one(job, tmp_path, unit):
    one = replace(job, output=tmp_path / "one.jsonl", unit=unit)
    two = replace(job, output=tmp_path / "two.jsonl", unit=unit)
    assert run_job(one) == run_job(two, Workforce(n_workers=2))
    assert one.output.read_bytes() == two.output.read_bytes()


def test_the_size_of_parts_does_not_change_what_is_in_them(job, tmp_path):
    other = replace(job, output=tmp_path / "other.jsonl", chunk_chars=20_000)
    run_job(job)
    run_job(other)
    assert job.output.read_bytes() == other.output.read_bytes()


def test_only_the_counts_stay_in_the_run_folder(job):
    run_job(job)
    assert sorted(path.name for path in job.run_dir.iterdir()) == ["done.json", "job.json", "lock"]


def test_the_same_job_again_says_done_and_does_nothing(job):
    first = run_job(job)
    before = job.output.stat().st_mtime_ns
    again = run_job(job)
    assert again == replace(first, was_done=True)
    assert job.output.stat().st_mtime_ns == before


def test_a_finished_job_whose_output_is_gone_is_done_again(job):
    first = run_job(job)
    content = job.output.read_bytes()
    job.output.unlink()
    assert run_job(job) == first
    assert job.output.read_bytes() == content


def test_a_finished_output_that_was_changed_is_not_called_done(job):
    run_job(job)
    with job.output.open("a") as stream:
        stream.write("\n")
    with pytest.raises(ConfigError, match=r"out\.jsonl was changed since this job wrote it"):
        run_job(job)
    assert run_job(job, overwrite=True).was_done is False


def test_a_file_that_is_no_output_of_ours_is_not_replaced(job):
    job.output.write_text("precious")
    with pytest.raises(ConfigError, match=r"out\.jsonl is there already.*--overwrite"):
        run_job(job)
    assert job.output.read_text() == "precious"
    assert not job.run_dir.exists()
    run_job(job, overwrite=True)
    assert len(read_rows(job.output)) == 600


def test_a_kill_while_a_finished_job_is_cleared_can_be_gone_on_from(job, monkeypatch):
    run_job(job)
    content = job.output.read_bytes()
    unlink = Path.unlink
    with monkeypatch.context() as patch:

        def unlink_and_die(path, **options):
            unlink(path, **options)
            raise Interrupted

        patch.setattr(Path, "unlink", unlink_and_die)
        with pytest.raises(Interrupted):
            run_job(job, overwrite=True)
    run_job(job, overwrite=True)
    assert job.output.read_bytes() == content


def test_a_run_whose_parts_are_gone_is_gone_on_with(job):
    report = run_job(job)
    (job.run_dir / "done.json").unlink()
    assert run_job(job) == report


def test_overwriting_goes_on_with_its_own_interrupted_run(job):
    job.output.write_text("precious")
    with pytest.raises(Interrupted):
        run_job(job, overwrite=True, on_part=interrupt_after(3))
    assert job.output.read_text() == "precious"
    old = []
    run_job(job, overwrite=True, on_part=lambda part, is_new: old.append(is_new))
    assert old.count(False) == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"unit": "article"}, "the option unit was passage, now article"),
        ({"device": "cuda"}, "the option device was cpu, now cuda"),
        ({"chunk_chars": 4000}, "the option chunk_chars was 3000, now 4000"),
        (
            {"passages": PassageSettings(max_chars=900)},
            r"the option passages\.max_chars was 1200, now 900",
        ),
    ],
)
def test_other_options_on_resume_are_named(job, change, message):
    interrupt(job)
    with pytest.raises(ConfigError, match=f"unfinished run of another job: {message}"):
        run_job(replace(job, **change))


def test_another_model_on_resume_is_named(job, tmp_path):
    interrupt(job)
    words = {"security": "a", "transit": "b", "energy": "c", "karabakh": "d"}
    other = save_lexicon_model(tmp_path / "other", name="other", words=words)
    with pytest.raises(ConfigError, match=r"the model was tiny \(\w{12}\), now other \(\w{12}\)"):
        run_job(replace(job, model=model_reference(other)))


def test_a_model_trained_anew_under_the_same_name_is_another_model(job, model, tmp_path):
    interrupt(job)
    words = {"security": "a", "transit": "b", "energy": "c", "karabakh": "d"}
    save_lexicon_model(tmp_path / "model", words=words)
    with pytest.raises(ConfigError, match=r"the model was tiny \(\w{12}\), now tiny \(\w{12}\)"):
        run_job(replace(job, model=model_reference(model)))


def test_another_version_of_relclass_on_resume_is_named(job, monkeypatch):
    interrupt(job)
    monkeypatch.setattr("relclass.__version__", "99.0")
    with pytest.raises(ConfigError, match=r"relclass was \d+\.\d+\.\d+, now 99\.0"):
        run_job(job)


def test_an_input_that_grew_is_named(job):
    interrupt(job)
    write_articles(job.output.with_name("b.jsonl"), 41, first=60)
    with pytest.raises(DataError, match=r"b\.jsonl: the input changed: it has \d+ bytes, and had"):
        run_job(job)


def test_an_input_that_was_written_to_is_named(job):
    interrupt(job)
    os.utime(job.inputs[1], ns=(0, 0))
    with pytest.raises(DataError, match=r"b\.jsonl: the input changed: it was written to since"):
        run_job(job)


def test_an_input_that_was_missing_or_is_missing_now_is_named(job):
    content = Path(job.inputs[1]).read_bytes()
    os.unlink(job.inputs[1])
    interrupt(job)
    Path(job.inputs[1]).write_bytes(content)
    with pytest.raises(DataError, match=r"b\.jsonl: .* it was missing when the run was begun"):
        run_job(job)
    interrupt(job, overwrite=True)
    os.unlink(job.inputs[1])
    with pytest.raises(DataError, match=r"b\.jsonl: the input changed: it is missing now"):
        run_job(job)


def test_an_input_that_came_or_went_is_named(job, tmp_path):
    interrupt(job)
    with pytest.raises(DataError, match=r"b\.jsonl: .* it is no longer among the inputs"):
        run_job(replace(job, inputs=job.inputs[:1]))
    new = write_articles(tmp_path / "c.jsonl", 1, first=500)
    with pytest.raises(DataError, match=r"c\.jsonl: .* it was not among them"):
        run_job(replace(job, inputs=(*job.inputs, str(new))))
    with pytest.raises(DataError, match="another order"):
        run_job(replace(job, inputs=job.inputs[::-1]))


def test_an_input_that_changes_while_it_is_read_is_named(job):
    def touch(part, is_new):
        os.utime(job.inputs[0], ns=(0, 0))

    with pytest.raises(DataError, match=r"a\.jsonl: the input changed"):
        run_job(job, on_part=touch)
    assert not job.output.exists()


def test_an_output_that_would_overwrite_an_input_is_refused(job):
    with pytest.raises(
        ConfigError, match=r"a\.jsonl lies among the inputs \(.*a\.jsonl\), and the next run"
    ):
        run_job(replace(job, output=job.output.with_name("a.jsonl")), overwrite=True)


def test_a_folder_is_no_output(job):
    job.output.mkdir()
    with pytest.raises(ConfigError, match=r"out\.jsonl is a folder, but the output is one file"):
        run_job(job, overwrite=True)


def test_an_output_that_cannot_be_written_is_refused(job, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"out\.csv\.run: cannot write there: Not a directory"):
        run_job(replace(job, output=tmp_path / "file" / "out.csv"))


@pytest.mark.parametrize("where", ["relclass.parts.os.fsync", "relclass.jobs.join_parts"])
def test_a_place_where_one_must_not_write_is_named(job, monkeypatch, where):
    def refuse(*_):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), "some file")

    monkeypatch.setattr(where, refuse)
    message = "some file: cannot write there: Permission denied. Choose an output elsewhere"
    with pytest.raises(ConfigError, match=message):
        run_job(job)


def test_a_run_folder_that_cannot_be_locked_is_refused(job):
    (job.run_dir / "lock").mkdir(parents=True)  # a test may run as root, who may write anywhere
    with pytest.raises(ConfigError, match=r"out\.jsonl\.run: cannot write there: Is a directory"):
        run_job(job)


def test_a_disk_that_is_full_from_the_beginning_is_named(job, monkeypatch):
    def full(path, *_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    make = Path.mkdir
    monkeypatch.setattr(
        Path, "mkdir", lambda path, **o: full(path) if path.name == "parts" else make(path, **o)
    )
    with pytest.raises(DataError, match=r"out\.jsonl\.run/parts: no space left on the disk"):
        run_job(job)
    assert not job.run_dir.exists()


def test_two_processes_do_not_write_one_output(job):
    def run_inside(part, is_new):
        run_job(job)

    with pytest.raises(ConfigError, match="another process is writing this output"):
        run_job(job, on_part=run_inside)


def test_fail_fast_stops_at_the_refused_record_and_keeps_what_is_done(job):
    with pytest.raises(DataError, match=r"a\.jsonl:61: "):
        run_job(job, fail_fast=True)
    assert not job.output.exists()
    old = []
    assert run_job(job, on_part=lambda part, is_new: old.append(is_new)).n_rejects == 1
    assert old.count(False) > 3


def test_a_damaged_part_is_made_anew(job):
    interrupt(job, 5)
    part = job.run_dir / "parts" / "part-000002.data"
    content = part.read_bytes()
    part.write_bytes(content[:-10])
    with pytest.raises(DataError, match=r"part-000002\.data: not what was written there"):
        run_job(job)
    assert run_job(job).n_written == 600
    assert content in job.output.read_bytes()


def test_no_articles_give_an_empty_output(job, tmp_path):
    empty = tmp_path / "empty.jsonl"
    empty.write_text("")
    report = run_job(replace(job, inputs=(str(empty),), output=tmp_path / "none.csv"))
    assert (report.n_written, report.n_rejects) == (0, 1)
    assert (tmp_path / "none.csv").read_text().startswith("article_id,passage_id,")


def test_an_output_inside_an_input_folder_is_refused(job, tmp_path):
    (tmp_path / "archive" / "2023").mkdir(parents=True)
    write_articles(tmp_path / "archive" / "2023" / "a.jsonl", 1)
    inside = tmp_path / "archive" / "topics" / "out.csv"
    with pytest.raises(ConfigError, match=r"out\.csv lies among the inputs"):
        run_job(replace(job, inputs=(str(tmp_path / "archive"),), output=inside))
    assert not inside.parent.exists()


def test_a_file_that_came_into_a_folder_is_named(job, tmp_path):
    archive = tmp_path / "archive"
    archive.mkdir()
    write_articles(archive / "a.jsonl", 30)
    job = replace(job, inputs=(str(archive),))
    interrupt(job)
    write_articles(archive / "b.jsonl", 30, first=30)
    with pytest.raises(DataError, match=r"archive/b\.jsonl: .* it was not among them"):
        run_job(job)


def test_files_that_are_not_read_may_come_and_change(job, tmp_path):
    archive = tmp_path / "archive"
    archive.mkdir()
    write_articles(archive / "a.jsonl", 30)
    job = replace(job, inputs=(str(archive),))

    def log(part, is_new):
        with (archive / "run.log").open("a") as stream:
            stream.write("another part\n")

    assert run_job(job, on_part=log).n_articles == 30


def test_the_files_of_a_linked_folder_are_listed_once(tmp_path):
    for folder in ("archive", "elsewhere"):
        (tmp_path / folder).mkdir()
        write_articles(tmp_path / folder / "a.jsonl", 1)
    (tmp_path / "archive" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "archive")
    archive = tmp_path / "archive"
    assert list_files([str(archive)]) == [f"{archive}/a.jsonl", f"{archive}/linked/a.jsonl"]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such a name")
def test_a_file_name_that_is_not_utf_8_does_no_harm(job, tmp_path):
    archive = tmp_path / "archive"
    archive.mkdir()
    for name in (b"\xe3\xe4.txt", b"\xe3\xe5.txt"):
        with open(os.fsencode(archive) + b"/" + name, "w", encoding="utf-8") as stream:
            stream.write(SENTENCES[0])
    job = replace(job, inputs=(str(archive),), chunk_chars=10)
    interrupt(job, 1)
    assert run_job(job).n_articles == 2
    ids = [row["article_id"] for row in read_rows(job.output)]
    assert ids == ["\ufffd\ufffd", "\ufffd\ufffd-2"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_a_named_pipe_is_read_as_standard_input_is(job, tmp_path):
    content = Path(job.inputs[1]).read_bytes()
    pipe = tmp_path / "feed.jsonl"
    os.mkfifo(pipe)

    def feed():
        with pipe.open("wb", buffering=0) as stream:
            for line in content.splitlines(keepends=True):
                stream.write(line)
                time.sleep(0.001)

    writer = threading.Thread(target=feed, daemon=True)
    writer.start()
    report = run_job(replace(job, inputs=(str(pipe),)))
    writer.join(timeout=10)
    assert (report.n_articles, report.n_rejects) == (40, 0)


def test_an_id_that_two_files_share_stays_told_apart_after_a_kill(job, tmp_path):
    twins = [write_articles(tmp_path / name, 30) for name in ("one.jsonl", "two.jsonl")]
    job = replace(job, inputs=tuple(map(str, twins)))
    whole = replace(job, output=tmp_path / "whole.jsonl")
    run_job(whole)
    interrupt(job, 7)
    run_job(job)
    ids = [row["passage_id"] for row in read_rows(job.output)]
    assert len(ids) == len(set(ids)) == 360
    assert job.output.read_bytes() == whole.output.read_bytes()


def test_the_rejects_of_a_run_that_was_overwritten_do_not_stay(job):
    run_job(job)
    assert job.rejects.exists()
    run_job(replace(job, inputs=job.inputs[1:]), overwrite=True)
    assert not job.rejects.exists()


@pytest.mark.parametrize("where", ["part", "end"])
def test_a_full_disk_is_named_and_what_is_done_is_kept(job, monkeypatch, where):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        if where == "part":
            calls = iter(range(100))
            sync = os.fsync
            patch.setattr(
                relclass.parts.os, "fsync", lambda n: full() if next(calls) > 8 else sync(n)
            )
        else:
            patch.setattr("relclass.jobs.join_parts", full)
        with pytest.raises(DataError, match=r"no space left on the disk.*same command again"):
            run_job(job)
    assert not list((job.run_dir / "parts").glob("*.tmp"))
    old = []
    assert run_job(job, on_part=lambda part, is_new: old.append(is_new)).n_written == 600
    assert old.count(False) >= 3


def test_small_jobs_stay_in_one_process_and_threads_share_the_cores(job, monkeypatch):
    monkeypatch.setattr("relclass.jobs.available_cores", lambda: 8)
    assert choose_workforce(job) == Workforce("local", 1, 8)
    assert choose_workforce(job, n_workers=4) == Workforce("local", 4, 2)
    assert choose_workforce(job, n_workers=20).n_threads == 1
    monkeypatch.setattr("relclass.jobs._SMALL_JOB_BYTES", 10)
    assert choose_workforce(job) == Workforce("local", 8, 1)
    assert choose_workforce(replace(job, device="cuda")).n_workers == 1
    network = replace(job, model=replace(job.model, kind="cascade"))
    assert choose_workforce(network) == Workforce("local", 1, 8)


# --- kill -9 ---

RUN = """
import sys
from pathlib import Path
from relclass.jobs import Job, Workforce, run_job
from relclass.loading import model_reference

if __name__ == "__main__":
    model, output, n_workers, *files = sys.argv[1:]
    job = Job(tuple(files), Path(output), model_reference(model), chunk_chars=2500)
    report = run_job(job, Workforce(n_workers=int(n_workers)))
    print(report.n_written, flush=True)
"""


def kill_and_resume(tmp_path, model, *, n_kills, n_workers, suffix=".jsonl"):
    """Kill a job at random moments of its work, then let it finish; count the kills' stages."""
    inputs = [str(write_articles(tmp_path / "a.jsonl", 150))]
    with open(inputs[0], "a", encoding="utf-8") as stream:
        stream.write("broken\n")
    inputs.append(str(write_articles(tmp_path / "b.jsonl", 150, first=150)))
    n_parts = len(list(ChunkSource(tuple(inputs), chunk_chars=2500)))
    script = tmp_path / "run.py"
    script.write_text(RUN)
    whole, broken = tmp_path / f"whole{suffix}", tmp_path / f"broken{suffix}"

    def command(output):
        return [sys.executable, str(script), model, str(output), str(n_workers), *inputs]

    def count_parts():
        return len(list((tmp_path / f"broken{suffix}.run").glob("parts/*.json")))

    subprocess.run(command(whole), check=True, capture_output=True)
    moments = random.Random(0)
    stages = []
    for _ in range(n_kills):
        goal = count_parts() + moments.randint(0, 3 * n_parts // (2 * n_kills))
        process = subprocess.Popen(
            command(broken), stdout=subprocess.DEVNULL, start_new_session=True
        )
        while process.poll() is None and count_parts() < goal:
            time.sleep(0.002)
        time.sleep(moments.uniform(0, 0.05))
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        stages.append(count_parts())
    done = subprocess.run(command(broken), check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["1800"]
    assert broken.read_bytes() == whole.read_bytes()
    rejects = [path.with_name(path.name + ".rejects.jsonl") for path in (broken, whole)]
    assert rejects[0].read_bytes() == rejects[1].read_bytes() != b""
    return len(set(stages))


def test_killed_three_times_the_result_is_that_of_an_unbroken_run(tmp_path, model):
    kill_and_resume(tmp_path, model, n_kills=3, n_workers=1)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("n_workers", "suffix"), [(1, ".parquet"), (2, ".jsonl.gz")])
def test_killed_twenty_times_the_result_is_that_of_an_unbroken_run(
    tmp_path, model, n_workers, suffix
):
    n_stages = kill_and_resume(tmp_path, model, n_kills=20, n_workers=n_workers, suffix=suffix)
    assert n_stages > 5  # the kills fell at different stages
