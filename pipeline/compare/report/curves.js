// Curves of two metrics side by side, and below each the differences between the backends of a pair.

const X = {
  step: { title: "step", of: (curve) => curve.s },
  samples: {
    title: "samples",
    of: (curve, run) => curve.s.map((step) => step * (run.batch ?? NaN)),
  },
  time: { title: "seconds", of: (curve) => curve.t ?? [] },
};
const panels = [];

function curvesSection() {
  const section = byId("curves");
  if (!data.metrics.keys.length)
    return void section.append(quiet("No run has logged anything yet."));
  const timed = data.runs.some((run) => Object.values(run.curves).some((curve) => curve.t));
  if (!X[state.x]) state.x = "step";
  const axis = choice(
    "over",
    [
      ["step", "steps"],
      ["samples", "samples"],
      ["time", timed ? "wall time" : "wall time (not logged)", !timed],
    ],
    state.x,
    (value) => {
      state.x = value;
      refresh(panels);
    },
  );
  axis.querySelector("select").id = "axis";
  const log = make("input", {
    type: "checkbox",
    id: "log",
    change: () => {
      state.log = log.checked;
      refresh(panels);
    },
  });
  log.checked = state.log;
  section.append(
    make("div", { class: "controls" }, axis, make("label", {}, log, "logarithmic")),
    legend(),
  );
  const into = make("div", { class: "panels" });
  section.append(into);
  const metrics = state.metrics.filter((key) => data.metrics.keys.includes(key));
  state.metrics = metrics.length ? metrics : data.metrics.shown;
  state.metrics.forEach((_, side) => into.append(panel(side)));
  onFilter(() => refreshSoon(panels));
}

/** The legend of colours and dashes; the button of a colour filters its runs. */
function legend() {
  const chips = data.colours.labels.map((label, colour) => {
    if (data.colours.ranked) return make("span", {}, swatch(colour), label);
    const button = make(
      "button",
      {
        type: "button",
        "aria-pressed": "false",
        click: () => filter(state.filter === label ? "" : label),
      },
      swatch(colour),
      label,
    );
    button.disabled = data.colours.labels.length < 2;
    onFilter(() => button.setAttribute("aria-pressed", String(state.filter === label)));
    return button;
  });
  const dashes =
    backends.length > 1
      ? backends.map((name) => make("span", { class: "key" }, swatch(null, name), name))
      : [];
  return make("div", { class: "chips" }, dashes, chips);
}

function panel(side) {
  const element = make("div", { class: "plot", role: "group" });
  const caption = quiet();
  const keys = data.metrics.keys.map((key) => [key, key]);
  const select = choice("metric", keys, state.metrics[side], (key) => {
    state.metrics[side] = key;
    refresh([plot]);
  });
  const plot = addPlot(element, () => figure(side, element, caption));
  panels.push(plot);
  return make("div", { class: "panel" }, make("div", { class: "controls" }, select), element, caption);
}

/** The curves of the visible runs, and below them the differences of the pairs. */
function figure(side, element, caption) {
  const key = state.metrics[side],
    shown = visible(),
    set = new Set(shown);
  const lines = shown.map((at) => curveLine(at, key)).filter((line) => line && line.x.length);
  const gaps = data.pairs
    .filter((pair) => pair.runs.some((at) => set.has(at)))
    .map((pair) => gapLine(pair, key))
    .filter(Boolean);
  const apart = gaps.filter((line) => line.positive.length);
  const decades = span(apart),
    log = decades >= 2;
  if (log) liftZeros(apart);
  const traces = [];
  // The broad lines first, and the others on top of them.
  const above = (one, other) => DASHES.indexOf(one[0].look.dash) - DASHES.indexOf(other[0].look.dash);
  for (const group of [...groupBy(lines, (line) => JSON.stringify(line.look)).values()].sort(above))
    traces.push(joined(group, { line: group[0].look, opacity: opacity(group[0].look) }));
  for (const group of groupBy(apart, (line) => line.look.color).values())
    traces.push(joined(group, { line: group[0].look, yaxis: "y2", meta: "gap" }));
  traces.push({ type: "scatter", mode: "lines", x: [], y: [], hoverinfo: "skip", meta: "lit" });
  caption.textContent = captionOf(key, lines, gaps, apart);
  element.setAttribute(
    "aria-label",
    `${key} over ${X[state.x].title} of ${counted(lines.length, "run")}`,
  );
  const below = apart.length > 0;
  const axes = {
    xaxis: {
      title: { text: X[state.x].title, standoff: 6 },
      type: "linear",
      anchor: below ? "y2" : "y",
    },
    yaxis: {
      title: { text: escaped(key), standoff: 8 },
      type: state.log ? "log" : "linear",
      domain: below ? [0.4, 1] : [0, 1],
      exponentformat: "e",
    },
  };
  if (below)
    axes.yaxis2 = {
      title: { text: "difference", standoff: 8 },
      type: log ? "log" : "linear",
      domain: [0, 0.3],
      exponentformat: "power",
      dtick: log ? Math.ceil(decades / 4) : null,
    };
  const uirevision = `${key} ${state.x} ${state.log}`;
  noteZoom(side);
  zoom(axes, side, uirevision);
  setTimeout(lightCurves);
  return {
    config: UNZOOM,
    data: traces,
    layout: layout({
      height: below ? 470 : 330,
      uirevision,
      ...axes,
    }),
  };
}

