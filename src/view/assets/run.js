// One run: state of its seeds, curves, drawings or captions, spec with origins, provenance, log, files.

import { Curves, events } from "./curves.js";
import { get, label, onChange, plot, store } from "./data.js";
import { commands, h, replace, table } from "./dom.js";
import { Drawings } from "./drawings.js";
import { bytes, number, seconds, withError } from "./format.js";
import { recordings } from "./recordings.js";
import { stateCell } from "./runs.js";

export async function runPage({ onLeave, hasLeft }, name) {
  const [details, curves] = await Promise.all([get(`/api/runs/${name}`), get(`/api/runs/${name}/curves`)]);
  const page = new RunPage(details, curves);
  onLeave(onChange((changed, gone) => {
    if (gone.has(name)) page.leaveBehind();
    else if (changed.has(name)) page.change(hasLeft);
  }));
  return { title: label(details.summary), content: page.content };
}

class RunPage {
  constructor(details, { columns, seeds }) {
    this.name = details.summary.run;
    this.all = seeds;
    this.head = h("div");
    this.results = h("section");
    this.rest = h("div");
    this.curves = new Curves(this.lines(details.summary), columns, plot([this.name]));
    this.drawings = new Drawings(this.name);
    this.recorded = h("section");
    this.content = [this.head, this.results, h("h2", {}, "Learning curves"), this.curves.element, this.drawings.element, this.recorded, this.rest];
    this.draw(details);
  }

  lines(run) {
    return [{ label: label(run), style: { color: "c1", dash: null }, events: events(run), curves: this.all }];
  }

  draw(details) {
    this.details = details;
    const run = details.summary;
    this.drawHead();
    this.drawings.set(details.units);
    const recorded = details.units.some((unit) => unit.recordings && unit.record?.state === "done");
    if (recorded && !this.recorded.hasChildNodes()) this.recorded.replaceChildren(...recordings(run.run));
    this.drawRest(details);
  }

  /** What stands below the results. Only what changed is made anew: the rest keeps focus, selection and place. */
  drawRest(details) {
    const made = [[spec, [details.spec, details.manifest?.origins]], [provenance, details.manifest], [log, details.log], [files, details.files], [({ commands: list }) => commands(list), details.commands]];
    made.forEach(([make, data], index) => {
      const key = JSON.stringify(data);
      const old = this.rest.children[index];
      if (old?.key === key) return;
      const part = make(details);
      part.key = key;
      const open = new Set([...old?.querySelectorAll("details[open]") ?? []].map((element) => element.id));
      for (const element of part.querySelectorAll("details")) element.open = open.has(element.id);
      if (old) old.replaceWith(part);
      else this.rest.append(part);
    });
  }

  /** What moves within an epoch. */
  drawHead() {
    const run = this.details.summary;
    replace(this.head,
      h("h1", {}, label(run)),
      h("p", { class: "faint" }, h("code", {}, run.run), ` · ${run.task || "unknown task"} · ${run.network} · `, stateCell(run)),
      run.problem ? h("p", { class: "notice" }, run.problem) : null,
      run.seeds.filter((seed) => seed.reason).map((seed) => h("p", { class: "notice failure" }, h("strong", {}, `Seed ${seed.seed} failed: `), seed.reason)));
    this.drawSeeds(this.details);
  }

  drawSeeds(details) {
    const run = details.summary;
    const records = new Map(details.units.map((unit) => [unit.seed, unit.record]));
    const metrics = details.units.find((unit) => unit.record?.metrics)?.record.metrics ?? [];
    const header = ["seed", "state", "epochs", "best epoch", "kept epoch", ...metrics.map((metric) => `val_${metric.name}`), ...metrics.map((metric) => `test_${metric.name}`), "time", "device", "host"];
    const rows = run.seeds.map((seed) => {
      const record = records.get(seed.seed);
      const values = (list) => metrics.map((_, index) => number(list?.[index]));
      return [String(seed.seed), h("span", { class: `state ${seed.state}`, title: seed.holder }, seed.state), epochs(seed, run),
        record?.best_epoch ? String(record.best_epoch) : "–", record?.kept_epoch ? String(record.kept_epoch) : "–",
        ...values(record?.validation), ...values(record?.test), seed.state === "running" ? this.left(seed, run) : seconds(record?.seconds), record?.device ?? "–", record?.host ?? "–"];
    });
    const means = Object.entries(run.metrics).filter(([, metric]) => !metric.unfinished)
      .map(([name, metric]) => [name, withError(metric.mean, metric.sem), String(metric.seeds)]);
    const notes = details.units.flatMap((unit) => (unit.record?.notes ?? []).map((note) => h("p", { class: "faint" }, `Seed ${unit.seed}: ${note}`)));
    replace(this.results, h("h2", {}, "Seeds"), table("Seeds", header, rows), ...notes,
      ...(means.length > 0 && run.seeds.length > 1 ? [h("p", { class: "faint" }, "Mean ± standard error over the finished seeds, of the weights that are kept:"), table("Means over seeds", ["metric", "mean", "seeds"], means)] : []));
  }

