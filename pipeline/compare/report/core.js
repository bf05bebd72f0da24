"use strict";
// What every section needs: the data, the state of the controls, elements, numbers, and who is shown.

const data = JSON.parse(document.getElementById("data").textContent);
const root = document.documentElement;
const darkness = matchMedia("(prefers-color-scheme: dark)");
const KEPT = `tandem ${location.pathname}`;

// The controls, as a person left them; a page that reads itself again goes on with them.
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
    return {}; // a browser that lets a file keep nothing
  }
}

const byId = (id) => document.getElementById(id);

/** An element with its attributes (functions are listeners) and what it holds. */
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

/** A figure with four significant digits, as the terminal has it. */
function number(value) {
  if (value === null || value === undefined) return "–";
  if (Math.abs(value) >= 1000) return Math.round(value).toLocaleString("en");
  const text = value.toPrecision(4);
  return /e/.test(text) || !/\./.test(text) ? text : text.replace(/\.?0+$/, "");
}

/** How many, in words: "1 run", "2 runs". */
const counted = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;

/** A list of choices with its label. */
function choice(label, options, chosen, changed) {
  const select = make("select", { "aria-label": label, change: () => changed(select.value) });
  for (const [value, text, off] of options)
    select.append(make("option", { value, disabled: off }, text));
  select.value = chosen;
  return make("label", {}, label, select);
}

const MANY = 25; // rows of a table that is not shown whole, but scrolls

/** A table in a box of its own, which scrolls where the page must not. */
function table(label, head, rows, kind = "") {
  const body = make("tbody", {}, rows);
  const built = make("table", { class: kind }, make("thead", {}, make("tr", {}, head)), body);
  return make(
    "div",
    {
      class: rows.length > MANY ? "box tall" : "box",
      tabindex: 0,
      role: "region",
      "aria-label": label,
    },
    built,
  );
}

const column = (text, kind) => make("th", { scope: "col", class: kind }, text);

// Colours -----------------------------------------------------------------------------------------

let printing = false;

function setTheme() {
  root.dataset.theme = darkness.matches && !printing ? "dark" : "light";
}

/** A colour of the style sheet, or a list of them. */
const style = (name) => getComputedStyle(root).getPropertyValue(`--${name}`).trim();
const palette = () => style(data.colours.ranked ? "ranks" : "colours").split(/\s+/);

// The line of a backend. The first is broad and pale, so that the second is seen where it lies on it.
const backends = [...new Set(data.runs.map((run) => run.backend).filter(Boolean))].sort(
  (a, b) => (b === "torch") - (a === "torch"),
);
const DASHES = ["solid", "6px,4px", "2px,3px"];
const dashOf = (backend) => DASHES[Math.max(0, backends.indexOf(backend)) % DASHES.length];
const under = (backend) => backends.length > 1 && backend === backends[0];

/** A piece of a run's line, for tables and legends; its colour follows the theme. */
function swatch(colour, backend) {
  const line = draw("line", {
    x1: 0,
    x2: 26,
    y1: 4,
    y2: 4,
    "data-colour": colour ?? "",
    class: under(backend) ? "under" : "",
  });
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

// Who is shown ------------------------------------------------------------------------------------

const everyWord = new Set(data.runs.flatMap((run) => run.words));

/** Whether a run has all words of the filter: whole where a run has it whole, or else a part of one. */
function matches(run, words) {
  return words.every((word) =>
    everyWord.has(word)
      ? run.words.includes(word)
      : run.words.some((own) => own.toLowerCase().includes(word.toLowerCase())),
  );
}

/** The positions of the runs that the filter leaves. */
function visible() {
  const words = state.filter.split(/\s+/).filter(Boolean);
  return data.runs.map((_, at) => at).filter((at) => matches(data.runs[at], words));
}

const listeners = [];

/** Call a function whenever the filter leaves other runs: with their positions, and those as a set. */
function onFilter(listener) {
  listeners.push(listener);
}

function filter(text) {
  state.filter = text;
  byId("filter").value = text;
  const shown = visible();
  byId("count").textContent = `${shown.length} of ${counted(data.runs.length, "run")}`;
  const set = new Set(shown);
  for (const listener of listeners) listener(shown, set);
}
