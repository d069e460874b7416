// Shows the events of /events. Every text from the daemon is inserted as text, never as markup.

import { bars, drawChanges, drawRequests } from "./chart.js";

const KEPT = 200;  // actions
const FIRST = 6;  // problems shown before "all" is pressed; style.css has the same number
const DAY = 24 * 60;  // minutes
const HARMLESS = new Set(["unsupported_type", "empty"]);
const number = new Intl.NumberFormat();
const time = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const day = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
const $ = (id) => document.getElementById(id);

const minutes = new Map();
const cards = new Map();
let state = null;
let skew = 0;  // the daemon's clock minus the browser's, in seconds: a tunnel may lead to another machine
let hours = 1;

// -- helpers

const make = (name, className, text) => {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
};

const say = (node, text) => { if (node.textContent !== text) node.textContent = text; };
const now = () => Date.now() / 1000 + skew;
const plural = (count, one, many = `${one}s`) => `${number.format(count)} ${count === 1 ? one : many}`;

const bytes = (size) => {
  if (size < 1024) return `${size} B`;
  const place = size < 1024 ** 2 ? 1 : size < 1024 ** 3 ? 2 : 3;
  const value = size / 1024 ** place;
  return `${value.toFixed(value < 9.95 ? 1 : 0)} ${["B", "KiB", "MiB", "GiB"][place]}`;
};

