// The runs, as the server has them: read once, then changed by its events.

/** The runs by name, and what belongs to all of them. */
export const store = { version: 0, runs: new Map(), differing: [], sweeps: [], commands: [], outputs: "", flag: "", ready: false };

const listeners = new Set();

/** Calls `listener(changed, gone)` with names of runs after every change, until the returned function is called. */
export function onChange(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** JSON of an address; an error says why there is none. */
export async function get(path) {
  const response = await fetch(path);
  const body = await response.json().catch(() => ({ error: `${response.status} ${response.statusText}` }));
  if (!response.ok) throw new Error(body.error ?? response.statusText);
  return body;
}

/** Reads all runs. */
export async function load() {
  const all = await get("/api/runs");
  store.runs = new Map(all.runs.map((run) => [run.run, run]));
  Object.assign(store, { version: all.version, differing: all.differing, sweeps: all.sweeps, commands: all.commands, outputs: all.outputs, flag: all.flag, ready: true });
}

/** Follows the changes; `said` is called with the state of the connection. */
export function follow(said) {
  const source = new EventSource(`/api/events?after=${store.version}`);
  source.onopen = () => said(true);
  source.onmessage = async (event) => {
    const change = JSON.parse(event.data);
    const fresh = change.runs.some((run) => !store.runs.has(run.run)) || change.gone.length > 0;
    for (const run of change.runs) store.runs.set(run.run, run);
    for (const name of change.gone) store.runs.delete(name);
    store.version = change.version;
    // Which keys differ depends on all runs.
    if (fresh) await load().catch(() => {});
    tell(change.runs.map((run) => run.run), change.gone);
  };
  source.onerror = () => {
    source.close();
    said(false);
    const again = () => load().then(() => {
      tell([...store.runs.keys()], []);
      follow(said);
    }, () => setTimeout(again, 2000));
    setTimeout(again, 1000);
  };
}

function tell(changed, gone) {
  for (const listener of [...listeners]) listener(new Set(changed), new Set(gone));
}

/** The number of seeds with a state. */
export function count(run, state) {
  return run.seeds.filter((seed) => seed.state === state).length;
}

/** The state of a run in a word: that of its most notable seed. */
export function state(run) {
  if (run.problem && run.seeds.length === 0) return "damaged";
  for (const word of ["running", "failed", "waiting", "done", "imported"]) if (count(run, word) > 0) return word;
  return "waiting";
}

/** The share of epochs that are trained, 0 to 1. */
export function progress(run) {
  if (run.seeds.length === 0) return 0;
  const share = (seed) => seed.state === "done" || seed.state === "imported" ? 1 : run.epochs > 0 ? Math.min(1, (seed.epochs + seed.within) / run.epochs) : 0;
  return run.seeds.reduce((sum, seed) => sum + share(seed), 0) / run.seeds.length;
}

/** The label of a run. */
export function label(run) {
  return run.name ?? run.run;
}

/** The command that draws a column of runs. */
export function plot(runs) {
  return (name, { log }) => `ccdni plot ${runs.join(" ")} --metric ${name}${log ? " --log" : ""}${store.flag}`;
}
