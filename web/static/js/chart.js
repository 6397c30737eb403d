// One chart: a figure of the page that says what it shows, and the uPlot that draws it.

import { axes } from './axes.js';
import { PALETTE, colour, faint, seriesColour } from './colours.js';
import { byUnit } from './format.js';
import { drawHeat } from './heat.js';
import { drawLate, lateStretches } from './late.js';
import { setText } from './page.js';
import { align, bridge, byName, fits, gapOf, nameOf, rates, stack } from './series.js';

const SERIES_MAX = 24;
// Rows of a heat map may be as thin as a pixel.
const ROWS_MAX = 256;
const BAND_SERIES_MAX = 4;
// Beyond the palette, lines of one colour differ by their dashes.
const DASHES = [undefined, [7, 3], [2, 3]];
// Lines that are not data of their own but what the data are measured against.
const REFERENCES = ['system.cpu.logical.count', 'system.memory.limit'];

export const PEAK = 'peak';

const words = (text) => text.split(' ').filter(Boolean);

export class Chart {
  // `page` knows the range and takes what the viewer does: `bounds()`, `zoom(from, to)`, `pick(ms, chart)`.
  constructor(figure, page) {
    const { chart, title, draw, unit, metrics, by, only, below, sides, peak, order, full } = figure.dataset;
    Object.assign(this, { figure, page, id: chart, title, draw, unit, full: Number(full) });
    this.metrics = words(metrics);
    this.by = words(by);
    this.only = words(only);
    this.peak = words(peak ?? '');
    this.order = words(order);
    this.below = below ? [below] : null;
    this.sides = below ? sides.split(' ') : null;
    this.plotElement = figure.querySelector('.plot');
    this.legend = figure.querySelector('.legend');
    this.names = Number(figure.dataset.names) || 14;
    this.write = byUnit[unit] ?? byUnit.number;
    this.visible = false;
    this.off = new Set();
    this.plot = null;
    this.drawn = [];
    this.marker = null;
    // Drawn on top, each with the plot.
    this.over = [];
    figure.chart = this;
  }

  // Takes tracks and draws them. `live` tracks carry raw counters, history has rates already.
  show(tracks, live) {
    const series = this.prepare(tracks, live);
    if (series.length === 0) return false;
    const shape = series.map((one) => one.key).join('\n') + (live ? 'live' : 'past');
    const shown = series.filter((one) => !this.off.has(one.name));
    this.late = live ? lateStretches(series) : [];
    const { x, ys } = align(shown.length ? shown : series.slice(0, 1));
    this.values = { x, ys: shown.length ? ys : [ys[0].map(() => null)] };
    this.series = shown.length ? shown : series.slice(0, 1);
    const columns = this.columns();
    const key = shape + [...this.off].join('\n') + (this.late.length > 0 ? 'late' : '');
    if (!this.plot || this.shape !== key) this.build(columns, series);
    else this.plot.setData(columns, true);
    this.shape = key;
    this.figure.dataset.points = String(x.length);
    this.figure.dataset.latest = String(Math.round((x.at(-1) ?? 0) * 1000));
    this.writeLegend();
    return true;
  }

