"use strict";
// What differs between the configs, and with what and where the runs ran.

const FEW = 6; // runs that fit side by side

function settingsSection() {
  const section = byId("settings"),
    { config, facts } = data.settings;
  const keys = Object.keys(config);
  section.append(make("h3", {}, "Config"));
  if (keys.length) section.append(configTable(keys, config));
  else section.append(make("p", { class: "quiet" }, "All runs have the same config."));
  const told = facts.map((fact) =>
    make(
      "tr",
      {},
      make("th", { scope: "row" }, fact.key),
      make("td", { class: "wide" }, fact.text),
      make(
        "td",
        { class: "wide" },
        fact.runs.length === data.runs.length ? "all runs" : some(fact.runs),
      ),
    ),
  );
  if (told.length)
    section.append(
      make("h3", {}, "Versions, hardware, devices"),
      table("Versions and hardware", [column("of"), column("what"), column("runs")], told),
    );
  const folders = data.runs.map((run) =>
    make("tr", {}, make("th", { scope: "row" }, run.name), make("td", {}, run.folder)),
  );
  section.append(
    make("h3", {}, "Folders"),
    table("Folders", [column("run"), column("folder")], folders),
  );
}

/** Keys down and runs across where there are few, else the other way round. */
function configTable(keys, config) {
  if (data.runs.length <= FEW) {
    const rows = keys.map((key) =>
      make(
        "tr",
        {},
        make("th", { scope: "row" }, key),
        config[key].map((value) => make("td", {}, value)),
      ),
    );
    return table("Config", [column("key"), ...data.runs.map((run) => column(run.name))], rows);
  }
  const rows = data.runs.map((run, at) =>
    make(
      "tr",
      {},
      make("th", { scope: "row" }, run.name),
      keys.map((key) => make("td", {}, config[key][at])),
    ),
  );
  onFilter((_, set) => rows.forEach((row, at) => (row.hidden = !set.has(at))));
  return table("Config", [column("run"), ...keys.map((key) => column(key))], rows);
}

/** The first of some runs by name, and how many there are. */
function some(runs) {
  const names = runs
    .slice(0, 3)
    .map((at) => data.runs[at].name)
    .join(", ");
  return runs.length > 3 ? `${counted(runs.length, "run")}: ${names}, …` : names;
}