const span = (seconds) => {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h`;
  return `${Math.floor(whole / 86400)} d`;
};

const ago = (at) => (now() - at < 1.5 ? "just now" : `${span(now() - at)} ago`);

const absolute = (at) => {
  const date = new Date(at * 1000);
  const today = date.toDateString() === new Date().toDateString();
  return today ? time.format(date) : `${day.format(date)}, ${time.format(date)}`;
};

const stamp = (at) => {
  const made = make("time");
  made.dateTime = new Date(at * 1000).toISOString();
  return made;
};

// -- a mirror

const card = (name) => {
  const made = $("mirror").content.firstElementChild.cloneNode(true);
  const part = (key) => made.querySelector(`[data-${key}]`);
  const refs = { root: made, part, problems: "" };
  part("name").textContent = name;
  made.setAttribute("aria-label", `Mirror ${name}`);
  made.id = `mirror-${name}`;
  part("all").addEventListener("click", (event) => {
    const list = made.querySelector(".problems ul");
    list.classList.add("all");
    event.target.hidden = true;
    // The button is removed, so the keyboard focus moves to its place.
    list.children[FIRST].tabIndex = -1;
    list.children[FIRST].focus();
  });
  for (const button of made.querySelectorAll(".acts button")) {
    button.setAttribute("aria-label", `${button.textContent}: ${name}`);
    button.addEventListener("click", () => ask(name, button.dataset.act, part("said")));
  }
  return refs;
};

const ask = async (name, what, said) => {
  const token = document.querySelector("meta[name=syncd-token]").content;
  let text, good = false;
  try {
    const answer = await fetch(`mirrors/${encodeURIComponent(name)}/${what}`, { method: "POST", headers: { "X-Syncd-Token": token } });
    const told = await answer.json();
    good = answer.ok;
    text = good ? (what === "retry" ? "Asked to try failed items again." : "Asked for a full pass.") : told.error;
  } catch {
    text = "The daemon did not answer.";
  }
  said.classList.toggle("bad", !good);
  said.textContent = text;
  clearTimeout(said.timer);
  said.timer = setTimeout(() => { said.textContent = ""; }, 6000);
};

const showIndex = (refs, index) => {
  const total = Object.values(index).reduce((sum, each) => sum + each, 0);
  refs.part("index").hidden = total === 0;
  if (!total) return;
  const shares = {
    completed: index.completed, running: index.running, queued: index.queued, error: index.error,
    other: index.skipped + index.outdated,
  };
  const meter = refs.part("meter");
  if (!meter.childNodes.length) meter.append(...Object.keys(shares).map((each) => make("span", each)));
  Object.values(shares).forEach((share, place) => { meter.children[place].style.flexGrow = share; });
  const words = { completed: "searchable", running: "being indexed", queued: "queued", error: "could not be indexed", skipped: "skipped", outdated: "outdated" };
  const text = Object.entries(words).filter(([key]) => index[key] || key === "completed").map(([key, word]) => `${number.format(index[key])} ${word}`).join(" · ");
  say(refs.part("index-text"), text);
  meter.setAttribute("aria-label", `Index: ${text}`);
};

const showProblems = (refs, mirror) => {
  const box = refs.part("problems");
  const told = JSON.stringify([mirror.problems, mirror.more_problems]);
  if (told === refs.problems) return;
  refs.problems = told;
  box.hidden = mirror.problems.length === 0;
  say(refs.part("problems-title"), plural(mirror.problems.length + mirror.more_problems, "problem"));
  box.querySelector("ul").replaceChildren(...mirror.problems.map((problem) => {
    const item = make("li");
    const kind = make("span", HARMLESS.has(problem.kind) ? "kind mild" : "kind", problem.kind.replaceAll("_", " "));
    item.append(make("code", "", problem.key), kind, make("p", "", problem.message));
    return item;
  }));
  const all = refs.part("all"), list = box.querySelector("ul");
  all.hidden = mirror.problems.length <= FIRST || list.classList.contains("all");
  say(all, `Show ${number.format(mirror.problems.length - FIRST)} more`);
  say(refs.part("more"), mirror.more_problems ? `and ${number.format(mirror.more_problems)} more: syncd status --json` : "");
};

const showMoment = (node, at, none) => {
  if (!at) { say(node, none); return; }
  if (node.dataset.at !== String(at) || !node.querySelector("time")) {
    node.dataset.at = at;
    node.replaceChildren(stamp(at), make("small"));
  }
  say(node.firstChild, node.dataset.waiting !== undefined ? span(now() - at) : ago(at));
  say(node.lastChild, absolute(at));
};

const toGo = (mirror) => {
  if (!mirror.remaining) return "";
  const left = mirror.until === null ? "" : `, about ${span(Math.max(1, mirror.until - now()))} left`;
  return `, ${number.format(mirror.remaining)} to go${left}`;
};

const showMirror = (mirror) => {
  if (!cards.has(mirror.name)) {
    const made = card(mirror.name);
    cards.set(mirror.name, made);
    made.part("oldest").dataset.waiting = "";
    $("mirrors").append(made.root);
  }
  const refs = cards.get(mirror.name);
  refs.root.dataset.is = mirror.state;
  say(refs.part("state-text"), mirror.state + toGo(mirror));
  say(refs.part("path"), mirror.path);
  say(refs.part("target"), mirror.target);
  const why = refs.part("why");
  why.hidden = !mirror.detail || !["degraded", "halted"].includes(mirror.state);
  say(why, mirror.detail ?? "");
  for (const [key, value] of Object.entries(mirror.items)) {
    const box = refs.root.querySelector(`[data-count=${key}]`);
    say(box.querySelector("dd"), number.format(value));
    box.classList.toggle("zero", value === 0);
  }
  showIndex(refs, mirror.index);
  say(refs.part("watch"), mirror.watch === "off" ? "full passes only" : mirror.watch === "poll" ? "polling" : mirror.watch);
  const note = refs.part("note");
  note.hidden = !mirror.watch_detail;
  say(note, mirror.watch_detail ? `Watching: ${mirror.watch_detail}` : "");
  showProblems(refs, mirror);
};

// -- the page

const named = (mirrors) => (mirrors.length === 1 ? mirrors[0].name : plural(mirrors.length, "mirror"));
const isAre = (mirrors) => (mirrors.length === 1 ? "is" : "are");

const headline = (mirrors) => {
  const of = (name) => mirrors.filter((mirror) => mirror.state === name);
  const waiting = mirrors.reduce((sum, mirror) => sum + mirror.items.pending, 0);
  const wrong = mirrors.reduce((sum, mirror) => sum + mirror.items.failed + mirror.items.rejected + mirror.index.error, 0);
  const [halted, degraded, syncing] = ["halted", "degraded", "syncing"].map(of);
  if (halted.length) return `${named(halted)} ${isAre(halted)} halted and ${halted.length === 1 ? "needs" : "need"} you.`;
  if (degraded.length) return `${named(degraded)} ${isAre(degraded)} in trouble and will try again.`;
  if (syncing.length && waiting) return `${plural(waiting, "change")} on the way.`;
  if (syncing.length) return "Comparing…";
  if (wrong) return `In step, but for ${plural(wrong, "file")}.`;
  return waiting ? `${plural(waiting, "change")} waiting.` : "Everything is in step.";
};

const spokenOf = (mirrors) => mirrors.map((mirror) => `${mirror.name}: ${mirror.state}`).join(", ");

const showState = () => {
  if (!state || state.reloading) {
    if (state) say($("headline"), "Reading the configuration again…");
    return;
  }
  const { mirrors, gate } = state;
  const names = new Set(mirrors.map((mirror) => mirror.name));
  for (const [name, refs] of cards) if (!names.has(name)) { refs.root.remove(); cards.delete(name); }
  mirrors.forEach(showMirror);
  const head = headline(mirrors);
  say($("headline"), head);
  document.title = `${head.replace(/\.$/, "")} · syncd`;
  const files = mirrors.reduce((sum, mirror) => sum + mirror.items.synced, 0);
  say($("subline"), `${plural(mirrors.length, "mirror")}, ${plural(files, "file")} in step`);
  const troubled = mirrors.find((mirror) => mirror.state === "halted") ?? mirrors.find((mirror) => mirror.state === "degraded");
  $("why").hidden = !troubled;
  if (troubled) $("why").setAttribute("href", `#mirror-${troubled.name}`);
  say($("spoken"), spokenOf(mirrors));
  showGate(gate);
};

