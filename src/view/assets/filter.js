// Which runs are shown: words and comparisons, all of which must hold.

const COMPARISON = /^([\w.]+)(<=|>=|!=|=|<|>)(.*)$/;

/** What a run has under a name: a spec key or its end, a metric, or what every run has. */
export function lookup(run, name) {
  if (["name", "task", "run", "network", "created", "epochs"].includes(name)) return run[name];
  if (name in run.keys) return run.keys[name];
  if (name in run.metrics) return run.metrics[name].mean;
  const keys = Object.keys(run.keys).filter((key) => key.endsWith(`.${name}`));
  // `hidden` is that of a layer, not of its synthesizer.
  const key = keys.reduce((best, key) => best === undefined || key.split(".").length < best.split(".").length ? key : best, undefined);
  return key === undefined ? undefined : run.keys[key];
}

/** A test of runs for a text such as `ccRNN bptt=1 val_mse<0.1`; `stateOf` gives a run's state. */
export function filter(text, stateOf) {
  const tests = text.trim().split(/\s+/).filter((word) => word !== "").map((word) => test(word, stateOf));
  return (run) => tests.every((holds) => holds(run));
}

function test(word, stateOf) {
  const parts = COMPARISON.exec(word);
  if (parts === null) {
    const wanted = word.toLowerCase();
    return (run) => [run.run, run.name ?? "", run.task, run.network, stateOf(run)].some((text) => text.toLowerCase().includes(wanted));
  }
  const [, name, sign, wanted] = parts;
  return (run) => {
    const found = name === "state" ? stateOf(run) : lookup(run, name);
    return compare(found === undefined || found === null ? "" : found, sign, wanted);
  };
}

function compare(found, sign, wanted) {
  const [a, b] = [Number(found), Number(wanted)];
  const numeric = found !== "" && wanted !== "" && !Number.isNaN(a) && !Number.isNaN(b);
  switch (sign) {
    case "=": return numeric ? a === b : String(found).toLowerCase() === wanted.toLowerCase();
    case "!=": return numeric ? a !== b : String(found).toLowerCase() !== wanted.toLowerCase();
    case "<": return numeric && a < b;
    case ">": return numeric && a > b;
    case "<=": return numeric && a <= b;
    default: return numeric && a >= b;
  }
}

/** An order of values: numbers by size, texts by letters, nothing last. */
export function order(a, b, ascending) {
  const missing = (value) => value === undefined || value === null || Number.isNaN(value);
  if (missing(a) || missing(b)) return Number(missing(a)) - Number(missing(b));
  const sign = ascending ? 1 : -1;
  if (typeof a === "number" && typeof b === "number") return sign * (a - b);
  return sign * String(a).localeCompare(String(b), "en", { numeric: true });
}

/** A text as a number, if it is one. */
export function numeric(text) {
  return text !== "" && !Number.isNaN(Number(text)) ? Number(text) : text;
}
