// Numbers and times for people, by the same rules as `format.rs` on the server.

export const ABSENT = '–';

const finite = Number.isFinite;

export function percent(ratio) {
  if (!finite(ratio)) return ABSENT;
  const value = ratio * 100;
  return `${value.toFixed(Math.abs(value) < 9.95 ? 1 : 0)} %`;
}

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB', 'EiB'];

export function bytes(value) {
  if (!finite(value)) return ABSENT;
  let unit = 0;
  while (Math.abs(value) >= 999.5 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${value.toFixed(unit === 0 || Math.abs(value) >= 99.95 ? 0 : 1)} ${UNITS[unit]}`;
}

export const bytesRate = (value) => (finite(value) ? `${bytes(value)}/s` : ABSENT);

// Made once: `toLocaleString` makes one for each number.
const whole = new Intl.NumberFormat('en');

export function number(value) {
  if (!finite(value)) return ABSENT;
  const size = Math.abs(value);
  if (Number.isInteger(value) || size >= 100) return whole.format(Math.round(value)).replace('-', '−');
  return value.toFixed(size >= 10 ? 1 : 2);
}

export const celsius = (value) => (finite(value) ? `${value.toFixed(0)} °C` : ABSENT);

export function duration(seconds) {
  if (!finite(seconds)) return ABSENT;
  const sign = seconds < 0 ? '−' : '';
  const size = Math.abs(seconds);
  if (size === 0) return '0 s';
  if (size < 0.9995) return `${sign}${(size * 1000).toFixed(0)} ms`;
  const whole = Math.round(size);
  const units = [[86400, 'd'], [3600, 'h'], [60, 'min'], [1, 's']];
  const first = units.findIndex(([length]) => whole >= length);
  const [length, unit] = units[first];
  let text = `${sign}${Math.floor(whole / length)} ${unit}`;
  if (first + 1 < units.length) {
    const [small, name] = units[first + 1];
    const rest = Math.floor((whole % length) / small);
    if (rest > 0) text += ` ${rest} ${name}`;
  }
  return text;
}

export function ago(now, then) {
  const seconds = Math.trunc((now - then) / 1000);
  const size = Math.abs(seconds);
  if (size < 3) return 'just now';
  let length;
  if (size < 90) length = `${size} s`;
  else if (size < 90 * 60) length = `${Math.floor((size + 30) / 60)} min`;
  else if (size < 36 * 3600) length = `${Math.floor((size + 1800) / 3600)} h`;
  else length = `${Math.floor((size + 43200) / 86400)} d`;
  return seconds > 0 ? `${length} ago` : `in ${length}`;
}

// Writers of a chart's values, by the unit that the chart names.
export const byUnit = {
  ratio: percent,
  bytes,
  'bytes/s': bytesRate,
  celsius,
  number,
  cpus: number,
  'number/s': (value) => (finite(value) ? `${number(value)}/s` : ABSENT),
};

const clock = new Intl.DateTimeFormat(undefined, { timeStyle: 'medium', hourCycle: 'h23' });
const dayAndClock = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeStyle: 'medium', hourCycle: 'h23' });
const withZone = new Intl.DateTimeFormat(undefined, { dateStyle: 'full', timeStyle: 'long', hourCycle: 'h23' });

// In the viewer's zone.
export function time(ms, now = Date.now()) {
  return Math.abs(now - ms) < 18 * 3600e3 ? clock.format(ms) : dayAndClock.format(ms);
}
export const exactTime = (ms) => withZone.format(ms);
