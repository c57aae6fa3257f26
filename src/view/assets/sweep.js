// A sweep as a matrix of two keys: a metric in every cell, or what is missing, in training or failed, and why.

import { get, onChange, state, store } from "./data.js";
import { choice, commands, h, replace } from "./dom.js";
import { order } from "./filter.js";
import { number, seconds, shortKey, value } from "./format.js";

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
    this.chosen = {};
  }

  /** The runs with their values: of a file, begun or not; or all that there are. */
  async read() {
    if (this.which === "all") {
      const keys = store.differing.filter((key) => !store.differing.some((other) => other.startsWith(`${key}.`)));
      const of = (run) => Object.fromEntries(keys.map((key) => [key, key.endsWith(".dni") ? run.network : value(run.keys[key])]));
      this.data = { file: null, runs: [...store.runs.values()].map((run) => ({ run: run.run, item: run.name, values: of(run), seeds: run.seeds })), failures: [], commands: [] };
    } else this.data = await get(`/api/sweeps/${this.which}`);
    this.draw();
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
    replace(this.element,
      h("div", { class: "controls" },
        choice("sweep", sources, this.which, (which) => { location.hash = `#/sweep/${which}`; }),
        axes.length > 0 ? [choice("rows", axes.map(short), row, change("row")), choice("columns", [["", "none"], ...axes.filter((key) => key !== row).map(short)], column, change("column")),
          choice("metric", metrics.length > 0 ? metrics : [["", "no results yet"]], metric, change("metric"))] : null),
      this.progress(),
      failures.length > 0 ? h("div", { class: "notice" }, h("strong", {}, "Failed"), h("ul", {}, failures.map((line) => h("li", {}, line)))) : null,
      axes.length > 0 ? this.matrix(row, column === row ? "" : column, metric, axes) : h("p", { class: "faint" }, "The runs do not differ in any key."),
      file ? commands(this.data.commands) : h("p", { class: "faint" }, "Start ", h("code", {}, "ccdni view FILE"), " with the file of a sweep to see what of it is missing."));
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
    const of = (run, key) => key === "" ? "" : key === NAME ? run.item ?? "–" : run.values[key] ?? "–";
    const values = (key) => [...new Set(this.data.runs.map((run) => of(run, key)))].sort((a, b) => order(numeric(a), numeric(b), true));
    const [rows, columns] = [values(row), values(column)];
    const means = this.data.runs.map((run) => store.runs.get(run.run)?.metrics[metric]).filter((found) => found && !found.unfinished && found.mean !== null);
    const [low, high] = [Math.min(...means.map((found) => found.mean)), Math.max(...means.map((found) => found.mean))];
    const lower = means.find((found) => found.lower !== null)?.lower ?? true;
    const cell = (at, across) => {
      const runs = this.data.runs.filter((run) => of(run, row) === at && of(run, column) === across);
      return h("td", {}, runs.map((run) => this.cell(run, metric, low, high, lower)));
    };
    const name = (key) => key === "" ? "" : shortKey(key, axes);
    return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Matrix" }, h("table", { class: "matrix" },
      h("caption", {}, `${metric ?? "State"}: mean ± standard error over the finished seeds${metric ? lower ? "; darker is lower and better" : "; darker is higher and better" : ""}.`),
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, column === "" ? name(row) : `${name(row)} \\ ${name(column)}`), columns.map((across) => h("th", { scope: "col" }, across === "" ? metric ?? "state" : across)))),
      h("tbody", {}, rows.map((at) => h("tr", {}, h("th", { scope: "row" }, at), columns.map((across) => cell(at, across)))))));
  }

  cell(run, metric, low, high, lower) {
    const known = store.runs.get(run.run);
    const found = known?.metrics[metric];
    const words = ["running", "failed", "waiting"].map((word) => [word, run.seeds.filter((seed) => seed.state === word)]).filter(([, seeds]) => seeds.length > 0);
    const why = words.flatMap(([, seeds]) => seeds.filter((seed) => seed.reason).map((seed) => `seed ${seed.seed}: ${seed.reason}`)).join("\n");
    const share = found && !found.unfinished && found.mean !== null && high > low ? (found.mean - low) / (high - low) : null;
    const level = share === null ? null : `level${Math.round((lower ? 1 - share : share) * 4)}`;
    const text = found && !found.unfinished ? `${number(found.mean)}${found.sem === null ? "" : ` ± ${number(found.sem)}`}` : null;
    const states = words.map(([word, seeds]) => h("span", { class: `state ${word}` }, run.seeds.length > 1 ? `${seeds.length} ${word}` : word));
    const content = [text ? h("span", {}, text) : null, states];
    return known ? h("a", { class: `cell ${level ?? state(known)}`, href: `#/run/${run.run}`, title: why || null }, content)
      : h("span", { class: "cell waiting" }, "not begun");
  }
}

function distinct(runs, key) {
  return new Set(runs.map((run) => key === NAME ? run.item : run.values[key])).size;
}

function numeric(text) {
  return text !== "" && !Number.isNaN(Number(text)) ? Number(text) : text;
}
