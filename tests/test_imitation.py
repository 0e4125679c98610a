from dataclasses import replace

import numpy as np
import pytest
import torch
from test_shipping import runs  # noqa: F401
from test_transformer import SENTENCES, TEXTS, make_scorer
from tiny_encoders import TOPICS

from relclass.config import load_config
from relclass.errors import ConfigError
from relclass.examples import Examples
from relclass.models.finetuning import FineTuning, _with_states, finetune
from relclass.models.imitation import STATES_FILE, Imitated, read_states
from relclass.models.store import load_model, manifest_sha256
from relclass.training import train

# one window each: how many pieces a sentence has is not the same in every session
SHORT = [" ".join(sentence.split()[:3]) for sentence in SENTENCES]


def windows_of(scorer):
    return scorer.tokenize(TEXTS).input_ids


@pytest.fixture
def teacher(runs):  # noqa: F811
    return runs[0] / "model"


def options(tmp_path, **changes):
    return {"work_dir": tmp_path, "device": "cpu", "is_bf16": False} | changes


def test_the_states_are_those_that_the_teachers_head_reads(teacher, tmp_path):
    scorer = load_model(teacher).scorer
    imitated = read_states(
        str(teacher), scorer, scorer.tokenize(SHORT).input_ids, **options(tmp_path)
    )
    assert imitated.states.shape == (len(SHORT), 32)
    pooled = torch.from_numpy(imitated.states.astype(np.float32))
    with torch.no_grad():
        logits = scorer.network.eval().read(scorer.network.head, pooled)
    np.testing.assert_allclose(logits, scorer.score(SHORT), atol=0.01)
    assert float(imitated.loss(pooled, imitated.select(range(len(SHORT))))) == 0
    off_by_one = pooled + torch.from_numpy(imitated.scale)
    assert float(imitated.loss(off_by_one, pooled)) == pytest.approx(1)


def test_a_resumed_run_does_not_ask_the_teacher_again(teacher, tmp_path, monkeypatch):
    scorer = load_model(teacher).scorer
    first = read_states(str(teacher), scorer, windows_of(scorer), **options(tmp_path))
    asked = []
    monkeypatch.setattr(
        "relclass.models.imitation._pooled",
        lambda *a, **k: asked.append(a) or np.zeros((len(a[1]), 32), dtype=np.float16),
    )
    again = read_states(str(teacher), scorer, windows_of(scorer), **options(tmp_path))
    assert not asked and np.array_equal(first.states, again.states)
    read_states(str(teacher), scorer, windows_of(scorer)[:3], **options(tmp_path))
    assert len(asked) == 1  # of other passages


def test_a_teacher_that_does_not_fit_is_refused(teacher, tiny_encoder, tmp_path):
    scorer = make_scorer(tiny_encoder("xlm-roberta"), prefix="query: ")
    with pytest.raises(ConfigError, match=r"model.imitate: .* differs from model.encoder in its"):
        read_states(str(teacher), scorer, [[1]], **options(tmp_path))
    scorer = load_model(teacher).scorer
    other = replace(scorer, settings=scorer.settings.model_copy(update={"pooling": "cls"}))
    with pytest.raises(ConfigError, match=r"in its model.pooling: 'mean' and 'cls'"):
        read_states(str(teacher), other, [[1]], **options(tmp_path))
    with pytest.raises(ConfigError, match=r"model.imitate: .*no such directory"):
        read_states("nowhere", scorer, [[1]], **options(tmp_path))
    with pytest.raises(ConfigError, match="of kind 'lexicon', not transformer"):
        read_states("lexicon", scorer, [[1]], **options(tmp_path))


def test_each_window_of_a_long_passage_has_its_state(teacher, tmp_path):
    from relclass.models.finetuning import _to_dataset

    scorer = load_model(teacher).scorer
    texts = [SHORT[0], " ".join(SENTENCES), SHORT[1]]
    examples = Examples(texts, np.zeros((3, 4), np.float32), np.ones((3, 4), np.float32))
    dataset, imitated = _with_states(
        _to_dataset(examples, scorer), scorer, str(teacher), work_dir=tmp_path, device="cpu"
    )
    counts = [len(windows) for windows in dataset["windows"]]
    assert counts[1] > 1 and list(dataset["places"]) == [
        [0],
        list(range(1, 1 + counts[1])),
        [1 + counts[1]],
    ]
    alone = read_states(str(teacher), scorer, dataset["windows"][2], **options(tmp_path / "alone"))
    np.testing.assert_allclose(imitated.states[-1], alone.states[0], atol=1e-3)


def test_a_network_that_imitates_comes_nearer_to_its_teacher(teacher, runs, tmp_path):  # noqa: F811
    config = load_config(runs[0] / "config.yaml")
    encoder = config.model.encoder
    texts = [f"{one} {other}" for one in SENTENCES for other in SENTENCES]
    examples = Examples(texts, np.full((100, 4), 0.5, np.float32), np.ones((100, 4), np.float32))
    expected = load_model(teacher).scorer

    def distance(**changes):
        fresh = {"encoder": encoder, "epochs": 3, "learning_rate": 1e-3, "encoder_dropout": 0.0}
        settings = config.model.model_copy(update=fresh | changes)
        out = tmp_path / str(len(list(tmp_path.iterdir())))
        scorer = finetune(FineTuning(examples, examples, TOPICS, out), settings)
        given = read_states(
            str(teacher), expected, windows_of(scorer), **options(tmp_path / "expected")
        )
        with torch.no_grad():
            states = torch.stack(
                [
                    scorer.network(
                        torch.tensor([ids]), torch.ones(1, len(ids)).long(), with_pooled=True
                    )[1][0]
                    for ids in windows_of(scorer)
                ]
            )
        return float(given.loss(states, given.select(range(len(states)))))

    assert distance(imitate=str(teacher), imitate_weight=5.0) < 0.5 * distance()


def test_a_run_that_imitates_keeps_the_states_until_it_is_finished(teacher, runs, tmp_path):  # noqa: F811
    config = load_config(runs[0] / "config.yaml")
    changes = {"imitate": str(teacher), "exits": (1,), "epochs": 1}
    config = config.model_copy(update={"model": config.model.model_copy(update=changes)})
    classifier = train(config, tmp_path / "run", device="cpu")
    assert classifier.predict_proba(["گاز"]).shape == (1, 4)
    assert not list((tmp_path / "run").rglob(STATES_FILE))
    assert manifest_sha256(teacher) in (tmp_path / "run" / "run.json").read_text()


def test_the_scale_of_a_dimension_that_never_changes_is_not_zero():
    states = np.zeros((3, 2), dtype=np.float16)
    imitated = Imitated(states, states.astype(np.float32).std(axis=0).clip(min=1e-4))
    assert np.isfinite(float(imitated.loss(torch.ones(3, 2), imitated.select([0, 1, 2]))))
