"""The pages in a real browser: scripts, filters, keys, themes, printing."""

import json
import shutil
import subprocess
from dataclasses import replace

import pytest
from evaluation_data import make_gold, make_output, make_predictions
from report_data import HOSTILE, Page, build_articles, build_evaluation

from relclass.report import build_page
from relclass.report_articles import articles_body, gather_articles
from relclass.report_evaluation import evaluation_body

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome")
     if (path := shutil.which(name))), None,
)  # fmt: skip

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium"),
]


@pytest.fixture
def browse(tmp_path):
    """Run Chromium without a network on a page; returns what it printed."""

    def run(html, *arguments, size="1200,900"):
        path = tmp_path / "page.html"
        path.write_text(html, encoding="utf-8")
        command = [
            CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            "--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={tmp_path / 'profile'}",
            f"--window-size={size}", *arguments, path.as_uri(),
        ]  # fmt: skip
        finished = subprocess.run(command, capture_output=True, timeout=240, check=True)
        return finished.stdout.decode("utf-8")

    return run


def articles_page():
    return build_page("Articles", articles_body(build_articles()), script="articles.js")


def drive(html, steps):
    """Add steps to a page's own script; what they put into `out` is found by `answer`.

    The page's policy lets only its own script run, so it is taken out here.
    """
    policy = html.index("<meta http-equiv"), html.index(">", html.index("<meta http-equiv")) + 1
    html = html[: policy[0]] + html[policy[1] :]
    script = (
        "<script>const out = {}; const id = (n) => document.getElementById(n);"
        "const say = (node, kind) => node.dispatchEvent(new Event(kind, {bubbles: true}));"
        "const shown = (s) => [...document.querySelectorAll(s)]"
        ".filter((n) => !n.hidden && !n.closest('[hidden]'));"
        f"{steps};"
        "document.body.dataset.answer = JSON.stringify(out);</script>"
    )
    return html.replace("</body>", script + "</body>")


def answer(dumped):
    return json.loads(Page(dumped).find("body")[0]["data-answer"])


def test_the_script_runs_under_the_pages_own_policy(browse):
    page = Page(browse(articles_page(), "--dump-dom"))
    n_labelled = sum(bool(p.topics) for a in build_articles() for p in a.passages)
    assert f"30 of 30 articles; {n_labelled} of 90 passages have a topic" in page.text


def test_hostile_text_runs_nothing(browse):
    gold = [replace(p, text=HOSTILE, note=HOSTILE) for p in make_gold(4)]
    for body, script in (
        (articles_body(build_articles(gold)), "articles.js"),
        (evaluation_body([build_evaluation(gold)]), "evaluation.js"),
    ):
        dumped = browse(build_page("Quiet", body, script=script), "--dump-dom")
        assert "<title>Quiet</title>" in dumped
        assert Page(dumped).find("img") == []


def test_filters_and_slider_show_what_fits(browse):
    steps = """
      out.all = shown('.article').length;
      const box = document.querySelector('input[name=topic][value="3"]');
      box.checked = true; say(box, 'input'); out.karabakh = shown('.article').length;
      box.checked = false; say(box, 'input');
      const language = id('language'); language.value = 'ar'; say(language, 'input');
      out.arabic = shown('.article').length; language.value = ''; say(language, 'input');
      id('find').value = 'عنوان 7'; say(id('find'), 'input');
      out.found = shown('.article').map((n) => n.querySelector('h3').textContent);
      id('find').value = 'no such words'; say(id('find'), 'input');
      out.empty = !id('empty').hidden;
      id('find').value = 'energy'; say(id('find'), 'input');
      out.label = shown('.article').length; id('find').value = ''; say(id('find'), 'input');
      const own = shown('.chip').length;
      id('threshold').value = 0.9; say(id('threshold'), 'input');
      out.high = shown('.chip').every((c) => Number(c.querySelector('b').textContent) >= 0.9);
      out.fewer = shown('.chip').length < own;
      out.cards = [0, 1, 2, 3].reduce(
        (sum, k) => sum + Number(document.querySelector(`[data-count="${k}"]`).textContent), 0);
      out.chips = shown('.chip').length;
      out.says = id('threshold-value').textContent;
      id('own').click(); out.again = shown('.chip').length === own;
    """
    found = answer(browse(drive(articles_page(), steps), "--dump-dom"))
    articles = build_articles()
    assert found["all"] == 30
    assert found["karabakh"] == sum("karabakh" in a.topics for a in articles)
    assert found["arabic"] == sum(a.passages[0].language == "ar" for a in articles)
    assert found["found"] == ["عنوان 7"]
    assert found["label"] == 0  # no text has the word; labels do, hidden ones too
    assert found["empty"] and found["high"] and found["fewer"] and found["again"]
    assert found["cards"] == found["chips"]
    assert found["says"] == "0.90"


