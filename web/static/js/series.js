// From tracks to what a chart draws. Pure: no page, no clock.

// Whether a track fits the conditions of a chart: `label`, `label=value`, `label!=value`.
export function fits(track, only) {
  return only.every((condition) => {
    const [, name, sign, value] = condition.match(/^(.+?)(?:(!?=)(.*))?$/);
    const found = track.labels[name] ?? '';
    if (sign === '=') return found === value;
    if (sign === '!=') return found !== value;
    return found !== '';
  });
}

// Increase per second. A counter that shrank started again from zero; nothing is known across a gap.
export function rates({ t, v }, gap) {
  const out = new Array(v.length).fill(null);
  for (let i = 1; i < v.length; i += 1) {
    const seconds = (t[i] - t[i - 1]) / 1000;
    if (v[i] === null || v[i - 1] === null || seconds <= 0 || t[i] - t[i - 1] > gap) continue;
    out[i] = (v[i] >= v[i - 1] ? v[i] - v[i - 1] : v[i]) / seconds;
  }
  return out;
}

// Silence longer than this is a gap: two and a half times the usual pace.
export function gapOf(t) {
  if (t.length < 3) return Infinity;
  const steps = [];
  for (let i = Math.max(1, t.length - 40); i < t.length; i += 1) steps.push(t[i] - t[i - 1]);
  steps.sort((a, b) => a - b);
  return steps[steps.length >> 1] * 2.5 + 50;
}

// History has one value for each step, also of a series that is read less often. What is missing only
// because of that is `undefined`; a longer silence stays a null, which is a gap.
export function bridge(v) {
  const places = [];
  v.forEach((value, i) => value !== null && places.push(i));
  if (places.length < 2 || places.length === v.length) return v;
  const steps = places.slice(1).map((place, i) => place - places[i]).sort((a, b) => a - b);
  const usual = steps[steps.length >> 1] * 2.5;
  const out = v.slice();
  for (let i = 1; i < places.length; i += 1) {
    if (places[i] - places[i - 1] > usual) continue;
    out.fill(undefined, places[i - 1] + 1, places[i]);
  }
  return out;
}

// One time axis in seconds for all, with a null where a series was silent. Where another series simply
// was not read at that instant it is `undefined`, which a chart draws across.
export function align(tracks) {
  const sameTimes = tracks.every(
    ({ t }) => t.length === tracks[0].t.length && t[0] === tracks[0].t[0] && t.at(-1) === tracks[0].t.at(-1),
  );
  let times = tracks[0]?.t ?? [];
  let columns = tracks.map((track) => track.v);
  if (!sameTimes) {
    times = [...new Set(tracks.flatMap((track) => track.t))].sort((a, b) => a - b);
    const place = new Map(times.map((time, i) => [time, i]));
    columns = tracks.map((track) => {
      const column = new Array(times.length).fill(undefined);
      track.t.forEach((time, i) => (column[place.get(time)] = track.v[i]));
      return column;
    });
  }
  const gap = Math.max(0, ...tracks.map((track) => track.gap ?? 0)) || Infinity;
  const x = [];
  const ys = columns.map(() => []);
  times.forEach((time, i) => {
    if (i > 0 && time - times[i - 1] > gap) {
      x.push((times[i - 1] + 1) / 1000);
      for (const y of ys) y.push(null);
    }
    x.push(time / 1000);
    columns.forEach((column, s) => ys[s].push(column[i]));
  });
  return { x, ys };
}

// Each on top of those before it. Where one has no value, the ones below still stand.
export function stack(ys) {
  const sums = new Array(ys[0]?.length ?? 0).fill(0);
  return ys.map((y) =>
    y.map((value, i) => {
      if (value === null || value === undefined) return value === undefined ? undefined : null;
      sums[i] += value;
      return sums[i];
    }),
  );
}

const WORDS = {
  'system.cpu.load_average.1m': '1 min',
  'system.cpu.load_average.5m': '5 min',
  'system.cpu.load_average.15m': '15 min',
  'system.cpu.logical.count': 'CPUs',
  'system.network.errors': 'errors',
  'system.network.packet.dropped': 'drops',
  'system.memory.limit': 'installed',
};

// What tells a series from its neighbours, in few words.
export function nameOf(track, by, metrics) {
  const labels = [...new Set(by.map((name) => track.labels[name]).filter(Boolean))];
  const word = WORDS[track.metric];
  if (labels.length === 0) return word ?? track.metric;
  return metrics > 1 && word ? `${labels.join(' ')} ${word}` : labels.join(' ');
}

// Names in the order that the chart asks for, then by number and letter.
export function byName(order) {
  const place = (name) => (order.includes(name) ? order.indexOf(name) : order.length);
  return (a, b) => place(a.name) - place(b.name) || a.name.localeCompare(b.name, 'en', { numeric: true });
}

// A step that people can count in, at least this long.
const STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400];
export const niceStep = (ms) => (STEPS.find((seconds) => seconds * 1000 >= ms) ?? 86400) * 1000;
