// The sweep as parallel coordinates: a line for each run, through the keys that differ and the results.
// Plotly's own `parcoords` has no dashes, no text on hover, and needs WebGL.

function parallelSection() {
  if (!data.axes.length) return void (byId("sweep").hidden = true);
  const element = make("div", {
    class: "plot",
    role: "group",
    "aria-label": "Parallel coordinates of the sweep",
  });
  byId("sweep").append(
    quiet("Each line is a run. Settings are on the left, results on the right. The filter applies here, too."),
    make(
      "div",
      { class: "panel scrolls", tabindex: 0, role: "region", "aria-label": "Parallel coordinates" },
      element,
    ),
  );
  element.style.minWidth = `${110 * data.axes.length}px`;
  const scales = data.axes.map(scale);
  const drawn = [addPlot(element, () => parallels(scales))];
  onFilter(() => refreshSoon(drawn));
}

/** Places values on an axis from 0 to 1: numbers by size or logarithm, text in order. */
function scale(axis) {
  const known = [...new Set(axis.values.filter((value) => value !== null))];
  const isText = known.some((value) => typeof value !== "number");
  if (isText || known.length < 3) {
    const order = known.sort((a, b) =>
      isText ? String(a).localeCompare(String(b), "en", { numeric: true }) : a - b,
    );
    const at = (value) => (order.length > 1 ? order.indexOf(value) / (order.length - 1) : 0.5);
    return { at, ticks: order.length <= 14 ? order : [order[0], order.at(-1)] };
  }
  const [low, high] = [Math.min(...known), Math.max(...known)];
  const of = low > 0 && high / low > 30 ? Math.log : (value) => value;
  const at = (value) => (of(value) - of(low)) / (of(high) - of(low));
  return { at, ticks: known.length <= 6 ? known : [low, high] };
}

function parallels(scales) {
  const lines = visible().map((run) => {
    const at = data.axes.map((axis, place) =>
      axis.values[run] === null ? null : scales[place].at(axis.values[run]),
    );
    const label = data.axes
      .map((axis) => `${escaped(axis.title)}: ${escaped(shown(axis.values[run]))}`)
      .join("<br>");
    return {
      x: scales.map((_, place) => place),
      y: at,
      look: look(data.runs[run]),
      text: () => label,
    };
  });
  const traces = [...groupBy(lines, (line) => JSON.stringify(line.look)).values()].map((group) =>
    joined(group, {
      line: { ...group[0].look, shape: "spline", smoothing: 0.6 },
      opacity: lines.length > 40 ? 0.6 : opacity(group[0].look),
    }),
  );
  const tick = {
    showarrow: false, xanchor: "left", xshift: 4, bgcolor: style("panel"),
    font: { size: 11, color: style("quiet") },
  };
  const annotations = scales.flatMap((one, place) => [
    { x: place, y: 1.1, text: `<b>${escaped(data.axes[place].title)}</b>`, showarrow: false },
    ...one.ticks.map((value) => ({ ...tick, x: place, y: one.at(value), text: escaped(shown(value)) })),
  ]);
  const line = { type: "line", y0: 0, y1: 1, line: { color: style("grey"), width: 1 }, layer: "below" };
  const shapes = scales.map((_, x) => ({ ...line, x0: x, x1: x }));
  const axis = { visible: false, fixedrange: true };
  return {
    data: traces,
    layout: layout({
      height: 360,
      annotations,
      shapes,
      margin: { l: 40, r: 60, t: 10, b: 10 },
      xaxis: { ...axis, range: [-0.15, scales.length - 0.75] },
      yaxis: { ...axis, range: [-0.08, 1.18] },
    }),
  };
}

const shown = (value) => (typeof value === "number" ? number(value) : String(value ?? "–"));
