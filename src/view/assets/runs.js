// The table of all runs: filtered, sorted, grouped, selected for a comparison.

import { count, label, onChange, progress, state, store } from "./data.js";
import { broken, check, choice, commands, h } from "./dom.js";
import { filter, lookup, order } from "./filter.js";
import { seconds, shortKey, value, withError } from "./format.js";

/** Rows that are made before the browser may draw. */
const CHUNK = 40;

/** Kept while other pages are shown. */
const kept = { filter: "", sort: "created", ascending: false, group: "", shown: new Map(), selected: new Set() };

export function runsPage({ query, onLeave }) {
  for (const name of ["filter", "sort", "group"]) if (query.has(name)) kept[name] = query.get(name);
  if (query.has("ascending")) kept.ascending = query.get("ascending") === "true";
  const page = new RunsPage();
  onLeave(onChange((changed, gone) => page.change(changed, gone)));
  onLeave(() => { page.drawing += 1; });
  return { title: "Runs", content: page.content };
}

class RunsPage {
  constructor() {
    this.rows = new Map();
    this.drawing = 0;
    this.counts = h("p", { class: "faint", role: "status" });
    this.compare = h("a", { class: "button", href: "#/" });
    this.clear = h("button", { type: "button", class: "small", onclick: () => this.select([...kept.selected], false) }, "Clear selection");
    this.head = h("thead");
    this.bodies = h("table", { class: "runs" }, h("caption", { class: "hidden" }, "Runs"), this.head);
    this.menu = h("div", { class: "columns" });
    const input = h("input", {
      type: "search", id: "filter", value: kept.filter, placeholder: "ccRNN  bptt=1  val_mse<0.1  state=failed", spellcheck: "false", autocomplete: "off",
      oninput: (event) => { kept.filter = event.target.value; this.draw(); },
    });
    input.value = kept.filter;
    this.content = [
      h("h1", {}, "Runs"),
      h("div", { class: "controls" },
        h("label", { class: "choice wide" }, h("span", {}, "filter"), input),
        choice("group by", [["", "nothing"], ["name", "name"], ["task", "task"], ["sweep", "sweep"], ["state", "state"]], kept.group, (group) => { kept.group = group; this.draw(); }),
        h("details", { class: "menu" }, h("summary", {}, "Columns"), this.menu)),
      h("div", { class: "controls" }, this.compare, this.clear, this.counts),
      h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Runs" }, this.bodies),
      commands(store.commands),
    ];
    this.draw();
  }

  /** All columns: name, heading, value to sort by, content of a cell. */
  columns() {
    const runs = [...store.runs.values()];
    const several = (of) => new Set(runs.map(of)).size > 1;
    const fixed = [
      { name: "task", shown: several((run) => run.task), sort: (run) => run.task, cell: (run) => run.task },
      { name: "state", shown: true, sort: state, cell: stateCell },
    ];
    const keys = new Set(runs.flatMap((run) => Object.keys(run.keys)));
    const ordered = [...store.differing, ...[...keys].filter((key) => !store.differing.includes(key)).sort()];
    const ofKeys = ordered.map((key) => {
      const of = (run) => key.endsWith(".dni") ? (Object.keys(run.keys).some((other) => other.startsWith(`${key}.`)) ? "ccRNN" : "cRNN") : run.keys[key];
      return { name: key, heading: shortKey(key, ordered), shown: store.differing.includes(key) && key !== "task.kind", sort: of, cell: (run) => value(of(run)) };
    });
    const metrics = new Set(runs.flatMap((run) => Object.keys(run.metrics)));
    const ofMetrics = [...metrics].sort(byKind).map((name) => ({
      name, shown: /^(val|test)_|^train_loss$/.test(name), number: true, sort: (run) => run.metrics[name]?.mean, cell: (run) => metricCell(run.metrics[name]),
    }));
    const last = [
      { name: "seconds", heading: "time per seed", shown: true, number: true, sort: (run) => run.seconds, cell: (run) => seconds(run.seconds) },
      { name: "created", shown: true, sort: (run) => run.created, cell: (run) => run.created.replace("T", " ").replace("Z", "") },
    ];
    return [...fixed, ...ofKeys, ...ofMetrics, ...last];
  }

