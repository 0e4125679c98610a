"use strict";
for (const select of document.querySelectorAll(".mistake-filter")) {
  const mistakes = select.closest("section").querySelectorAll(".mistake");
  select.addEventListener("change", () => {
    const wanted = select.value;
    for (const mistake of mistakes) {
      mistake.hidden = wanted !== "all" && ![mistake.dataset.topic, mistake.dataset.kind].includes(wanted);
    }
  });
}
