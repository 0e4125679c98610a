import csv
import datetime
import math

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
    groups = [[p for p in predictions if p.article_id == a.article_id] for a in ARTICLES]
    tallies = tally_articles(ARTICLES, groups, TOPICS)
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
    tallies = [
        Tally("all", 1, 10, 100, {"t": TopicCount(x, int(x > 0), x * x, x * 10)})
        for x in [0, 10] * 5
    ]
    (tally,) = merge_tallies(tallies).values()
    assert effective_passages(tally, "t") == pytest.approx(10, rel=0.15)


def test_passages_count_fully_where_articles_are_all_alike_or_single():
    tallies = [Tally("all", 1, 10, 100, {"t": TopicCount(3, 1, 9, 30)}) for _ in range(5)]
    (tally,) = merge_tallies(tallies).values()
    assert effective_passages(tally, "t") == 50
    assert effective_passages(tallies[0], "t") == 10


def test_a_group_without_passages_has_no_share():
    (tally,) = tally_articles([Article("x", "", date=MAY)], [[]], ("t",))
    (row,) = summarize_tallies([tally], by="month", error_rates={"t": ErrorRates(1, 1)}).rows
    assert row.n_articles == 1
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
