// The learning curves of one run or several, one chart per column of `metrics.csv`.

import { Chart, sample } from "./chart.js";
import { check, choice, copyButton, h } from "./dom.js";

/** Columns that are shown only if they are chosen. */
const HIDDEN = ["seconds", "train_loss_original"];

/** Columns that come last. */
const DIAGNOSTICS = ["learning_rate", "grad_norm"];

/** Kept from page to page. */
const options = { log: false, logX: false, smoothing: 0, singles: true };

/** The epochs at which a synthesizer is lesioned or frozen. */
export function events(run) {
  return Object.entries(run.keys).filter(([key]) => /\.dni\.(lesion|freeze)_at$/.test(key)).map(([, epoch]) => epoch);
}

/** Charts of all columns. `lines` have `label`, `style`, `events` and `curves`: columns of each seed, by seed; `columns` are their names. `command(name, options)` is the
command that draws a column in a terminal, if there is one. */
export class Curves {
  constructor(lines, columns, command) {
    this.command = command;
    this.charts = new Map();
    this.chosen = new Map();
    this.grid = h("div", { class: "charts" });
    this.legend = h("ul", { class: "legend", "aria-label": "Lines" });
    this.columns = h("div", { class: "columns" });
    this.element = h("div", { class: "curves" }, this.controls(), this.legend, this.grid);
    this.set(lines, columns);
  }

  controls() {
    const change = (name) => (value) => {
      options[name] = value;
      this.draw();
    };
    return h("div", { class: "controls" },
      check("logarithmic values", options.log, change("log")),
      check("logarithmic epochs", options.logX, change("logX")),
      check("single seeds", options.singles, change("singles")),
      choice("smoothing", [[0, "none"], [0.5, "0.5"], [0.8, "0.8"], [0.9, "0.9"], [0.97, "0.97"]], options.smoothing, (value) => change("smoothing")(Number(value))),
      h("details", { class: "menu" }, h("summary", {}, "Columns"), this.columns));
  }

  /** Shows other curves; charts that are there stay, with their zoom. */
  set(lines, columns) {
    this.lines = lines;
    const fresh = columns.filter((name) => !this.chosen.has(name)).sort((a, b) => DIAGNOSTICS.includes(a) - DIAGNOSTICS.includes(b));
    for (const name of fresh) this.chosen.set(name, !HIDDEN.includes(name));
    if (fresh.length > 0) {
      this.columns.replaceChildren(...[...this.chosen].map(([name, shown]) => check(name, shown, (value) => {
        this.chosen.set(name, value);
        this.draw();
      })));
    }
    this.legend.hidden = lines.length < 2;
    this.legend.replaceChildren(...lines.map((line) => h("li", {}, sample(line.style), h("span", {}, line.label))));
    this.draw();
  }

  withCommand(name, chart) {
    if (this.command) {
      const text = () => this.command(name, options);
      chart.element.querySelector("figcaption").append(...copyButton("Copy command", `Copy command that draws ${name}`, text, (said) => { said.textContent = text(); }));
    }
    return chart;
  }

  draw() {
    if (this.charts.size === 0) this.grid.replaceChildren();
    for (const [name, shown] of this.chosen) {
      const chart = this.charts.get(name);
      if (!shown) {
        chart?.element.remove();
        this.charts.delete(name);
        continue;
      }
      const seeds = (line) => Object.entries(line.curves).filter(([, columns]) => columns[name])
        .map(([seed, columns]) => ({ seed, x: columns.epoch, y: columns[name] }));
      const series = this.lines.map((line) => ({ label: line.label, style: line.style, events: line.events, seeds: seeds(line) }))
        .filter((line) => line.seeds.length > 0);
      const data = { series, x: "epoch", y: name, options: { ...options } };
      if (chart) chart.set(data);
      else {
        this.charts.set(name, new Chart(name, data));
        this.grid.append(this.withCommand(name, this.charts.get(name)).element);
      }
    }
    if (this.charts.size === 0) this.grid.replaceChildren(h("p", { class: "faint" }, "No epoch is finished yet."));
  }
}
