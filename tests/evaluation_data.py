"""Small labelled data for the tests of evaluation: invented passages, a stub classifier."""

import datetime

import numpy as np

from relclass.calibration import Calibration
from relclass.codebook import Codebook, Topic
from relclass.config import NormalizeSettings
from relclass.models.base import Classifier
from relclass.records import LabelledPassage, Prediction

TOPICS = ("security", "transit", "energy", "karabakh")
CODEBOOK = Codebook(
    version="1.1", topics=tuple(Topic(name=name, definition=name) for name in TOPICS)
)
WORDS = {
    "security": ("ارتش", "الجيش", "army"),
    "transit": ("راه‌آهن", "القطار", "railway"),
    "energy": ("گاز", "الغاز", "gas"),
    "karabakh": ("شوشا", "شوشي", "shusha"),
}
_FRAMES = (
    ("fa", "دو طرف در نشست روز سه‌شنبه درباره {} گفت‌وگو کردند و بر ادامه کار تأکید داشتند."),
    ("ar", "بحث الطرفان في اجتماع الثلاثاء {} وأكدا مواصلة العمل خلال الأشهر المقبلة."),
    ("en", "On Tuesday the two sides spoke of {} and agreed to meet again before winter."),
)
_NOTHING = ("مراسم فرهنگی", "الثقافة", "a poetry evening")


def make_gold(n_articles: int = 30, *, seed: int = 0) -> list[LabelledPassage]:
    """Invent articles of three passages whose words tell their topics."""
    rng = np.random.default_rng(seed)
    passages = []
    for article in range(n_articles):
        frame = article % len(_FRAMES)
        language, sentence = _FRAMES[frame]
        for index in range(3):
            topics = tuple(name for name in TOPICS if rng.random() < 0.3)
            words = [WORDS[name][frame] for name in topics] or [_NOTHING[frame]]
            passages.append(
                LabelledPassage(
                    passage_id=f"a{article}/{index}",
                    article_id=f"a{article}",
                    text=sentence.format("، ".join(words)),
                    language=language,
                    topics=topics,
                    origin="real" if article % 2 else "authored",
                    date=datetime.date(2019 + article % 4, 1 + article % 12, 5),
                    source=f"agency {article % 3}",
                    scraped=bool(article % 2),
                )
            )
    return passages


def marks_of(gold: list[LabelledPassage]) -> np.ndarray:
    """Give the gold topics, shape (n_passages, 4), uint8."""
    return np.array([[name in p.topics for name in TOPICS] for p in gold], dtype=np.uint8)


def make_output(
    gold: list[LabelledPassage], *, skill: float = 0.35, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Invent y_prob and y_pred that know the gold topics as well as `skill` says."""
    rng = np.random.default_rng([seed, 7])
    y_true = marks_of(gold)
    y_prob = np.clip(skill * y_true + (1 - skill) * rng.random(y_true.shape), 0, 1)
    return y_prob.astype(np.float32), (y_prob >= 0.5).astype(np.uint8)


def make_predictions(
    gold: list[LabelledPassage], y_prob: np.ndarray, y_pred: np.ndarray
) -> list[Prediction]:
    """Put arrays into the records that a prediction run writes."""
    return [
        Prediction(
            article_id=passage.article_id,
            passage_id=passage.passage_id,
            index=int(passage.passage_id.rpartition("/")[2]),
            start=0,
            end=len(passage.text),
            language=passage.language,
            text=passage.text,
            topics=tuple(t for t, flag in zip(TOPICS, marks, strict=True) if flag),
            probabilities=dict(zip(TOPICS, map(float, row), strict=True)),
            model="stub",
        )
        for passage, row, marks in zip(gold, y_prob, y_pred, strict=True)
    ]


class WordScorer:
    """Adds 3 to a topic's logit for each of its words, from -2."""

    kind = "stub"

    def score(self, texts):
        return np.array(
            [
                [-2 + 3 * sum(word in text for word in WORDS[name]) for name in TOPICS]
                for text in texts
            ],
            dtype=np.float32,
        )

    def save(self, model_dir):
        raise NotImplementedError


def make_classifier() -> Classifier:
    """Build a classifier that knows the invented words."""
    return Classifier(
        name="stub",
        codebook=CODEBOOK,
        scorer=WordScorer(),
        normalize=NormalizeSettings(letters=False, spaces=False),
        calibration=Calibration(),
        thresholds=np.full(4, 0.5),
    )
