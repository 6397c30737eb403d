// The colours of the style sheet, for canvases. Read again when the scheme changes.

let read = new Map();

export function colour(name) {
  if (!read.has(name)) read.set(name, getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim());
  return read.get(name);
}

// What a name means is the same everywhere; other series take the palette in their order.
const MEANING = {
  user: 's0', system: 's1', nice: 's4', iowait: 's3', steal: 's7', softirq: 's6', irq: 's5', interrupt: 's5',
  used: 'memory', cached: 's4', buffers: 's5', free: 'track',
};
export const PALETTE = 8;

export const seriesColour = (name, index) => colour(MEANING[name] ?? `s${index % PALETTE}`);

// A colour as seen through: for areas.
export function faint(css, share) {
  return `color-mix(in srgb, ${css} ${Math.round(share * 100)}%, transparent)`;
}

export function onColoursChanged(listener) {
  const changed = () => {
    read = new Map();
    listener();
  };
  for (const query of ['(prefers-color-scheme: dark)', '(prefers-contrast: more)', '(forced-colors: active)']) {
    matchMedia(query).addEventListener('change', changed);
  }
  document.addEventListener('muster:theme', changed);
}
