import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relclass.passages import PassageSettings, split_passages
from relclass.records import Article, Span

SMALL = PassageSettings(max_chars=80, min_chars=12)
PIECES = [
    "وزیر", "راه‌آهن", "گفت", "الميناء", "ə", "The", "border", "ж", "۱۲", "3.5", ".", "؟", "…", "،",
    "»", "«", " ", "\n", "\n\n", "\r\n", "\u2029", "\x1c", "\x00", "\u202e", "\u064b", "x" * 30,
]  # fmt: skip
texts = st.lists(st.sampled_from(PIECES), max_size=120).map("".join) | st.text(max_size=300)


@st.composite
def articles(draw: st.DrawFn) -> Article:
    text = draw(texts)
    ends = sorted(draw(st.sets(st.integers(0, len(text)), max_size=6)))
    spans = tuple(Span(a, b, "x") for a, b in zip(ends[::2], ends[1::2], strict=False))
    return Article("a", text, furniture=spans)


def split(text: str, **known: str) -> list[str]:
    return [passage.text for passage in split_passages(Article("a", text, **known))]


@given(articles(), st.sampled_from([SMALL, PassageSettings(20, 0), PassageSettings()]))
def test_each_character_outside_furniture_is_in_exactly_one_passage(
    article: Article, limits: PassageSettings
) -> None:
    passages = split_passages(article, limits)
    owners = [0] * len(article.text)
    for passage in passages:
        for at in range(passage.start, passage.end):
            owners[at] += 1
    for span in article.furniture:
        assert not any(owners[span.start : span.end])
    covered = {at for span in article.furniture for at in range(span.start, span.end)}
    for at, char in enumerate(article.text):
        assert owners[at] <= 1
        assert owners[at] == 1 or at in covered or char.isspace()


@given(articles())
def test_passages_and_what_lies_between_are_the_text(article: Article) -> None:
    rebuilt, position = "", 0
    for index, passage in enumerate(split_passages(article, SMALL)):
        assert passage.start >= position
        assert passage.text == article.text[passage.start : passage.end] == passage.text.strip()
        assert 0 < len(passage.text) <= SMALL.max_chars
        assert (passage.index, passage.passage_id) == (index, f"a/{index}")
        rebuilt += article.text[position : passage.start] + passage.text
        position = passage.end
    assert rebuilt + article.text[position:] == article.text


@settings(max_examples=300)
@given(texts)
def test_a_passage_split_again_stays_whole(text: str) -> None:
    for passage in split_passages(Article("a", text), SMALL):
        assert split_passages(Article("a", passage.text), SMALL)[0].text == passage.text


SENTENCE = "هیئت دو کشور درباره بازگشایی گذرگاه مرزی و افزایش شمار کامیون‌ها گفت‌وگو کرد."


def test_lines_are_paragraphs_with_and_without_blank_lines_between() -> None:
    assert split(f"{SENTENCE}\n{SENTENCE}\n\n\n {SENTENCE} \r\n") == [SENTENCE] * 3


def test_a_paragraph_of_ordinary_length_stays_whole() -> None:
    paragraph = " ".join([SENTENCE] * 13)
    assert len(paragraph.split()) > 160
    assert split(paragraph) == [paragraph]


def test_a_long_paragraph_is_cut_at_sentence_ends_into_even_pieces() -> None:
    pieces = split(" ".join([SENTENCE] * 40))
    assert all(piece.endswith(".") for piece in pieces)
    assert max(map(len, pieces)) < 1.3 * min(map(len, pieces))


@pytest.mark.parametrize(
    "whole",
    [
        "قیمت هر بشکه ۸۱.۵ دلار بود و ۱۲.۰۰۰ کامیون گذشت",
        "به گفته م. رضایی در ادامه کار",
        "U.S. envoys and Dr. Smith met in the U.N. office",
        "2. Ordu ve 10. Kolordu bölgede tatbikat yaptı",
        "Выделили 5 млн. рублей и 30 тыс. тонн",
    ],
)
def test_a_stop_in_a_number_an_initial_or_an_abbreviation_ends_no_sentence(whole: str) -> None:
    limits = PassageSettings(max_chars=2 * len(whole) + 10, min_chars=0)
    text = f"{whole}. {whole}. {whole}"
    pieces = [passage.text for passage in split_passages(Article("a", text), limits)]
    assert pieces in ([f"{whole}.", f"{whole}. {whole}"], [f"{whole}. {whole}.", whole])


