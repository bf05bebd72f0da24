"use strict";
// How fast, how long, how much memory: bars, run by run.

const PARTS = ["setup", "compile", "train", "eval"];

function speedSection() {
  const section = byId("speed");
  const most = (of) => Math.max(...data.runs.map((run) => of(run) ?? 0), 0);
  const fastest = most((run) => run.throughput),
    longest = most(length),
    largest = most((run) => run.memory);
  if (!fastest && !longest) return void (section.hidden = true);
  section.append(
    make(
      "p",
      { class: "quiet" },
      "Samples a second are those of training alone, without the first steps and without compilation. Memory is the peak of one device, or on a CPU of the process.",
    ),
  );
  section.append(
    make(
      "p",
      { class: "quiet" },
      "Of the seconds: ",
      [...PARTS, "other"].map((part) =>
        make("span", { class: "key" }, make("i", { style: `background: var(--${part})` }), part),
      ),
    ),
  );
  const rows = data.runs.map((run) =>
    make(
      "tr",
      {},
      make("th", { scope: "row", title: run.name }, swatch(run.colour, run.backend), run.name),
      make(
        "td",
        {},
        run.throughput === null ? "–" : Math.round(run.throughput).toLocaleString("en"),
        bar([["plain", run.throughput]], fastest),
      ),
      make("td", {}, length(run) ? `${length(run).toFixed(1)} s` : "–", bar(parts(run), longest)),
      make(
        "td",
        {},
        run.memory === null ? "–" : `${Math.round(run.memory).toLocaleString("en")} MB`,
        bar([["plain", run.memory]], largest),
      ),
    ),
  );
  const head = [column("run"), column("samples/s"), column("seconds"), column("peak memory")];
  section.append(table("Speed and memory", head, rows, "bars"));
  onFilter((_, set) => rows.forEach((row, at) => (row.hidden = !set.has(at))));
}

const length = (run) => run.seconds.total ?? null;

/** The parts of a run's time; what none of them is stands last. */
function parts(run) {
  const known = PARTS.map((part) => [part, run.seconds[part] ?? 0]);
  const rest = (length(run) ?? 0) - known.reduce((sum, [, seconds]) => sum + seconds, 0);
  return [...known, ["other", Math.max(0, rest)]];
}

/** A bar of pieces, of which the longest of all runs fills the cell. */
function bar(pieces, longest) {
  const title =
    pieces.length > 1
      ? pieces.map(([part, value]) => `${part} ${value.toFixed(1)} s`).join(", ")
      : null;
  return make(
    "div",
    { class: "bar", title },
    pieces.map(([part, value]) =>
      make("span", {
        style: `background: var(--${part}); width: ${longest ? (100 * (value ?? 0)) / longest : 0}%`,
      }),
    ),
  );
}
