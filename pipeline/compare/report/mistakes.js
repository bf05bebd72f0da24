"use strict";
// Where a run was wrong, beside its partner on the other backend.

function mistakesSection() {
  const known = Object.keys(data.mistakes.runs).map(Number);
  if (!known.length) return void (byId("mistakes").hidden = true);
  if (!known.includes(state.run)) state.run = known[0];
  const into = make("div", { class: "panels" });
  const said = make("p", { class: "quiet" });
  let drawn = [];

  function show(run) {
    state.run = run;
    const partner = data.runs[run].partner;
    drawn.forEach((plot) => {
      seen.unobserve(plot.element);
      plots.splice(plots.indexOf(plot), 1);
    });
    const sides = [run, partner].filter((one) => known.includes(one)).sort((a, b) => a - b);
    const built = sides.map(ofOneRun);
    drawn = built.map(([, plot]) => plot);
    into.replaceChildren(...built.map(([element]) => element));
    const pair = data.mistakes.pairs.find((one) => one.runs.includes(run));
    said.textContent = !pair
      ? ""
      : pair.count && pair.samples === 0
        ? `Both backends say the same of all ${pair.count} test samples.`
        : `The two backends say different things of ${pair.samples} of ${pair.count} test samples.`;
  }

  const options = known.map((run) => [run, data.runs[run].name]);
  byId("mistakes").append(
    make(
      "div",
      { class: "controls" },
      choice("run", options, state.run, (value) => show(Number(value))),
    ),
    said,
    into,
  );
  if (data.mistakes.left_out)
    byId("mistakes").append(
      make(
        "p",
        { class: "quiet" },
        `There was no room for ${counted(data.mistakes.left_out, "run")} more.`,
      ),
    );
  show(state.run);
}

function ofOneRun(run) {
  const told = data.mistakes.runs[run];
  const element = make("div", {
    class: "plot",
    role: "group",
    "aria-label": `Confusion matrix of ${data.runs[run].name}`,
  });
  const right = told.samples - told.wrong;
  const panel = make(
    "div",
    { class: "panel" },
    make("h3", { style: "margin-top: 0" }, data.runs[run].name),
    make(
      "p",
      { class: "quiet" },
      `${right} of ${told.samples} test samples right, ${told.wrong} wrong.`,
    ),
    element,
    make("h3", {}, "Hardest test samples"),
    make("ol", { class: "worst" }, told.worst.map((one) => sample(one, told.classes))),
  );
  return [panel, addPlot(element, () => confusion(told))];
}

/** Rows are true classes; colours are shares of the class, so that small classes are seen. */
function confusion(told) {
  const size = told.classes.length,
    counts = Array.from({ length: size }, () => Array(size).fill(0));
  for (const [is, said, samples] of told.cells) counts[is][said] = samples;
  const shares = counts.map((row) => {
    const all = row.reduce((a, b) => a + b, 0);
    return row.map((samples) => (all && samples ? samples / all : null));
  });
  const numbers = [...counts.keys()].map(String), // two classes of one name are still two
    names = told.classes.map(escaped),
    small = size <= 20;
  const hover = counts.map((row, is) =>
    row.map(
      (samples, said) =>
        `true ${names[is]}, predicted ${names[said]}: ${counted(samples, "sample")}`,
    ),
  );
  const axis = {
    ...(small && { type: "category", tickvals: numbers, ticktext: names }),
    showgrid: false,
    zeroline: false,
  };
  return {
    data: [
      {
        type: "heatmap",
        x: numbers,
        y: numbers,
        z: shares,
        text: small ? counts.map((row) => row.map((samples) => samples || "")) : undefined,
        texttemplate: small ? "%{text}" : undefined,
        customdata: hover,
        hovertemplate: "%{customdata}<extra></extra>",
        hoverongaps: false,
        colorscale: [
          [0, style("hover")],
          [1, style("train")],
        ],
        zmin: 0,
        zmax: 1,
        showscale: false,
        xgap: 1,
        ygap: 1,
      },
    ],
    layout: layout({
      height: 360,
      xaxis: { ...axis, title: { text: "predicted", standoff: 6 } },
      yaxis: { ...axis, title: { text: "true", standoff: 6 }, autorange: "reversed" },
    }),
  };
}

function sample(one, names) {
  const sure = one.confidence === null ? "" : ` (${Math.round(100 * one.confidence)}\u00a0%)`;
  return make(
    "li",
    {},
    one.image && make("img", { src: one.image, alt: `test sample ${one.sample}` }),
    "is ",
    make("b", {}, names[one.target]),
    one.target === one.predicted
      ? ", and seen as it"
      : [", taken for ", make("b", {}, names[one.predicted])],
    sure,
    make("br"),
    `loss ${number(one.loss)} · no. ${one.sample}`,
  );
}
