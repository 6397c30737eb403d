// What is wrong now, beside the machines that it is wrong with.

import { json, url } from './page.js';

const EVERY = 5000;
const SHOWN = 2;

let alerts = new Map();
let told = () => {};

// Asks now and then as long as there is an alert service; `changed` is called after each answer.
export function watchAlerts(changed) {
  told = changed;
  let pause = EVERY;
  let asked = -Infinity;
  const ask = async () => {
    asked = performance.now();
    const answer = await json(url('api/v1/alerts'));
    pause = answer.available ? EVERY : 12 * EVERY;
    alerts = new Map();
    for (const alert of answer.alerts) {
      if (alert.phase !== 'firing' || alert.silenced) continue;
      alerts.set(alert.machine, [...(alerts.get(alert.machine) ?? []), alert]);
    }
    told();
  };
  const again = () => document.hidden || performance.now() - asked < pause || ask().catch(() => {});
  setInterval(again, 1000);
  again();
}

// The badges of one machine, into the place that its row has for them. Critical ones come first.
export function writeBadges(place, machine) {
  const byRule = new Map();
  for (const alert of alerts.get(machine) ?? []) {
    const known = byRule.get(alert.rule);
    if (!known || alert.level < known.level) byRule.set(alert.rule, alert);
  }
  const order = (a, b) => a.level.localeCompare(b.level) || a.rule.localeCompare(b.rule);
  const mine = [...byRule.values()].sort(order);
  const key = mine.map((alert) => alert.id + alert.level + alert.acknowledged_by).join(' ');
  if (place.dataset.key === key) return;
  place.dataset.key = key;
  const badges = mine.slice(0, SHOWN).map((alert) => {
    const badge = document.createElement('a');
    badge.href = url('alerts');
    badge.className = `badge ${alert.level}`;
    badge.title = alert.summary + (alert.acknowledged_by ? ` (${alert.acknowledged_by} is on it)` : '');
    badge.textContent = alert.rule;
    return badge;
  });
  if (mine.length > SHOWN) badges.push(`+${mine.length - SHOWN}`);
  place.replaceChildren(...badges);
}
