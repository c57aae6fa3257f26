// Numbers, times and sizes as text.

/** A number with four significant digits; a dash for none. */
export function number(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (value === 0) return "0";
  const size = Math.abs(value);
  const text = size >= 1e-3 && size < 1e5 ? shortened(value.toPrecision(4)) : value.toExponential(2);
  return text.replace("-", "−");
}

function shortened(text) {
  return text.includes("e") ? String(Number(text)) : text;
}

/** Mean and standard error. */
export function withError(mean, error) {
  return error === null || error === undefined ? number(mean) : `${number(mean)} ± ${number(error)}`;
}

/** A label of an axis. */
export function tick(value) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  const text = size >= 1e-4 && size < 1e5 ? String(Number(value.toPrecision(6))) : Number(value.toPrecision(6)).toExponential().replace("e+", "e");
  return text.replace("-", "−");
}

/** Seconds as `12.3 s`, `4 m 05 s` or `2 h 03 m`. */
export function seconds(value) {
  if (value === null || value === undefined) return "–";
  if (value < 1) return `${Math.round(value * 1e3)} ms`;
  if (value < 60) return `${value.toFixed(1)} s`;
  const pad = (part) => String(Math.floor(part)).padStart(2, "0");
  return value < 3600 ? `${Math.floor(value / 60)} m ${pad(value % 60)} s` : `${Math.floor(value / 3600)} h ${pad(value / 60 % 60)} m`;
}

/** Bytes as `12 kB`. */
export function bytes(value) {
  if (value < 1000) return `${value} B`;
  if (value < 1e6) return `${(value / 1e3).toFixed(1)} kB`;
  return value < 1e9 ? `${(value / 1e6).toFixed(1)} MB` : `${(value / 1e9).toFixed(2)} GB`;
}

/** A key without what all keys begin with. */
export function shortKey(key, keys) {
  const parts = key.split(".");
  for (let from = parts.length - 1; from > 0; from -= 1) {
    const end = parts.slice(from).join(".");
    if (/^\d/.test(end)) continue;
    if (keys.filter((other) => other === end || other.endsWith(`.${end}`)).length <= 1) return end;
  }
  return key;
}

/** The value of a key as text. */
export function value(of) {
  return of === undefined || of === null ? "–" : typeof of === "boolean" ? (of ? "yes" : "no") : String(of);
}
