import datetime
import io
import re

import pytest
from batch_stubs import SENTENCES, TOPICS, make_classifier
from rich.console import Console

from relclass.predict import label_articles
from relclass.records import Article, Prediction
from relclass.summary import ErrorRates, Tally, TopicCount, summarize, summarize_tallies
from relclass.terminal import print_article, print_article_topics, summary_table

ARTICLE = Article(
    "fa-1",
    "\n".join(SENTENCES[:5]),
    title="دیدار وزیران در کنار دریا",
    date=datetime.date(2023, 5, 3),
    source="خبرگزاری ساحل",
)


def printed(article=ARTICLE, *, is_terminal=False, show=print_article, width=90):
    (predictions,) = label_articles([article], make_classifier())
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=is_terminal, width=width, highlight=False)
    show(console, article, predictions, TOPICS)
    return stream.getvalue()


def test_title_date_and_source_stand_above_the_passages_with_their_topics():
    lines = printed().splitlines()
    assert lines[0].strip() == ARTICLE.title
    assert lines[1] == "fa-1 · 2023-05-03 · خبرگزاری ساحل"
    assert re.match(r" +1 +transit +\d\d % +The railway", lines[2])


def test_a_passage_without_a_topic_says_so():
    (line,) = (line for line in printed().splitlines() if "ministers went home" in line)
    assert re.match(r" +5 +– +Nothing", line)


@pytest.mark.parametrize("width", [40, 60, 90, 200])
def test_no_word_of_a_passage_is_lost_in_the_wrapping(width):
    words = re.sub(r"[\u2068\u2069]", "", printed(width=width, is_terminal=False)).split()
    for sentence in SENTENCES[:5]:
        assert [w for w in sentence.split() if w not in words] == []


def test_on_a_terminal_each_line_of_text_is_isolated_by_itself():
    for line in printed(is_terminal=True, width=60).splitlines():
        assert line.count("\u2068") == line.count("\u2069")
    assert "\u2068دیدار" in printed(is_terminal=True)


def test_in_a_pipe_the_text_carries_no_isolates():
    assert "\u2068" not in printed(is_terminal=False)


def test_persian_stands_to_the_right_and_english_to_the_left():
    lines = printed(width=120).splitlines()
    (english,) = (line for line in lines if "The railway" in line)
    (persian,) = (line for line in lines if "وزیر نفت" in line)
    assert re.search(r"%  +The", english) and english.index("The") < 30
    assert persian.index("وزیر") > 40


def test_what_could_steer_the_terminal_is_left_out():
    hostile = "\x1b[2J\x1b]0;owned\x07 railway \u202e reversed \u2066 text that is long enough here"
    output = printed(Article("x\x1b[31m", hostile, title="t\x1b[5m"))
    assert not set("\x1b\x07\u202e\u2066") & set(output)
    assert "railway" in output


def test_a_lone_surrogate_does_not_stop_the_table():
    output = printed(Article("x", "a half \ud83d of a pair, in a sentence of some words"))
    assert "of a pair" in output


def test_long_names_of_topics_keep_their_percentage():
    prediction = Prediction(
        "a", "a/0", 0, 0, 6, "en", "A text", ("foreign_policy",), {"foreign_policy": 0.93}, "m"
    )
    stream = io.StringIO()
    article = Article("a", "A text")
    print_article(Console(file=stream, width=60), article, [prediction], ("foreign_policy",))
    assert re.search(r"1  foreign_policy +93 %  A text", stream.getvalue())


def test_an_article_without_a_passage_says_why():
    assert "nothing but page furniture" in printed(Article("x", ""))


def test_topics_of_an_article_come_with_the_number_of_passages():
    output = printed(show=print_article_topics)
    assert "transit in 1 of 5 passages" in output
    assert "no topic" in printed(Article("x", SENTENCES[4]), show=print_article_topics)


def test_a_summary_has_a_row_a_group_and_the_corrected_share_after_an_arrow():
    (predictions,) = label_articles([ARTICLE], make_classifier())
    rates = {"transit": ErrorRates(0.9, 0.95)}
    stream = io.StringIO()
    console = Console(file=stream, width=80)
    console.print(summary_table(summarize(predictions, error_rates=rates)))
    lines = stream.getvalue().splitlines()
    (place,) = (number for number, line in enumerate(lines) if "fa-1" in line)
    assert lines[place].count("20 (4–62)") == 4  # nothing is cut at 80 columns
    assert lines[place + 1].strip() == "→ 18 (0–68)"


def summary_lines(tallies, *, by="month", width=80, rates=None):
    stream = io.StringIO()
    console = Console(file=stream, width=width)
    summary = summarize_tallies(tallies, by=by, error_rates=rates)
    console.print(summary_table(summary, width=width))
    return [line.split() for line in stream.getvalue().splitlines()]


def make_tally(group, *, n_articles=700, n_passages=14_000, topics=TOPICS):
    counts = {
        topic: TopicCount(n_passages * (10 + place) // 100, n_articles, 0, 0)
        for place, topic in enumerate(topics)
    }
    return Tally(group, n_articles, n_passages, n_passages**2 // n_articles, counts)


def test_a_summary_too_wide_for_the_terminal_has_a_row_a_topic_and_nothing_is_cut():
    rates = {topic: ErrorRates(0.9, 0.97) for topic in TOPICS}
    tallies = [make_tally("2023-05"), make_tally("2023-06", n_articles=1200)]
    lines = summary_lines(tallies, rates=rates)
    header = ["month", "articles", "passages", "topic", "share", "corrected"]
    (place,) = (number for number, line in enumerate(lines) if line == header)
    first, second = lines[place + 2 : place + 4]
    assert first == ["2023-05", "700", "14,000", "security", "10", "(9–11)", "8", "(7–9)"]
    assert second[0] == "transit" and len(second) == 5
    assert ["2023-06", "1,200", "14,000"] in [line[:3] for line in lines]
    assert not any("…" in word for line in lines for word in line)
    wide = summary_lines(tallies, rates=rates, width=120)
    assert ["month", "articles", "passages", *TOPICS] in wide
    (month,) = (line for line in wide if "2023-05" in line)
    assert month[:5] == ["2023-05", "700", "14,000", "10", "(9–11)"]


def test_a_summary_that_fits_keeps_a_column_a_topic():
    lines = summary_lines([make_tally("2023-05")], width=90)
    assert ["month", "articles", "passages", *TOPICS] in lines
    assert "2023-05" in [word for line in lines for word in line]


@pytest.mark.parametrize("width", [80, 200])
@pytest.mark.parametrize("group", ["news/[old]/7", "x[/b]y"])
def test_a_group_that_looks_like_markup_stands_as_it_is(group, width):
    rates = {topic: ErrorRates(0.9, 0.97) for topic in TOPICS}
    lines = summary_lines([make_tally(group)], by="article", width=width, rates=rates)
    assert group in [line[0] for line in lines if line]


def test_a_long_id_is_folded_and_its_numbers_are_not():
    lines = summary_lines([make_tally("news/" + "x" * 100)], by="article", width=60)
    words = [word for line in lines for word in line]
    assert "14,000" in words
    assert "".join(word for word in words if "x" in word).endswith("x" * 90)
