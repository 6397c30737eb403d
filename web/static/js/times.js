// Keeps every "2 min ago" on the page true, and every exact time in the viewer's zone.

import { ago, exactTime, time } from './format.js';
import { setText } from './page.js';

let offset = 0;

// The server's clock, as well as it is known.
export const serverNow = () => Date.now() + offset;

export function heardServerClock(now) {
  offset = now - Date.now();
}

export function refreshTimes(root = document) {
  const now = serverNow();
  for (const element of root.querySelectorAll('time[data-ago]')) {
    const ms = Number(element.dataset.ago);
    setText(element, ago(now, ms));
    setTitle(element, exactTime(ms));
  }
  for (const element of root.querySelectorAll('time[data-exact]')) {
    const ms = Number(element.dataset.exact);
    setText(element, time(ms, now));
    setTitle(element, exactTime(ms));
  }
  // A length of time whose end is worth knowing.
  for (const element of root.querySelectorAll('time[data-until]')) {
    setTitle(element, `until ${exactTime(Number(element.dataset.until))}`);
  }
}

function setTitle(element, title) {
  if (element.title !== title) element.title = title;
}

setInterval(() => document.hidden || refreshTimes(), 5000);
document.addEventListener('visibilitychange', () => document.hidden || refreshTimes());
document.addEventListener('htmx:after:swap', () => refreshTimes());
refreshTimes();
