// Bokeh's charts: drawn into their elements, in the reader's colours.

const DARK = matchMedia("(prefers-color-scheme: dark)");

// Draw every chart of a page into the element with its name; return a promise of all.
function drawCharts(items) {
  DARK.addEventListener("change", dressAll);
  const drawn = Object.entries(items).map(([name, item]) => Bokeh.embed.embed_item(item, `chart-${name}`));
  return Promise.all(drawn).then(dressAll);
}

function dressAll() {
  const ink = DARK.matches ? "#ddd" : "#222";
  const line = DARK.matches ? "#ffffff33" : "#00000022";
  for (const document of Bokeh.documents) document.roots().forEach((plot) => dress(plot, ink, line));
}

function dress(plot, ink, line) {
  const axes = [...plot.below, ...plot.left].filter((part) => "axis_label" in part.attributes);
  for (const axis of axes) {
    axis.setv({ axis_label_text_color: ink, major_label_text_color: ink, minor_tick_line_color: null });
    axis.setv({ axis_line_color: line, major_tick_line_color: line });
  }
  for (const grid of plot.center.filter((part) => "grid_line_color" in part.attributes)) grid.grid_line_color = line;
  for (const legend of plot.legends ?? []) legend.setv({ label_text_color: ink, background_fill_color: null });
  plot.outline_line_color = line;
}

// Return a function that fills the source of a name when all charts are drawn.
function filler(name, drawn) {
  let latest;
  return (data) => {
    latest = data;
    drawn.then(() => {
      const source = Bokeh.documents.map((each) => each.get_model_by_name(name)).find(Boolean);
      if (source && latest === data) source.data = data;
    });
  };
}
