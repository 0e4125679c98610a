import datetime
import json
import re
from dataclasses import replace

import pytest
from evaluation_data import TOPICS, make_gold, make_output, make_predictions, marks_of
from report_data import HOSTILE, Page, build_articles, build_evaluation

from relclass.error_analysis import TermWeight
from relclass.errors import ConfigError, DataError
from relclass.evaluation import Evaluation, read_evaluation
from relclass.metrics import average_precision, precision_recall_points
from relclass.report import (
    build_page,
    write_articles,
    write_comparison,
    write_evaluations,
)
from relclass.report_articles import articles_body, count_over_time, gather_articles
from relclass.report_charts import Axes, Series, interval_bar, line_chart, round_up
from relclass.report_evaluation import evaluation_body, mark_words


@pytest.fixture(scope="module")
def evaluation():
    return build_evaluation()


@pytest.fixture(scope="module")
def evaluation_html(evaluation):
    return build_page("Evaluation", evaluation_body([evaluation]), script="evaluation.js")


@pytest.fixture(scope="module")
def articles_html():
    return build_page("Articles", articles_body(build_articles()), script="articles.js")


@pytest.fixture(params=["evaluation", "articles"])
def html(request, evaluation_html, articles_html):
    return {"evaluation": evaluation_html, "articles": articles_html}[request.param]


def test_a_page_is_well_formed(html):
    page = Page(html)
    assert page.unbalanced == [] and page.open == []
    ids = [a["id"] for _, a in page.elements if a.get("id")]
    assert len(ids) == len(set(ids))


def test_a_page_asks_nothing_of_the_network(html):
    assert not re.search(r"https?://|//cdn|@import|url\(|\bfetch\(|XMLHttpRequest", html)
    page = Page(html)
    assert not [a for _, a in page.elements if a.get("src")]
    assert page.find("link") == []
    assert all(a["href"].startswith("#") for a in page.find("a"))
    policy = next(a["content"] for a in page.find("meta") if a.get("http-equiv"))
    assert policy.startswith("default-src 'none'") and "unsafe-inline" not in policy


def test_every_control_has_a_name_and_every_figure_a_description(html):
    page = Page(html)
    for tag, attributes in page.elements:
        if tag == "svg":
            assert attributes.get("aria-hidden") or attributes["aria-label"]
    labels = html.count("<label")
    controls = len(page.find("input")) + len(page.find("select"))
    assert labels == controls
    assert next(a for a in page.find("html"))["lang"] == "en"
    for table_head in page.find("th"):
        assert table_head["scope"] in ("row", "col", "colgroup")


def test_persian_and_arabic_passages_run_right_to_left(html):
    texts = [a for a in Page(html).find("p") if a.get("class") == "text"]
    assert texts
    for attributes in texts:
        assert attributes["dir"] == ("rtl" if attributes["lang"] in ("fa", "ar") else "auto")


def hostile_gold():
    return [
        replace(p, text=HOSTILE, source=HOSTILE, note=HOSTILE, passage_id=f"{HOSTILE}/{k}")
        for k, p in enumerate(make_gold())
    ]


def test_hostile_text_stays_text_in_an_evaluation():
    evaluation = replace(build_evaluation(hostile_gold(), name=HOSTILE), data=HOSTILE)
    html = build_page(HOSTILE, evaluation_body([evaluation, evaluation]), script="evaluation.js")
    page = Page(html)
    assert page.find("img") == [] and len(page.find("script")) == 1
    assert page.unbalanced == []
    assert HOSTILE in page.text


def test_hostile_text_stays_text_among_articles():
    articles = [replace(a, title=HOSTILE, source=HOSTILE) for a in build_articles(hostile_gold())]
    page = Page(build_page("x", articles_body(articles), script="articles.js"))
    assert page.find("img") == [] and len(page.find("script")) == 1
    assert page.unbalanced == []


def test_figures_stand_on_the_page_with_their_intervals(evaluation, evaluation_html):
    text = Page(evaluation_html).text
    for name in ("macro_f1", "micro_f1", "subset_accuracy"):
        estimate = evaluation.overall.overall[name]
        assert f"{estimate.value:.3f}{estimate.low:.3f}–{estimate.high:.3f}" in text
    for one in evaluation.slices:
        assert one.name in text


