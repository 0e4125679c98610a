import math

import numpy as np
import pytest

from relclass.agreement import (
    cohen_kappa,
    krippendorff_alpha,
    masi_distance,
    measure_agreement,
    nominal_distance,
)
from relclass.codebook import Codebook, Topic
from relclass.errors import DataError
from relclass.records import LabelledPassage

CODEBOOK = Codebook(
    version="1", topics=tuple(Topic(name=name, definition=name) for name in ("war", "road", "oil"))
)


def units_of(*annotators):
    return [[value for value in unit if value != "."] for unit in zip(*annotators, strict=True)]


def passage(passage_id, *topics, text="متن"):
    return LabelledPassage(passage_id, passage_id, text, "fa", topics)


def test_alpha_of_two_observers_and_binary_data_is_that_of_krippendorff_2011_part_a():
    units = units_of("0100000010", "1110010000")
    assert krippendorff_alpha(units, nominal_distance) == pytest.approx(0.095, abs=5e-4)


def test_alpha_of_two_observers_and_nominal_data_is_that_of_krippendorff_2011_part_b():
    units = units_of("aabbdcccedda", "babbbccceddd")
    assert krippendorff_alpha(units, nominal_distance) == pytest.approx(0.692, abs=5e-4)


FOUR_OBSERVERS = units_of("123321412...", "1233224125.3", ".3332342251.", "12332441251.")


def test_alpha_of_four_observers_with_missing_data_is_that_of_krippendorff_2011_part_c():
    assert krippendorff_alpha(FOUR_OBSERVERS, nominal_distance) == pytest.approx(0.743, abs=5e-4)


def test_alpha_with_an_interval_distance_is_that_of_krippendorff_2011_part_c():
    alpha = krippendorff_alpha(FOUR_OBSERVERS, lambda a, b: float(int(a) - int(b)) ** 2)
    assert alpha == pytest.approx(0.849, abs=5e-4)


def test_alpha_does_not_depend_on_the_order_of_units_or_of_values():
    shuffled = [unit[::-1] for unit in reversed(FOUR_OBSERVERS)]
    assert krippendorff_alpha(shuffled, nominal_distance) == pytest.approx(
        krippendorff_alpha(FOUR_OBSERVERS, nominal_distance)
    )


def test_alpha_is_undefined_when_all_values_are_the_same_or_none_can_be_paired():
    assert krippendorff_alpha([["a", "a"], ["a", "a"]], nominal_distance) is None
    assert krippendorff_alpha([["a"], ["b"], []], nominal_distance) is None
    assert krippendorff_alpha([], nominal_distance) is None


@pytest.mark.parametrize(
    ("left", "right", "distance"),
    [
        ({"a", "b"}, {"a", "b"}, 0),
        ({"a"}, {"a", "b"}, 1 - 1 / 2 * 2 / 3),
        ({"a", "b"}, {"b", "c"}, 1 - 1 / 3 * 1 / 3),
        ({"a"}, {"b"}, 1),
        (set(), set(), 0),
        (set(), {"a"}, 1),
    ],
)
def test_masi_distance_weighs_overlap_by_how_the_sets_lie(left, right, distance):
    assert masi_distance(left, right) == pytest.approx(distance)
    assert masi_distance(right, left) == pytest.approx(distance)


def test_masi_alpha_of_two_annotators_is_the_one_computed_by_hand():
    # Sets {a}, {a,b} | {}, {} | {a}, {a}: the distances are 2/3 and 1 where one is empty.
    # Observed: 2 * 2/3. Counts: {a} 3, {a,b} 1, {} 2. Expected (n - 1 = 5):
    # 2 * (3*1*2/3 + 3*2*1 + 1*2*1) / 5 = 4. Alpha = 1 - (4/3) / 4.
    units = [[{"a"}, {"a", "b"}], [set(), set()], [{"a"}, {"a"}]]
    frozen = [[frozenset(value) for value in unit] for unit in units]
    assert krippendorff_alpha(frozen, masi_distance) == pytest.approx(1 - (4 / 3) / 4)


def test_kappa_is_the_one_computed_by_hand_and_undefined_without_variation():
    left, right = np.array([1, 1, 0, 0]), np.array([1, 0, 0, 0])
    assert cohen_kappa(left, right) == pytest.approx((0.75 - 0.5) / (1 - 0.5))
    assert cohen_kappa(np.zeros(3, int), np.zeros(3, int)) is None


def test_agreement_names_disputed_topics_and_leaves_what_is_undefined_undefined():
    first = [passage("1", "war"), passage("2"), passage("3", "war", "road"), passage("9", "war")]
    second = [passage("1", "war"), passage("2", "road"), passage("3", "war", "road")]
    result = measure_agreement({"one": first, "two": second}, CODEBOOK)
    assert result.n_passages == 3
    assert result.n_unpaired == {"one": 1, "two": 0}
    (pair,) = result.pairs
    assert pair.exact_match == pytest.approx(2 / 3)
    assert pair.f1 == {"war": 1.0, "road": pytest.approx(2 / 3), "oil": None}
    assert pair.kappa["war"] == pytest.approx(1) and pair.kappa["oil"] is None
    assert result.alpha["oil"] is None and result.alpha["war"] == pytest.approx(1)
    assert [(d.passage_id, d.disputed) for d in result.disagreements] == [("2", ("road",))]
    assert result.disagreements[0].topics == {"one": (), "two": ("road",)}
    assert result.to_dict()["pairs"][0]["f1"]["oil"] is None


def test_three_annotators_of_whom_one_saw_half_are_compared_in_pairs():
    rows = {
        "one": [passage("1", "war"), passage("2")],
        "two": [passage("1", "war"), passage("2", "oil")],
        "three": [passage("1", "road")],
    }
    result = measure_agreement(rows, CODEBOOK)
    assert [(p.annotators, p.n_passages) for p in result.pairs] == [
        (("one", "two"), 2), (("one", "three"), 1), (("two", "three"), 1),
    ]  # fmt: skip
    assert result.alpha_masi is not None and not math.isnan(result.alpha_masi)


def test_one_label_file_is_not_enough():
    with pytest.raises(ValueError, match=r"Got 1 label file\(s\) but expected two or more"):
        measure_agreement({"one": [passage("1")]}, CODEBOOK)


def test_files_without_a_common_passage_are_refused():
    with pytest.raises(DataError, match="one, two: no passage_id is in two of the files"):
        measure_agreement({"one": [passage("1")], "two": [passage("2")]}, CODEBOOK)


def test_one_id_with_two_texts_is_refused():
    rows = {"one": [passage("1", text="الف")], "two": [passage("1", text="ب")]}
    with pytest.raises(DataError, match="passage '1' has another text in another file"):
        measure_agreement(rows, CODEBOOK)
