// Shared by all sections: the data, the state of the controls, elements, numbers, and the filter.

const data = JSON.parse(document.getElementById("data").textContent);
const root = document.documentElement;
const darkness = matchMedia("(prefers-color-scheme: dark)");
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

const byId = (id) => document.getElementById(id);

/** An element with its attributes (functions are listeners) and children. */
function make(tag, attributes = {}, ...inside) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(name, value);
    else if (value !== null && value !== undefined && value !== false)
      made.setAttribute(name, value);
  }
  made.append(...inside.flat().filter((part) => part !== null && part !== undefined));
  return made;
}

/** An SVG element. */
function draw(tag, attributes, ...inside) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...inside);
  return made;
}

/** A number with four significant digits, as in the terminal. */
function number(value) {
  if (value === null || value === undefined) return "–";
  if (Math.abs(value) >= 1000) return Math.round(value).toLocaleString("en");
  const text = value.toPrecision(4);
  return /e/.test(text) || !/\./.test(text) ? text : text.replace(/\.?0+$/, "");
}

/** A count with its noun: "1 run", "2 runs". */
const counted = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;

/** A drop-down list with its label. */
function choice(label, options, chosen, changed) {
  const select = make("select", { "aria-label": label, change: () => changed(select.value) });
  for (const [value, text, off] of options)
    select.append(make("option", { value, disabled: off }, text));
  select.value = chosen;
  return make("label", {}, label, select);
}

const MANY = 25; // rows of a table from which on it scrolls

/** A table in a box that scrolls, so that the page does not scroll sideways. */
function table(label, head, rows, kind = "") {
  const body = make("tbody", {}, rows);
  const built = make("table", { class: kind }, make("thead", {}, make("tr", {}, head)), body);
  const kindOfBox = rows.length > MANY ? "box tall" : "box";
  return make("div", { class: kindOfBox, tabindex: 0, role: "region", "aria-label": label }, built);
}

const quiet = (...inside) => make("p", { class: "quiet" }, ...inside);
const row = (head, ...cells) => make("tr", {}, make("th", { scope: "row" }, head), ...cells);
const numberCell = (value) => make("td", { class: "number" }, String(value));
const column = (text, kind) => make("th", { scope: "col", class: kind }, text);

// Colours -----------------------------------------------------------------------------------------

let printing = false;

function setTheme() {
  root.dataset.theme = darkness.matches && !printing ? "dark" : "light";
}

/** A colour of the style sheet, or a list of them. */
const style = (name) => getComputedStyle(root).getPropertyValue(`--${name}`).trim();
const palette = () => style(data.colours.ranked ? "ranks" : "colours").split(/\s+/);

// The line of the first backend is broad and pale, so that the second one stays visible on top of it.
const { backends } = data.speed;
const DASHES = ["solid", "6px,4px", "2px,3px"];
const dashOf = (backend) => DASHES[Math.max(0, backends.indexOf(backend)) % DASHES.length];
const under = (backend) => backends.length > 1 && backend === backends[0];

/** A piece of a run's line, for tables and legends; its colour follows the theme. */
function swatch(colour, backend) {
  const kind = under(backend) ? "under" : "";
  const line = draw("line", { x1: 0, x2: 26, y1: 4, y2: 4, "data-colour": colour ?? "", class: kind });
  if (dashOf(backend) !== "solid")
    line.setAttribute("stroke-dasharray", dashOf(backend).replaceAll("px", ""));
  return draw("svg", { class: "swatch", viewBox: "0 0 26 8", "aria-hidden": "true" }, line);
}

function paintSwatches() {
  const colours = palette();
  for (const line of document.querySelectorAll("[data-colour]")) {
    line.style.stroke = line.dataset.colour === "" ? style("grey") : colours[line.dataset.colour];
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
