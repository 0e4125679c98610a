import numpy as np
import pytest

from relclass.traps import TRAPS, fold, has_trap

TITLES = [
    "وزیر نیرو امروز به باکو رفت.",
    "دبیر شورای عالی امنیت ملی از نمایشگاه دیدن کرد.",
    "رئيس كميسيون امنيت ملي مجلس پیام داد.",
    "استقبل وزير الطاقة ضيفه في المطار.",
    "زار رئيس لجنة الأمن القومي المتحف.",
    "Energetika naziri sərginin açılışında iştirak edib.",
    "Təhlükəsizlik Şurasının katibi konsertə gəlib.",
    "ENERJİ BAKANI sergiyi gezdi.",
    "Milli Güvenlik Kurulu üyesi törene katıldı.",
    "The Energy and Water Resources Minister opened the fair.",
    "She chairs the Security Council this month.",
    "Министр энергетики открыл выставку.",
    "Секретарь Совета безопасности вручил награды.",
]
METAPHORS = [
    "انرژی جوانان ما پایان ندارد.",
    "سالن پر از انرژی مثبتی شد که به انرژی بازیکنانم افزود.",
    "مربی از انرژی بازیکنانم راضی بود.",
    "او انرژی خودش را صرف آموزش کرد.",
    "شعر، پلی میان دو ملت است.",
    "الفن جسر بين الشعوب.",
    "Gənclərin enerjisi bizi sevindirir.",
    "Gençlerin enerjisi salona taştı.",
    "Music is a bridge between nations.",
    "Talks are on the right track.",
    "Тренеру нравится молодая энергия команды.",
]
NAMESAKES = [
    "باشگاه قره‌باغ دو بر یک برد.",
    "فرش قره باغ در موزه است.",
    "امنیت غذایی موضوع نشست بود.",
    "فاز نادي قره باغ بهدفين.",
    "الأمن الغذائي أولوية.",
    "“Qarabağ” Bakıda qalib gəlib.",
    "Gıda güvenliği toplantısı yapıldı.",
    "Qarabag FC drew at home.",
    "A Karabakh horse won the race.",
    "Продовольственная безопасность обсуждалась на форуме.",
]
PLAIN = [
    "دو کشور درباره صادرات گاز توافق کردند.",
    "صادرات انرژی منطقه افزایش یافت.",
    "وزیران درباره شبکه انرژی مناطق مرزی گفتند.",
    "قیمت انرژی خودروها بالا رفت.",
    "ارتش در مرز رزمایش برگزار کرد.",
    "جنگ قره‌باغ چهل و چهار روز طول کشید.",
    "بحث الجانبان تصدير الغاز.",
    "Qarabağ müharibəsi 44 gün davam edib.",
    "İki ülke doğal gaz anlaşması imzaladı.",
    "The army held an exercise at the border.",
    "Стороны обсудили поставки газа.",
]


@pytest.mark.parametrize(
    ("trap", "texts"), [("titles", TITLES), ("metaphors", METAPHORS), ("namesakes", NAMESAKES)]
)
def test_each_trap_is_found_in_every_language(trap, texts):
    missed = [text for text, found in zip(texts, has_trap(texts, trap), strict=True) if not found]
    assert missed == []


@pytest.mark.parametrize("trap", TRAPS)
def test_sentences_on_the_topic_itself_are_no_trap(trap):
    assert not has_trap(PLAIN, trap).any()


def test_the_annotators_remark_counts_too():
    notes = ["titles only", "energy of youth: figure of speech", None, "namesake: a village"]
    texts = ["متن"] * 4
    found = np.array([has_trap(texts, trap, notes=notes) for trap in TRAPS])
    expected = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]], dtype=bool)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("left", "right"),
    [("كميسيون", "کمیسیون"), ("قره‌باغ", "قره باغ"), ("الأمن", "الامن"), ("BAKANI", "bakanı"),
     ("İran", "iran"), ("مَـجلس", "مجلس")],
)  # fmt: skip
def test_spellings_of_one_word_fold_together(left, right):
    assert fold(left) == fold(right)


def test_an_unknown_trap_is_refused():
    with pytest.raises(ValueError, match="trap='puns' but expected one of titles"):
        has_trap(["x"], "puns")


def test_notes_of_another_number_are_refused():
    with pytest.raises(ValueError, match="Got 1 notes but expected one for each of 2 texts"):
        has_trap(["x", "y"], "titles", notes=["titles"])
