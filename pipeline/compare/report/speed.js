// Throughput, time and memory of each run, as bars.

const PARTS = ["setup", "compile", "train", "eval"];

const ABOUT_SPEED =
  "Samples per second are measured while training, without compilation and the first steps. Memory is the peak of one " +
  "device, or of the process on a CPU.";

function speedSection() {
  const section = byId("speed");
  const most = (of) => Math.max(...data.runs.map((run) => of(run) ?? 0), 0);
  const fastest = most((run) => run.throughput),
    longest = most(totalTime),
    largest = most((run) => run.memory);
  if (!fastest && !longest) return void (section.hidden = true);
  const keys = [...PARTS, "other"].map((part) =>
    make("span", { class: "key" }, make("i", { style: `background: var(--${part})` }), part),
  );
  section.append(quiet(ABOUT_SPEED), quiet("Parts of the seconds: ", keys));
  const round = (value, unit) => (value === null ? "–" : Math.round(value).toLocaleString("en") + unit);
  const rows = data.runs.map((run) =>
    row(
      [
        swatch(run.colour, run.backend),
        make("span", { title: run.name }, run.name),
        run.fallback
          ? make("span", { style: "color: var(--bad)", title: run.fallback }, " on the CPU, not the GPU")
          : null,
      ],
      make("td", {}, round(run.throughput, ""), bar([["plain", run.throughput]], fastest)),
      make("td", {}, totalTime(run) ? `${totalTime(run).toFixed(1)} s` : "–", bar(parts(run), longest)),
      make("td", {}, round(run.memory, " MB"), bar([["plain", run.memory]], largest)),
    ),
  );
  const head = ["run", "samples/s", "seconds", "peak memory"].map((title) => column(title));
  section.append(table("Speed and memory", head, rows, "bars"));
  hideFiltered(rows);
  conditionsTable(section);
}

/** What each run used, and whether the speeds are like with like. */
function conditionsTable(section) {
  const { unlike, keys, rows } = data.speed;
  if (!rows.length) return;
  if (unlike) section.append(make("p", { class: "unlike" }, `${unlike}.`));
  const cells = rows.map(({ texts, runs }) => row(texts[0], texts.slice(1).map((text) => make("td", {}, text || "–")), make("td", {}, listRuns(runs))));
  hideFiltered(cells, (at) => rows[at].runs);
  const head = [...keys, "runs"].map((title) => column(title));
  section.append(make("h3", {}, "What each run used"), table("What each run used", head, cells));
}

const totalTime = (run) => run.seconds.total ?? null;

/** The parts of a run's time, and the rest as `other`. */
function parts(run) {
  const known = PARTS.map((part) => [part, run.seconds[part] ?? 0]);
  const rest = (totalTime(run) ?? 0) - known.reduce((sum, [, seconds]) => sum + seconds, 0);
  return [...known, ["other", Math.max(0, rest)]];
}

/** A stacked bar; the longest one of all runs fills its cell. */
function bar(pieces, longest) {
  const title =
    pieces.length > 1 ? pieces.map(([part, value]) => `${part} ${value.toFixed(1)} s`).join(", ") : null;
  const width = (value) => (longest ? (100 * (value ?? 0)) / longest : 0);
  const spans = pieces.map(([part, value]) =>
    make("span", { style: `background: var(--${part}); width: ${width(value)}%` }),
  );
  return make("div", { class: "bar", title }, spans);
}