  /** How long a seed in training will take, by its last epochs. */
  left(seed, run) {
    const last = (this.all[seed.seed]?.seconds ?? []).slice(-10);
    if (last.length === 0) return "–";
    const mean = last.reduce((sum, value) => sum + value, 0) / last.length;
    return `about ${seconds(mean * Math.max(0, run.epochs - seed.epochs - seed.within))} left`;
  }

  /** The run has changed: its curves are read again, those of seeds that changed. */
  async change(hasLeft) {
    const now = store.runs.get(this.name);
    const known = ({ seeds, ...rest }) => JSON.stringify([rest, seeds.map((seed) => ({ ...seed, within: 0 }))]);
    if (known(now) === known(this.details.summary)) {
      this.details.summary = now;
      this.drawHead();
      return;
    }
    if (this.reading) {
      this.again = true;
      return;
    }
    this.reading = true;
    try {
      const details = await get(`/api/runs/${this.name}`);
      const ended = (seed) => this.ended?.has(seed.seed) && seed.state === "done";
      const moving = details.summary.seeds.filter((seed) => !ended(seed)).map((seed) => seed.seed);
      const read = moving.length > 0 ? await get(`/api/runs/${this.name}/curves?seeds=${moving.join(",")}`) : { seeds: {}, columns: [] };
      if (hasLeft()) return;
      this.ended = new Set(details.summary.seeds.filter((seed) => seed.state === "done").map((seed) => seed.seed));
      this.all = { ...this.all, ...read.seeds };
      this.curves.set(this.lines(details.summary), read.columns);
      this.draw(details);
    } catch {
      // It is being moved or deleted: the next change tells.
    } finally {
      this.reading = false;
    }
    if (this.again) {
      this.again = false;
      await this.change(hasLeft);
    }
  }

  leaveBehind() {
    this.head.prepend(h("p", { class: "notice", role: "status" }, `This run is no longer in ${store.outputs}. What was read of it is still shown.`));
  }
}

/** How far a seed is. */
function epochs(seed, run) {
  const [whole, part] = [Math.floor(seed.epochs + seed.within), (seed.epochs + seed.within) % 1];
  return `${whole} of ${run.epochs}${part >= 0.01 ? `, ${Math.floor(part * 100)} % of the next` : ""}`;
}

/** The spec, and where the values come from that differ from their defaults. */
function spec({ spec, set, manifest, summary }) {
  const origins = Object.entries(manifest?.origins ?? {});
  const value = (key) => summary.keys[key] === undefined ? "–" : String(summary.keys[key]);
  const listed = origins.length > 0
    ? table("Keys that differ from their defaults", ["key", "value", "set by"], origins.map(([key, origin]) => [h("code", {}, key), value(key), origin]))
    : h("ul", { class: "keys" }, (set ?? []).map((key) => h("li", {}, h("code", {}, key))));
  const count = origins.length || set?.length;
  return h("section", {}, h("h2", {}, "Spec"),
    count ? h("details", { id: "set" }, h("summary", {}, `${count} keys that differ from their defaults`), listed) : null,
    h("details", { id: "spec" }, h("summary", {}, "spec.yaml, with all defaults"), h("pre", { tabindex: "0", role: "region", "aria-label": "spec.yaml" }, spec)));
}

function provenance({ manifest, program }) {
  if (!manifest) return h("section", {}, h("h2", {}, "Provenance"), h("p", { class: "faint" }, "There is no readable manifest."));
  const git = manifest.git ? `${manifest.git.commit}${manifest.git.dirty ? ", with changes that were not committed" : ""}` : null;
  const pairs = (of, sign) => Object.entries(of).map(([name, value]) => h("div", {}, h("code", {}, `${name}${sign}${value}`)));
  const facts = [["created", manifest.created], ["program", program], ["git commit", git], ["host", manifest.host], ["instruction set", manifest.instruction_set],
    ["threads per seed", manifest.threads], ["environment", pairs(manifest.environment, "=")], ["data (BLAKE3)", pairs(manifest.data, ": ")], ["best seed", manifest.best_seed]];
  const there = ([, value]) => value !== null && value !== undefined && value.length !== 0;
  return h("section", {}, h("h2", {}, "Provenance"), h("dl", {}, facts.filter(there).map(([name, value]) => [h("dt", {}, name), h("dd", {}, Array.isArray(value) ? value : String(value))])));
}

function log({ log }) {
  return h("section", {}, h("h2", {}, "Log"), h("details", { id: "log" }, h("summary", {}, "log.txt"),
    h("pre", { tabindex: "0", role: "region", "aria-label": "log.txt" }, log || "empty")));
}

function files({ files, summary }) {
  const link = (path) => h("a", { href: `/files/${summary.run}/${path.split("/").map(encodeURIComponent).join("/")}`, download: "" }, path);
  return h("section", {}, h("h2", {}, "Files"), h("details", { id: "files" }, h("summary", {}, `${files.length} files`),
    table("Files", ["file", "size"], files.map(({ path, size }) => [link(path), bytes(size)]))));
}
