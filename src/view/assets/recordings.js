// What a run recorded: correlations, sparsity, cosines and weights over learning, as `ccdni analyse` measures them.

import { Chart, sample, style } from "./chart.js";
import { get } from "./data.js";
import { h } from "./dom.js";

const NAMES = {
  population_correlation: "population correlation", mean_abs_pearson: "mean absolute correlation", coding_space: "coding space",
  sparsity: "sparsity", cosine: "cosine similarity", weight_mean: "mean weight", weight_sd: "deviation of weights",
  weight_mean_abs: "mean absolute weight", weight_norm: "norm of weights", weight_zeros: "share of zero weights",
};

/** A section that measures when it is asked to: large recordings take a while. */
export function recordings(run) {
  const said = h("p", { class: "faint", role: "status" });
  const grid = h("div", { class: "charts" });
  const measure = async (event) => {
    event.target.disabled = true;
    said.textContent = "measuring …";
    try {
      const { measures, notes } = await get(`/api/runs/${run}/recordings`);
      grid.replaceChildren(...charts(measures));
      said.textContent = notes.join(" ");
      event.target.remove();
    } catch (error) {
      said.textContent = error.message;
      event.target.disabled = false;
    }
  };
  return [h("h2", { id: "recordings" }, "Recordings"),
    h("p", { class: "faint" }, "Activity and gradients were recorded. Measured are the finished seeds; docs/analysis.md explains how."),
    h("button", { type: "button", onclick: measure }, "Measure the recordings"), said, grid];
}

/** One chart per measure, one line per quantity. */
function charts(measures) {
  const names = [...new Set(measures.map((measure) => measure.measure))];
  return names.map((name) => {
    const of = measures.filter((measure) => measure.measure === name);
    const series = of.map((measure, index) => ({
      label: measure.with ? `${measure.of} with ${measure.with}` : measure.of, style: style(index),
      seeds: Object.entries(measure.seeds).map(([seed, { epoch, value }]) => ({ seed, x: epoch, y: value })),
    }));
    const title = NAMES[name] ?? name;
    const chart = new Chart(title, { series, x: "epoch", y: title, options: { log: false, logX: false, smoothing: 0, singles: false } });
    return withLegend(chart, series);
  });
}

function withLegend(chart, series) {
  if (series.length > 1) chart.element.append(legend(series));
  return chart.element;
}

/** The lines of a chart. */
export function legend(series) {
  return h("ul", { class: "legend" }, series.map((line) => h("li", {}, sample(line.style), h("span", {}, line.label))));
}
