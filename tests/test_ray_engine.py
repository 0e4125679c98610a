import os
import signal
import sys
from dataclasses import replace

import pytest
from batch_stubs import save_lexicon_model, write_articles

from relclass.errors import ConfigError, DataError, MissingExtraError
from relclass.jobs import Job, Workforce, run_job
from relclass.loading import model_reference

ON_RAY = Workforce("ray", n_workers=2)


@pytest.fixture
def job(tmp_path):
    path = write_articles(tmp_path / "a.jsonl", 150)
    with path.open("a", encoding="utf-8") as stream:
        stream.write("broken\n")
    return Job(
        inputs=(str(path),),
        output=tmp_path / "out.parquet",
        model=model_reference(save_lexicon_model(tmp_path / "model")),
        chunk_chars=6000,
    )


def test_without_ray_the_extra_is_named(job, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"pip install -e '\.\[ray\]'"):
        run_job(job, ON_RAY)


def test_standard_input_stays_on_this_machine(job):
    with pytest.raises(ConfigError, match="--engine local"):
        run_job(replace(job, inputs=("-",)), ON_RAY)


@pytest.fixture(scope="module")
def cluster():
    """A local cluster of several processes, shared by the tests."""
    ray = pytest.importorskip("ray")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield ray
    ray.shutdown()


def actor_processes():
    """List the processes of the actors that label."""
    psutil = pytest.importorskip("psutil")
    return [
        process.pid
        for process in psutil.Process().children(recursive=True)
        if "_Labeller" in " ".join(process.cmdline())
    ]


@pytest.mark.slow
def test_ray_writes_the_same_bytes_also_with_an_actor_killed_in_the_middle(cluster, job):
    whole = replace(job, output=job.output.with_name("whole.parquet"))
    expected = run_job(whole)
    killed = []

    def kill_one(part, is_new):
        if len(killed) < 1 and part.number >= 3:
            killed.append(actor_processes()[0])
            os.kill(killed[0], signal.SIGKILL)

    report = run_job(job, ON_RAY, on_part=kill_one)
    assert len(killed) == 1
    assert report == expected
    assert job.output.read_bytes() == whole.output.read_bytes()
    assert job.rejects.read_bytes() == whole.rejects.read_bytes()


@pytest.mark.slow
def test_a_run_that_began_here_goes_on_on_ray(cluster, job):
    class Interrupted(Exception):
        pass

    def interrupt(part, is_new):
        if part.number == 4:
            raise Interrupted

    with pytest.raises(Interrupted):
        run_job(job, on_part=interrupt)
    seen = []
    report = run_job(job, ON_RAY, on_part=lambda part, is_new: seen.append(is_new))
    assert seen.count(False) == 5
    assert (report.n_articles, report.n_rejects, report.n_written) == (150, 1, 900)


@pytest.mark.slow
def test_an_error_on_ray_is_the_message_alone(cluster, job):
    with pytest.raises(DataError, match=r"a\.jsonl:151: ") as caught:
        run_job(job, ON_RAY, fail_fast=True)
    assert "ray::" not in str(caught.value)
