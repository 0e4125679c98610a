from dataclasses import replace

import pytest
from test_models_ensemble import CODEBOOK, classifier

from relclass.error_rates import measure_error_rates
from relclass.records import LabelledPassage
from relclass.summary import ErrorRates


def passage(number: int, text: str, *topics: str) -> LabelledPassage:
    return LabelledPassage(
        passage_id=f"{number}",
        article_id=f"{number}",
        text=text,
        language="fa",
        topics=CODEBOOK.check(topics, where=""),
        origin="real",
    )


SAMPLE = [
    passage(0, "گاز", "energy"),
    passage(1, "برق", "energy"),
    passage(2, "قطار"),
    passage(3, "دیدار"),
    passage(4, "سفر"),
    passage(5, "قطار باری", "transit"),
]


@pytest.fixture
def model():
    return classifier("words", "گاز", "قطار")


def test_rates_of_a_random_sample(model) -> None:
    rates = measure_error_rates(model, SAMPLE)
    assert rates["energy"] == {"sensitivity": 0.5, "specificity": 1.0}
    assert rates["transit"] == {"sensitivity": 1.0, "specificity": 0.8}
    assert ErrorRates(**rates["transit"]) == ErrorRates(1.0, 0.8)


def test_hard_passages_count_for_what_is_found_and_not_for_what_is_found_wrongly(model) -> None:
    hard = [passage(6, "کشتی", "transit"), passage(7, "گاز و قطار")]
    rates = measure_error_rates(model, SAMPLE, hard)
    assert rates["transit"] == {"sensitivity": 0.5, "specificity": 0.8}
    assert rates["energy"] == {"sensitivity": 0.5, "specificity": 1.0}


def test_a_topic_without_passages_has_no_rates(model) -> None:
    without = [replace(p, topics=()) for p in SAMPLE if "energy" in p.topics] + SAMPLE[2:]
    assert set(measure_error_rates(model, without)) == {"transit"}


def test_an_empty_sample_says_nothing(model) -> None:
    with pytest.raises(ValueError, match="empty sample"):
        measure_error_rates(model, [])
