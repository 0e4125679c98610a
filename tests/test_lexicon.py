import time
from pathlib import Path

import numpy as np
import pytest

from relclass.codebook import Codebook, Topic
from relclass.config import NormalizeSettings
from relclass.errors import DataError, ModelError
from relclass.models.lexicon import (
    LEXICON_FILE,
    MAX_WEIGHT,
    Keywords,
    Lexicon,
    LexiconScorer,
    compile_keywords,
    load_lexicon,
)
from relclass.normalize import normalize

TOPICS = ("security", "transit", "energy", "karabakh")
CODEBOOK = Codebook(version="1", topics=tuple(Topic(name=name, definition=name) for name in TOPICS))
LEXICON_PATH = Path(__file__).parent.parent / "data" / "lexicon.yaml"


@pytest.fixture(scope="module")
def scorer():
    return LexiconScorer(load_lexicon(LEXICON_PATH), TOPICS)


def topics_of(scorer, text, language):
    logits = scorer.score([normalize(text, language, NormalizeSettings())])[0]
    return {topic for topic, logit in zip(TOPICS, logits, strict=True) if logit > 0}


# --- the project's lexicon, on passages written for this test ---


@pytest.mark.parametrize(
    ("language", "text", "topics"),
    [
        ("fa", "ارتش دو کشور در مرز رزمایش مشترک برگزار کردند.", {"security"}),
        ("fa", "نخستین قطار باری از راه‌آهن رشت ـ آستارا گذشت.", {"transit"}),
        ("fa", "بهای هر بشکه نفت و صادرات گاز بالا رفت.", {"energy"}),
        ("fa", "آوارگان قره‌باغ به شوشا بازگشتند.", {"karabakh"}),
        ("fa", "دو طرف بر همکاری در ترانزیت و انرژی تأکید کردند.", {"transit", "energy"}),
        ("fa", "وزيران از آتشبس در قرهباغ گفتند.", {"security", "karabakh"}),  # half-spaces lost
        ("fa", "سفیر تازه استوارنامه‌اش را تقدیم کرد.", set()),
        ("ar", "نفذ الجيش مناورات قرب الحدود.", {"security"}),
        ("ar", "عبرت الشاحنات المعبر بعد إنهاء إجراءات الجمارك.", {"transit"}),
        ("ar", "ارتفع سعر النفط وإنتاج الكهرباء.", {"energy"}),
        ("ar", "التقى السفير بوزير الثقافة في باكو.", set()),
        ("az", "Ordu sərhəddə hərbi təlim keçirdi.", {"security"}),
        ("az", "Şimal–Cənub dəhlizi ilə yük qatarları gedəcək.", {"transit"}),
        ("az", "İşğaldan azad edilən kəndlər.", {"karabakh"}),
        ("az", "SOCAR təbii qaz ixracını artırdı.", {"energy"}),
        ("az", "Laçında evlər bərpa olunur, sakinlər Şuşaya qayıdır.", {"karabakh"}),
        ("az", "قاراباغ دا یول چکیلیر", {"karabakh"}),
        ("tr", "Sınır kapısında tırlar gümrük işlemini bekliyor.", {"transit"}),
        ("tr", "Boru hattından doğalgaz akışı başladı.", {"energy"}),
        ("en", "Border guards seized heroin after a clash with smugglers.", {"security"}),
        ("en", "The pipeline carries gas to the power plant.", {"energy"}),
        ("en", "The ministers met and praised the old friendship.", set()),
        ("ru", "Грузовые поезда пойдут по железной дороге через Астару.", {"transit"}),
        ("ru", "Нефтяники увеличили добычу газа.", {"energy"}),
        ("ru", "Президент поздравил коллегу с праздником.", set()),
    ],
)
def test_plain_passages_get_their_topics(scorer, language, text, topics):
    assert topics_of(scorer, text, language) == topics


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("fa", "رئیس کمیسیون امنیت ملی و سیاست خارجی مجلس وارد باکو شد."),
        ("fa", "دبیر شورای عالی امنیت ملی با همتای خود دیدار کرد."),
        ("fa", "وزیر نیرو و وزیر راه و شهرسازی در نشست بودند."),
        ("fa", "سهم غلات در امنیت غذایی خانوار بالاست."),
        ("fa", "مربی از انرژی جوانان تیم گفت."),
        ("ar", "قال أمين مجلس الأمن القومي إن اللقاء كان مثمرا."),
        ("ar", "بحث الوزيران الأمن الغذائي مع وزير الطاقة."),
        ("az", "Qarabağ FK Bakıda iki qol vurdu."),
        ("az", "Energetika naziri bayram münasibətilə təbrik etdi."),
        ("tr", "Enerji ve Tabii Kaynaklar Bakanı törene katıldı."),
        ("en", "The chair of the National Security and Foreign Policy Commission arrived."),
        ("en", "Food security and social security were praised by the energy minister."),
        ("ru", "Секретарь Совета безопасности встретился с послом."),
    ],
)
def test_titles_and_namesakes_take_no_topic(scorer, language, text):
    assert topics_of(scorer, text, language) == set()


