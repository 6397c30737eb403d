// Machines in groups: by a label or by their status, each under a heading of its own.

import { percent } from './format.js';
import { setText } from './page.js';

// What a row belongs under; nothing comes last.
export function groupOf(row, group) {
  if (group === 'status') return row.element.dataset.status;
  const key = `${group}=`;
  return row.grouping.get(key) ?? '';
}

export const byGroup = (a, b) => (a === '') - (b === '') || a.localeCompare(b, 'en', { numeric: true });

export function headings(body) {
  return new Map([...body.querySelectorAll('tr.group')].map((heading) => [heading.dataset.group, heading]));
}

// Counts and means of what is shown, in the headings. `values` has the latest of each machine.
export function summarise(body, rows, group, values) {
  const sums = new Map();
  for (const row of rows) {
    if (row.element.hidden) continue;
    const name = groupOf(row, group);
    const sum = sums.get(name) ?? { machines: 0, cpu: 0, heard: 0 };
    sums.set(name, sum);
    sum.machines += 1;
    const latest = values.get(row.id);
    const heard = latest && (latest.status === 'online' || latest.status === 'stale') && latest.cpu != null;
    if (heard) [sum.cpu, sum.heard] = [sum.cpu + latest.cpu, sum.heard + 1];
  }
  for (const [name, heading] of headings(body)) {
    const sum = sums.get(name);
    heading.hidden = sum === undefined;
    if (!sum) continue;
    setText(heading.querySelector('[data-count]'), `${sum.machines} ${sum.machines === 1 ? 'machine' : 'machines'}`);
    if (sum.heard > 0) setText(heading.querySelector('[data-mean]'), `CPU ${percent(sum.cpu / sum.heard)}`);
  }
}
