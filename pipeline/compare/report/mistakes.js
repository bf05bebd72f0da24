// Mistakes of a run on the test set, beside those of its partner on the other backend.

function mistakesSection() {
  const known = Object.keys(data.mistakes.runs).map(Number);
  if (!known.length) return void (byId("mistakes").hidden = true);
  if (!known.includes(state.run)) state.run = known[0];
  const into = make("div", { class: "panels" });
  const disagreement = quiet();
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
    const pair = data.mistakes.pairs.find((one) => one.runs.includes(run) && one.runs.includes(partner));
    disagreement.textContent = !pair
      ? ""
      : pair.samples === 0
        ? `The predictions of the two backends are the same for all ${pair.count} test samples.`
        : `The predictions of the two backends differ for ${pair.samples} of ${pair.count} test samples.`;
  }

  const options = known.map((run) => [run, data.runs[run].name]);
  const controls = choice("run", options, state.run, (value) => show(Number(value)));
  byId("mistakes").append(make("div", { class: "controls" }, controls), disagreement, into);
  if (data.mistakes.left_out)
    byId("mistakes").append(quiet(`${counted(data.mistakes.left_out, "run")} left out to keep the page small.`));
  show(state.run);
}

function ofOneRun(run) {
  const mistakes = data.mistakes.runs[run];
  const element = make("div", {
    class: "plot",
    role: "group",
    "aria-label": `Confusion matrix of ${data.runs[run].name}`,
  });
  const right = mistakes.samples - mistakes.wrong;
  const panel = make(
    "div",
    { class: "panel" },
    make("h3", { style: "margin-top: 0" }, data.runs[run].name),
    quiet(
      `${right} of ${mistakes.samples} test samples right, ${mistakes.wrong} wrong.`,
    ),
    element,
    make("h3", {}, "Hardest test samples"),
    make("ol", { class: "worst" }, mistakes.worst.map((one) => sample(one, mistakes.classes))),
  );
  return [panel, addPlot(element, () => confusion(mistakes))];
}

/** Rows are true classes; colours are fractions of the class, so that small classes are visible. */
function confusion(mistakes) {
  const size = mistakes.classes.length,
    counts = Array.from({ length: size }, () => Array(size).fill(0));
  for (const [is, predicted, samples] of mistakes.cells) counts[is][predicted] = samples;
  const shares = counts.map((row) => {
    const all = row.reduce((a, b) => a + b, 0);
    return row.map((samples) => (all && samples ? samples / all : null));
  });
  const numbers = [...counts.keys()].map(String), // two classes of one name are still two
    names = mistakes.classes.map(escaped),
    small = size <= 20;
  const hover = counts.map((row, is) =>
    row.map(
      (samples, predicted) =>
        `true ${names[is]}, predicted ${names[predicted]}: ${counted(samples, "sample")}`,
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
        colorscale: [[0, style("hover")], [1, style("train")]],
        zmin: 0, zmax: 1, showscale: false, xgap: 1, ygap: 1,
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
    "true ", make("b", {}, names[one.target]),
    ", predicted ", make("b", {}, names[one.predicted]),
    sure,
    make("br"),
    `loss ${number(one.loss)} · no. ${one.sample}`,
  );
}
