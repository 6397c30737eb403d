// What is wrong now, beside the machines that it is wrong with. `pages/badge.rs` follows the same rules.

import { onAlerts } from './alerts.js';
import { url } from './page.js';

const SHOWN = 2;

let byMachine = null;

// `changed` is called whenever badges may be others.
export function watchAlerts(changed) {
  onAlerts(({ alerts }) => {
    byMachine = new Map();
    for (const alert of alerts) {
      if (alert.phase !== 'firing' || alert.silenced) continue;
      byMachine.set(alert.machine, [...(byMachine.get(alert.machine) ?? []), alert]);
    }
    changed();
  });
}

// The badges of one machine, into the place that its row has for them. Critical ones come first.
export function writeBadges(place, machine) {
  // What the page came with stays until something newer is known.
  if (!byMachine) return;
  const byRule = new Map();
  for (const alert of byMachine.get(machine) ?? []) {
    const known = byRule.get(alert.rule);
    if (!known || alert.level < known.level) byRule.set(alert.rule, alert);
  }
  const order = (a, b) => a.level.localeCompare(b.level) || a.rule.localeCompare(b.rule);
  const mine = [...byRule.values()].sort(order);
  const key = mine.map((alert) => alert.id + alert.level + alert.acknowledged_by + alert.summary).join(' ');
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
