// Plots: drawn when they come into view, or once the page is idle, and redrawn when the filter, a control or the theme
// changes. A page has the function `paintSwatches`, of its line styles.

const plots = [];
const whenIdle = window.requestIdleCallback ?? setTimeout; // Safari has only the latter
const QUIET = 500; // ms without a change, after which the plots out of view are drawn
let drawsRest;

const seen = new IntersectionObserver(
  (entries) => {
    for (const entry of entries) {
      const plot = plots.find((one) => one.element === entry.target);
      plot.near = entry.isIntersecting;
      if (plot.near && plot.stale) redraw(plot);
    }
  },
  { rootMargin: "400px" },
);

/** Add a plot; `figure()` returns Plotly's data, layout and config, or null if there is nothing to draw. */
function addPlot(element, figure) {
  const plot = { element, figure, stale: true, near: false };
  plots.push(plot);
  seen.observe(element);
  drawRestSoon();
  return plot;
}

/** Draw the plots out of view, too, once nothing changes: a picture of the whole page shows them. */
function drawRestSoon() {
  clearTimeout(drawsRest);
  drawsRest = setTimeout(() => whenIdle(drawNext), QUIET);
}

/** Draw one plot that has a place on the page, then the next. */
function drawNext() {
  const plot = plots.find((one) => one.stale && one.element.getClientRects().length);
  if (!plot) return;
  redraw(plot);
  whenIdle(drawNext);
}

function redraw(plot) {
  plot.stale = false;
  const figure = plot.figure();
  plot.element.hidden = !figure;
  if (!figure) return Plotly.purge(plot.element);
  Plotly.react(plot.element, figure.data, figure.layout, {
    displaylogo: false,
    responsive: true,
    modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
    ...figure.config,
  });
}

/** Redraw the plots in view now, the others when they come into view or the page is idle. */
function refresh(some = plots) {
  for (const plot of some) {
    plot.stale = true;
    if (plot.near || plot.element.hidden) redraw(plot);
  }
  drawRestSoon();
}

/** Redraw once the typing stops for a moment. */
function refreshSoon(some) {
  clearTimeout(some.timer);
  some.timer = setTimeout(() => refresh(some), 80);
}

function redrawAll() {
  for (const plot of plots) redraw(plot);
}

/** A layout in the colours of the theme. */
function layout(more) {
  const axis = {
    gridcolor: style("line"),
    zerolinecolor: style("line"),
    linecolor: style("line"),
    automargin: true,
  };
  const axes = {};
  for (const name of Object.keys(more).filter((key) => /^[xy]axis/.test(key)))
    axes[name] = { ...axis, ...more[name] };
  return {
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: style("text"), family: getComputedStyle(document.body).fontFamily, size: 12 },
    hoverlabel: {
      bgcolor: style("panel"),
      bordercolor: style("grey"),
      font: { color: style("text") },
      align: "left",
      namelength: -1,
    },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: style("grey"), activecolor: style("accent") },
    margin: { l: 56, r: 12, t: 12, b: 44 },
    showlegend: false,
    hovermode: "closest",
    // A finger that drags over a plot scrolls the page.
    dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom",
    ...more,
    ...axes,
  };
}

/** Join lines of one style into one trace with gaps: two hundred traces would be slow. */
function joined(lines, look) {
  const x = [],
    y = [],
    text = [];
  for (const line of lines) {
    for (let at = 0; at < line.x.length; at++) {
      x.push(line.x[at]);
      y.push(line.y[at]);
      text.push(line.text(at));
    }
    x.push(null);
    y.push(null);
    text.push("");
  }
  const single = lines.some((line) => line.x.length === 1);
  return {
    type: "scatter",
    mode: single ? "lines+markers" : "lines",
    marker: { size: 5 },
    x,
    y,
    text,
    hovertemplate: "%{text}<extra></extra>",
    ...look,
  };
}

/** Group a list by a key. */
function groupBy(list, key) {
  const groups = new Map();
  for (const one of list) {
    const at = key(one);
    if (!groups.has(at)) groups.set(at, []);
    groups.get(at).push(one);
  }
  return groups;
}

/** The opacity of a line. */
const opacity = (line) => (line.width === 4 ? 0.5 : 1);

function repaint() {
  setTheme();
  paintSwatches();
  refresh();
}

/** Draw everything in light colours for paper. */
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
