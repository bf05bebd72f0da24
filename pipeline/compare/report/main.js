"use strict";
// Put the page together; follow the theme, the printer, and the clock where runs go on.

const PAUSE = 2000; // ms without a touch until the page may be read again

setTheme();
summary();
for (const section of [
  runsTable,
  answerSection,
  curvesSection,
  speedSection,
  parallelSection,
  mistakesSection,
  settingsSection,
])
  section();
links();
paintSwatches();
byId("filter").addEventListener("input", () => filter(byId("filter").value));
filter(state.filter);

function repaint() {
  setTheme();
  paintSwatches();
  refresh();
}

/** On paper everything is there, in light colours. */
function print(on) {
  if (printing === on) return;
  printing = on;
  setTheme();
  paintSwatches();
  if (on) redrawAll();
  else refresh();
}

darkness.addEventListener("change", repaint);
matchMedia("print").addEventListener("change", (media) => print(media.matches));
addEventListener("beforeprint", () => print(true));
addEventListener("afterprint", () => print(false));

// Reading itself again, the page goes on where it was.
addEventListener("pagehide", () => {
  panels.forEach((_, side) => noteZoom(side));
  sessionStorage.setItem(KEPT, JSON.stringify({ ...state, scroll: scrollY }));
});
if (data.refresh) {
  let touched = 0;
  for (const kind of ["pointermove", "keydown", "wheel"])
    addEventListener(kind, () => (touched = Date.now()), { passive: true });
  const again = () => (Date.now() - touched < PAUSE ? setTimeout(again, PAUSE) : location.reload());
  setTimeout(again, 1000 * data.refresh);
}
if (performance.getEntriesByType("navigation")[0]?.type === "reload") {
  scrollTo({ top: state.scroll, behavior: "instant" });
}