  prepare(tracks, live) {
    let series = tracks
      .filter((track) => REFERENCES.includes(track.metric) || fits(track, this.only))
      .map((track) => {
        const gap = gapOf(track.t);
        const below = this.below !== null && fits(track, this.below);
        let v = live && track.counter ? rates(track, gap) : live ? track.v : bridge(track.v);
        if (below) v = v.map((value) => (value == null ? value : -value));
        const name = nameOf(track, this.by, this.metrics.length);
        const reference = REFERENCES.includes(track.metric);
        return { ...track, v, gap: live ? gap : Infinity, name, below, reference };
      });
    const peak = live ? null : this.peakOf(tracks);
    if (peak) series.push(peak);
    series.sort(byName(this.order));
    // A device that never did anything says nothing, as long as another one does.
    if (this.draw === 'mirror' || this.unit === 'number/s') {
      const busy = new Set(series.filter((one) => one.v.some((value) => value)).map((one) => one.name));
      if (busy.size > 0 || this.unit === 'number/s') series = series.filter((one) => busy.has(one.name));
    }
    if (!series.some((one) => !one.reference)) return [];
    const most = this.draw === 'heat' ? ROWS_MAX : SERIES_MAX;
    if (series.length > most) {
      const size = (one) => one.v.reduce((sum, value) => sum + Math.abs(value ?? 0), 0);
      const largest = new Set([...series].sort((a, b) => size(b) - size(a)).slice(0, most));
      this.left = series.length - most;
      series = series.filter((one) => largest.has(one));
    } else {
      this.left = 0;
    }
    // Both directions of an interface have one colour.
    const names = [...new Set(series.filter((one) => !one.reference).map((one) => one.name))];
    for (const one of series) {
      const place = names.indexOf(one.name);
      one.colour = one.solid ? colour('soft') : one.reference ? colour('faint') : seriesColour(one.name, place);
      one.dash = one.reference ? (one.solid ? undefined : [4, 4]) : DASHES[Math.floor(place / PALETTE) % DASHES.length];
    }
    return series;
  }

  // Means hide what was short: a point of a day stands for minutes. A stack has no band, so its highest
  // values are a line of their own.
  peakOf(tracks) {
    if (this.peak.length === 0) return null;
    const whole = tracks.find((track) => track.max?.length && fits(track, this.peak));
    if (!whole) return null;
    return { ...whole, key: `${whole.key} peak`, v: bridge(whole.max), gap: Infinity, name: PEAK, reference: true, solid: true };
  }

  // Whether there is anything to draw of these live tracks.
  has(tracks) {
    return this.prepare(tracks, true).length > 0;
  }

  columns() {
    const { x, ys } = this.values;
    if (this.draw === 'stack') {
      const parts = ys.filter((_, i) => !this.series[i].reference);
      const sums = stack(parts);
      let next = 0;
      return [x, ...ys.map((y, i) => (this.series[i].reference ? y : sums[next++]))];
    }
    const columns = [x, ...ys];
    if (this.hasBand()) {
      for (const one of this.series) if (!one.reference) columns.push(one.max, one.min);
    }
    return columns;
  }

  hasBand() {
    const own = this.series.filter((one) => !one.reference);
    return this.draw === 'lines' && own.length > 0 && own.length <= BAND_SERIES_MAX && own.every((one) => one.min?.length);
  }

  build(columns) {
    this.plot?.destroy();
    this.plotElement.replaceChildren();
    const lines = this.series.map((one, i) => ({
      label: one.name,
      stroke: this.draw === 'heat' ? null : one.colour,
      width: 1,
      dash: one.dash,
      fill: this.fill(one, i),
      spanGaps: false,
      points: { show: false, size: 4, filter: (plot, index) => (this.draw === 'heat' ? null : lonely(plot.data[index])) },
      paths: this.draw === 'heat' ? () => null : undefined,
    }));
    const bands = [];
    if (this.draw === 'stack') {
      const parts = this.series.map((one, i) => (one.reference ? 0 : i + 1)).filter(Boolean);
      for (let i = 1; i < parts.length; i += 1) {
        bands.push({ series: [parts[i], parts[i - 1]], fill: faint(this.series[parts[i] - 1].colour, 0.45) });
      }
    }
    if (this.hasBand()) {
      const first = lines.length + 1;
      this.series.filter((one) => !one.reference).forEach((one, i) => {
        const edge = { stroke: 'transparent', width: 0, points: { show: false } };
        lines.push({ ...edge }, { ...edge });
        bands.push({ series: [first + i * 2, first + i * 2 + 1], fill: faint(one.colour, 0.2) });
      });
    }
    this.plot = new uPlot(
      {
        ...this.size(),
        legend: { show: false },
        padding: [8, 14, 0, 0],
        cursor: {
          sync: { key: 'muster', setSeries: false },
          points: { show: false },
          drag: { x: true, y: false, setScale: false, dist: 5 },
          focus: { prox: -1 },
        },
        scales: {
          x: { time: true, range: () => this.page.bounds().map((ms) => ms / 1000) },
          y: { range: (_, low, high) => this.height(low, high) },
        },
        axes: this.axes(),
        series: [{}, ...lines],
        bands,
        hooks: {
          setCursor: [() => this.writeLegend()],
          setSelect: [(plot) => this.selected(plot)],
          draw: [
            (plot) => this.draw === 'heat' && drawHeat(plot, this.values.ys),
            (plot) => this.late.length > 0 && drawLate(plot, this.late),
            (plot) => this.over.forEach((drawOver) => drawOver(plot)),
          ],
        },
      },
      columns,
      this.plotElement,
    );
    this.plot.over.addEventListener('mousedown', () => {
      this.held = true;
      this.dragged = false;
    });
    this.plot.over.addEventListener('click', (event) => {
      this.held = false;
      if (this.dragged) return;
      const left = event.clientX - this.plot.over.getBoundingClientRect().left;
      this.page.pick(Math.round(this.plot.posToVal(left, 'x') * 1000), this);
    });
    this.buildLegend();
    this.mark(this.page.moment());
  }

