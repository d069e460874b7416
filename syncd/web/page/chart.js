// Two bar charts of the last hours. Minutes in which no daemon worked are unknown: they are shaded and have no bar.

import { clock, now, number } from "./words.js";

const STEP_OF = { 1: 1, 6: 5, 24: 15 };  // hours shown -> minutes of one bar
const GAP = 0.72;  // the share of its place that a bar fills
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// The counts of each bar. known: whether a daemon worked in its minutes.
export const bars = (minutes, spans, hours, at) => {
  const step = STEP_OF[hours], last = Math.floor(at / 60 / step), count = (hours * 60) / step;
  const result = [];
  for (let place = last - count + 1; place <= last; place += 1) {
    const from = place * step, to = from + step - 1;
    const known = spans.some(([first, end]) => first <= to && end >= from);
    const bar = { at: from * 60, known, changes: 0, failed: 0, requests: 0 };
    for (let minute = from; minute <= to; minute += 1) {
      const [changes, failed, requests] = minutes.get(minute) ?? [0, 0, 0];
      bar.changes += changes; bar.failed += failed; bar.requests += requests;
    }
    result.push(bar);
  }
  return result;
};

const shadeUnknown = (chart) => {
  const { ctx, bbox } = chart, [from, ...rest] = chart.data[0];
  if (from === undefined || !rest.length) return;
  const half = (rest[0] - from) / 2;
  ctx.save();
  ctx.fillStyle = css("--faint");
  chart.data[0].forEach((x, place) => {
    if (chart.data[1][place] !== null) return;
    const left = chart.valToPos(x - half, "x", true), right = chart.valToPos(x + half, "x", true);
    ctx.fillRect(Math.round(left), bbox.top, Math.ceil(right - left) + 1, bbox.height);
  });
  ctx.restore();
};

export class Chart {
  // colours: the names of the series' colours, the lowest in the picture last. pick: bar -> the values of the series.
  constructor(box, height, colours, pick, onBar) {
    Object.assign(this, { box, height, colours, pick, onBar, bars: [] });
    new ResizeObserver(() => this.rebuild()).observe(box);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.rebuild());
  }

  show(newBars) {
    this.bars = newBars;
    if (this.chart) this.chart.setData(this.data()); else this.rebuild();
  }

  data() {
    const half = this.bars.length > 1 ? (this.bars[1].at - this.bars[0].at) / 2 : 30;
    const columns = this.bars.map((bar) => (bar.known ? this.pick(bar) : this.colours.map(() => null)));
    return [this.bars.map((bar) => bar.at + half), ...this.colours.map((_, place) => columns.map((column) => column[place]))];
  }

  rebuild() {
    const width = this.box.clientWidth;
    if (!width || !this.bars.length) return;
    this.chart?.destroy();
    const axis = { stroke: css("--soft"), font: `11px ${css("--text")}`, ticks: { show: false }, border: { show: false } };
    const paths = uPlot.paths.bars({ size: [GAP, 14] });
    this.chart = new uPlot({
      width,
      height: this.height,
      padding: [8, 20, 0, 0],
      legend: { show: false },
      cursor: { y: false, points: { show: false }, drag: { x: false, y: false } },
      scales: { y: { range: (_, __, most) => [0, Math.max(4, (most ?? 0) * 1.1)] } },
      axes: [
        { ...axis, size: 22, gap: 4, grid: { show: false }, space: 70, values: (_, ticks) => ticks.map(clock) },
        { ...axis, size: 40, gap: 6, space: 26, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 1e6], grid: { stroke: css("--line"), width: 1 }, values: (_, ticks) => ticks.map((tick) => number.format(tick)) },
      ],
      series: [{}, ...this.colours.map((name) => ({ fill: css(name), width: 0, paths, points: { show: false } }))],
      hooks: { drawClear: [shadeUnknown], setCursor: [(chart) => this.onBar(this.bars[chart.cursor.idx] ?? null)] },
    }, this.data(), this.box);
  }
}
