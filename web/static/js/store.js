// The last minutes of every series of the machine, as they arrive.

const KEEP_MS = 5 * 60 * 1000 + 15000;

const keyOf = (metric, labels) => {
  const names = Object.keys(labels).sort();
  return metric + names.map((name) => `\u0000${name}\u0001${labels[name]}`).join('');
};

// Puts what came late where it belongs.
function insert({ t, v, late }, time, value) {
  let place = t.length;
  while (place > 0 && t[place - 1] > time) place -= 1;
  if (t[place - 1] === time) return;
  t.splice(place, 0, time);
  v.splice(place, 0, value);
  late.push(time);
}

export class Store {
  constructor() {
    // By key: { metric, labels, counter, t: [ms], v: [number | null], late: [ms] }; `late` are those of the
    // times whose values came after newer ones.
    this.tracks = new Map();
    this.layouts = new Map();
    this.latest = 0;
  }

  // The past, by series. What arrived meanwhile and is newer stays.
  load(window) {
    for (const group of window.groups) {
      for (const series of group.series) {
        const track = this.track(series);
        const last = group.times.at(-1) ?? 0;
        const newer = track.t.findIndex((time) => time > last);
        const keepFrom = newer < 0 ? track.t.length : newer;
        // A series may be in several layouts, one after the other.
        const first = group.times[0] ?? 0;
        const older = track.t.findIndex((time) => time >= first);
        const keepTo = older < 0 ? track.t.length : older;
        track.t = [...track.t.slice(0, keepTo), ...group.times, ...track.t.slice(keepFrom)];
        track.v = [...track.v.slice(0, keepTo), ...series.values, ...track.v.slice(keepFrom)];
        track.late = [...new Set([...track.late, ...(group.late ?? [])])].sort((a, b) => a - b);
      }
      this.latest = Math.max(this.latest, group.times.at(-1) ?? 0);
    }
  }

  layout(message) {
    this.layouts.set(message.layout, message.series.map((series) => this.track(series)));
  }

  frames(message) {
    for (const [time, layout, values] of message.frames) {
      const tracks = this.layouts.get(layout);
      if (!tracks) continue;
      for (let i = 0; i < values.length; i += 1) {
        const track = tracks[i];
        if (time <= (track.t.at(-1) ?? 0)) {
          if (message.late) insert(track, time, values[i]);
          continue;
        }
        track.t.push(time);
        track.v.push(values[i]);
        // In steps: to move an array by one each second is work for nothing.
        if (track.t.length > 64 && track.t[32] < time - KEEP_MS) {
          track.t.splice(0, 32);
          track.v.splice(0, 32);
          track.late = track.late.filter((late) => late >= track.t[0]);
        }
      }
      this.latest = Math.max(this.latest, time);
    }
  }

  track({ metric, labels, counter }) {
    const key = keyOf(metric, labels);
    let track = this.tracks.get(key);
    if (!track) {
      track = { key, metric, labels, counter, t: [], v: [], late: [] };
      this.tracks.set(key, track);
    }
    return track;
  }

  // When the latest value of any of these metrics was read.
  newest(metrics) {
    let newest = 0;
    for (const track of this.tracks.values()) if (metrics.includes(track.metric)) newest = Math.max(newest, track.t.at(-1) ?? 0);
    return newest;
  }

  // When the values that are kept begin.
  earliest() {
    let first = Infinity;
    for (const track of this.tracks.values()) first = Math.min(first, track.t[0] ?? Infinity);
    return first;
  }

  // Those of these metrics that have a value within the window.
  of(metrics) {
    const since = this.latest - KEEP_MS;
    return [...this.tracks.values()].filter((track) => metrics.includes(track.metric) && (track.t.at(-1) ?? 0) > since);
  }
}
