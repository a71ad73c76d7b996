// Bokeh's charts: drawn into their elements, in the reader's colours.

const DARK = matchMedia("(prefers-color-scheme: dark)");

// Run Bokeh's script, which is compressed in the page.
async function loadBokeh() {
  const packed = bytesOf(document.getElementById("bokeh").textContent);
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const script = document.createElement("script");
  script.textContent = await new Response(stream).text();
  document.head.append(script);
}

// Draw every chart of a page into the element with its name.
async function drawCharts(items) {
  await loadBokeh();
  DARK.addEventListener("change", dressAll);
  const drawn = Object.entries(items).map(([name, item]) => Bokeh.embed.embed_item(item, `chart-${name}`));
  await Promise.all(drawn);
  dressAll();
}

function dressAll() {
  const ink = DARK.matches ? "#ddd" : "#222";
  const line = DARK.matches ? "#ffffff33" : "#00000022";
  for (const document of Bokeh.documents) document.roots().forEach((plot) => dress(plot, ink, line));
}

function dress(plot, ink, line) {
  const parts = [...plot.below, ...plot.left, ...plot.center];
  const those = (attribute) => parts.filter((part) => attribute in part.attributes);
  for (const axis of those("axis_label")) {
    axis.setv({ axis_label_text_color: ink, major_label_text_color: ink, minor_tick_line_color: null });
    axis.setv({ axis_line_color: line, major_tick_line_color: line });
  }
  for (const grid of those("grid_line_color")) grid.grid_line_color = line;
  for (const legend of those("label_text_color")) legend.label_text_color = ink;
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
