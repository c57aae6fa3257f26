// A sweep as a matrix of two keys: a metric in every cell, or what is missing, in training or failed, and why.

import { get, onChange, state, store } from "./data.js";
import { choice, commands, h, replace } from "./dom.js";
import { numeric, order } from "./filter.js";
import { number, seconds, shortKey, value } from "./format.js";
import { parallel } from "./parallel.js";

/** The key of runs that have no name in the sweep's list. */
const NAME = "name";

export async function sweepPage({ onLeave }, which = "") {
  const page = new SweepPage(which === "" && store.sweeps.length > 0 ? "0" : which || "all");
  await page.read();
  onLeave(onChange(() => page.read().catch(() => {})));
  return { title: "Sweep", content: [h("h1", {}, "Sweep"), page.element] };
}

class SweepPage {
  constructor(which) {
    this.which = which;
    this.element = h("div");
    this.status = h("div");
    this.chosen = {};
  }

  /** The runs with their values: of a file, begun or not; or all that there are. */
  async read() {
    if (this.which === "all") {
      const keys = store.differing.filter((key) => !store.differing.some((other) => other.startsWith(`${key}.`)));
      const of = (run) => Object.fromEntries(keys.map((key) => [key, key.endsWith(".dni") ? run.network : value(run.keys[key])]));
      this.data = { file: null, runs: [...store.runs.values()].map((run) => ({ run: run.run, item: run.name, values: of(run), seeds: run.seeds })), failures: [], commands: store.commands };
    } else this.data = await get(`/api/sweeps/${this.which}`);
    // The time that is left changes always, results seldom: tables that are read stay as they are.
    const key = JSON.stringify(this.data.runs.map((run) => [run.run, run.seeds.map((seed) => [seed.state, seed.reason]), store.runs.get(run.run)?.metrics]));
    if (key === this.key) this.status.replaceChildren(this.progress());
    else this.draw();
    this.key = key;
  }

  draw() {
    const { file, runs, failures } = this.data;
    const keys = [...new Set(runs.flatMap((run) => Object.keys(run.values)))];
    const named = runs.some((run) => run.item);
    const axes = [...keys, ...(named ? [NAME] : [])];
    const metrics = [...new Set(runs.flatMap((run) => Object.keys(store.runs.get(run.run)?.metrics ?? {})))].sort((a, b) => order(!a.startsWith("val_"), !b.startsWith("val_"), true) || order(a, b, true));
    const most = [...axes].sort((a, b) => distinct(runs, b) - distinct(runs, a));
    const row = axes.includes(this.chosen.row) ? this.chosen.row : most[0];
    const column = this.chosen.column ?? most[1] ?? "";
    const metric = metrics.includes(this.chosen.metric) ? this.chosen.metric : metrics[0];
    const change = (name) => (chosen) => {
      this.chosen[name] = chosen;
      this.draw();
    };
    const sources = [...store.sweeps.map((sweep, index) => [String(index), sweep.file]), ["all", "all runs, by the keys that differ"]];
    const short = (key) => [key, key === NAME ? "name" : shortKey(key, axes)];
    const focused = document.activeElement?.closest("label")?.firstChild?.textContent;
    this.status.replaceChildren(this.progress());
    replace(this.element,
      h("div", { class: "controls" },
        choice("sweep", sources, this.which, (which) => { location.hash = `#/sweep/${which}`; }),
        axes.length > 0 ? [choice("rows", axes.map(short), row, change("row")), choice("columns", [["", "none"], ...axes.filter((key) => key !== row).map(short)], column, change("column")),
          choice("metric", metrics.length > 0 ? metrics : [["", "no results yet"]], metric, change("metric"))] : null),
      this.status,
      failures.length > 0 ? h("div", { class: "notice" }, h("strong", {}, "Failed"), h("ul", {}, failures.map((line) => h("li", {}, line)))) : null,
      axes.length > 0 ? [h("h2", {}, "Matrix"), this.matrix(row, column === row ? "" : column, metric, axes)] : h("p", { class: "faint" }, "The runs do not differ in any key."),
      axes.length > 0 && metric ? [h("h2", {}, "Parallel coordinates"), this.coordinates(axes, metric)] : null,
      file ? null : h("p", { class: "faint" }, "Start ", h("code", {}, "ccdni view FILE"), " with the file of a sweep to see what of it is missing."),
      commands(this.data.commands));
    if (focused) [...this.element.querySelectorAll("label")].find((label) => label.firstChild.textContent === focused)?.querySelector("select")?.focus();
  }