def test_every_keyword_of_the_lexicon_finds_itself(scorer):
    for column, topic in enumerate(TOPICS):
        for patterns, keywords in (
            (scorer._strong, scorer.lexicon.topics[topic].strong),
            (scorer._weak, scorer.lexicon.topics[topic].weak),
        ):
            for words in keywords.values():
                for word in words:
                    assert patterns[column].fullmatch(word.replace("*", "")), (topic, word)


def test_the_lexicon_is_lower_case_and_says_nothing_twice(scorer):
    lexicon = scorer.lexicon
    lists = list(lexicon.exclude.values())
    for keywords in lexicon.topics.values():
        for by_language in (keywords.strong, keywords.weak):
            lists += by_language.values()
    for words in lists:
        assert len(set(words)) == len(words), [w for w in words if words.count(w) > 1]
        assert all(word == word.lower().strip() for word in words)


# --- matching and counting ---


@pytest.fixture
def small():
    keywords = {
        "security": Keywords(
            strong={"fa": ("آتش بس", "ارتش")}, weak={"fa": ("مرز", "تنش", "تهدید")}
        ),
        "transit": Keywords(strong={"ar": ("شاحنة", "ميناء"), "ru": ("железн* дорог*",)}),
        "energy": Keywords(strong={"en": ("gas", "pipeline*")}),
        "karabakh": Keywords(),
    }
    return LexiconScorer(Lexicon(exclude={"en": ("tear gas",)}, topics=keywords), TOPICS)


def test_logits_grow_with_different_keywords_and_none_is_minus_two(small):
    texts = ["هوا", "مرز", "مرز و مرز", "مرز و تنش", "مرز، تنش، تهدید", "ارتش", "ارتش، آتش‌بس"]
    logits = small.score(texts)
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits[:, 0], [-2, -1.2, -1.2, -0.4, 0.4, 0.4, 2.8], atol=1e-6)
    assert (logits[:, 1:] == -2).all()


def test_a_logit_has_a_ceiling(scorer):
    text = " ".join(word for word in scorer.lexicon.topics["energy"].strong["en"])
    assert scorer.score([text])[0, 2] == pytest.approx(-2 + 0.8 * MAX_WEIGHT)


@pytest.mark.parametrize("spelling", ["آتش بس", "آتش‌بس", "آتشبس", "آتش‌بسی", "آتش_بس", "آتش‌بس‌های"])
def test_the_spellings_of_a_keyword_meet(small, spelling):
    assert small.explain(f"از {spelling} گفت")["security"] == [spelling]


def test_a_keyword_is_a_word_and_not_a_part_of_one(small):
    found = small.explain("ارتشبد فارتش مرزنگ آتش بسیار gasket las-gas")
    assert found == {"security": [], "transit": [], "energy": ["gas"], "karabakh": []}


def test_arabic_articles_and_endings_belong_to_the_word(small):
    found = small.explain("والشاحنة بالميناء وشاحنات لميناءها شاحنة")
    assert found["transit"] == ["بالميناء", "شاحنة", "لميناءها", "والشاحنة"]


