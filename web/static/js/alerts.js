// What is wrong now, as the server pushes it: on every page the number in the bar, and whoever else asks.

import { on } from './live.js';
import { setText } from './page.js';

// By id.
const alerts = new Map();
const listeners = [];
// Null until the server has said something.
let heard = null;

// `listener` is called with `{ alerts, available, trouble, firing, critical, left_out }`, now if that is
// known, and after each change.
export function onAlerts(listener) {
  listeners.push(listener);
  if (heard) listener(state());
}

const state = () => ({ ...heard, alerts: [...alerts.values()] });

on('alerts', (message) => {
  const { all, alerts: changed, gone, available, trouble, firing, critical, left_out } = message;
  if (all) alerts.clear();
  for (const id of gone) alerts.delete(id);
  for (const alert of changed) alerts.set(alert.id, alert);
  heard = { available, trouble, firing, critical, left_out };
  count();
  for (const listener of listeners) listener(state());
});

function count() {
  const place = document.getElementById('firing');
  if (!place) return;
  setText(place.firstElementChild, String(heard.firing));
  place.hidden = heard.firing === 0;
  place.toggleAttribute('data-critical', heard.critical > 0);
}

// Somebody wanted to be told even when nobody looks.
import('./notify.js').then(({ resume }) => resume(), () => {});
