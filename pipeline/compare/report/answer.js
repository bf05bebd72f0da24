"use strict";
// What may be said: verdicts of pairs, means over seeds, differences between the backends.

function answerSection() {
  const { keys, seeds, effects, parities } = data.answer;
  const section = byId("answer");
  if (parities.length) {
    section.append(
      make("h3", {}, "Checks of parity"),
      make(
        "ul",
        {},
        parities.map((one) =>
          make(
            "li",
            { class: one.verdict === "same" ? "good" : "bad" },
            `${one.sentence ?? one.verdict} (${one.folder})`,
          ),
        ),
      ),
    );
  }
  if (data.pairs.length)
    section.append(make("h3", {}, "Pairs: the same run on both backends"), pairsTable());
  if (effects.length) {
    section.append(
      make("h3", {}, "Differences between the backends"),
      effectsTable(effects),
      make(
        "p",
        { class: "quiet" },
        "Runs with the same seed are compared with each other. In brackets: the interval that holds the true mean in 95 of 100 such " +
          "experiments. p-values are Holm's: with many tests some differ by chance, and after the correction all may be judged at once, " +
          "a difference being shown where p < 0.05. “No difference shown” does not say that there is none.",
      ),
    );
  }
  if (seeds.length) {
    const rows = seeds.map((group) =>
      make(
        "tr",
        {},
        make("th", { scope: "row" }, group.name || "all runs"),
        make("td", { class: "number" }, String(group.count)),
        group.texts.map((text) => make("td", { class: "number" }, text)),
      ),
    );
    const head = [
      column("runs that differ in the seed only"),
      column("seeds", "number"),
      ...keys.map((key) => column(key, "number")),
    ];
    section.append(
      make("h3", {}, "Means over seeds, with 95 % intervals"),
      table("Means over seeds", head, rows),
    );
  }
  if (section.children.length === 1)
    section.append(
      make(
        "p",
        { class: "quiet" },
        "No runs here differ in the backend only or in the seed only: nothing to weigh against each other.",
      ),
    );
}

function pairsTable() {
  const keys = ["train/loss", "val/loss"].filter((key) =>
    data.pairs.some((pair) => pair.gaps[key]),
  );
  const rows = data.pairs.map((pair) =>
    make(
      "tr",
      { class: "pair" },
      make("th", { scope: "row" }, swatch(data.runs[pair.runs[0]].colour), pair.name || "all runs"),
      make("td", { class: `wide ${{ true: "good", false: "bad" }[pair.same] ?? ""}` }, pair.words),
      keys.map((key) =>
        make("td", { class: "number" }, pair.gaps[key] ? pair.gaps[key].worst : "–"),
      ),
    ),
  );
  const head = [
    column("pair"),
    column("verdict"),
    ...keys.map((key) => column(`largest difference of ${key}`, "number")),
  ];
  onFilter((_, set) =>
    rows.forEach((row, at) => (row.hidden = !data.pairs[at].runs.some((run) => set.has(run)))),
  );
  return table("Pairs", head, rows);
}

function effectsTable(effects) {
  const rows = effects.map((effect) => {
    const alike = effects.filter((other) => other.key === effect.key);
    const widest = Math.max(...alike.flatMap((one) => one.ends).map((end) => Math.abs(end ?? 0)));
    return make(
      "tr",
      {},
      make("th", { scope: "row" }, effect.setting || "all runs"),
      make("td", {}, effect.key),
      make("td", { class: "picture" }, interval(effect, widest)),
      make("td", { class: effect.shown ? "wide shown" : "wide quiet" }, effect.words),
    );
  });
  return table(
    "Differences between the backends",
    [column("setting"), column("of"), column("difference", "picture"), column("in words")],
    rows,
  );
}

/** A difference with its interval beside the line of no difference, which is in the middle. */
function interval(effect, widest) {
  const at = (end) => 60 + (widest ? (55 * end) / widest : 0);
  const [low, mean, high] = effect.ends;
  const picture = draw(
    "svg",
    { class: "interval", viewBox: "0 0 120 14", "aria-hidden": "true" },
    draw("line", {
      x1: 60,
      x2: 60,
      y1: 0,
      y2: 14,
      stroke: "var(--grey)",
      "stroke-dasharray": "2 2",
    }),
  );
  const colour = effect.shown ? "var(--accent)" : "var(--grey)";
  if (low !== null && high !== null)
    picture.append(
      draw("line", { x1: at(low), x2: at(high), y1: 7, y2: 7, stroke: colour, "stroke-width": 2 }),
    );
  if (mean !== null) picture.append(draw("circle", { cx: at(mean), cy: 7, r: 3.5, fill: colour }));
  return picture;
}
