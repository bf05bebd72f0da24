// Verdicts on pairs, means over seeds or folds, differences between the backends.

const ABOUT_TESTS =
  "Runs with the same seed and fold are compared with each other. In brackets: the 95 % interval of the mean. p-values are corrected " +
  "for the number of tests (Holm). A difference is shown if p < 0.05; “no difference shown” does not mean that there is none.";

function answerSection() {
  const { keys, seeds, repeats, effects, parities } = data.answer;
  const section = byId("answer");
  if (parities.length) {
    const items = parities.map((one) =>
      make("li", { class: one.verdict === "same" ? "good" : "bad" }, [one.backends, one.sentence ?? one.verdict].filter(Boolean).join(": ") + ` (${one.folder})`),
    );
    section.append(make("h3", {}, "Parity checks"), make("ul", {}, items));
  }
  if (data.pairs.length) section.append(make("h3", {}, "Pairs: the same run on two backends"), pairsTable());
  if (effects.length)
    section.append(make("h3", {}, "Differences between the backends"), effectsTable(effects), quiet(ABOUT_TESTS));
  if (seeds.length) {
    const rows = seeds.map((group) =>
      row(group.name || "all runs", numberCell(group.count), group.texts.map(numberCell)),
    );
    const head = [column("setting"), column(repeats, "number"), ...keys.map((key) => column(key, "number"))];
    section.append(make("h3", {}, `Means over ${repeats}, with 95 % intervals`), table(`Means over ${repeats}`, head, rows));
  }
  if (section.children.length === 1)
    section.append(quiet("No runs differ in the backend only, or in seed or fold only: nothing to compare by statistics."));
}

function pairsTable() {
  const keys = ["train/loss", "val/loss"].filter((key) => data.pairs.some((pair) => pair.gaps[key]));
  const verdicts = { true: "good", false: "bad", null: "" };
  const rows = data.pairs.map((pair) => {
    const built = row(
      [swatch(data.runs[pair.runs[0]].colour), pair.name || "all runs"],
      make("td", { class: `wide ${verdicts[pair.same]}` }, pair.words),
      keys.map((key) => numberCell(pair.gaps[key]?.worst ?? "–")),
    );
    built.className = "pair";
    return built;
  });
  const head = keys.map((key) => column(`largest difference of ${key}`, "number"));
  hideFiltered(rows, (at) => data.pairs[at].runs);
  return table("Pairs", [column("pair"), column("verdict"), ...head], rows);
}

function effectsTable(effects) {
  const rows = effects.map((effect) => {
    const ends = effects.filter((other) => other.key === effect.key).flatMap((other) => other.ends);
    const widest = Math.max(...ends.map((end) => Math.abs(end ?? 0)));
    return row(
      effect.setting || "all runs",
      make("td", {}, effect.key),
      make("td", { class: "picture" }, interval(effect, widest)),
      make("td", { class: effect.shown ? "wide shown" : "wide quiet" }, effect.words),
    );
  });
  const head = [column("setting"), column("metric"), column("difference", "picture"), column("result")];
  return table("Differences between the backends", head, rows);
}

/** A difference with its interval; the dashed line in the middle is no difference. */
function interval(effect, widest) {
  const at = (end) => 60 + (widest ? (55 * end) / widest : 0);
  const [low, mean, high] = effect.ends;
  const middle = { x1: 60, x2: 60, y1: 0, y2: 14, stroke: "var(--grey)", "stroke-dasharray": "2 2" };
  const picture = draw(
    "svg", { class: "interval", viewBox: "0 0 120 14", "aria-hidden": "true" }, draw("line", middle),
  );
  const stroke = effect.shown ? "var(--accent)" : "var(--grey)";
  if (low !== null && high !== null)
    picture.append(draw("line", { x1: at(low), x2: at(high), y1: 7, y2: 7, stroke, "stroke-width": 2 }));
  if (mean !== null) picture.append(draw("circle", { cx: at(mean), cy: 7, r: 3.5, fill: stroke }));
  return picture;
}