  draw() {
    this.remember();
    const all = this.columns();
    const isShown = (column) => kept.shown.get(column.name) ?? column.shown;
    this.shown = all.filter(isShown);
    this.menu.replaceChildren(...all.map((column) => check(column.name, isShown(column), (on) => {
      kept.shown.set(column.name, on);
      this.draw();
    })));
    this.drawHead();
    const of = all.find((column) => column.name === kept.sort)?.sort ?? ((run) => kept.sort === "run" ? label(run) : lookup(run, kept.sort));
    const holds = filter(kept.filter, state);
    this.visible = [...store.runs.values()].filter(holds).sort((a, b) => order(of(a), of(b), kept.ascending) || order(a.run, b.run, true));
    this.rows.clear();
    this.drawRows(groups(this.visible, kept.group));
    this.drawSelection();
  }

  drawHead() {
    const heading = (name, text, number) => {
      const is = kept.sort === name;
      const sort = () => {
        kept.ascending = is ? !kept.ascending : name !== "created";
        kept.sort = name;
        this.draw();
        this.head.querySelector("[aria-sort] button")?.focus();
      };
      return h("th", { scope: "col", class: number ? "number" : null, "aria-sort": is ? (kept.ascending ? "ascending" : "descending") : null },
        h("button", { type: "button", class: "sort", title: name, onclick: sort }, broken(text)));
    };
    this.all = h("input", { type: "checkbox", "aria-label": "Select all runs that are shown", onchange: (event) => this.select(this.visible.map((run) => run.run), event.target.checked) });
    this.head.replaceChildren(h("tr", {}, h("th", { scope: "col", class: "pick" }, this.all), heading("run", "run", false),
      this.shown.map((column) => heading(column.name, column.heading ?? column.name, column.number))));
  }

  /** Makes the rows a few at a time, so that nothing waits for all of them. */
  drawRows(groups) {
    const drawing = this.drawing += 1;
    const work = groups.flatMap(([name, runs]) => {
      const body = h("tbody");
      if (name !== null) {
        body.append(h("tr", { class: "group" }, h("th", { scope: "rowgroup", colspan: String(this.shown.length + 2) }, `${name} `, h("span", { class: "faint" }, `${runs.length}`))));
      }
      return [{ body }, ...runs.map((run) => ({ run, body }))];
    });
    for (const body of this.bodies.querySelectorAll("tbody")) body.remove();
    const next = (from) => {
      if (drawing !== this.drawing) return;
      for (const { run, body } of work.slice(from, from + CHUNK)) {
        if (run) body.append(this.row(run));
        else this.bodies.append(body);
      }
      if (from + CHUNK < work.length) requestAnimationFrame(() => next(from + CHUNK));
      else this.bodies.dataset.complete = String(this.visible.length);
    };
    delete this.bodies.dataset.complete;
    next(0);
  }

  row(run) {
    const name = label(run);
    const row = h("tr", { class: kept.selected.has(run.run) ? "selected" : null },
      h("td", { class: "pick" }, h("input", { type: "checkbox", checked: kept.selected.has(run.run), "aria-label": `Select ${name} ${run.run}`, onchange: (event) => this.select([run.run], event.target.checked) })),
      h("th", { scope: "row" }, h("a", { href: `#/run/${run.run}` }, name), name === run.run ? null : [" ", h("code", { class: "faint" }, run.run)],
        run.problem ? h("span", { class: "fail", title: run.problem }, " damaged") : null),
      this.shown.map((column) => h("td", { class: column.number ? "number" : null }, column.cell(run))));
    this.rows.set(run.run, row);
    return row;
  }

  /** Redraws the rows that changed, or everything if rows appear, move or go. */
  change(changed, gone) {
    for (const name of gone) kept.selected.delete(name);
    const holds = filter(kept.filter, state);
    const same = gone.size === 0 && [...changed].every((name) => this.rows.has(name) === holds(store.runs.get(name)));
    if (!same || ["state", "seconds"].includes(kept.sort) || kept.group === "state" || /^(val|test)_|^train_/.test(kept.sort)) {
      this.draw();
      return;
    }
    for (const name of changed) {
      const old = this.rows.get(name);
      if (!old) continue;
      const focused = old.contains(document.activeElement) ? document.activeElement.tagName : null;
      const row = this.row(store.runs.get(name));
      old.replaceWith(row);
      if (focused) row.querySelector(focused.toLowerCase())?.focus();
    }
    this.drawSelection();
  }

