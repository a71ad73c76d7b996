// Starts the page.

const data = JSON.parse(document.getElementById("page-data").textContent);
const drawn = drawCharts(data.charts);
if (data.explorer) explore(data.explorer, filler("gains", drawn));
