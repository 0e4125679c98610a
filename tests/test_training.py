import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from tiny_project import WORDS, write_project

from relclass.config import (
    BaselineSettings,
    LexiconSettings,
    ThresholdSettings,
    TrainConfig,
    TransformerSettings,
)
from relclass.dataset import load_dataset
from relclass.errors import ConfigError, DataError
from relclass.models.store import load_model
from relclass.run_folder import RunOptions
from relclass.training import measure, train

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_project(tmp_path_factory.mktemp("project"))


@pytest.fixture
def baseline(data):
    return TrainConfig(name="words", data=data, model=BaselineSettings(min_df=1))


@pytest.fixture
def transformer(data, tiny_encoder):
    model = TransformerSettings(
        encoder=str(tiny_encoder("bert")),
        max_length=32,
        epochs=1,
        batch_size=8,
        precision="fp32",
    )
    return TrainConfig(name="tiny", data=data, model=model)


def read_json(path):
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("kind", ["baseline", "transformer"])
def test_a_run_folder_holds_all_that_made_the_model(kind, request, tmp_path):
    config = request.getfixturevalue(kind)
    classifier = train(config, tmp_path / "run", device="cpu")
    assert (
        TrainConfig.model_validate(
            yaml.safe_load((tmp_path / "run/config.yaml").read_text(encoding="utf-8"))
        )
        == config
    )
    record = read_json(tmp_path / "run/run.json")
    assert record["seed"] == 0
    assert record["versions"]["numpy"] == np.__version__
    assert record["data"] == load_dataset(config.data).checksum
    assert record["n_passages"]["train"]["authored"] > 100
    metrics = read_json(tmp_path / "run/metrics.json")
    assert set(metrics) == {"validation", "test"}
    assert set(metrics["test"]["all"]["by_topic"]["f1"]) == set(classifier.topics)
    loaded = load_model(tmp_path / "run/model")
    texts = [passage.text for passage in load_dataset(config.data).part("test")]
    assert np.array_equal(loaded.predict_proba(texts), classifier.predict_proba(texts))
    assert loaded.name == config.name
    assert loaded.card["metrics"] == metrics


def test_the_baseline_learns_the_words_of_each_topic(baseline, tmp_path):
    classifier = train(baseline, tmp_path / "run")
    assert classifier.card["metrics"]["test"]["all"]["overall"]["macro_f1"] > 0.9


def test_the_same_baseline_config_gives_the_same_model_bit_for_bit(baseline, tmp_path):
    for name in ("one", "two"):
        train(baseline, tmp_path / name)
    files = sorted(path.name for path in (tmp_path / "one/model").iterdir())
    assert "manifest.json" in files
    for name in files:
        one, two = ((tmp_path / run / "model" / name).read_bytes() for run in ("one", "two"))
        assert one == two, name


def test_a_finished_run_is_loaded_and_not_trained_again(transformer, tmp_path, monkeypatch):
    first = train(transformer, tmp_path / "run", device="cpu")
    assert not list((tmp_path / "run/checkpoints").glob("checkpoint-*"))
    monkeypatch.setattr("relclass.training._fit", lambda *a, **k: pytest.fail("trained again"))
    again = train(transformer, tmp_path / "run", device="cpu")
    texts = ["گاز", "کامیون"]
    assert np.array_equal(again.predict_proba(texts), first.predict_proba(texts))


def test_a_smoke_run_is_not_taken_for_a_finished_one(transformer, tmp_path):
    train(transformer, tmp_path / "run", device="cpu", options=RunOptions(max_steps=1))
    assert read_json(tmp_path / "run/run.json")["max_steps"] == 1
    train(transformer, tmp_path / "run", device="cpu")
    assert read_json(tmp_path / "run/run.json")["max_steps"] is None


def write_lexicon(path: Path, word: str) -> None:
    topics = {topic: {"strong": {"fa": [word]}} for topic in WORDS}
    path.write_text(yaml.safe_dump({"topics": topics}, allow_unicode=True), encoding="utf-8")


