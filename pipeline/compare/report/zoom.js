// The zoom of the panels of curves, kept when they are redrawn and when the page reloads.

// Leaving a zoom shows everything; Plotly would return to the zoom that it was drawn with.
const UNZOOM = {
  doubleClick: "autosize",
  modeBarButtonsToRemove: ["select2d", "lasso2d", "resetScale2d"],
};

/** Store the visible ranges of a drawn panel, if they are zoomed. */
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

/** Restore the ranges, if the curves and the axis are the same. */
function zoom(axes, side, uirevision) {
  const noted = state.zooms[side];
  if (noted?.of !== uirevision) return;
  for (const [name, part] of Object.entries(noted.axes))
    if (axes[name]?.type === part.type) Object.assign(axes[name], part);
}
