// The page of a benchmark: sentences, curves over the batch size, and tables.

const PANELS = [
  ["throughput", "training samples per second"],
  ["latency", "ms of an inference"],
  ["memory", "peak memory in MB"],
  ["compile", "seconds of compilation"],
  ["first", "seconds until the first loss"],
];

const ABOUT_TIMES =
  "Each backend ran its own training step and inference in a process of its own; they took turns, in alternating " +
  "order. An inference prepares a batch of the data set, evaluates it as a run does, and waits for the result. " +
  "Points are medians over the rounds, bars their 95 % intervals; a ratio is the median of those of the rounds.";
const ABOUT_MEMORY =
  "Memory is the peak of training, of the device, or on a CPU of the process, the framework's own included. " +
  "Programs were compiled without a cache.";
const ABOUT_LAYERS =
  "One training step, the mean of a few that each framework's own profiler traced, which slows them down. A layer is a " +
  "module without those in it. In torch on a CPU the Python between its operations counts, if it is compiled for the " +
  "model itself; in compiled torch and in JAX what was fused counts for the layer of its last operation.";
const ABOUT_GROWTH = "A line through the medians, whose relative errors are least: the fixed part, and that of each sample.";

const { swatch, paintSwatches, look } = lineStyles(data.backends);

setTheme();
heading();
curves();
tables();
paintSwatches();

function heading() {
  document.title = `${data.title} · benchmark`;
  document.querySelector("h1").textContent = data.title;
  const date = new Date(data.made).toLocaleString("en-GB", { dateStyle: "long", timeStyle: "short" });
  byId("when").textContent = `made ${date}`;
  byId("summary").append(...data.sentences.map((sentence) => make("p", {}, sentence)));
  byId("fairness").append(...data.unlike.map((sentence) => make("p", { class: "unlike" }, sentence)));
  const notes = data.notes.map((note) => make("li", {}, note));
  if (notes.length) byId("notes").append(make("ul", { class: "notes", "aria-label": "Notes" }, notes));
}

function curves() {
  const section = byId("plots");
  section.append(quiet(ABOUT_TIMES), quiet(ABOUT_MEMORY), legend());
  for (const precision of data.precisions) {
    const lines = data.series.filter((one) => one.precision === precision);
    if (!lines.length) continue;
    const panels = PANELS.map(([key, title]) => {
      const element = make("div", { class: "plot", role: "img", "aria-label": `${title}, ${precision}` });
      addPlot(element, () => figure(lines, key));
      return make("div", { class: "panel" }, make("p", {}, title), element);
    });
    section.append(make("h3", {}, precision), make("div", { class: "panels" }, panels));
  }
}

/** The backends with their colours. */
function legend() {
  const colours = new Map(data.series.map((one) => [one.backend, one.colour]));
  const keys = [...colours].map(([backend, colour]) =>
    make("span", { class: "key" }, swatch(colour, backend), backend),
  );
  return make("p", {}, keys);
}

/** A line for each backend, on logarithmic axes, with intervals where they are known. */
function figure(lines, key) {
  const traces = lines.map((line) => {
    const values = line[key].map((value) => (Array.isArray(value) ? value : [value, null, null]));
    const ends = (from) => values.map(([middle, ...rest]) => (rest[from] === null ? 0 : Math.abs(rest[from] - middle)));
    const { color, dash, width } = look(line);
    return {
      type: "scatter",
      mode: "lines+markers",
      name: line.backend,
      x: line.batch,
      y: values.map(([middle]) => middle || null), // a logarithmic axis has no zero
      error_y: { type: "data", symmetric: false, arrayminus: ends(0), array: ends(1), color, thickness: 1 },
      line: { color, dash, width },
      opacity: opacity({ width }),
      marker: { color, size: 6 },
      hovertemplate: `${line.backend}, batch %{x}: %{y:.4~g}<extra></extra>`,
    };
  });
  if (!traces.some((trace) => trace.y.some((value) => value !== null))) return null;
  const sizes = [...new Set(lines.flatMap((line) => line.batch))].sort((a, b) => a - b);
  return {
    data: traces,
    layout: layout({
      xaxis: { type: "log", title: { text: "batch" }, tickvals: sizes, ticktext: sizes.map(String) },
      yaxis: { type: "log", dtick: "D2", tickformat: ",~g" },
    }),
  };
}

function tables() {
  const built = ({ head, rows }, label) => {
    const titles = head.map((title, at) => column(title, at > 1 ? "number" : ""));
    return table(
      label,
      titles,
      rows.map(([first, second, ...rest]) => row(first, make("td", {}, second), ...rest.map(numberCell))),
    );
  };
  byId("measurements").append(quiet("Medians with half of their 95 % interval."), built(data.measurements, "Measurements"));
  if (data.growth.rows.length) byId("growth").append(quiet(ABOUT_GROWTH), built(data.growth, "Growth with the batch"));
  else byId("growth").hidden = true;
  if (data.layers.rows.length) byId("layers").append(quiet(ABOUT_LAYERS), built(data.layers, "Time by layer"));
  else byId("layers").hidden = true;
  const used = data.used.rows.map(([first, ...rest]) => row(first, rest.map((text) => make("td", {}, text))));
  const titles = data.used.head.map((title) => column(title));
  byId("used").append(table("What each backend used", titles, used));
  byId("machine").append(make("ul", {}, data.facts.map((fact) => make("li", {}, fact))));
}
