// "Who did it": a moment on any chart, and the processes of that moment.

let moment = null;
const listeners = [];

export const currentMoment = () => moment;

export function onMoment(listener) {
  listeners.push(listener);
}

// Milliseconds, or null for now.
export function chooseMoment(ms) {
  if (ms === moment) return;
  moment = ms;
  for (const listener of listeners) listener(moment);
}
