import json
import subprocess

import pytest
import yaml

from relclass import run_folder
from relclass.config import BaselineSettings, TrainConfig
from relclass.errors import ConfigError
from relclass.run_folder import (
    RunOptions,
    git_commit,
    is_finished,
    is_main_process,
    open_run,
    plain,
    provenance,
    write_json,
)

CONFIG = TrainConfig(name="x", model=BaselineSettings())


def test_the_same_config_takes_a_run_up_again(tmp_path):
    open_run(CONFIG, tmp_path / "run", resume=True)
    before = (tmp_path / "run/config.yaml").read_text()
    open_run(CONFIG, tmp_path / "run", resume=True)
    assert (tmp_path / "run/config.yaml").read_text() == before


def test_another_config_is_refused_by_the_keys_that_differ(tmp_path):
    open_run(CONFIG, tmp_path, resume=True)
    with pytest.raises(ConfigError, match=r"it differs in seed"):
        open_run(CONFIG.model_copy(update={"seed": 1}), tmp_path, resume=True)


def test_only_the_first_process_writes(tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    assert not is_main_process()
    open_run(CONFIG, tmp_path / "run", resume=True)
    assert not (tmp_path / "run").exists()


def test_a_run_on_other_data_is_not_finished(tmp_path):
    record = provenance(CONFIG, {"labels": "a"}, RunOptions())
    assert not is_finished(tmp_path, record)
    write_json(tmp_path / "run.json", record)
    assert is_finished(tmp_path, record)
    assert not is_finished(tmp_path, record | {"data": {"labels": "b"}})
    (tmp_path / "run.json").write_text("{")
    assert not is_finished(tmp_path, record)


def test_what_is_no_number_becomes_null(tmp_path):
    write_json(tmp_path / "x.json", {"a": float("nan"), "b": [1.5, float("nan")], "c": (2,)})
    assert json.loads((tmp_path / "x.json").read_text()) == {"a": None, "b": [1.5, None], "c": [2]}
    assert plain({1: "x"}) == {"1": "x"}


def test_outside_git_there_is_no_commit(monkeypatch):
    def fail(*arguments, **options):
        raise subprocess.CalledProcessError(128, "git")

    monkeypatch.setattr(run_folder.subprocess, "run", fail)
    assert git_commit() is None


def test_a_run_begun_before_a_key_was_known_is_taken_up_where_its_default_holds(tmp_path):
    open_run(CONFIG, tmp_path, resume=True)
    path = tmp_path / "config.yaml"
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    del content["model"]["C"]
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    open_run(CONFIG, tmp_path, resume=True)
    other = CONFIG.model_copy(update={"model": BaselineSettings(C=9.0)})
    with pytest.raises(ConfigError, match=r"it differs in model\.C"):
        open_run(other, tmp_path, resume=True)
    path.write_text(yaml.safe_dump(content | {"of_tomorrow": 1}), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"it differs in .*of_tomorrow"):
        open_run(CONFIG, tmp_path, resume=True)
