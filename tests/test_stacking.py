from dataclasses import replace

import numpy as np
import pytest
from test_models_ensemble import CODEBOOK, TEXTS, Y_TRUE, classifier

from relclass.codebook import Codebook, Topic
from relclass.config import LexiconSettings, ThresholdSettings
from relclass.dataset import Dataset
from relclass.errors import DataError, ModelError
from relclass.examples import Examples
from relclass.models.lexicon import LexiconScorer
from relclass.records import LabelledPassage
from relclass.stacking import build_ensemble
from relclass.training import fit_small


@pytest.fixture
def dataset() -> Dataset:
    passages = [
        LabelledPassage(
            passage_id=f"{number}",
            article_id=f"{number}",
            text=text,
            language="fa",
            topics=CODEBOOK.check(
                [name for name, flag in zip(CODEBOOK.names, row, strict=True) if flag], where=""
            ),
            origin="real",
        )
        for number, (text, row) in enumerate(zip(TEXTS * 6, np.tile(Y_TRUE, (6, 1)), strict=True))
    ]
    splits = np.array(["validation"] * 35 + ["test"] * 7)
    return Dataset(
        passages=tuple(passages), splits=splits, codebook=CODEBOOK, checksum={}, n_missing=0
    )


@pytest.fixture
def members():
    return classifier("gas", "گاز", "قطار"), classifier("oil", "نفت", "کشتی")


def test_the_ensemble_beats_its_members_and_its_card_says_by_what(dataset, members) -> None:
    ensemble = build_ensemble(members, dataset, name="both")
    assert (ensemble.predict(TEXTS) == Y_TRUE).all()
    assert ensemble.card["metrics"]["test"]["real"]["overall"]["macro_f1"] == 1.0
    assert set(ensemble.card["weights"]) == {"gas", "oil"}


def test_a_fixed_threshold_is_taken_as_it_is(dataset, members) -> None:
    settings = ThresholdSettings(origin="real", tuning="fixed", fixed=0.43)
    ensemble = build_ensemble(members, dataset, name="both", thresholds=settings)
    assert ensemble.thresholds.tolist() == [0.43, 0.43]


def test_without_validation_passages_there_is_nothing_to_weigh_on(dataset, members) -> None:
    empty = replace(dataset, splits=np.array(["train"] * len(dataset.passages)))
    with pytest.raises(DataError, match="no validation passages of origin 'real'"):
        build_ensemble(members, empty, name="both")


def test_a_lexicon_is_a_model_like_another() -> None:
    examples = Examples(TEXTS, Y_TRUE.astype(np.float32), np.ones(Y_TRUE.shape, np.float32))
    scorer = fit_small(LexiconSettings(), examples, ("energy", "transit"))
    assert isinstance(scorer, LexiconScorer)
    assert scorer.score(["خط لوله گاز"])[0, 0] > 0 > scorer.score(["دیدار"])[0, 0]


@pytest.mark.parametrize(
    "topics", [CODEBOOK.topics[::-1], tuple(Topic(name=n, definition=n) for n in ("food", "sport"))]
)
def test_members_of_other_topics_than_the_data_are_refused(dataset, members, topics) -> None:
    codebook = Codebook(version="1", topics=topics)
    expected = f"gas: the model has the topics energy, transit, the data {topics[0].name}, "
    with pytest.raises(ModelError, match=expected):
        build_ensemble(members, replace(dataset, codebook=codebook), name="both")


def in_articles(dataset, article_of):
    passages = (replace(p, article_id=article_of(k, p)) for k, p in enumerate(dataset.passages))
    return replace(dataset, passages=tuple(passages))


def test_a_topic_that_one_article_has_cannot_be_weighed(dataset, members) -> None:
    one = in_articles(dataset, lambda k, p: "one" if "energy" in p.topics else str(k))
    with pytest.raises(DataError, match="'energy': the validation passages with it are of 1 art"):
        build_ensemble(members, one, name="both")


@pytest.mark.parametrize("origin", ["real", "all"])
def test_a_topic_that_no_passage_has_cannot_be_weighed(dataset, members, origin) -> None:
    bare = tuple(replace(p, topics=()) for p in dataset.passages)
    settings = ThresholdSettings(origin=origin)
    with pytest.raises(DataError, match="'energy': the validation passages with it are of 0 art"):
        build_ensemble(members, replace(dataset, passages=bare), name="x", thresholds=settings)


def test_a_few_articles_are_enough_to_weigh_on(dataset, members) -> None:
    few = in_articles(dataset, lambda k, p: str(k % 3))
    assert (build_ensemble(members, few, name="both").predict(TEXTS) == Y_TRUE).all()


@pytest.mark.parametrize("seed", range(8))
def test_a_topic_of_two_articles_is_never_held_out_whole(dataset, members, seed) -> None:
    names = np.random.default_rng(seed).permutation(len(dataset.passages))
    two = in_articles(
        dataset, lambda k, p: f"energy {k % 2}" if "energy" in p.topics else str(names[k])
    )
    build_ensemble(members, two, name="both")
