// The top of the page: what was compared, the summary, errors and warnings.

function summary() {
  document.title = `${data.title} · comparison`;
  document.querySelector("h1").textContent = data.title;
  const date = new Date(data.made).toLocaleString("en-GB", { dateStyle: "long", timeStyle: "short" });
  const refreshes = data.refresh ? ` · refreshes every ${data.refresh} s` : "";
  byId("when").textContent = `${data.folder} · made ${date}${refreshes}`;
  byId("summary").append(...data.sentences.map((sentence) => make("p", {}, sentence)));
  for (const { good, value, label } of data.cards) {
    const inside = [make("strong", {}, value), make("span", {}, label)];
    byId("cards").append(make("div", { class: good ? "card" : "card bad" }, inside));
  }
  const notes = data.notes.map(({ run, text, error }) => {
    const name = run === null ? "" : `${data.runs[run].name}: `;
    return make("li", { class: error && "error" }, make("b", {}, name), text);
  });
  if (notes.length) byId("notes").append(make("ul", { class: "notes", "aria-label": "Notes" }, notes));
}

/** Links to the visible sections. */
function links() {
  const short = { answer: "Statistics", speed: "Speed", sweep: "Sweep", settings: "Settings" };
  for (const { id, firstChild } of document.querySelectorAll("main section:not([hidden])"))
    document
      .querySelector("#bar .links")
      .append(make("a", { href: `#${id}` }, short[id] ?? firstChild.textContent));
}
