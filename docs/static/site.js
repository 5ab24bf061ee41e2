"use strict";
// What the theme leaves out for those who read with the keyboard or by ear: boxes that scroll can be reached, asides are named.
addEventListener("load", () => {
  for (const box of document.querySelectorAll("pre, table.docutils, .output, .math"))
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
  for (const [place, name] of [[".sidebar-drawer", "Pages"], [".toc-drawer", "On this page"]])
    document.querySelector(place)?.setAttribute("aria-label", name);
});