def test_a_run_with_another_lexicon_is_not_taken_for_a_finished_one(data, tmp_path):
    path = tmp_path / "lexicon.yaml"
    config = TrainConfig(name="words", data=data, model=LexiconSettings(lexicon=path))
    for word, found in (("گاز", True), ("قطار", False), ("گاز", True)):
        write_lexicon(path, word)
        classifier = train(config, tmp_path / "run")
        assert (classifier.scorer.score(["گاز"]) > 0).all() == found


def test_a_run_with_other_soft_targets_is_not_taken_for_a_finished_one(baseline, tmp_path):
    name = load_dataset(baseline.data).part("train")[0].passage_id
    records = []
    for target in (1.0, 0.0, None):
        soft = None if target is None else {name: [target] * 4}
        train(baseline, tmp_path / "run", soft_targets=soft)
        records.append(read_json(tmp_path / "run/run.json")["data"])
    assert records[0]["soft_targets"] != records[1]["soft_targets"]
    assert "soft_targets" not in records[2]


def test_a_folder_with_another_run_is_refused(baseline, tmp_path):
    train(baseline, tmp_path / "run")
    other = baseline.model_copy(update={"model": BaselineSettings(min_df=1, C=9.0), "seed": 4})
    with pytest.raises(ConfigError, match=r"a run of another config \(it differs in model\.C, see"):
        train(other, tmp_path / "run")


def test_a_folder_with_a_run_is_refused_where_resuming_is_not_wanted(baseline, tmp_path):
    train(baseline, tmp_path / "run")
    with pytest.raises(ConfigError, match="holds a run already; give another folder"):
        train(baseline, tmp_path / "run", resume=False)


def test_no_passage_of_the_wanted_origin_is_refused(baseline, tmp_path):
    config = baseline.model_copy(update={"thresholds": ThresholdSettings(origin="real")})
    with pytest.raises(DataError, match=r"no passage is in validation with origin 'real'"):
        train(config, tmp_path / "run")


def test_soft_targets_take_the_labels_place(transformer, tmp_path):
    passages = load_dataset(transformer.data).part("train")
    half = {passage.passage_id: [0.5] * 4 for passage in passages}
    plain = train(transformer, tmp_path / "plain", device="cpu")
    soft = train(transformer, tmp_path / "soft", device="cpu", soft_targets=half)
    texts = [passage.text for passage in passages[:20]]
    # a target of one half everywhere starts and keeps the head's priors at log-odds of zero
    assert np.abs(soft.predict_logits(texts)).mean() < np.abs(plain.predict_logits(texts)).mean()


def test_figures_are_given_by_origin(baseline, tmp_path):
    classifier = train(baseline, tmp_path / "run")
    part = load_dataset(baseline.data).part("test")
    figures = measure(classifier, part)
    assert set(figures) == {"authored", "all"}
    assert figures["all"]["n_passages"] == len(part)
    assert measure(classifier, []) == {}


def write_config(folder: Path, config: TrainConfig) -> Path:
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config.model_dump(mode="json")), encoding="utf-8")
    return path


def test_the_script_trains_and_prints_the_figures(baseline, tmp_path):
    path = write_config(tmp_path, baseline)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", ROOT / "scripts/train.py", path, "model.C=1.0",
         "--out", tmp_path / "run"],
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "macro-F1" in done.stdout
    assert load_model(tmp_path / "run/model").card["config"]["model"]["C"] == 1.0


@pytest.mark.slow
def test_several_processes_of_accelerate_train_one_model(transformer, tmp_path):
    path = write_config(tmp_path, transformer)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "accelerate.commands.launch", "--cpu",
         "--num_processes", "2", "--num_machines", "1", "--mixed_precision", "no",
         "--dynamo_backend", "no", ROOT / "scripts/train.py", path, "--device", "cpu",
         "--out", tmp_path / "run"],
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("model: ") == 1
    assert load_model(tmp_path / "run/model").name == "tiny"