function curveLine(at, key) {
  const run = data.runs[at],
    curve = run.curves[key];
  if (!curve) return null;
  const x = X[state.x].of(curve, run);
  return {
    x,
    y: state.log ? curve.v.map((value) => (value > 0 ? value : null)) : curve.v,
    look: look(run),
    broken: curve.v.indexOf(null) < 0 ? null : curve.s[curve.v.indexOf(null)],
    text: (point) =>
      `<b>${number(curve.v[point])}</b> at step ${curve.s[point]}<br>${escaped(run.name)}`,
  };
}

function gapLine(pair, key) {
  const gap = pair.gaps[key];
  if (!gap) return null;
  const run = data.runs[pair.runs[0]];
  return {
    x: X[state.x].of(gap, run),
    y: gap.v,
    look: { ...look(run), dash: "solid", width: 1.4 },
    positive: gap.v.filter((value) => value > 0),
    worst: gap.worst,
    text: (point) =>
      `<b>${gap.v[point] === 0 ? "no difference" : `differs by ${gap.v[point]?.toExponential(1)}`}</b> at step ${gap.s[point]}<br>${escaped(pair.name)}`,
  };
}

/** The powers of ten that the differences span, from the smallest that is not zero. */
function span(lines) {
  const all = lines.flatMap((line) => line.positive).map(Math.log10);
  return (
    all.reduce((a, b) => Math.max(a, b), -Infinity) - all.reduce((a, b) => Math.min(a, b), Infinity)
  );
}

/** Place zeros a little below the smallest difference: a logarithmic axis has no zero. */
function liftZeros(lines) {
  const lowest = lines.flatMap((line) => line.positive).reduce((a, b) => Math.min(a, b), Infinity);
  for (const line of lines) line.y = line.y.map((value) => (value === 0 ? lowest / 3 : value));
}

/** The caption: what the lower plot shows, and what is not visible. */
function captionOf(key, lines, gaps, apart) {
  const sentences = [];
  if (!lines.length) sentences.push(`No visible run has logged ${key}.`);
  const broken = lines.filter((line) => line.broken !== null);
  if (broken.length)
    sentences.push(
      `${counted(broken.length, "run")} had a value that is not finite, first at step ${Math.min(...broken.map((line) => line.broken))}.`,
    );
  if (apart.length)
    sentences.push(
      backends.length > 2
        ? "Below: the absolute difference of each two backends, relative to the larger of the two."
        : `Below: |${backends[0]} − ${backends[1]}| of each pair, relative to the larger of the two.`,
    );
  if (apart.length < gaps.length)
    sentences.push(
      `${apart.length ? `In ${counted(gaps.length - apart.length, "pair")}` : "In every pair"} the backends are the same to the last digit at every step.`,
    );
  return sentences.join(" ");
}

const escaped = (text) =>
  text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");

/** Draw the highlighted run above the others: in view now, the others when they come into view. */
function lightCurves() {
  panels.forEach((plot, side) => {
    if (!plot.near) plot.stale = true;
    if (!plot.element.data || !plot.near) return;
    const line = lit === null ? null : curveLine(lit, state.metrics[side]);
    const last = plot.element.data.length - 1;
    plot.element.classList.toggle("dimmed", Boolean(line));
    if (!line && !plot.element.data[last].x?.length) return;
    Plotly.restyle(
      plot.element,
      { x: [line ? line.x : []], y: [line ? line.y : []], line: { ...line?.look, width: 4 } },
      [last],
    );
  });
}
