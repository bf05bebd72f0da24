// Pictures that the runs have logged, the last of each key, side by side.

function picturesSection() {
  if (!data.pictures.length) return void (byId("pictures").hidden = true);
  for (const { key, runs, same, left_out } of data.pictures) {
    byId("pictures").append(
      make("h3", {}, key),
      ...(same ? [quiet(`The same pixels in all ${runs.length} runs.`)] : []),
      make("div", { class: "pictures" }, runs.map((one) => picture(key, one))),
      ...(left_out ? [quiet(`${counted(left_out, "run")} left out to keep the page small.`)] : []),
    );
  }
}

function picture(key, { run, step, image }) {
  const { name, colour, backend } = data.runs[run];
  return make(
    "figure",
    {},
    make("img", { src: image, alt: `${key} of ${name}` }),
    make("figcaption", {}, swatch(colour, backend), `${name}, step ${step}`),
  );
}
