// Words, numbers, times and nodes. Every text from the daemon is inserted as text, never as markup.

export const number = new Intl.NumberFormat("en");
const time = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const short = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const day = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
let skew = 0;  // the daemon's clock minus the browser's, in seconds: a tunnel may lead to another machine

export const $ = (id) => document.getElementById(id);

export const make = (name, className, text) => {
  const node = document.createElement(name);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
};

export const say = (node, text) => { if (node.textContent !== text) node.textContent = text; };
export const setSkew = (daemonTime) => { skew = daemonTime - Date.now() / 1000; };
export const now = () => Date.now() / 1000 + skew;
export const plural = (count, one, many = `${one}s`) => `${number.format(count)} ${count === 1 ? one : many}`;
export const copyOf = (id) => $(id).content.firstElementChild.cloneNode(true);
export const partsOf = (root) => (key) => root.querySelector(`[data-${key}]`);

export const span = (seconds) => {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h`;
  return `${Math.floor(whole / 86400)} d`;
};

export const ago = (at) => (now() - at < 1.5 ? "just now" : `${span(now() - at)} ago`);
export const until = (at) => (at - now() < 1 ? "now" : `in ${span(at - now())}`);
export const clock = (at) => short.format(new Date(at * 1000));

export const absolute = (at) => {
  const date = new Date(at * 1000);
  const today = date.toDateString() === new Date().toDateString();
  return today ? time.format(date) : `${day.format(date)}, ${time.format(date)}`;
};

// Shows a time as "3 min ago" with the time of day below it.
export const showMoment = (node, at, none, relative = ago) => {
  if (!at) { say(node, none); return; }
  if (node.dataset.at !== String(at) || !node.querySelector("time")) {
    node.dataset.at = at;
    const moment = make("time");
    moment.dateTime = new Date(at * 1000).toISOString();
    node.replaceChildren(moment, make("small"));
  }
  say(node.firstChild, relative(at));
  say(node.lastChild, absolute(at));
};

// Replaces the children only if they differ, so that the keyboard focus and a selection stay.
export const showList = (node, values, draw) => {
  const key = JSON.stringify(values);
  if (node.dataset.values === key) return;
  node.dataset.values = key;
  node.replaceChildren(...values.map(draw));
};

// -- commands to copy

export const commandRow = (command) => {
  const row = make("div", "command");
  const code = make("code", "", command);
  const button = make("button", "quiet", "Copy");
  button.type = "button";
  button.setAttribute("aria-label", `Copy: ${command}`);
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(command);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(code);
      button.textContent = "Selected";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });
  row.append(code, button);
  return row;
};

// -- questions to the daemon

const token = () => document.querySelector("meta[name=syncd-token]").content;

const send = async (name, path, options) => {
  try {
    const headers = { "X-Syncd-Token": token() };
    const response = await fetch(`mirrors/${encodeURIComponent(name)}/${path}`, { ...options, headers });
    const answer = await response.json();
    return response.ok ? { ok: true, ...answer } : { ok: false, error: answer.error };
  } catch {
    return { ok: false, error: "The daemon did not answer." };
  }
};

export const ask = (name, path, values = {}) => send(name, `${path}?${new URLSearchParams(values)}`, {});
export const order = (name, path, values = {}) => send(name, path, { method: "POST", body: JSON.stringify(values) });

// Shows the answer to a button for some seconds.
export const showAnswer = (node, text, bad = false) => {
  node.classList.toggle("bad", bad);
  node.textContent = text;
  clearTimeout(node.timer);
  node.timer = setTimeout(() => { node.textContent = ""; }, 8000);
};