const showGate = (gate) => {
  const held = gate.held_until && gate.held_until > now();
  const limit = gate.limit ? `of ${gate.limit} allowed` : "no limit";
  const text = held
    ? `The remote asked us to wait: nothing is sent for ${span(gate.held_until - now())}, until ${absolute(gate.held_until)}.`
    : `${gate.rate.toFixed(1)} requests a second, ${limit}`;
  say($("gate"), text);
  $("gate").classList.toggle("held", Boolean(held));
};

const showTimes = () => {
  if (!state || state.reloading) return;
  for (const mirror of state.mirrors) {
    const refs = cards.get(mirror.name);
    if (!refs) continue;
    say(refs.part("state-text"), mirror.state + toGo(mirror));
    const last = mirror.last_reconcile && Date.parse(mirror.last_reconcile) / 1000;
    showMoment(refs.part("last"), last, mirror.state === "syncing" ? "the first is under way" : "never");
    showMoment(refs.part("oldest"), mirror.oldest_at, mirror.items.pending ? "found by this pass" : "nothing waits");
  }
  say($("about"), `syncd ${state.version}, pid ${state.pid}, up ${span(now() - state.began)} (since ${absolute(state.began)})`);
  showGate(state.gate);
  for (const each of $("actions").querySelectorAll("time")) showAge(each);
};

const showAge = (node) => {
  const at = Number(node.dataset.at);
  node.title = `${absolute(at)}, ${ago(at)}`;
  say(node, now() - at < 60 ? ago(at) : absolute(at));
};

const actionRow = (action) => {
  const row = make("li");
  const when = stamp(action.at);
  when.dataset.at = action.at;
  showAge(when);
  const failed = action.outcome === "failed";
  const what = make("span", `what ${failed ? "failed" : action.kind}`);
  const words = { done: action.kind, failed: `${action.kind} failed`, again: `${action.kind} put off` };
  const reason = action.kind === "index" ? "" : ` ${action.reason}`;
  what.append(make("b", "", words[action.outcome]), reason, cards.size > 1 ? ` in ${action.mirror}` : "");
  const middle = make("div");
  middle.append(make("code", "", action.key), document.createElement("br"), what);
  row.append(when, middle, make("span", "size", action.size === null ? "" : bytes(action.size)));
  return row;
};

const showActions = (added) => {
  const list = $("actions");
  list.prepend(...added.slice(-KEPT).reverse().map(actionRow));
  while (list.children.length > KEPT) list.lastElementChild.remove();
  $("no-actions").hidden = list.children.length > 0;
  say($("latest-count"), list.children.length === KEPT ? `the last ${KEPT}` : "");
};

const showCharts = () => {
  const made = bars(minutes, hours, now());
  const sum = (key) => made.reduce((total, bar) => total + bar[key], 0);
  const failed = sum("failed");
  const changes = plural(sum("changes"), "change") + (failed ? `, ${number.format(failed)} failed` : "");
  const requests = plural(sum("requests"), "request");
  say($("sum-changes"), changes);
  say($("sum-requests"), requests);
  const when = hours === 1 ? "the last hour" : `the last ${hours} hours`;
  $("changes").setAttribute("aria-label", `${changes} in ${when}`);
  $("requests").setAttribute("aria-label", `${requests} in ${when}`);
  drawChanges($("changes"), made, hours);
  drawRequests($("requests"), made, hours);
};

// -- the connection

const link = (name, text) => {
  $("link").dataset.state = name;
  say($("link-text"), text);
  document.body.classList.toggle("stale", name === "lost");
};

const connect = () => {
  const events = new EventSource("events");
  const on = (name, take) => events.addEventListener(name, (event) => take(JSON.parse(event.data)));
  events.addEventListener("open", () => {
    // The first messages of a connection hold the whole state.
    $("actions").replaceChildren();
    minutes.clear();
    showActions([]);
    link("live", "live");
  });
  events.addEventListener("error", () => {
    link("lost", "no connection, trying again");
    say($("spoken"), "The connection to syncd is lost.");
    if (events.readyState === EventSource.CLOSED) setTimeout(connect, 5000);
  });
  on("state", (told) => {
    skew = told.now - Date.now() / 1000;
    // A new process has a new token.
    if (state && state.pid !== told.pid) location.reload();
    state = told;
    showState();
    showTimes();
  });
  on("actions", showActions);
  on("minutes", (told) => {
    for (const [minute, ...counts] of told) minutes.set(minute, counts);
    for (const minute of minutes.keys()) if (minute < now() / 60 - DAY) minutes.delete(minute);
    showCharts();
  });
};

$("range").addEventListener("change", (event) => { hours = Number(event.target.value); showCharts(); });
new ResizeObserver(showCharts).observe($("changes"));
setInterval(showTimes, 1000);
setInterval(showCharts, 15000);
connect();
