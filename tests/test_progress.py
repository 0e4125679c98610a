import io
import os

import pytest
from batch_stubs import write_articles

from relclass.parts import Part
from relclass.progress import Pace, estimate_records, in_words, show_progress


def make_part(number=0, *, n_read=10, n_passages=50, n_rejects=0):
    return Part(
        number=number,
        n_read=n_read,
        n_articles=n_read - n_rejects,
        n_rejects=n_rejects,
        n_passages=n_passages,
        n_records=n_passages,
        digest="",
        sha256="",
        tallies=(),
    )


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def test_the_line_says_rate_time_left_and_what_was_refused():
    clock = Clock()
    pace = Pace(100, clock)
    clock.now += 10
    pace.add(make_part(n_read=20, n_passages=2000, n_rejects=1), is_new=True)
    assert pace.line() == "2,000 passages, 200 a second, about 40 s left, 1 refused"
    assert pace.share == 0.2


def test_what_an_earlier_run_did_counts_as_done_but_not_as_speed():
    clock = Clock()
    pace = Pace(100, clock)
    pace.add(make_part(n_read=50, n_passages=5000), is_new=False)
    clock.now += 10
    pace.add(make_part(n_read=10, n_passages=1000), is_new=True)
    assert pace.line() == "6,000 passages, 100 a second, about 40 s left"


def test_without_a_known_total_no_time_left_is_claimed():
    pace = Pace(None, Clock())
    pace.add(make_part(), is_new=True)
    assert pace.share is None
    assert "left" not in pace.line()


def test_past_an_estimate_that_was_too_low_no_time_left_is_claimed():
    pace = Pace(5, Clock())
    pace.add(make_part(n_read=10), is_new=True)
    assert pace.share == 1.0
    assert "left" not in pace.line()


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(5, "5 s"), (300, "5 min"), (3 * 3600, "3.0 h"), (86400 * 5, "5.0 days")],
)
def test_times_are_said_in_one_unit(seconds, words):
    assert in_words(seconds) == words


def test_records_are_estimated_from_a_files_size(tmp_path):
    path = write_articles(tmp_path / "a.jsonl", 2000)
    assert path.stat().st_size > 1 << 18  # more than the sample
    (tmp_path / "b.txt").write_text("x")
    assert estimate_records([str(path), str(tmp_path / "b.txt")]) == pytest.approx(2001, rel=0.02)


def test_rows_of_parquet_are_known(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"text": ["a"] * 7}), tmp_path / "a.parquet")
    assert estimate_records([str(tmp_path / "a.parquet")]) == 7


@pytest.mark.parametrize("file", ["-", "a.jsonl.gz", "a.csv.zst"])
def test_records_of_a_pipe_or_a_compressed_file_are_not_guessed(file):
    assert estimate_records([file]) is None


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_a_named_pipe_is_not_looked_into(tmp_path):
    os.mkfifo(tmp_path / "feed.jsonl")  # opened, it would wait for a writer
    assert estimate_records([str(tmp_path / "feed.jsonl")]) is None


def test_a_missing_file_is_one_record_to_refuse(tmp_path):
    assert estimate_records([str(tmp_path / "none.jsonl")]) == 1


def test_a_log_gets_plain_lines_now_and_then():
    clock = Clock()
    stream = io.StringIO()
    with show_progress(["-"], stream=stream, clock=clock) as on_part:
        for number in range(8):
            clock.now += 4
            on_part(make_part(number), True)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("relclass: 150 passages, ")
    assert "\x1b" not in stream.getvalue()


def test_a_terminal_gets_a_live_line():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    stream = Terminal()
    with show_progress(["-"], stream=stream) as on_part:
        on_part(make_part(), True)
    assert "50 passages" in stream.getvalue()