  fill(one) {
    if (one.reference || this.draw === 'heat') return undefined;
    if (this.draw === 'stack') return one === this.series.find((each) => !each.reference) ? faint(one.colour, 0.45) : undefined;
    if (this.draw === 'mirror') return faint(one.colour, 0.14);
    return undefined;
  }

  // Bounds of the y axis: from zero, except where zero means nothing.
  height(low, high) {
    if (this.draw === 'heat') return [0, this.series.length];
    if (low === null || high === null) return [0, this.full || 1];
    if (this.unit === 'celsius') return [Math.floor(low - 5), Math.ceil(high + 5)];
    if (this.draw === 'mirror') {
      const least = this.unit.startsWith('bytes') ? 1024 : 1;
      return [Math.min(low * 1.1, -least), Math.max(high * 1.1, least)];
    }
    const top = this.unit === 'ratio' ? Math.max(high * 1.05, this.full) : Math.max(high * 1.08, this.full, Number.EPSILON);
    return [Math.min(0, low), this.unit === 'ratio' && high <= 1 ? Math.min(top, 1) : top || 1];
  }

  axes() {
    const [x, y] = axes(this.unit, this.write);
    if (this.draw === 'heat') {
      y.grid = { show: false };
      y.splits = () => {
        const rows = this.series.length;
        const step = Math.ceil(rows / 8);
        return this.series.map((_, i) => i).filter((i) => i % step === 0).map((i) => rows - i - 0.5);
      };
      y.values = (_, marks) => marks.map((mark) => this.series[Math.round(this.series.length - mark - 0.5)]?.name ?? '');
    }
    return [x, y];
  }

  size() {
    const box = this.plotElement.getBoundingClientRect();
    return { width: Math.max(160, Math.floor(box.width)), height: Math.max(80, Math.floor(box.height)) };
  }

  resize() {
    if (!this.plot) return;
    const size = this.size();
    if (size.width !== this.plot.width || size.height !== this.plot.height) this.plot.setSize(size);
  }

  // The system's colours changed: everything is made anew at the next drawing.
  repaint() {
    this.shape = null;
  }

  selected(plot) {
    // The selection is shown on all charts; the one under the hand speaks for them.
    const { left, width } = plot.select;
    if (!this.held || width < 5) return;
    this.held = false;
    this.dragged = true;
    const from = plot.posToVal(left, 'x') * 1000;
    const to = plot.posToVal(left + width, 'x') * 1000;
    plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
    this.page.zoom(from, to);
  }