def test_what_is_undefined_says_so():
    gold = [replace(p, topics=tuple(t for t in p.topics if t != "karabakh")) for p in make_gold()]
    page = Page(build_page("x", evaluation_body([build_evaluation(gold)]), script="evaluation.js"))
    assert page.text.count("undefined") > 5
    assert "nan" not in page.text.lower().split()


def test_several_models_stand_side_by_side(evaluation):
    other = replace(evaluation, model="other")
    text = Page(build_page("x", evaluation_body([evaluation, other]), script="evaluation.js")).text
    assert "Models side by side" in text and "other" in text


def test_carrying_words_are_marked_where_they_stand(evaluation):
    mistake = next(m for m in evaluation.mistakes if m.words)
    marked = mark_words(mistake)
    assert Page(marked).text == mistake.text
    word = mistake.words[0]
    assert f">{mistake.text[word.start : word.end]}</mark>" in marked


def test_heaviest_terms_stand_on_the_page_where_there_are_some(evaluation, evaluation_html):
    assert "Heaviest terms" not in evaluation_html
    terms = {"energy": (TermWeight("<گاز>", 1.25),)}
    body = evaluation_body([replace(evaluation, terms=terms)])
    assert "Heaviest terms" in body and "&lt;گاز&gt;" in body and "1.25" in body


def test_each_passage_carries_its_probabilities(articles_html):
    passages = [a for a in Page(articles_html).find("div") if "data-prob" in a]
    assert len(passages) == 90
    for attributes in passages:
        probabilities = [float(p) for p in attributes["data-prob"].split()]
        assert len(probabilities) == len(TOPICS)
        for topic in map(int, attributes["data-own"].split()):
            assert probabilities[topic] >= 0.5


def test_topics_are_counted_by_month_and_by_year():
    articles = build_articles()
    periods, totals, counts = count_over_time(articles, TOPICS)
    assert periods[0] == "2020-01" and len(periods) == 24
    assert sum(totals) == 60  # ten articles have no date
    dated = [a for a in articles if a.date]
    assert sum(counts["energy"]) == sum(a.topics["energy"] for a in dated)
    far = [replace(dated[0], date=datetime.date(1994, 5, 1)), *dated[1:]]
    assert count_over_time(far, TOPICS)[0][:2] == ["1994", "1995"]


def test_articles_without_dates_have_no_chart():
    articles = [replace(a, date=None) for a in build_articles()]
    assert count_over_time(articles, TOPICS)[0] == []
    assert "timeline" not in articles_body(articles)


def test_an_article_without_a_title_is_called_by_its_first_words():
    articles = [replace(a, title=None) for a in build_articles()]
    first = articles[0].passages[0].text
    assert first[:20] in Page(articles_body(articles)).text


def test_no_articles_give_an_empty_page():
    assert "0 passages of 0 articles" in Page(articles_body(gather_articles([]))).text


def test_the_newest_article_comes_first_and_passages_in_order():
    articles = build_articles()
    dates = [a.date for a in articles if a.date]
    assert dates == sorted(dates, reverse=True)
    assert all([p.index for p in a.passages] == [0, 1, 2] for a in articles)


@pytest.mark.parametrize("suffix", [".html", ".md", ".json"])
def test_reports_are_written_in_every_format(tmp_path, evaluation, suffix):
    write_evaluations([evaluation], tmp_path / "new" / f"e{suffix}")
    write_articles(build_articles(), tmp_path / f"a{suffix}")
    for path in (tmp_path / "new" / f"e{suffix}", tmp_path / f"a{suffix}"):
        assert "karabakh" in path.read_text("utf-8")


def test_a_written_evaluation_is_read_back(tmp_path, evaluation):
    write_evaluations([evaluation], tmp_path / "e.json")
    assert read_evaluation(tmp_path / "e.json") == evaluation
    write_evaluations([evaluation, evaluation], tmp_path / "two.json")
    both = json.loads((tmp_path / "two.json").read_text("utf-8"))
    assert [Evaluation.from_json(json.dumps(one)) for one in both] == [evaluation] * 2