def test_a_persian_stop_without_a_space_behind_it_ends_a_sentence() -> None:
    first, second = "خط آهن تا مرز رسید.", "وی افزود کار ادامه دارد"
    limits = PassageSettings(max_chars=30, min_chars=0)
    passages = split_passages(Article("a", first + second), limits)
    assert [passage.text for passage in passages] == [first, second]


def test_a_tiny_line_joins_the_next_and_a_last_one_the_one_before() -> None:
    assert split(f"حمل‌ونقل\n{SENTENCE}\n{SENTENCE}\nپایان") == [
        f"حمل‌ونقل\n{SENTENCE}",
        f"{SENTENCE}\nپایان",
    ]


def test_the_title_stays_alone_however_short() -> None:
    assert split(f"پل تازه\n\n{SENTENCE}", title="پل تازه") == ["پل تازه", SENTENCE]
    assert split("پل تازه\n\nتمام", title="پل تازه") == ["پل تازه", "تمام"]


def test_nothing_is_joined_across_furniture() -> None:
    text = f"حمل‌ونقل\nکد خبر: ۱۲\n{SENTENCE}"
    start = text.index("کد")
    furniture = (Span(start, start + len("کد خبر: ۱۲"), "news_code"),)
    passages = split_passages(Article("a", text, furniture=furniture))
    assert [passage.text for passage in passages] == ["حمل‌ونقل", SENTENCE]


def test_lines_folded_at_a_fixed_width_are_one_paragraph() -> None:
    folded = (
        "The railway that links the two countries was opened on Monday in the\n"
        "presence of the ministers of transport, who said that the first goods\n"
        "train would cross the border before the end of the month and that the\n"
        "customs houses on both sides would stay open for twenty-four hours.\n"
    )
    assert split(folded + "\n" + folded) == [folded.strip()] * 2


def test_short_passages_take_the_language_of_the_article() -> None:
    names = "باكو، طهران، استارا، رشت، قزوين، نخجوان، اردوباد"
    passages = split_passages(Article("a", f"{names}\n\nكد 1", language="ar"))
    assert [passage.language for passage in passages] == ["ar"]
    assert [passage.language for passage in split_passages(Article("a", names))] == ["fa"]
    english = "The minister said that the railway would be ready by the end of the year."
    article = Article("a", f"{SENTENCE}\n\n{english}", language="fa")
    assert [passage.language for passage in split_passages(article)] == ["fa", "en"]


@pytest.mark.parametrize("text", ["", " \n\t\r\n ", "\u2028"])
def test_a_text_without_characters_gives_no_passage(text: str) -> None:
    assert split_passages(Article("a", text)) == []


@pytest.mark.parametrize(
    "unit", ["ا", "سلام ", "سلام. ", ".", "\u064b", ". ", "س\n", " ", "«", "-\n\n"]
)
def test_a_huge_paragraph_takes_linear_time_and_gives_bounded_pieces(unit: str) -> None:
    seconds = []
    for n_chars in (30_000, 300_000):
        started = time.process_time()
        passages = split_passages(Article("a", unit * (n_chars // len(unit))))
        seconds.append(time.process_time() - started)
        assert all(len(passage.text) <= 1200 for passage in passages)
    assert seconds[1] < 30 * seconds[0] + 0.2


@pytest.mark.parametrize(("max_chars", "min_chars"), [(10, 0), (100, 50), (1000, -1)])
def test_settings_that_cannot_be_kept_are_refused(max_chars: int, min_chars: int) -> None:
    with pytest.raises(ValueError, match=f"Got min_chars={min_chars}, max_chars={max_chars}"):
        PassageSettings(max_chars=max_chars, min_chars=min_chars)