def test_a_star_takes_any_ending_also_inside(small):
    assert small.explain("Железной дороги, Pipelines") == {
        "security": [], "transit": ["железной дороги"], "energy": ["pipelines"], "karabakh": [],
    }  # fmt: skip


def test_a_keyword_with_capitals_is_found_in_any_case():
    lexicon = Lexicon(
        exclude={"en": ("The GASKET",)},
        topics={"energy": Keywords(strong={"en": ("TANAP", "Gas*"), "az": ("İxrac",)})},
    )
    scorer = LexiconScorer(lexicon, ("energy",))
    found = scorer.explain("TANAP, tanap, GAS, the gasket, İxrac")["energy"]
    assert found == ["gas", "ixrac", "tanap"]


def test_each_form_of_a_keyword_counts(small):
    counts = small.count(["مرز و مرز", "مرز و مرزها", "مرز، مرزها، مرزهای"])
    assert counts[:, 4].tolist() == [1, 2, 3]


def test_what_is_excluded_is_not_counted_and_does_not_join_its_neighbours(small):
    assert small.explain("tear gas")["energy"] == []
    assert small.explain("tear gas and gas")["energy"] == ["gas"]
    joined = LexiconScorer(
        Lexicon(
            exclude={"en": ("x",)},
            topics={"energy": Keywords(strong={"en": ("oil price",)})},
        ),
        ("energy",),
    )
    assert joined.explain("oil x price")["energy"] == []


def test_no_keywords_match_nothing():
    assert compile_keywords({}).search("anything") is None
    assert compile_keywords({"fa": ()}).search("نفت") is None


def test_no_text_gives_no_row_and_empty_text_no_hit(small):
    assert small.score([]).shape == (0, 4)
    assert (small.score(["", "\0", "\ufffd"]) == -2).all()


@pytest.mark.parametrize("unit", ["آتش", "آتش ", "ارتش ", "الميناء", "железной ", "و", "-", " "])
def test_time_grows_with_the_text_alone(small, unit):
    start = time.process_time()
    small.score([unit * (300_000 // len(unit))])
    assert time.process_time() - start < 8


# --- files ---


def test_save_and_load_give_the_same_logits(scorer, tmp_path):
    scorer.save(tmp_path)
    copy = LexiconScorer.load(tmp_path, CODEBOOK)
    texts = ["ارتش و نفت", "Qarabağ yolu", "pipeline and railway", ""]
    np.testing.assert_array_equal(copy.score(texts), scorer.score(texts))
    assert copy.kind == "lexicon"


def test_a_lexicon_without_one_of_the_topics_is_refused(tmp_path):
    lexicon = Lexicon(topics={"energy": Keywords(strong={"en": ("gas",)})})
    with pytest.raises(ValueError, match=r"no keywords for \['security', 'transit', 'karabakh'\]"):
        LexiconScorer(lexicon, TOPICS)
    LexiconScorer(lexicon, ("energy",)).save(tmp_path)
    with pytest.raises(ModelError, match=r"no keywords for .* it has \['energy'\]"):
        LexiconScorer.load(tmp_path, CODEBOOK)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"topics: [", "not YAML"),
        (b"\xff\xfe", "not YAML"),
        (b"topics: {energy: {strnog: {}}}", r"not a lexicon: topics\.energy\.strnog"),
        (b"exclude: {}", "not a lexicon: topics: Field required"),
        (b"", "not a lexicon"),
    ],
)
def test_a_file_that_is_no_lexicon_is_refused(raw, message, tmp_path):
    path = tmp_path / "lexicon.yaml"
    path.write_bytes(raw)
    with pytest.raises(DataError, match=message):
        load_lexicon(path)
    path.rename(tmp_path / LEXICON_FILE)
    with pytest.raises(ModelError, match=message):
        LexiconScorer.load(tmp_path, CODEBOOK)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"none\.yaml: cannot read the lexicon: No such file"):
        load_lexicon(tmp_path / "none.yaml")
    with pytest.raises(ModelError, match="cannot read the lexicon"):
        LexiconScorer.load(tmp_path, CODEBOOK)
