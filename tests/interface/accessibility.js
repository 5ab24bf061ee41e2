"use strict";
// What can be judged of WCAG 2.2 (A and AA) by looking at a page: one sentence per fault, none when all is well.
function audit(d, w) {
  const faults = [], say = (rule, e) => faults.push(`${rule}: ${e.outerHTML ? e.outerHTML.slice(0, 90) : e}`);
  const all = (what) => [...d.querySelectorAll(what)], words = (e) => e.textContent.replace(/\s+/g, " ").trim();
  const style = (e) => w.getComputedStyle(e);
  const shown = (e) => e.getClientRects().length > 0 && style(e).visibility !== "hidden";
  const named = (e) => (e.getAttribute("aria-label") || "").trim()
    || (e.getAttribute("aria-labelledby") || "").split(/\s+/).map((id) => id && d.getElementById(id) ? words(d.getElementById(id)) : "").join("")
    || (e.tagName === "svg" ? (e.querySelector(":scope > title") || { textContent: "" }).textContent.trim() : "")
    || (e.labels && e.labels.length ? words(e.labels[0]) : "") || (e.alt || "").trim() || (e.tagName !== "svg" ? words(e) : "");

  // the page
  if (!d.documentElement.lang) say("page without language", d.documentElement.tagName);
  if (!d.title.trim()) say("page without title", "title");
  for (const what of ["main", "h1", "header"]) if (all(what).length !== 1) say(`there is not one ${what}`, `${all(what).length}`);
  if (!/width=device-width/.test((d.querySelector("meta[name=viewport]") || { content: "" }).content)) say("no viewport", "meta");
  if (/user-scalable=no|maximum-scale/.test((d.querySelector("meta[name=viewport]") || { content: "" }).content)) say("no zoom", "meta");
  const ids = all("[id]").map((e) => e.id);
  for (const id of new Set(ids)) if (ids.filter((x) => x === id).length > 1) say("id twice", id);
  for (const a of all("a[href^='#']")) if (!d.getElementById(decodeURIComponent(a.hash.slice(1)))) say("link to nowhere", a);
  for (const name of ["aria-labelledby", "aria-describedby", "aria-controls"])
    for (const e of all(`[${name}]`)) for (const id of e.getAttribute(name).split(/\s+/)) if (!d.getElementById(id)) say(`${name} to nowhere`, e);
  const first = d.querySelector("a[href]");
  if (first && !(first.hash && d.querySelector("main") && d.querySelector("main").id === first.hash.slice(1))) say("the first link does not skip to main", first);
  for (const e of d.body.children) if (!/^(SCRIPT|STYLE|HEADER|NAV|MAIN|FOOTER|ASIDE)$/.test(e.tagName) && !e.matches("a.skip") && !e.querySelector("main")) say("outside of landmarks", e);

  // headings, landmarks, lists
  let before = 0;
  for (const h of all("h1,h2,h3,h4,h5,h6")) {
    const level = +h.tagName[1];
    if (level > before + 1) say("heading leaves out a level", h);
    if (!words(h)) say("empty heading", h);
    before = level;
  }
  const regions = all("nav,[role=region]");
  for (const e of regions) if (!named(e)) say("region without name", e);
  const labels = regions.filter(shown).map((e) => e.tagName + named(e));
  for (const label of new Set(labels)) if (labels.filter((x) => x === label).length > 1) say("two regions of one name", label);
  for (const e of all("ul > *, ol > *")) if (e.tagName !== "LI") say("list with another child", e);
  for (const e of all("dl > *")) if (!/^(DT|DD|DIV)$/.test(e.tagName)) say("definition list with another child", e);

  // names and words in place of pictures
  for (const e of all("img")) if (!e.hasAttribute("alt")) say("img without alt", e);
  for (const e of all("svg")) {
    if (!e.closest("[aria-hidden=true]") && (e.getAttribute("role") !== "img" || !named(e))) say("figure without name", e);
    const desc = e.querySelector(":scope > desc");
    if (!desc || !desc.textContent.trim()) say("figure without description", e);
  }
  for (const e of all("a[href],button,summary")) if (!named(e)) say("link or button without name", e);
  for (const e of all("input,select,textarea")) if (!named(e)) say("field without label", e);
  for (const e of all("[tabindex]")) if (e.tabIndex > 0) say("tab order set by hand", e);

  // tables
  for (const t of all("table")) {
    if (!t.caption || !words(t.caption)) say("table without caption", t);
    for (const th of t.querySelectorAll("th")) {
      if (!/^(row|col|rowgroup|colgroup)$/.test(th.scope)) say("header without scope", th);
      if (!words(th)) say("empty header", th);
    }
    for (const row of t.tBodies[0] ? t.tBodies[0].rows : []) if (!row.querySelector("th[scope=row]")) say("row without header", row);
  }

  // what scrolls can be reached by keyboard; nothing makes the page itself scroll sideways
  for (const e of all("body *")) {
    const wide = e.scrollWidth > e.clientWidth + 1 && /auto|scroll/.test(style(e).overflowX);
    const tall = e.scrollHeight > e.clientHeight + 1 && /auto|scroll/.test(style(e).overflowY);
    if ((wide || tall) && shown(e) && e.tabIndex < 0 && !e.querySelector("a[href],button,input,[tabindex]")) say("scrolls without focus", e);
  }
  if (d.documentElement.scrollWidth > d.documentElement.clientWidth) say("wider than the screen", `${d.documentElement.scrollWidth}`);

  // contrast of every text with what lies behind it
  const linear = (x) => x <= .04045 ? x / 12.92 : ((x + .055) / 1.055) ** 2.4;
  const rgba = (c) => { const p = c.match(/[\d.]+/g).map(Number); return [p[0], p[1], p[2], p.length > 3 ? p[3] : 1]; };
  const over = (top, below) => top.slice(0, 3).map((v, i) => v * top[3] + below[i] * (1 - top[3])).concat(1);
  const light = (c) => c.slice(0, 3).map((v) => linear(v / 255)).reduce((s, v, i) => s + v * [.2126, .7152, .0722][i], 0);
  const behind = (e) => {
    const layers = [];
    for (let p = e; p; p = p.parentElement) layers.push(rgba(style(p).backgroundColor));
    return layers.reverse().reduce((below, top) => over(top, below), style(d.documentElement).colorScheme.includes("dark") && w.matchMedia("(prefers-color-scheme: dark)").matches ? [18, 18, 18, 1] : [255, 255, 255, 1]);
  };
  const walk = d.createTreeWalker(d.body, NodeFilter.SHOW_TEXT);
  for (let node = walk.nextNode(); node; node = walk.nextNode()) {
    const e = node.parentElement;
    if (!node.textContent.trim() || /^(SCRIPT|STYLE|title|desc|TITLE)$/.test(e.tagName) || !shown(e)) continue;
    const s = style(e), drawn = e.closest("svg"), ink = rgba(drawn ? s.fill : s.color), paper = behind(drawn ? e.closest("svg") : e);
    const a = light(over(ink, paper)), b = light(paper), ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    const size = parseFloat(s.fontSize), large = size >= 24 || (size >= 18.66 && +s.fontWeight >= 700);
    if (ratio < (large ? 3 : 4.5)) say(`contrast ${ratio.toFixed(2)}`, e);
  }
  return [...new Set(faults)];
}
