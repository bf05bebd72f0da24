// Shared by all sections, and by the page of a benchmark: the data, elements, numbers, and the styles of lines.

const data = JSON.parse(document.getElementById("data").textContent);
const root = document.documentElement;
const darkness = matchMedia("(prefers-color-scheme: dark)");

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

const DASHES = ["solid", "6px,4px", "2px,3px"];

/**
 * The styles of lines by backend, and of runs by colour, which are ranks or kinds. The line of the first backend
 * is broad and pale, so that the second one stays visible on top of it.
 */
function lineStyles(backends, ranked = false) {
  const palette = () => style(ranked ? "ranks" : "colours").split(/\s+/);
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
      const { colour } = line.dataset;
      line.style.stroke = colour === "" ? style("grey") : colours[colour % colours.length];
    }
  }

  /** The colour, dash and width of a line. */
  function look({ colour, backend }) {
    const color = colour === null ? style("grey") : palette()[colour % palette().length];
    return { color, dash: dashOf(backend), width: under(backend) ? 4 : 1.7 };
  }

  return { swatch, paintSwatches, look };
}
