"""Pages for the tests of the report, built from small invented data."""

import datetime
from dataclasses import replace
from html.parser import HTMLParser

from evaluation_data import (
    CODEBOOK,
    make_classifier,
    make_gold,
    make_output,
    make_predictions,
)

from relclass.error_analysis import explain_mistakes
from relclass.evaluation import Bootstrap, Evaluation, Named, evaluate, with_mistakes
from relclass.records import Article, LabelledPassage
from relclass.report_articles import LabelledArticle, gather_articles

HOSTILE = '</p></script><script>document.title="hacked"</script><img src=x onerror="alert(1)">'


def build_evaluation(gold: list[LabelledPassage] | None = None, *, name="stub") -> Evaluation:
    gold = gold or make_gold()
    y_prob, y_pred = make_output(gold, skill=0.25)
    evaluation = evaluate(
        gold, y_prob, y_pred, CODEBOOK, names=Named(name, "made up"),
        bootstrap=Bootstrap(n_resamples=30),
    )  # fmt: skip
    evaluation = with_mistakes(evaluation, gold, y_prob, y_pred, n_mistakes=8)
    explained = explain_mistakes(evaluation.mistakes, make_classifier())
    return replace(evaluation, mistakes=tuple(explained))


def build_articles(gold: list[LabelledPassage] | None = None) -> list[LabelledArticle]:
    gold = gold or make_gold()
    y_prob, y_pred = make_output(gold, skill=0.25)
    predictions = make_predictions(gold, y_prob, y_pred)
    known = [
        Article(
            article_id=f"a{k}",
            text="",
            title=f"عنوان {k}",
            date=datetime.date(2020 + k % 2, 1 + k % 12, 1),
            source="نمونه",
        )
        for k in range(20)
    ]
    return gather_articles(predictions, known)


class Page(HTMLParser):
    """Reads a page back: its elements, their attributes, and the text between."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.unbalanced: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in ("meta", "input", "br", "link", "hr"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.unbalanced.append(tag)

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("script", "style"):
            self.text += data

    def find(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]
