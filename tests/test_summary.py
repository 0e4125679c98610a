import csv
import datetime
import math

import numpy as np
import pytest
from batch_stubs import SENTENCES, TOPICS, make_classifier
from hypothesis import given
from hypothesis import strategies as st

from relclass.predict import predict_articles
from relclass.records import Article
from relclass.summary import (
    UNDATED,
    ErrorRates,
    Tally,
    TopicCount,
    correct_share,
    effective_passages,
    merge_tallies,
    month_name,
    summarize,
    summarize_tallies,
    tally_articles,
    wilson_interval,
)
from relclass.summary_plot import plot_summary

MAY, JUNE = datetime.date(2023, 5, 3), datetime.date(2023, 6, 30)
ARTICLES = [
    Article("one", "\n".join(SENTENCES[:2]), date=MAY),
    Article("two", "\n".join([SENTENCES[0], *SENTENCES[2:4], SENTENCES[4]]), date=MAY),
    Article("three", SENTENCES[5], date=JUNE),
    Article("four", SENTENCES[4]),
]
DATES = {article.article_id: article.date for article in ARTICLES}


@pytest.fixture(scope="module")
def predictions():
    return list(predict_articles(ARTICLES, make_classifier()))


def by_group_and_topic(summary):
    return {(row.group, row.topic): row for row in summary.rows}


def test_articles_are_counted_one_by_one_in_their_order(predictions):
    summary = summarize(predictions)
    assert list(dict.fromkeys(row.group for row in summary.rows)) == ["one", "two", "three", "four"]
    row = by_group_and_topic(summary)["two", "transit"]
    assert (row.n_articles, row.n_passages, row.n_passages_topic) == (1, 4, 1)
    assert row.share == 0.25


def test_months_put_articles_together_and_keep_the_undated_apart(predictions):
    summary = summarize(predictions, by="month", dates=DATES)
    rows = by_group_and_topic(summary)
    assert [row.group for row in summary.rows[:: len(TOPICS)]] == ["2023-05", "2023-06", UNDATED]
    may = rows["2023-05", "transit"]
    assert (may.n_articles, may.n_articles_topic) == (2, 2)
    assert (may.n_passages, may.n_passages_topic) == (6, 2)
    assert rows["2023-05", "security"].n_articles_topic == 1
    assert may.share == pytest.approx(1 / 3)
    assert may.low < may.share < may.high


def test_months_without_dates_are_refused(predictions):
    with pytest.raises(ValueError, match='Got by="month" without dates: pass dates='):
        summarize(predictions, by="month")


def test_another_group_is_refused(predictions):
    with pytest.raises(ValueError, match="Got by='year' but expected one of article, month, all"):
        summarize(predictions, by="year")


def test_a_job_counts_what_the_library_counts(predictions):
    articles = [*ARTICLES, Article("furniture", "", date=MAY), Article("more", "")]
    groups = [[p for p in predictions if p.article_id == a.article_id] for a in articles]
    tallies = tally_articles(articles, groups, TOPICS)
    counted = summarize_tallies(tallies, by="month").rows
    expected = summarize(predictions, by="month", dates=DATES).rows
    assert [str(row) for row in counted] == [str(row) for row in expected]  # NaN is not NaN


def test_wilsons_interval_is_the_textbooks():
    # Newcombe 1998, Statistics in Medicine 17, table I: 81 of 263, and 0 of 20
    assert wilson_interval(81 / 263, 263, 1.96) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson_interval(0, 20, 1.96) == pytest.approx((0.0, 0.1611), abs=5e-5)


def test_a_share_is_corrected_as_by_hand():
    assert correct_share(0.3, ErrorRates(0.9, 0.8)) == pytest.approx((0.3 - 0.2) / 0.7)
    assert correct_share(0.1, ErrorRates(0.9, 0.8)) == 0.0
    assert correct_share(0.95, ErrorRates(0.9, 0.8)) == 1.0


@given(st.floats(0, 1), st.floats(0.51, 1), st.floats(0.5, 1))
def test_the_correction_undoes_the_errors(share, sensitivity, specificity):
    observed = share * sensitivity + (1 - share) * (1 - specificity)
    corrected = correct_share(observed, ErrorRates(sensitivity, specificity))
    assert corrected == pytest.approx(share, abs=1e-9)


@pytest.mark.parametrize("rates", [(0.5, 0.5), (0.2, 0.6), (1.2, 0.9), (0.9, -0.1)])
def test_rates_that_cannot_be_corrected_for_are_refused(rates):
    with pytest.raises(ValueError, match=rf"sensitivity={rates[0]}.*no better than chance"):
        ErrorRates(*rates)


def test_error_rates_as_a_model_card_holds_them_correct_only_their_topic(predictions):
    rates = {"transit": {"sensitivity": 0.9, "specificity": 0.95}}
    rows = by_group_and_topic(summarize(predictions, by="all", error_rates=rates))
    transit, energy = rows["all", "transit"], rows["all", "energy"]
    assert transit.corrected == pytest.approx((transit.share - 0.05) / 0.85)
    assert transit.corrected_low <= transit.corrected <= transit.corrected_high
    assert math.isnan(energy.corrected)