def test_topics_beyond_the_eighth_have_colours_too(browse):
    names = [f"topic {k}" for k in range(9)]
    passage = make_predictions(make_gold(1), *make_output(make_gold(1)))[0]
    many = replace(passage, topics=(names[8],), probabilities=dict.fromkeys(names, 0.9))
    html = build_page("x", articles_body(gather_articles([many])), script="articles.js")
    steps = """
      out.ninth = document.querySelector('.passage').className;
      out.chips = new Set([...document.querySelectorAll('.chip')]
        .map((c) => getComputedStyle(c).getPropertyValue('--c'))).size;
    """
    found = answer(browse(drive(html, steps), "--dump-dom"))
    assert found["ninth"] == "passage has-topic topic-0"
    assert found["chips"] == 8


def test_keys_move_between_labelled_passages(browse):
    steps = """
      const press = (key) => document.activeElement.dispatchEvent(
        new KeyboardEvent('keydown', {key, bubbles: true}));
      const labelled = shown('.has-topic');
      press('j'); out.first = document.activeElement === labelled[0];
      press('j'); press('j'); out.third = document.activeElement === labelled[2];
      press('k'); out.second = document.activeElement === labelled[1];
      id('find').focus(); press('j'); out.stays = document.activeElement === id('find');
      out.reachable = [...document.querySelectorAll('a, button, input, select')]
        .every((n) => n.disabled || n.tabIndex >= 0);
    """
    found = answer(browse(drive(articles_page(), steps), "--dump-dom"))
    assert found == dict.fromkeys(("first", "third", "second", "stays", "reachable"), True)


def test_the_chart_over_time_follows_the_slider(browse):
    steps = """
      const tall = () => [...document.querySelectorAll('.timeline rect')]
        .reduce((sum, bar) => sum + Number(bar.getAttribute('height')), 0);
      const before = tall();
      say(document.querySelector('input[type=search]'), 'input');
      out.same = Math.abs(tall() - before) < 1;
      id('threshold').value = 0.95; say(id('threshold'), 'input');
      out.lower = tall() < before;
    """
    found = answer(browse(drive(articles_page(), steps), "--dump-dom"))
    assert found == {"same": True, "lower": True}


def test_mistakes_are_filtered(browse):
    evaluation = build_evaluation()
    html = build_page("x", evaluation_body([evaluation]), script="evaluation.js")
    steps = """
      const select = document.querySelector('.mistake-filter');
      select.value = 'miss'; say(select, 'change');
      out.misses = shown('.mistake').length;
      select.value = 'all'; say(select, 'change'); out.all = shown('.mistake').length;
    """
    found = answer(browse(drive(html, steps), "--dump-dom"))
    assert found["misses"] == sum(m.kind == "miss" for m in evaluation.mistakes)
    assert found["all"] == len(evaluation.mistakes)


def test_persian_is_set_from_the_right_and_nothing_overflows(browse):
    steps = """
      const text = document.querySelector('.text[lang=fa]');
      out.direction = getComputedStyle(text).direction;
      out.fits = document.documentElement.scrollWidth <= window.innerWidth;
    """
    pages = (
        articles_page(),
        build_page("x", evaluation_body([build_evaluation()]), script="evaluation.js"),
    )
    for html in pages:
        found = answer(browse(drive(html, steps), "--dump-dom", size="520,900"))
        assert found == {"direction": "rtl", "fits": True}


def test_the_page_follows_the_theme_and_prints(browse, tmp_path):
    image = pytest.importorskip("matplotlib.image")
    light, dark, paper = (tmp_path / name for name in ("light.png", "dark.png", "page.pdf"))
    html = articles_page()
    browse(html, f"--screenshot={light}", "--blink-settings=preferredColorScheme=1")
    browse(html, f"--screenshot={dark}", "--blink-settings=preferredColorScheme=0")
    assert image.imread(light)[..., :3].mean() > 0.8
    assert image.imread(dark)[..., :3].mean() < 0.3
    browse(html, f"--print-to-pdf={paper}")
    assert paper.read_bytes().startswith(b"%PDF") and paper.stat().st_size > 10_000
