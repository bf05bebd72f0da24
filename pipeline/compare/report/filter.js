// The state of the controls, the styles of lines in this report, and the filter.

const { backends } = data.speed;
const { swatch, paintSwatches, look } = lineStyles(backends, data.colours.ranked);
const KEPT = `tandem ${location.pathname}`;

// The state of the controls, kept when the page reloads.
const state = {
  filter: "",
  x: "step",
  log: false,
  metrics: data.metrics.shown,
  sort: null,
  down: false,
  run: null,
  zooms: [], // of the panels of curves
  pinned: null, // the folder of a run
  scroll: 0,
  ...kept(),
};

function kept() {
  try {
    return JSON.parse(sessionStorage.getItem(KEPT) || "{}");
  } catch {
    return {}; // the browser has no storage for files
  }
}

// The filter --------------------------------------------------------------------------------------

const everyWord = new Set(data.runs.flatMap((run) => run.words));

/** Return whether a run has all words; a word that no run has as a whole also matches a part of one. */
function matches(run, words) {
  return words.every((word) =>
    everyWord.has(word)
      ? run.words.includes(word)
      : run.words.some((own) => own.toLowerCase().includes(word.toLowerCase())),
  );
}

/** The positions of the runs that match the filter. */
function visible() {
  const words = state.filter.split(/\s+/).filter(Boolean);
  return data.runs.map((_, at) => at).filter((at) => matches(data.runs[at], words));
}

const listeners = [];

/** Call a function with the positions of the matching runs, and their set, when the filter changes. */
function onFilter(listener) {
  listeners.push(listener);
}

/** Hide the rows of filtered runs; `runsOf` gives the runs of a row, by default the run of its position. */
function hideFiltered(rows, runsOf = (at) => [at]) {
  onFilter((_, set) =>
    rows.forEach((one, at) => (one.hidden = !runsOf(at).some((run) => set.has(run)))),
  );
}

function filter(text) {
  state.filter = text;
  byId("filter").value = text;
  const shown = visible();
  byId("count").textContent = `${shown.length} of ${counted(data.runs.length, "run")}`;
  const set = new Set(shown);
  for (const listener of listeners) listener(shown, set);
}