  select(names, on) {
    for (const name of names) {
      if (on) kept.selected.add(name);
      else kept.selected.delete(name);
      const row = this.rows.get(name);
      if (!row) continue;
      row.classList.toggle("selected", on);
      row.querySelector("input").checked = on;
    }
    this.drawSelection();
  }

  drawSelection() {
    const selected = [...kept.selected].filter((name) => store.runs.has(name));
    this.compare.textContent = selected.length < 2 ? "Select runs to compare" : `Compare ${selected.length} runs`;
    if (selected.length < 2) this.compare.removeAttribute("href");
    else this.compare.setAttribute("href", `#/compare/${selected.join(",")}`);
    this.clear.hidden = selected.length === 0;
    this.all.checked = this.visible.length > 0 && this.visible.every((run) => kept.selected.has(run.run));
    const total = store.runs.size;
    this.counts.textContent = this.visible.length === total ? `${total} run${total === 1 ? "" : "s"}` : `${this.visible.length} of ${total} runs`;
    if (total === 0) this.counts.textContent = `There are no runs in ${store.outputs} yet; ccdni run SPEC begins one, and it appears here.`;
  }

  /** The address says what is shown, so that it can be kept and sent. */
  remember() {
    const query = new URLSearchParams();
    if (kept.filter) query.set("filter", kept.filter);
    if (kept.group) query.set("group", kept.group);
    if (kept.sort !== "created" || kept.ascending) {
      query.set("sort", kept.sort);
      query.set("ascending", String(kept.ascending));
    }
    history.replaceState(null, "", query.size > 0 ? `#/?${query}` : "#/");
  }
}

/** Validation before test, then the training loss, then scores. */
function byKind(a, b) {
  const kind = (name) => ["val_", "test_", "train_"].findIndex((kind) => name.startsWith(kind)) + 1 || 9;
  return kind(a) - kind(b) || a.localeCompare(b);
}

function groups(runs, by) {
  if (by === "") return [[null, runs]];
  const table = new Map();
  const add = (name, run) => table.set(name, [...(table.get(name) ?? []), run]);
  for (const run of runs) {
    if (by === "sweep") {
      const sweeps = store.sweeps.filter((sweep) => sweep.runs.includes(run.run));
      if (sweeps.length === 0) add("no sweep that was named to ccdni view", run);
      sweeps.forEach((sweep) => add(sweep.file, run));
    } else add(by === "state" ? state(run) : run[by] || "no name", run);
  }
  return [...table].sort((a, b) => order(a[0], b[0], true));
}

/** State and progress: a bar, and in words how many seeds are how far. */
export function stateCell(run) {
  const words = ["running", "failed", "waiting", "done", "imported"].filter((word) => count(run, word) > 0);
  const all = run.seeds.length;
  const text = words.length === 1 ? (all > 1 ? `${all} ${words[0]}` : words[0]) : words.map((word) => `${count(run, word)} ${word}`).join(", ");
  const done = progress(run);
  const failed = run.seeds.filter((seed) => seed.reason).map((seed) => `seed ${seed.seed}: ${seed.reason}`).join("\n");
  return h("span", { class: `state ${state(run)}`, title: failed || null },
    done < 1 && all > 0 ? h("progress", { max: 1, value: done, "aria-label": "epochs trained" }) : null,
    h("span", {}, text || "no seeds"), done < 1 && count(run, "running") > 0 ? h("span", { class: "faint" }, ` ${Math.floor(done * 100)} %`) : null);
}

function metricCell(metric) {
  if (!metric) return "–";
  const text = withError(metric.mean, metric.sem);
  return metric.unfinished ? h("i", { title: "of the last epoch so far" }, text) : h("span", { title: `${metric.seeds} seeds` }, text);
}
