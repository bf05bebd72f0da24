// The table of runs: sortable, filterable; the run under the pointer is highlighted in the curves.

let lit = null;
let pinned = null;

function runsTable() {
  const rows = data.runs.map((run, at) => {
    const name = make(
      "button",
      {
        type: "button",
        "aria-pressed": "false",
        title: run.folder,
        click: () => pin(at),
        focus: () => light(at),
        blur: () => light(pinned),
      },
      run.name,
    );
    const row = make(
      "tr",
      { mouseenter: () => light(at), mouseleave: () => light(pinned) },
      make("th", { scope: "row" }, swatch(run.colour, run.backend), name),
      make("td", { class: `status-${run.status}` }, run.status),
      data.columns.map((column) => numberCell(column.texts[at])),
    );
    row.dataset.run = at;
    return row;
  });
  const titles = ["run", "status", ...data.columns.map((column) => column.title)];
  const heads = titles.map((title, place) => {
    const button = make(
      "button",
      { type: "button", click: () => sortBy(title, state.sort === title && !state.down) },
      title,
    );
    return make(
      "th",
      { scope: "col", class: place > 1 && "number", "data-title": title, "aria-sort": "none" },
      button,
    );
  });
  const box = table("Table of runs", heads, rows);
  byId("runs").append(
    box,
    make("p", { class: "quiet", id: "none", hidden: "" }, "No run matches all of these words."),
  );
  const body = box.querySelector("tbody");

  function sortBy(title, down) {
    Object.assign(state, { sort: title, down });
    const values = ["run", "status"].includes(title)
      ? data.runs.map((run) => (title === "run" ? run.name : run.status))
      : data.columns.find((column) => column.title === title)?.values;
    if (!values) return;
    body.append(
      ...[...rows].sort((one, other) =>
        compare(values[one.dataset.run], values[other.dataset.run], down),
      ),
    );
    for (const head of heads)
      head.setAttribute(
        "aria-sort",
        head.dataset.title !== title ? "none" : down ? "descending" : "ascending",
      );
  }

  if (state.sort) sortBy(state.sort, state.down);
  const former = data.runs.findIndex((run) => run.folder === state.pinned);
  if (former >= 0) pin(former);
  hideFiltered(rows);
  onFilter((shown) => (byId("none").hidden = shown.length > 0));
}

/** Compare numbers by size and names in natural order; missing values come last either way. */
function compare(one, other, down) {
  if (one === null || other === null) return (one === null) - (other === null);
  const order =
    typeof one === "number" ? one - other : one.localeCompare(other, "en", { numeric: true });
  return down ? -order : order;
}

/** Keep a run highlighted, or release it. */
function pin(at) {
  pinned = pinned === at ? null : at;
  state.pinned = data.runs[pinned]?.folder ?? null;
  for (const button of document.querySelectorAll("#runs tbody button")) {
    button.setAttribute(
      "aria-pressed",
      String(Number(button.closest("tr").dataset.run) === pinned),
    );
  }
  light(pinned);
}

/** Highlight a run. */
function light(at) {
  if (lit === at) return;
  lit = at;
  for (const row of document.querySelectorAll("#runs tbody tr"))
    row.classList.toggle("lit", Number(row.dataset.run) === lit);
  clearTimeout(light.later); // a pointer that crosses the table is not followed row by row
  light.later = setTimeout(lightCurves, 60);
}
