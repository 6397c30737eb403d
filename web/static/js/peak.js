// The moment that a click on a chart of the past means. A pixel of a day is more than a minute, and a point
// stands for minutes: who clicks a spike means its highest seconds.

import { PEAK } from './chart.js';
import { json, url } from './page.js';
import { niceStep } from './series.js';

// So far from the hand, in pixels, a spike is still meant, if it is so many times as high.
const REACH = 6;
const HIGHER = 1.1;
// Processes are reported this often, each time of the seconds since the last report.
const REPORT_MS = 5000;
const FINE_MS = 1000;
const WINDOWS = 300;
// What is at least so much of the highest belongs to it.
const TOP = 0.9;

// Milliseconds; the clicked ones where nothing finer is known.
export async function peakNear(chart, ms, machine) {
  const { x } = chart.values;
  const step = x.length > 1 ? (x[1] - x[0]) * 1000 : 0;
  if (step <= REPORT_MS) return ms;
  const from = x[meant(chart, ms, step)] * 1000;
  const params = { metric: chart.metrics[0], machine, start: from, end: from + step };
  const address = url('api/v1/query_range', { ...params, step: `${Math.max(FINE_MS, niceStep(step / WINDOWS))}ms` });
  for (const condition of chart.only) address.searchParams.append('label', condition.includes('=') ? condition : `${condition}!=`);
  try {
    const { start_ms: start, step_ms: fine, series } = await json(address);
    const sums = series[0].values.map((_, i) => sum(series.map((one) => one.values[i])));
    return reported(sums, start, fine);
  } catch {
    return ms;
  }
}

// When what was at its highest had been reported: at the end of a long stretch, and after a short one.
function reported(sums, start, fine) {
  const first = highest(sums);
  let end = first + 1;
  while (sums[end] >= sums[first] * TOP) end += 1;
  return start + end * fine + ((end - first) * fine < 2 * REPORT_MS ? REPORT_MS : 0);
}

// The point under the hand, or a spike beside it.
function meant(chart, ms, step) {
  const { x } = chart.values;
  const [from, to] = chart.page.bounds();
  const reach = (REACH / chart.plot.over.clientWidth) * (to - from);
  const far = x.map((seconds) => Math.abs(seconds * 1000 + step / 2 - ms));
  const under = highest(far.map((distance) => -distance));
  const near = highest(far.map((distance, i) => (distance <= reach ? sizeAt(chart, i) : null)));
  return sizeAt(chart, near) > sizeAt(chart, under) * HIGHER ? near : under;
}

// How high the chart is at this point.
function sizeAt({ series, values }, i) {
  const peak = series.findIndex((one) => one.name === PEAK);
  if (peak >= 0) return values.ys[peak][i] ?? null;
  return sum(series.map((one, s) => (one.reference ? null : (one.max?.[i] ?? values.ys[s][i]))));
}

function sum(values) {
  const known = values.filter((value) => value != null);
  return known.length === 0 ? null : known.reduce((all, value) => all + Math.abs(value), 0);
}

// Where the largest of these is.
function highest(values) {
  return values.reduce((best, value, i) => (value != null && (values[best] == null || value > values[best]) ? i : best), 0);
}
