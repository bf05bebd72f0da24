"use strict";
// What the panels of curves are zoomed in on: kept when they, or the whole page, are read again.

// Out of a zoom everything is shown again; Plotly would go back to one that it was drawn with.
const UNZOOM = {
  doubleClick: "autosize",
  modeBarButtonsToRemove: ["select2d", "lasso2d", "resetScale2d"],
};

/** Note which parts of its axes a panel that is drawn shows, where it is not all of them. */
function noteZoom(side) {
  const drawn = panels[side].element.layout;
  if (!drawn) return;
  const axes = {};
  for (const name of ["xaxis", "yaxis", "yaxis2"]) {
    const { type, range, autorange } = drawn[name] ?? {};
    if (autorange === false) axes[name] = { type, range: [...range], autorange };
  }
  state.zooms[side] = { of: drawn.uirevision, axes };
}

/** Show those parts again: of the same curves over the same axis. */
function zoom(axes, side, uirevision) {
  const noted = state.zooms[side];
  if (noted?.of !== uirevision) return;
  for (const [name, part] of Object.entries(noted.axes))
    if (axes[name]?.type === part.type) Object.assign(axes[name], part);
}