def test_passages_of_articles_that_are_all_or_nothing_count_as_articles():
    # ten articles of ten passages, half of them wholly on the topic: as ten independent passages
    # less one for the mean, with Student's quantiles at 99 and at 9 degrees of freedom
    tallies = [
        Tally("all", 1, 10, 100, {"t": TopicCount(x, int(x > 0), x * x, x * 10)})
        for x in [0, 10] * 5
    ]
    (tally,) = merge_tallies(tallies).values()
    assert effective_passages(tally, "t") == pytest.approx(9 * (1.98422 / 2.26216) ** 2, rel=1e-4)


def test_passages_count_fully_where_many_articles_are_all_alike():
    # that five articles are alike may be chance, so there is Student's factor: at 49 and 4 degrees
    # of freedom; one article says nothing of others
    tallies = [Tally("all", 1, 10, 100, {"t": TopicCount(3, 1, 9, 30)}) for _ in range(2000)]
    (many,), (few,) = (merge_tallies(tallies[:n]).values() for n in (2000, 5))
    assert effective_passages(many, "t") == pytest.approx(20_000, rel=0.002)
    assert effective_passages(few, "t") == pytest.approx(50 * (2.00958 / 2.77645) ** 2, rel=1e-4)
    assert effective_passages(tallies[0], "t") == 1


def test_articles_count_where_all_or_none_of_their_passages_have_the_topic():
    none = Tally("all", 7, 70, 700, {"t": TopicCount()})
    every = Tally("all", 7, 70, 700, {"t": TopicCount(70, 7, 700, 700)})
    assert effective_passages(none, "t") == effective_passages(every, "t") == 7


def test_two_articles_tell_no_less_than_one():
    tally = Tally("all", 2, 20, 200, {"t": TopicCount(10, 1, 100, 100)})
    assert effective_passages(tally, "t") == 1


def test_a_lower_confidence_takes_its_own_quantiles():
    tally = Tally("all", 5, 50, 500, {"t": TopicCount(15, 5, 45, 150)})
    # Student's t at 49 and 4 degrees of freedom, 75th percentile
    expected = 50 * (0.67953 / 0.74070) ** 2
    assert effective_passages(tally, "t", confidence=0.5) == pytest.approx(expected, rel=1e-4)


def test_an_articles_own_share_takes_its_passages_one_by_one(predictions):
    row = by_group_and_topic(summarize(predictions))["two", "transit"]
    assert (row.low, row.high) == pytest.approx(wilson_interval(0.25, 4, 1.959964), abs=1e-6)


@pytest.mark.parametrize("n_articles", [2, 4, 10])
def test_intervals_cover_the_share_as_often_as_they_say(n_articles):
    rng = np.random.default_rng(0)
    share, alike, n_passages = 0.3, 0.3, 10
    shape = 1 / alike - 1
    covered = []
    for _ in range(400):
        own = rng.beta(share * shape, (1 - share) * shape, size=n_articles)
        tallies = [
            Tally("all", 1, n_passages, n_passages**2, {"t": TopicCount(x, x > 0, x * x, x * 10)})
            for x in map(int, rng.binomial(n_passages, own))
        ]
        (row,) = summarize_tallies(tallies, by="all").rows
        covered.append(row.low <= share <= row.high)
    assert np.mean(covered) >= 0.93


def test_a_group_without_passages_has_no_share():
    tally = Tally("2023-05", 0, 0, 0, {"t": TopicCount()})
    (row,) = summarize_tallies([tally], by="month", error_rates={"t": ErrorRates(1, 1)}).rows
    assert math.isnan(row.share) and math.isnan(row.corrected)


def test_months_have_names_that_sort():
    assert month_name(datetime.date(2023, 5, 31)) == "2023-05"
    assert month_name(None) == UNDATED


def test_a_summary_is_written_as_csv_with_empty_cells_for_what_is_not_known(tmp_path, predictions):
    path = tmp_path / "summary.csv"
    summarize(predictions, by="month", dates=DATES).write_csv(path)
    rows = list(csv.DictReader(path.open(encoding="utf-8")))
    assert len(rows) == 3 * len(TOPICS)
    assert rows[0]["group"] == "2023-05" and rows[0]["corrected"] == ""
    assert float(rows[0]["share"]) == pytest.approx(1 / 6, abs=1e-6)


def test_a_summary_is_drawn(tmp_path, predictions):
    pytest.importorskip("matplotlib")
    rates = {topic: ErrorRates(0.9, 0.95) for topic in TOPICS[:2]}
    path = tmp_path / "summary.png"
    plot_summary(summarize(predictions, by="month", dates=DATES, error_rates=rates), path)
    assert path.read_bytes().startswith(b"\x89PNG")


def test_an_empty_summary_is_not_drawn(tmp_path):
    with pytest.raises(ValueError, match="without rows"):
        plot_summary(summarize([]), tmp_path / "summary.png")
