import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from test_transformer import make_scorer
from tiny_project import write_project
from tokenizers import normalizers

from relclass.cli import main
from relclass.config import AS_READ, BaselineSettings, TrainConfig, TransformerSettings, load_config
from relclass.dataset import load_dataset
from relclass.errors import ModelError
from relclass.models.export import ExportSettings, export_classifier
from relclass.models.network import keep_until_exit
from relclass.models.soup import average_scorers
from relclass.models.store import load_model, save_model
from relclass.shipping import average_runs, build_default_model, compare
from relclass.training import train

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def runs(tmp_path_factory, tiny_encoder):
    """Train two seeds of one config on a small project."""
    root = tmp_path_factory.mktemp("runs")
    data = write_project(root)
    model = TransformerSettings(
        encoder=str(tiny_encoder("bert")),
        max_length=32,
        epochs=2,
        batch_size=8,
        precision="fp32",
        prefix="query: ",
        head_learning_rate=0.05,
    )
    folders = []
    for seed in (0, 1):
        config = TrainConfig(name="tiny", seed=seed, data=data, model=model)
        train(config, root / f"run{seed}", device="cpu")
        folders.append(root / f"run{seed}")
    return folders


@pytest.fixture
def corpus(runs):
    return (runs[0].parent / "articles.jsonl",)


def test_the_shipped_model_is_near_the_float_one_and_says_how_near(runs, corpus, tmp_path):
    classifier = build_default_model(runs[:1], tmp_path / "out", ExportSettings(corpus=corpus))
    assert classifier.scorer.kind == "onnx"
    for split in ("validation", "test"):
        parity = classifier.card["parity"][split]
        assert parity["median"] <= 0.02
        assert parity["maximum"] <= 0.1
    assert set(classifier.card["metrics"]) == {"validation", "test"}
    assert classifier.card["runs"][0]["seed"] == 0
    assert classifier.card["vocabulary"]["n_pieces"] == classifier.scorer.tokenizer.get_vocab_size()
    again = load_model(tmp_path / "out")
    texts = ["گاز", "کامیون در مرز", ""]
    assert np.array_equal(again.predict_proba(texts), classifier.predict_proba(texts))


@pytest.fixture(scope="module")
def student_run(runs):
    """Distil a student with an early exit from the first run."""
    config = load_config(runs[0] / "config.yaml")
    small = {"encoder": str(runs[0] / "model"), "activation": "relu", "exits": (1,), "epochs": 1}
    config = config.model_copy(update={"model": config.model.model_copy(update=small)})
    train(config, runs[0].parent / "student", device="cpu")
    return runs[0].parent / "student"


def test_a_student_ships_beside_its_teacher(runs, student_run, corpus, tmp_path):
    settings = ExportSettings(corpus=corpus)
    classifier = build_default_model(runs[:1], tmp_path, settings, student_dir=student_run)
    for parity in classifier.card["student"]["parity"].values():
        assert parity["maximum"] <= 0.1
    assert classifier.scorer.student_share == 0.5
    names = {path.name for path in tmp_path.iterdir()}
    assert {"model.onnx", "student.onnx", "embeddings.onnx"} <= names
    float_student = load_model(student_run / "model").scorer
    keep_until_exit(float_student.network)
    texts = ["گاز", "کامیون در مرز"]
    given = classifier.scorer.score_cascaded(texts, lambda logits: np.ones(2, dtype=bool))
    np.testing.assert_allclose(given, float_student.score(texts), atol=0.05)
    again = load_model(tmp_path)
    assert np.array_equal(again.predict_proba(texts), classifier.predict_proba(texts))


def test_several_runs_are_averaged_by_weight(runs):
    import torch

    scorers = [load_model(run / "model").scorer for run in runs]
    mean = average_scorers(scorers).network.state_dict()
    one, two = (scorer.network.state_dict() for scorer in scorers)
    assert not torch.equal(one["head.weight"], two["head.weight"])
    for name, values in mean.items():
        assert torch.allclose(values.float(), (one[name].float() + two[name].float()) / 2)


def test_an_average_is_a_model_folder_of_its_own(runs, tmp_path):
    with pytest.raises(SystemExit) as caught:
        main(["average", *map(str, runs), "--out", str(tmp_path / "mean")])
    assert caught.value.code == 0
    given = load_model(tmp_path / "mean")
    expected = average_scorers([load_model(run / "model").scorer for run in runs])
    texts = ["گاز", "کامیون در مرز"]
    np.testing.assert_allclose(given.scorer.score(texts), expected.score(texts), atol=1e-5)
    assert len(given.card["runs"]) == 2


