// The curves of one job. Uses Chart.js; knows nothing of HTTP.
"use strict";

const palette = ["#2563eb", "#15803d", "#b45309", "#7c3aed", "#be185d", "#0e7490", "#4d7c0f", "#b91c1c"];

function makeChart(id, type, options) {
  return new Chart(document.getElementById(id), {
    type: type,
    data: { labels: [], datasets: [] },
    options: Object.assign({
      animation: false, responsive: true, maintainAspectRatio: false,
      interaction: { mode: "index", intersect: false },
      plugins: { legend: { position: "bottom", labels: { boxWidth: 12 } } },
      elements: { point: { radius: 0, hitRadius: 6 }, line: { borderWidth: 2 } }
    }, options || {})
  });
}

const charts = {
  loss: makeChart("loss", "line"),
  dice: makeChart("dice", "line", { scales: { y: { min: 0, max: 1 } } }),
  phases: makeChart("phases", "bar", { scales: { x: { stacked: true }, y: { stacked: true, beginAtZero: true } } }),
  wait: makeChart("wait", "line", { scales: { y: { min: 0, suggestedMax: 0.2 } } })
};

// Keeps the data sets that are there, so that a legend entry switched off stays off.
function fill(chart, labels, series) {
  chart.data.labels = labels;
  series.forEach(function (s, i) {
    const old = chart.data.datasets[i];
    if (old && old.label === s.label) {
      old.data = s.data;
    } else {
      const colour = palette[i % palette.length];
      chart.data.datasets[i] = Object.assign({ borderColor: colour, backgroundColor: colour, spanGaps: true }, s);
    }
  });
  chart.data.datasets.length = series.length;
  chart.update();
}

function drawEpochs(epochs) {
  const labels = epochs.map(function (e) { return e.epoch; });
  const pick = function (key) { return epochs.map(function (e) { return e[key]; }); };
  fill(charts.loss, labels, [
    { label: "training", data: pick("train_loss") }, { label: "validation", data: pick("val_loss") }]);
  const classes = epochs.reduce(function (n, e) { return Math.max(n, (e.dice || []).length); }, 0);
  const dice = [{ label: "moving average", data: pick("ema") }];
  for (let c = 0; c < classes; c++) {
    dice.push({ label: "class " + (c + 1), data: epochs.map(function (e) { return (e.dice || [])[c]; }), borderWidth: 1 });
  }
  fill(charts.dice, labels, dice);
  const phases = {};
  epochs.forEach(function (e) { Object.keys(e.phases || {}).forEach(function (p) { phases[p] = true; }); });
  fill(charts.phases, labels, Object.keys(phases).map(function (p) {
    return { label: p, data: epochs.map(function (e) { return (e.phases || {})[p] || 0; }) };
  }));
  fill(charts.wait, labels, [{ label: "loader wait", data: pick("loader_wait") }]);
}
