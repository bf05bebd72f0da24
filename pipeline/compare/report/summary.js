"use strict";
// The top of the page: what was compared, what it comes to, and what was wrong.

function summary() {
  document.title = `${data.title} · comparison`;
  document.querySelector("h1").textContent = data.title;
  const made = new Date(data.made).toLocaleString("en-GB", {
    dateStyle: "long",
    timeStyle: "short",
  });
  const again = data.refresh ? ` · reads itself again every ${data.refresh} s` : "";
  byId("when").textContent = `${data.folder} · made ${made}${again}`;
  byId("summary").append(...data.sentences.map((sentence) => make("p", {}, sentence)));
  for (const card of data.cards) {
    byId("cards").append(
      make(
        "div",
        { class: card.good ? "card" : "card bad" },
        make("strong", {}, card.value),
        make("span", {}, card.label),
      ),
    );
  }
  const found = data.notes.map((note) => {
    const who = note.run === null ? "" : `${data.runs[note.run].name}: `;
    return make("li", { class: note.error && "error" }, make("b", {}, who), note.text);
  });
  if (found.length)
    byId("notes").append(make("ul", { class: "notes", "aria-label": "Notes" }, found));
}

/** Links to the sections that are there. */
function links() {
  const into = document.querySelector("#bar .links");
  for (const section of document.querySelectorAll("main section:not([hidden])")) {
    const short = { answer: "Answer", speed: "Speed", sweep: "Sweep", settings: "Settings" }[
      section.id
    ];
    into.append(
      make("a", { href: `#${section.id}` }, short ?? section.querySelector("h2").textContent),
    );
  }
}
