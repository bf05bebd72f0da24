// Build the page; follow the theme and the printer; reload while runs are running.

const PAUSE = 2000; // ms without input until the page may reload

setTheme();
summary();
runsTable();
answerSection();
curvesSection();
speedSection();
parallelSection();
picturesSection();
mistakesSection();
settingsSection();
links();
paintSwatches();
byId("filter").addEventListener("input", () => filter(byId("filter").value));
filter(state.filter);

// A reloaded page continues where it was.
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
