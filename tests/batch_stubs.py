"""A small model and made-up articles for the tests of prediction and batch jobs."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from relclass.calibration import Calibration
from relclass.codebook import Codebook, Topic
from relclass.config import NormalizeSettings
from relclass.models.base import Classifier
from relclass.models.lexicon import Keywords, Lexicon, LexiconScorer
from relclass.models.store import save_model
from relclass.records import Passage

WORDS = {"security": "border", "transit": "railway", "energy": "gas", "karabakh": "shusha"}
TOPICS = tuple(WORDS)
SENTENCES = (
    "The railway between the two capitals was opened on a windy morning in spring.",
    "وزیر نفت گفت که صادرات gas از مرز شمالی به زودی از سر گرفته می‌شود.",
    "مرزبانان دو کشور دربارهٔ border و نگهبانی شبانه گفت‌وگو کردند.",
    "جلس الوزيران في القاعة وتحدثا عن shusha وعن الطريق الطويل إليها.",
    "Nothing of the kind happened that day; the ministers went home early.",
    "Nazirlər railway xəttinin uzunluğu barədə bir saat danışdılar və razılaşdılar.",
)


def make_codebook():
    return Codebook(version="1", topics=tuple(Topic(name=name, definition=name) for name in TOPICS))


def make_classifier(scorer=None, name="stub"):
    return Classifier(
        name=name,
        codebook=make_codebook(),
        scorer=make_lexicon_scorer() if scorer is None else scorer,
        normalize=NormalizeSettings(),
        calibration=Calibration(),
        thresholds=np.full(len(TOPICS), 0.5),
    )


def make_lexicon_scorer(words=None):
    words = WORDS if words is None else words
    keywords = {topic: Keywords(strong={"en": (word,)}) for topic, word in words.items()}
    return LexiconScorer(Lexicon(topics=keywords), TOPICS)


def save_lexicon_model(model_dir: Path, *, name="tiny", words=None) -> str:
    save_model(make_classifier(make_lexicon_scorer(words), name=name), model_dir)
    return str(model_dir)


@dataclass
class SpyScorer:
    """Gives each text a logit that depends on it alone, and notes the batches it was given."""

    kind: str = "spy"
    batches: list = field(default_factory=list)

    def score(self, texts):
        self.batches.append(list(texts))
        columns = np.arange(1, len(TOPICS) + 1)
        numbers = [sum(map(ord, text)) * columns % 13 - 6 for text in texts]
        return np.array(numbers, dtype=np.float32).reshape(len(texts), len(TOPICS))

    def save(self, model_dir):
        raise NotImplementedError


def make_passage(text, *, article_id="a", index=0, language="fa"):
    return Passage(article_id, f"{article_id}/{index}", index, 0, len(text), language, text)


def write_articles(path: Path, n_articles: int, *, n_sentences=6, first=0) -> Path:
    """Write JSONL articles of several paragraphs, every one different."""
    with path.open("w", encoding="utf-8") as stream:
        for number in range(first, first + n_articles):
            paragraphs = [
                f"{SENTENCES[(number * 7 + k) % len(SENTENCES)]} ({number}.{k})"
                for k in range(n_sentences)
            ]
            record = {
                "id": f"article-{number:06d}",
                "title": f"Title {number}",
                "date": f"2023-{number % 12 + 1:02d}-15",
                "text": "\n\n".join(paragraphs),
            }
            stream.write(json.dumps(record, ensure_ascii=False) + "\n")
    return path
