import os
import signal
from functools import partial
from pathlib import Path

import pytest
from batch_stubs import TOPICS, save_lexicon_model, write_articles

from relclass.chunks import ChunkSource
from relclass.engines.local import label_chunks
from relclass.errors import DataError
from relclass.parts import LabelSettings, data_path, load_labeller
from relclass.writers import output_format


@pytest.fixture
def source(tmp_path):
    path = write_articles(tmp_path / "a.jsonl", 60)
    return ChunkSource((str(path),), chunk_chars=5000)


@pytest.fixture
def settings(tmp_path):
    (tmp_path / "parts").mkdir()
    return LabelSettings(
        model=save_lexicon_model(tmp_path / "model"),
        device="cpu",
        n_threads=1,
        parts_dir=tmp_path / "parts",
        output=output_format("out.jsonl", unit="passage", topics=TOPICS),
    )


def die_once(settings, *, flag: Path):
    """Label, but die at the third part the first time it is tried."""
    label = load_labeller(settings)

    def label_or_die(chunk):
        if chunk.number == 2 and not flag.exists():
            flag.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return label(chunk)

    return label_or_die


def die_always(settings):
    def die(chunk):
        os.kill(os.getpid(), signal.SIGKILL)

    return die


def fail(settings, *, error: Exception):
    def raise_error(chunk):
        raise error

    return raise_error


def test_several_processes_write_the_same_parts_as_one(source, settings):
    def run(n_workers):
        parts = sorted(
            label_chunks(source, settings, n_workers=n_workers), key=lambda part: part.number
        )
        return parts, [data_path(settings.parts_dir, part.number).read_bytes() for part in parts]

    alone, together = run(1), run(2)
    assert len(alone[0]) > 5
    assert alone == together


def test_a_worker_that_dies_costs_nothing_but_its_time(source, settings, tmp_path):
    expected = list(label_chunks(source, settings))
    make_label = partial(die_once, flag=tmp_path / "died")
    parts = list(label_chunks(source, settings, n_workers=2, make_label=make_label))
    assert (tmp_path / "died").exists()
    assert sorted(parts, key=lambda part: part.number) == expected


def test_a_chunk_that_kills_twice_is_named(source, settings):
    with pytest.raises(RuntimeError, match=r"died twice \(exit code -9\) over part \d+.*article-"):
        list(label_chunks(source, settings, n_workers=2, make_label=die_always))


def test_a_named_error_of_a_worker_arrives_as_it_was(source, settings):
    make_label = partial(fail, error=DataError("no space left"))
    with pytest.raises(DataError, match=r"^no space left$"):
        list(label_chunks(source, settings, n_workers=2, make_label=make_label))


def test_any_other_error_of_a_worker_brings_its_traceback(source, settings):
    make_label = partial(fail, error=KeyError("slip"))
    with pytest.raises(RuntimeError, match=r"A worker failed:\n(.|\n)*KeyError: 'slip'"):
        list(label_chunks(source, settings, n_workers=2, make_label=make_label))
