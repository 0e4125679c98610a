"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const numbers = (text) => (text ? text.split(" ").map(Number) : []);
  const articles = [...document.querySelectorAll(".article")].map((node, k) => ({
    node,
    link: document.querySelector(`nav li[data-article="${k}"]`),
    period: node.dataset.period === undefined ? null : Number(node.dataset.period),
    words: [...node.querySelectorAll("h3, .quiet, .text")]
      .map((part) => part.textContent).join("\n").toLocaleLowerCase(),
    passages: [...node.querySelectorAll(".passage")].map((passage) => ({
      node: passage,
      own: numbers(passage.dataset.own),
      probabilities: numbers(passage.dataset.prob),
      language: passage.dataset.language,
      chips: [...passage.querySelectorAll(".chip")],
    })),
  }));
  const form = byId("controls");
  const boxes = [...form.querySelectorAll("input[name=topic]")];
  const slider = byId("threshold");
  let usesOwn = true;

  const topicsOf = (passage) => {
    if (usesOwn) return passage.own;
    const threshold = Number(slider.value);
    return passage.probabilities.flatMap((p, k) => (p >= threshold ? [k] : []));
  };

  const paint = (passage, topics) => {
    const strongest = topics.reduce(
      (best, k) => (best < 0 || passage.probabilities[k] > passage.probabilities[best] ? k : best), -1);
    passage.node.className = strongest < 0 ? "passage" : `passage has-topic topic-${strongest % 8}`;
    for (const chip of passage.chips) chip.hidden = !topics.includes(Number(chip.dataset.topic));
  };

  const drawTime = (counts, totals) => {
    for (const group of document.querySelectorAll(".timeline .series")) {
      const topic = Number(group.dataset.topic);
      const base = Number(group.dataset.base), scale = Number(group.dataset.scale);
      for (const bar of group.querySelectorAll("rect")) {
        const period = Number(bar.dataset.period), total = totals[period] || 0;
        const count = (counts[topic] || [])[period] || 0;
        const height = Math.min(52, total ? (scale * count) / total : 0);
        bar.setAttribute("height", height);
        bar.setAttribute("y", base - height);
        const title = bar.querySelector("title");
        title.textContent = title.textContent.replace(/: .*/, `: ${count} of ${total} passages`);
      }
    }
  };

  const update = () => {
    const wanted = boxes.filter((box) => box.checked).map((box) => Number(box.value));
    const language = byId("language").value;
    const words = byId("find").value.trim().toLocaleLowerCase();
    const counts = boxes.map(() => []), sums = boxes.map(() => 0), totals = [];
    let shownArticles = 0, nPassages = 0, nLabelled = 0;
    for (const article of articles) {
      let fits = false;
      for (const passage of article.passages) {
        const topics = topicsOf(passage);
        paint(passage, topics);
        nPassages += 1;
        nLabelled += topics.length > 0;
        for (const k of topics) {
          sums[k] += 1;
          if (article.period !== null) counts[k][article.period] = (counts[k][article.period] || 0) + 1;
        }
        const hasTopic = !wanted.length || topics.some((k) => wanted.includes(k));
        fits = fits || (hasTopic && (!language || passage.language === language));
      }
      if (article.period !== null) {
        totals[article.period] = (totals[article.period] || 0) + article.passages.length;
      }
      const isShown = fits && (!words || article.words.includes(words));
      article.node.hidden = !isShown;
      article.link.hidden = !isShown;
      shownArticles += isShown;
    }
    sums.forEach((sum, k) => {
      document.querySelector(`[data-count="${k}"]`).textContent = sum.toLocaleString("en");
      document.querySelector(`[data-share="${k}"]`).textContent =
        nPassages ? `${((100 * sum) / nPassages).toFixed(1)}% of passages` : "";
    });
    drawTime(counts, totals);
    byId("threshold-value").textContent = usesOwn ? "model's own" : Number(slider.value).toFixed(2);
    slider.setAttribute("aria-valuetext", byId("threshold-value").textContent);
    byId("own").disabled = usesOwn;
    byId("empty").hidden = shownArticles > 0;
    byId("state").textContent =
      `${shownArticles} of ${articles.length} articles; ${nLabelled} of ${nPassages} passages have a topic`;
  };

  const step = (direction) => {
    const labelled = articles.filter((a) => !a.node.hidden)
      .flatMap((a) => a.passages).map((p) => p.node).filter((n) => n.classList.contains("has-topic"));
    if (!labelled.length) return;
    const here = labelled.indexOf(document.activeElement);
    const next = here < 0 ? (direction > 0 ? 0 : labelled.length - 1) : here + direction;
    const node = labelled[Math.max(0, Math.min(labelled.length - 1, next))];
    node.focus({ preventScroll: true });
    node.scrollIntoView({ block: "center" });
  };

  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", (event) => {
    if (event.target === slider) usesOwn = false;
    update();
  });
  byId("own").addEventListener("click", () => { usesOwn = true; update(); });
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.matches("input[type=search], select")) return;
    if (event.key === "j") step(1);
    if (event.key === "k") step(-1);
  });
  update();
})();
