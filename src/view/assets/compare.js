// Several runs on the same axes: curves, the keys that differ, statistics and paired tests.

import { style } from "./chart.js";
import { Curves, events } from "./curves.js";
import { get, label, onChange, plot } from "./data.js";
import { choice, commands, h, replace, table } from "./dom.js";
import { number } from "./format.js";
import { stateCell } from "./runs.js";

export async function comparePage({ onLeave }, list = "") {
  const page = new ComparePage(list.split(",").filter((name) => name !== ""));
  await page.read();
  onLeave(onChange((changed, gone) => {
    page.names = page.names.filter((name) => !gone.has(name));
    if (gone.size > 0 || page.names.some((name) => changed.has(name))) page.read(changed).catch(() => {});
  }));
  return { title: "Comparison", content: page.content };
}

class ComparePage {
  constructor(names) {
    this.names = names;
    this.curves = new Map();
    this.columns = [];
    this.metric = "";
    this.about = h("section");
    this.statistics = h("section");
    this.end = h("div");
  }

  async read(changed) {
    const metric = this.metric ? `&metric=${encodeURIComponent(this.metric)}` : "";
    const comparison = await get(`/api/compare?runs=${this.names.join(",")}${metric}`);
    const stale = this.names.filter((name) => !this.curves.has(name) || changed?.has(name));
    await Promise.all(stale.map(async (name) => this.keep(name, await get(`/api/runs/${name}/curves`))));
    this.draw(comparison);
  }

  keep(name, { columns, seeds }) {
    this.curves.set(name, seeds);
    this.columns = [...new Set([...this.columns, ...columns])];
  }

  draw({ runs, labels, keys, statistics, commands: list }) {
    // Networks without a synthesizer are grey beside networks with one.
    const mixed = new Set(runs.map((run) => run.network)).size > 1;
    const used = { true: 0, false: 0 };
    const distinct = new Set(labels).size === labels.length;
    const lines = runs.map((run, index) => {
      const grey = mixed && run.network === "cRNN";
      const text = labels[index] === "default" ? label(run) : distinct ? labels[index] : `${labels[index]} (${run.run})`;
      return { label: text, style: style(used[grey]++, grey), events: events(run), curves: this.curves.get(run.run) ?? {} };
    });
    if (this.lines) this.lines.set(lines, this.columns);
    else {
      this.lines = new Curves(lines, this.columns, plot(runs.map((run) => run.run)));
      this.content = [h("h1", {}, `Comparison of ${runs.length} runs`), this.about, h("h2", {}, "Learning curves"), this.lines.element, this.statistics, this.end];
    }
    const named = runs.map((run, index) => [h("a", { href: `#/run/${run.run}` }, lines[index].label), h("code", {}, run.run), label(run), run.task, stateCell(run)]);
    const differing = keys.length === 0 ? h("p", { class: "faint" }, "Their specs do not differ.")
      : table("Keys in which they differ", ["key", ...lines.map((line) => line.label)], keys);
    replace(this.about, table("Runs", ["label", "run", "name", "task", "state"], named), h("h2", {}, "Keys that differ"), differing);
    this.drawStatistics(statistics, runs);
    replace(this.end, commands(list));
  }

  drawStatistics({ problem, header, rows, tests }, runs) {
    const columns = [...new Set(runs.flatMap((run) => Object.keys(run.metrics)))].filter((name) => /^val_|^train_loss$/.test(name));
    const change = (metric) => {
      this.metric = metric;
      this.read().catch(() => {});
    };
    const parts = [h("h2", {}, "Statistics"), h("div", { class: "controls" }, choice("metric", [["", "first validation metric"], ...columns], this.metric, change))];
    if (problem) parts.push(h("p", { class: "notice" }, problem));
    else {
      parts.push(h("p", { class: "faint" }, "Finished seeds: mean ± standard error with the 95 % bootstrap interval of the mean, at the last epoch and at each seed's best."), table("Statistics", header, rows));
      if (tests.length > 0) {
        parts.push(h("h3", {}, "Paired tests"), h("p", { class: "faint" }, "Wilcoxon's signed-rank test over seeds at the last epoch, between runs that differ in one key of two values."),
          table("Paired tests", ["first", "second", "pairs", "mean difference", "p"], tests.map((test) => [...test.names, String(test.pairs), number(test.difference), number(test.p)])));
      }
    }
    replace(this.statistics, ...parts);
  }
}
