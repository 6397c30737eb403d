// The little lines of the fleet page: sixty buckets of five seconds, as the server first drew them.

import { serverNow } from './times.js';

const BUCKETS = 60;
const BUCKET_MS = 5000;
const HEIGHT = 20;

export class Spark {
  // `full` is the value at the top, at least; `drawnAt` the server's time when it drew the path.
  constructor(path, full, drawnAt) {
    this.path = path;
    this.full = full;
    this.newest = Math.floor(drawnAt / BUCKET_MS);
    this.sums = new Array(BUCKETS).fill(null);
    this.counts = new Array(BUCKETS).fill(0);
    // What the server drew is read back from its path: it is the only copy there is.
    const top = Number(path.dataset.top) || full;
    for (const [, x, y] of (path.getAttribute('d') ?? '').matchAll(/[ML](\d+) ([\d.]+)/g)) {
      this.sums[Number(x)] = ((HEIGHT - Number(y)) / HEIGHT) * top;
      this.counts[Number(x)] = 1;
    }
  }

  add(value) {
    this.shift();
    if (!Number.isFinite(value)) return;
    this.sums[BUCKETS - 1] = (this.sums[BUCKETS - 1] ?? 0) + value;
    this.counts[BUCKETS - 1] += 1;
  }

  shift() {
    const bucket = Math.floor(serverNow() / BUCKET_MS);
    const steps = Math.min(Math.max(bucket - this.newest, 0), BUCKETS);
    for (let i = 0; i < steps; i += 1) {
      this.sums.shift();
      this.sums.push(null);
      this.counts.shift();
      this.counts.push(0);
    }
    if (steps > 0) this.newest = bucket;
  }

  draw() {
    const values = this.sums.map((sum, i) => (sum === null ? null : sum / this.counts[i]));
    const top = values.reduce((high, value) => Math.max(high, value ?? 0), this.full);
    let d = '';
    let down = false;
    values.forEach((value, x) => {
      if (value === null) {
        down = false;
        return;
      }
      const y = (HEIGHT - Math.min(Math.max(value / top, 0), 1) * HEIGHT).toFixed(1);
      d += down ? `L${x} ${y}` : `M${x} ${y}h.5`;
      down = true;
    });
    this.path.setAttribute('d', d);
  }
}
