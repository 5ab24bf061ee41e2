"use strict";
// A box over each long table: rows that contain the words stay, with the headings they stand under and the rows under them.
for (const box of document.querySelectorAll(".filterable")) {
  const rows = [...box.querySelectorAll("tbody tr")].map((row) => {
    const head = row.cells[0], depth = head.classList.contains("indent2") ? 2 : head.classList.contains("indent1") ? 1 : 0;
    const percents = [...row.cells].slice(1).map((c) => /([\d.]+)%?\)/.exec(c.textContent)).filter(Boolean);
    return { row, depth, text: head.textContent.toLowerCase(), largest: Math.max(0, ...percents.map((m) => +m[1])) };
  });
  const bar = document.createElement("div");
  bar.className = "filters";
  const field = (text, type) => {
    const label = document.createElement("label"), input = document.createElement("input");
    input.type = type;
    label.append(text + " ", input);
    bar.append(label);
    input.addEventListener("input", filter);
    return input;
  };
  const words = field("Find", "search"), least = field("At least % in a group", "number");
  least.min = 0; least.max = 100; least.step = 1;
  const count = document.createElement("output");
  count.setAttribute("aria-live", "polite");
  bar.append(count);
  box.before(bar);
  function filter() {
    const wanted = words.value.trim().toLowerCase(), floor = +least.value || 0, shown = new Set();
    rows.forEach((r, i) => {
      const parents = [];
      for (let k = i, depth = r.depth; k >= 0 && depth > 0; k--) if (rows[k].depth < depth) { parents.push(k); depth = rows[k].depth; }
      const matches = [i, ...parents].some((k) => rows[k].text.includes(wanted));
      if (matches && r.largest >= floor) [i, ...parents].forEach((k) => shown.add(k));
    });
    rows.forEach((r, i) => { r.row.hidden = !shown.has(i); });
    count.textContent = `${shown.size} of ${rows.length} rows`;
  }
  filter();
}
// The contents list says where the reader is.
const links = new Map([...document.querySelectorAll("nav a")].map((a) => [a.hash.slice(1), a]));
const watch = new IntersectionObserver((entries) => {
  for (const e of entries) if (links.has(e.target.id)) links.get(e.target.id).classList.toggle("here", e.isIntersecting);
}, { rootMargin: "-10% 0px -70% 0px" });
document.querySelectorAll("section[id], article[id]").forEach((s) => watch.observe(s));
// Methods are printed open.
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((d) => { d.open = true; }));