  buildLegend() {
    this.drawn = [];
    const names = [];
    const all = [...this.series];
    for (const name of this.off) if (!all.some((one) => one.name === name)) all.push({ name, colour: colour('faint') });
    const items = all
      .filter((one) => !names.includes(one.name) && names.push(one.name))
      .slice(0, this.draw === 'heat' ? 0 : this.names)
      .map((one) => {
        const item = document.createElement('li');
        const button = document.createElement('button');
        button.type = 'button';
        button.setAttribute('aria-pressed', String(!this.off.has(one.name)));
        const name = document.createElement('span');
        name.className = 'name';
        name.textContent = one.name;
        const value = document.createElement('span');
        value.className = 'value';
        button.append(swatch(one), name, value);
        button.addEventListener('click', () => this.toggle(one.name));
        item.append(button);
        this.drawn.push({ name: one.name, value });
        return item;
      });
    if (this.left > 0) {
      const item = document.createElement('li');
      item.textContent = `and ${this.left} smaller ones`;
      items.push(item);
    }
    if (this.late.length > 0) {
      const item = document.createElement('li');
      item.className = 'late';
      item.textContent = 'hatched: came late';
      item.title = 'These values were delivered after newer ones, for example after an outage.';
      items.push(item);
    }
    this.legend.replaceChildren(...items);
  }

  toggle(name) {
    if (this.off.has(name)) this.off.delete(name);
    else this.off.add(name);
    this.page.redraw(this);
  }

  // Values under the cursor, else the latest.
  writeLegend() {
    if (!this.values) return;
    const { x, ys } = this.values;
    const under = this.plot?.cursor.idx;
    for (const { name, value } of this.drawn) {
      const texts = this.series.flatMap((one, i) => {
        if (one.name !== name) return [];
        const found = under == null ? lastOf(ys[i], x) : (ys[i][under] ?? nearest(ys[i], under));
        const side = this.sides ? `${this.sides[Number(one.below)]} ` : '';
        return [side + (found == null ? '–' : this.write(Math.abs(found)))];
      });
      setText(value, texts.join('  '));
    }
  }

  // A line at the moment whose processes are shown.
  mark(ms) {
    this.marker?.remove();
    this.marker = null;
    if (ms === null || !this.plot) return;
    const left = this.plot.valToPos(ms / 1000, 'x');
    if (!(left >= 0 && left <= this.plot.over.clientWidth)) return;
    this.marker = document.createElement('div');
    this.marker.className = 'moment';
    this.marker.style.left = `${left}px`;
    this.plot.over.append(this.marker);
  }

  // Instead of a chart, when there is nothing to draw.
  say(text) {
    this.plot?.destroy();
    this.plot = null;
    const message = document.createElement('div');
    message.className = 'message';
    message.textContent = text;
    this.plotElement.replaceChildren(message);
    this.legend.replaceChildren();
    this.figure.dataset.points = '0';
  }
}

function swatch(one) {
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
  svg.setAttribute('viewBox', '0 0 10 10');
  svg.setAttribute('aria-hidden', 'true');
  const rect = document.createElementNS('http://www.w3.org/2000/svg', 'rect');
  const [y, height] = one.reference ? ['4', '2'] : ['1', '8'];
  for (const [name, value] of Object.entries({ width: '10', height, y, rx: '1.5', fill: one.colour })) rect.setAttribute(name, value);
  svg.append(rect);
  return svg;
}

function lastOf(y, x) {
  for (let i = y.length - 1; i >= 0 && i > x.length - 12; i -= 1) if (y[i] != null) return y[i];
  return null;
}

// Another series was read at this very instant: the one just before stands for it.
function nearest(y, at) {
  for (let i = at; i >= 0 && i > at - 4; i -= 1) {
    if (y[i] === null) return null;
    if (y[i] !== undefined) return y[i];
  }
  return null;
}

// Values without a neighbour: no line goes through them, so they are drawn as dots.
function lonely(values) {
  const alone = [];
  for (let i = 0; i < values.length; i += 1) {
    if (values[i] != null && values[i - 1] == null && values[i + 1] == null) alone.push(i);
  }
  return alone.length > 0 ? alone : null;
}
