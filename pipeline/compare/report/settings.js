// Differences between the configs; versions, hardware and folders of the runs.

const FEW = 6; // runs that fit side by side

function settingsSection() {
  const section = byId("settings"),
    { config, facts } = data.settings;
  const keys = Object.keys(config);
  section.append(
    make("h3", {}, "Config"),
    keys.length ? configTable(keys, config) : quiet("All runs have the same config."),
  );
  const wide = (text) => make("td", { class: "wide" }, text);
  const rows = facts.map(({ key, text, runs }) =>
    row(key, wide(text), wide(runs.length === data.runs.length ? "all runs" : listRuns(runs))),
  );
  if (rows.length)
    section.append(
      make("h3", {}, "Versions, hardware, devices"),
      table("Versions and hardware", [column("kind"), column("value"), column("runs")], rows),
    );
  const folders = data.runs.map((run) => row(run.name, make("td", {}, run.folder)));
  section.append(make("h3", {}, "Folders"), table("Folders", [column("run"), column("folder")], folders));
}

/** One row for each key if there are few runs, else one for each run. */
function configTable(keys, config) {
  const cells = (values) => values.map((value) => make("td", {}, value));
  if (data.runs.length <= FEW) {
    const rows = keys.map((key) => row(key, cells(config[key])));
    return table("Config", [column("key"), ...data.runs.map((run) => column(run.name))], rows);
  }
  const rows = data.runs.map((run, at) => row(run.name, cells(keys.map((key) => config[key][at]))));
  hideFiltered(rows);
  return table("Config", [column("run"), ...keys.map((key) => column(key))], rows);
}

/** The names of up to three runs; of more also how many there are. */
function listRuns(runs) {
  const names = runs.slice(0, 3).map((at) => data.runs[at].name).join(", ");
  return runs.length > 3 ? `${counted(runs.length, "run")}: ${names}, …` : names;
}
