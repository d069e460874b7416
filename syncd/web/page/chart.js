// Draws two small charts of the last hours in SVG.

const SVG = "http://www.w3.org/2000/svg";
const STEP_OF = { 1: 1, 6: 5, 24: 15 };  // hours shown -> minutes of one bar

const node = (name, attributes, text) => {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
};

const niceTop = (most) => {
  if (most <= 4) return 4;
  const size = 10 ** Math.floor(Math.log10(most));
  return [1, 2, 2.5, 5, 10].map((each) => each * size).find((each) => each >= most);
};

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const count = new Intl.NumberFormat();

// minutes: Map of minute number -> [changes, failed, requests]. Returns bars, oldest first. The last bar is not complete.
export const bars = (minutes, hours, now) => {
  const step = STEP_OF[hours];
  const last = Math.floor(now / 60 / step) * step;
  const first = last - hours * 60 + step;
  const made = [];
  for (let start = first; start <= last; start += step) {
    const bar = { start, changes: 0, failed: 0, requests: 0 };
    for (let minute = start; minute < start + step; minute += 1) {
      const [changes, failed, requests] = minutes.get(minute) ?? [0, 0, 0];
      bar.changes += changes;
      bar.failed += failed;
      bar.requests += requests;
    }
    made.push(bar);
  }
  return made;
};

const frame = (svg, made, hours) => {
  const width = svg.clientWidth, height = svg.clientHeight, foot = 18, head = 6;
  const plot = { width, top: head, bottom: height - foot, tall: height - foot - head };
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const parts = [];
  for (const share of [0, 0.5, 1]) {
    const y = Math.round(plot.bottom - share * plot.tall) + 0.5;
    parts.push(node("line", { class: "grid", x1: 0, x2: width, y1: y, y2: y }));
  }
  const step = STEP_OF[hours], every = { 1: 15, 6: 60, 24: 240 }[hours] * (width < 300 ? 2 : 1);
  const offset = new Date().getTimezoneOffset();
  made.forEach((bar, place) => {
    if ((((bar.start - offset) % every) + every) % every) return;
    const x = (place / made.length) * width;
    if (x < 14 || x > width - 16) return;
    parts.push(node("text", { x, y: height - 3, "text-anchor": "middle" }, clock.format(bar.start * 60000)));
  });
  return { plot, parts, step };
};

const label = (plot, top) => node("text", { x: 0, y: plot.top + 12, class: "top" }, count.format(top));

const title = (bar, step, text) => {
  const from = clock.format(bar.start * 60000), to = clock.format((bar.start + step) * 60000);
  return node("title", {}, `${from}–${to}: ${text}`);
};

export const drawChanges = (svg, made, hours) => {
  if (!svg.clientWidth) return;
  const top = niceTop(Math.max(...made.map((bar) => bar.changes + bar.failed)));
  const { plot, parts, step } = frame(svg, made, hours);
  const slot = plot.width / made.length, gap = slot > 4 ? 1.5 : 0.5;
  made.forEach((bar, place) => {
    const group = node("g", {});
    const tall = (bar.changes / top) * plot.tall, bad = (bar.failed / top) * plot.tall;
    const add = (name, height, from) => {
      if (!height) return;
      const shown = Math.max(height, 1.5);
      group.append(node("rect", { class: name, x: place * slot + gap / 2, width: slot - gap, y: from - shown, height: shown }));
    };
    add("bar", tall, plot.bottom);
    add("failed", bad, plot.bottom - tall);
    if (!group.childNodes.length) return;
    group.append(title(bar, step, `${count.format(bar.changes)} changes, ${count.format(bar.failed)} failed`));
    parts.push(group);
  });
  svg.replaceChildren(...parts, label(plot, top));
};

export const drawRequests = (svg, made, hours) => {
  if (!svg.clientWidth) return;
  const top = niceTop(Math.max(...made.map((bar) => bar.requests)));
  const { plot, parts, step } = frame(svg, made, hours);
  const slot = plot.width / made.length;
  const points = made.map((bar, place) => {
    const y = plot.bottom - (bar.requests / top) * plot.tall;
    return `${((place + 0.5) * slot).toFixed(1)},${y.toFixed(1)}`;
  });
  const from = slot / 2, to = plot.width - slot / 2;
  if (made.some((bar) => bar.requests)) {
    parts.push(node("path", { class: "area", d: `M${from},${plot.bottom}L${points.join("L")}L${to},${plot.bottom}Z` }));
    parts.push(node("path", { class: "path", d: `M${points.join("L")}` }));
  }
  made.forEach((bar, place) => {
    if (!bar.requests) return;
    const hover = node("rect", { x: place * slot, width: slot, y: plot.top, height: plot.tall, fill: "transparent" });
    hover.append(title(bar, step, `${count.format(bar.requests)} requests`));
    parts.push(hover);
  });
  svg.replaceChildren(...parts, label(plot, top));
};
