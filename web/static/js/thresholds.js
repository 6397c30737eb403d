// From where on a rule would fire: dashed lines on the charts. Loaded once the charts are filled.

import { colour } from './colours.js';
import { json, url } from './page.js';

const LEVELS = [['warning', 'warn'], ['critical', 'bad']];

// Draws what is known on every chart of these, and asks again now and then. `latest(metric)` returns the
// latest value of a metric that others are divided by.
export function showThresholds(charts, machine, latest) {
  const load = async () => {
    const { thresholds } = await json(url(`api/v1/machines/${machine}/thresholds`));
    for (const chart of charts) {
      chart.thresholds = thresholds.filter((one) => concerns(one, chart));
      chart.plot?.redraw(false);
    }
  };
  const again = () => document.hidden || load().catch(() => {});
  for (const chart of charts) chart.over.push((plot) => draw(plot, chart, latest));
  setInterval(again, 60000);
  again();
}

// A line must be of what the chart draws: not of one part of a stack, and not of one direction of two.
function concerns({ metric, labels }, chart) {
  if (!chart.metrics.includes(metric) || chart.draw === 'heat' || chart.draw === 'mirror') return false;
  const picks = Object.entries(labels).filter(([, value]) => value !== '');
  return chart.draw !== 'stack' || picks.length === 0;
}

function draw(plot, chart, latest) {
  const { ctx, bbox } = plot;
  ctx.save();
  ctx.font = `${10 * devicePixelRatio}px system-ui, sans-serif`;
  ctx.textAlign = 'right';
  for (const { rule, divide_by: divisor, below, ...levels } of chart.thresholds ?? []) {
    const times = divisor ? latest(divisor) : 1;
    for (const [level, css] of LEVELS) {
      if (levels[level] == null || times == null) continue;
      const value = levels[level] * times;
      const { min, max } = plot.scales.y;
      // The data decide how high a chart is; what is far above them is no news.
      if (!(value > min && value < max)) continue;
      const y = Math.round(plot.valToPos(value, 'y', true)) + 0.5;
      ctx.strokeStyle = colour(css);
      ctx.fillStyle = colour(css);
      ctx.lineWidth = devicePixelRatio;
      ctx.setLineDash([6 * devicePixelRatio, 4 * devicePixelRatio]);
      ctx.beginPath();
      ctx.moveTo(bbox.left, y);
      ctx.lineTo(bbox.left + bbox.width, y);
      ctx.stroke();
      const text = `${rule} ${below ? '<' : '>'} ${chart.write(value)}`;
      ctx.fillText(text, bbox.left + bbox.width - 4 * devicePixelRatio, y - 3 * devicePixelRatio);
    }
  }
  ctx.restore();
}