def test_a_run_is_averaged_with_the_one_it_went_on_from_without_its_exits(runs, tmp_path):
    config = load_config(runs[0] / "config.yaml")
    changes = {"encoder": str(runs[0] / "model"), "keep_head": True, "exits": (1,)}
    went_on = config.model_copy(update={"model": config.model.model_copy(update=changes)})
    train(went_on, tmp_path / "went_on", device="cpu")
    both = [tmp_path / "went_on", runs[0]]
    members = [load_model(folder / "model") for folder in both]
    mean = average_runs(both, tmp_path / "mean").scorer
    assert (mean.settings.encoder, mean.settings.exits) == (config.model.encoder, ())
    states = [member.scorer.network.state_dict() for member in members]
    weight = mean.network.state_dict()["head.weight"]
    assert torch.allclose(weight, (states[0]["head.weight"] + states[1]["head.weight"]) / 2)
    assert not torch.equal(states[0]["head.weight"], states[1]["head.weight"])
    with pytest.raises(ModelError, match=r"differ in model\.encoder"):
        average_runs([both[0], shutil.copytree(runs[0], tmp_path / "elsewhere")], tmp_path / "mean")


def test_one_run_is_its_own_average(runs):
    scorer = load_model(runs[0] / "model").scorer
    assert average_scorers([scorer]) is scorer


def test_runs_that_do_not_belong_together_are_not_averaged(tiny_encoder):
    folder = tiny_encoder("bert")
    mean, cls = make_scorer(folder), make_scorer(folder, pooling="cls")
    with pytest.raises(ModelError, match=r"differ in model\.pooling: 'mean' and 'cls'"):
        average_scorers([mean, cls])
    for changes in ({"exits": (1,)}, {"keep_tokens": {1: 0.5}}, {"activation": "relu"}):
        (key,) = changes
        with pytest.raises(ModelError, match=rf"differ in model\.{key}"):
            average_scorers([mean, make_scorer(folder, **changes)])
    with pytest.raises(ModelError, match="a soup needs at least one run"):
        average_scorers([])


@pytest.mark.parametrize("what", ["normalize", "topics"])
def test_runs_on_other_topics_or_other_text_are_not_averaged(runs, tmp_path, what):
    other = load_model(runs[1] / "model")
    if what == "normalize":
        other = replace(other, normalize=AS_READ)
    else:
        topics = other.codebook.topics[::-1]
        other = replace(other, codebook=other.codebook.model_copy(update={"topics": topics}))
    save_model(other, tmp_path / "run/model")
    with pytest.raises(ModelError, match=rf"run: differs from .*run0 in {what}: "):
        build_default_model([runs[0], tmp_path / "run"], tmp_path / "out", ExportSettings())


def test_a_baseline_is_not_shipped_as_an_encoder(runs, tmp_path):
    data = load_model(runs[0] / "model").card["config"]["data"]
    config = TrainConfig(name="words", data=data, model=BaselineSettings(min_df=1))
    train(config, tmp_path / "run")
    with pytest.raises(ModelError, match="a model of kind 'baseline', expected a transformer"):
        build_default_model([tmp_path / "run"], tmp_path / "out", ExportSettings())
    with pytest.raises(ModelError, match="kind 'baseline'; only a transformer can be exported"):
        export_classifier(tmp_path / "run/model", tmp_path / "out", ExportSettings())


def test_a_model_agrees_with_itself(runs):
    classifier = load_model(runs[0] / "model")
    dataset = load_dataset(TrainConfig.model_validate(classifier.card["config"]).data)
    parity = compare(classifier, classifier, dataset, "test")
    assert (parity.median, parity.maximum, parity.n_flipped) == (0, 0, 0)
    assert parity.f1_float == parity.f1_int8


@pytest.mark.parametrize("is_empty", [True, False])
def test_what_cannot_be_compared_is_none(runs, is_empty):
    classifier = load_model(runs[0] / "model")
    dataset = load_dataset(TrainConfig.model_validate(classifier.card["config"]).data)
    other = load_model(runs[0] / "model")
    if is_empty:
        dataset = replace(dataset, splits=np.full(len(dataset.passages), "train"))
    else:  # every passage is cut another way
        other.scorer.tokenizer.backend_tokenizer.normalizer = normalizers.Prepend("x")
    parity = compare(classifier, other, dataset, "test")
    assert (parity.median, parity.maximum) == (None, None)
    assert parity.n_respelled == parity.n_passages
    assert (parity.n_passages == 0) == is_empty


def run_script(name, *arguments):
    return subprocess.run(
        [sys.executable, "-W", "ignore", ROOT / "scripts" / name, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_scripts_export_and_build(runs, corpus, tmp_path):
    done = run_script("export.py", runs[0] / "model", "--out", tmp_path / "a", "--corpus", *corpus)
    assert done.returncode == 0, done.stderr
    assert "model.onnx: " in done.stdout
    assert load_model(tmp_path / "a").scorer.kind == "onnx"
    done = run_script("build_default_model.py", *runs, "--out", tmp_path / "b", "--name", "mine")
    assert done.returncode == 0, done.stderr
    assert "int8 against float, test" in done.stdout
    assert load_model(tmp_path / "b").name == "mine"