  progress() {
    const seeds = this.data.runs.flatMap((run) => run.seeds);
    const of = (word) => seeds.filter((seed) => seed.state === word).length;
    const words = ["done", "running", "failed", "waiting"].filter((word) => of(word) > 0).map((word) => `${of(word)} ${word}`);
    const { left, running } = this.data;
    const workers = Math.max(1, running ?? 1);
    const rest = left > 0 ? ` About ${seconds(left / workers)} left with ${workers} at a time${running > 0 ? `, until ${new Date(Date.now() + left / workers * 1e3).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" })}` : ""}.` : "";
    return h("p", { role: "status" }, h("progress", { max: Math.max(1, seeds.length), value: of("done"), "aria-label": "seeds trained" }), ` ${this.data.runs.length} runs, ${seeds.length} seeds: ${words.join(", ") || "none"}.${rest}`);
  }

  matrix(row, column, metric, axes) {
    const values = (key) => [...new Set(this.data.runs.map((run) => of(run, key)))].sort((a, b) => order(numeric(a), numeric(b), true));
    const [rows, columns] = [values(row), values(column)];
    const range = this.range(metric);
    const cell = (at, across) => {
      const runs = this.data.runs.filter((run) => of(run, row) === at && of(run, column) === across);
      return h("td", {}, runs.map((run) => this.cell(run, metric, range)));
    };
    const name = (key) => key === "" ? "" : shortKey(key, axes);
    return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Matrix" }, h("table", { class: "matrix" },
      h("caption", {}, `${metric ?? "State"}: mean ± standard error over the finished seeds${metric ? range.lower ? "; darker is lower and better" : "; darker is higher and better" : ""}.`),
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, column === "" ? name(row) : `${name(row)} \\ ${name(column)}`), columns.map((across) => h("th", { scope: "col" }, across === "" ? metric ?? "state" : across)))),
      h("tbody", {}, rows.map((at) => h("tr", {}, h("th", { scope: "row" }, at), columns.map((across) => cell(at, across)))))));
  }

  /** The least and greatest mean, and which of them is better. */
  range(metric) {
    const means = this.data.runs.map((run) => result(run, metric)).filter((found) => found !== null);
    const values = means.map((found) => found.mean);
    return { low: Math.min(...values), high: Math.max(...values), lower: means.find((found) => found.lower !== null)?.lower ?? true };
  }

  coordinates(all, metric) {
    const axes = all.filter((key) => distinct(this.data.runs, key) > 1);
    const range = this.range(metric);
    const runs = this.data.runs.map((run) => ({
      label: run.item ?? run.run, href: store.runs.has(run.run) ? `#/run/${run.run}` : null, values: Object.fromEntries(axes.map((key) => [key, of(run, key)])),
      metric: result(run, metric)?.mean ?? null, level: level(result(run, metric), range),
    }));
    return parallel(runs, axes.map((key) => [key, key === NAME ? "name" : shortKey(key, all)]), [metric, metric]);
  }

  cell(run, metric, range) {
    const known = store.runs.get(run.run);
    const found = result(run, metric);
    const words = ["running", "failed", "waiting"].map((word) => [word, run.seeds.filter((seed) => seed.state === word)]).filter(([, seeds]) => seeds.length > 0);
    const why = words.flatMap(([, seeds]) => seeds.filter((seed) => seed.reason).map((seed) => `seed ${seed.seed}: ${seed.reason}`)).join("\n");
    const shade = level(found, range);
    const text = found ? `${number(found.mean)}${found.sem === null ? "" : ` ± ${number(found.sem)}`}` : null;
    const states = words.map(([word, seeds]) => h("span", { class: `state ${word}` }, run.seeds.length > 1 ? `${seeds.length} ${word}` : word));
    const content = [text ? h("span", {}, text) : null, states];
    return known ? h("a", { class: `cell ${shade === null ? state(known) : `level${shade}`}`, href: `#/run/${run.run}`, title: why || null }, content)
      : h("span", { class: "cell waiting" }, "not begun");
  }
}

/** The metric of a run's finished seeds, if there is one. */
function result(run, metric) {
  const found = store.runs.get(run.run)?.metrics[metric];
  return found && !found.unfinished && found.mean !== null ? found : null;
}

/** How good a result is, from 0 to 4; null where nothing can be compared. */
function level(found, { low, high, lower }) {
  if (found === null || !(high > low)) return null;
  const share = (found.mean - low) / (high - low);
  return Math.round((lower ? 1 - share : share) * 4);
}

/** The value of a key of a run as text. */
function of(run, key) {
  return key === "" ? "" : key === NAME ? run.item ?? "–" : run.values[key] ?? "–";
}

function distinct(runs, key) {
  return new Set(runs.map((run) => key === NAME ? run.item : run.values[key])).size;
}