def test_markdown_has_a_row_for_each_slice_and_escapes_what_it_quotes(tmp_path, evaluation):
    hostile = replace(evaluation, model="a|b*c")
    write_evaluations([hostile], tmp_path / "e.md")
    lines = (tmp_path / "e.md").read_text("utf-8").splitlines()
    assert r"## a\|b\*c" in lines
    assert any(line.startswith("Passages with any topic wrong, by share") for line in lines)
    for one in evaluation.slices:
        assert any(line.count("|") == 8 and f"| {one.name} |" in line for line in lines)


def test_a_lone_surrogate_does_not_stop_a_report(tmp_path):
    gold = [replace(p, text=p.text + "\ud83d") for p in make_gold(3)]
    write_articles(build_articles(gold), tmp_path / "a.html")
    assert f"{make_gold(3)[0].text}?" in Page((tmp_path / "a.html").read_text("utf-8")).text
    evaluation = build_evaluation(gold)
    assert evaluation.mistakes
    write_evaluations([evaluation], tmp_path / "e.json")
    read = read_evaluation(tmp_path / "e.json")
    assert read == replace(
        evaluation,
        mistakes=tuple(replace(m, text=m.text[:-1] + "?") for m in evaluation.mistakes),
    )


def test_an_output_of_another_kind_is_refused(tmp_path, evaluation):
    with pytest.raises(ConfigError, match=r"e\.pdf: expected an output named \.html or \.md"):
        write_evaluations([evaluation], tmp_path / "e.pdf")
    with pytest.raises(ConfigError, match=r"named \.md or \.json"):
        write_comparison(None, tmp_path / "c.html")


def test_an_output_that_cannot_be_written_is_refused(tmp_path, evaluation):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot write the report"):
        write_evaluations([evaluation], tmp_path / "file" / "e.md")


def test_equal_evaluations_give_equal_pages(evaluation):
    pages = [build_page("x", evaluation_body([e]), script="evaluation.js")
             for e in (evaluation, Evaluation.from_json(evaluation.to_json()))]  # fmt: skip
    assert pages[0] == pages[1]


@pytest.mark.parametrize(("value", "top"), [(0, 0.02), (0.03, 0.04), (0.32, 0.4), (0.9, 1)])
def test_an_axis_ends_on_a_round_figure(value, top):
    assert round_up(value) == top


def test_an_undefined_estimate_draws_no_dot(evaluation):
    defined = evaluation.overall.overall["macro_f1"]
    assert "<circle" in interval_bar(defined)
    assert "<circle" not in interval_bar(replace(defined, value=None))


def test_predictions_of_different_topics_are_refused():
    gold = make_gold(2)
    one, *_, other = make_predictions(gold, *make_output(gold))
    other = replace(other, topics=("trade",), probabilities={"security": 0.1, "trade": 0.9})
    message = "'a1/2' has the topics security, trade, those before it security, transit, energy"
    with pytest.raises(DataError, match=message):
        gather_articles([one, other])


def test_the_area_below_a_precision_recall_line_is_the_average_precision():
    gold = make_gold()
    y_true, (y_prob, _) = marks_of(gold), make_output(gold, skill=0.25)
    points = [(p.x, p.y) for p in precision_recall_points(y_true[:, 0], y_prob[:, 0])]
    chart = line_chart([Series("x", points, "c", is_stepped=True)], Axes("t", "x", "y"))
    path = re.search(r'd="(M[^"]*)"', chart)[1]
    corners = Page(line_chart([], Axes("t", "x", "y", has_diagonal=True))).find("line")[-1]
    x0, y0, x1, y1 = (float(corners[end]) for end in ("x1", "y1", "x2", "y2"))
    x, y, area = x0, y0, 0.0
    for command, numbers in re.findall(r"([MHV])([\d. ]+)", path):
        if command == "M":
            assert float(numbers.split()[0]) == x0
            y = float(numbers.split()[1])
        elif command == "V":
            y = float(numbers)
        else:
            area += (float(numbers) - x) * (y0 - y)
            x = float(numbers)
    expected = average_precision(y_true[:, :1], y_prob[:, :1])[0]
    assert area / ((x1 - x0) * (y0 - y1)) == pytest.approx(expected, abs=0.002)
