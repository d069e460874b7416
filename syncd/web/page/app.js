// Follows the events of /events: the state, the log, the counts of the last day.

import { forgetLog, showLog, showLogTimes } from "./actions.js";
import { bars, Chart } from "./chart.js";
import { harmful, isEmpty, isGrowing, rank, showMirrors, showMirrorTimes, totalOf } from "./mirror.js";
import { showTrouble } from "./trouble.js";
import { absolute, clock, now, number, plural, say, setSkew, showMoment, span, $ } from "./words.js";

const DAY = 24 * 60;  // minutes
const minutes = new Map();
let spans = [];
let state = null;
let lostAt = null;  // when the connection was lost, in the daemon's time
let hours = 1;

const mirrorsBySeverity = () => (state?.mirrors ?? []).map((mirror, place) => [rank(mirror), place, mirror]).sort((a, b) => a[0] - b[0] || a[1] - b[1]).map(([, , mirror]) => mirror);

// -- the head

const named = (mirrors) => (mirrors.length === 1 ? mirrors[0].name : plural(mirrors.length, "mirror"));
const isAre = (mirrors) => (mirrors.length === 1 ? "is" : "are");

const headline = (mirrors) => {
  if (lostAt) return `No contact with syncd since ${absolute(lostAt)}.`;
  const of = (name) => mirrors.filter((mirror) => mirror.state === name);
  const waiting = mirrors.reduce((sum, mirror) => sum + mirror.items.pending, 0);
  const wrong = mirrors.reduce((sum, mirror) => sum + harmful(mirror), 0);
  const [halted, degraded, syncing] = ["halted", "degraded", "syncing"].map(of);
  if (halted.length) return `${named(halted)} ${isAre(halted)} halted and ${halted.length === 1 ? "needs" : "need"} you.`;
  if (degraded.length) return `${named(degraded)} ${isAre(degraded)} in trouble and will try again.`;
  if (syncing.length && waiting) return `${plural(waiting, "change")} on the way.`;
  if (syncing.length) return "Comparing…";
  if (wrong) return `In step, but for ${plural(wrong, "file")}.`;
  if (waiting) return `${plural(waiting, "change")} waiting.`;
  if (mirrors.every(isEmpty)) return "There is nothing to mirror yet.";
  return "Everything is in step.";
};

const subline = (mirrors) => {
  const indexed = mirrors.filter((mirror) => mirror.searchable !== null);
  const sum = (some, of) => some.reduce((total, mirror) => total + of(mirror), 0);
  const parts = mirrors.length > 1 ? [plural(mirrors.length, "mirror")] : [];
  if (mirrors.every(isEmpty)) return parts.join("");
  const toGo = sum(mirrors, (mirror) => mirror.remaining);
  if (mirrors.some(isGrowing)) return [...parts, `${number.format(sum(mirrors, (mirror) => mirror.counts.in_step))} in step, ${number.format(toGo)} to go`].join(", ");
  if (indexed.length) parts.push(`${number.format(sum(indexed, (mirror) => mirror.searchable))} of ${plural(sum(indexed, totalOf), "file")} searchable`);
  const plain = mirrors.filter((mirror) => mirror.searchable === null);
  if (plain.length) parts.push(`${number.format(sum(plain, (mirror) => mirror.items.synced))} of ${plural(sum(plain, totalOf), "file")} in step`);
  return (lostAt ? `At ${absolute(lostAt)}: ` : "") + parts.join(", ");
};

// A daemon that ends reports a reload, too. After the connection is lost, the page shows the last mirrors.
const isShown = () => state?.mirrors && (lostAt || !state.reloading);

const showState = () => {
  if (!isShown()) {
    if (state) say($("headline"), "Reading the configuration again…");
    return;
  }
  const mirrors = mirrorsBySeverity();
  showMirrors($("mirrors"), mirrors);
  showHead(mirrors);
  say($("spoken"), mirrors.map((mirror) => `${mirror.name}: ${mirror.state}`).join(", "));
};

const showHead = (mirrors) => {
  const head = headline(mirrors);
  say($("headline"), head);
  document.title = `${head.replace(/\.$/, "")} · syncd`;
  say($("subline"), subline(mirrors));
  showTrouble(mirrors, lostAt);
};

// -- the service

const showGate = ({ gate, contact_at }) => {
  const held = !lostAt && gate.held_until && gate.held_until > now();
  $("gate").hidden = !held;
  if (held) say($("gate"), `The remote asked us to wait: nothing is sent for ${span(gate.held_until - now())}, until ${absolute(gate.held_until)}.`);
  $("budget").hidden = gate.quota === null || lostAt !== null;
  $("rates").hidden = lostAt !== null;
  if (gate.quota !== null) {
    say($("budget-left"), `${number.format(gate.left)} of ${number.format(gate.quota)}`);
    say($("budget-window"), `left in any ${span(gate.window_s)}`);
    $("budget-meter").firstElementChild.style.flexGrow = gate.left;
    $("budget-meter").lastElementChild.style.flexGrow = gate.quota - gate.left;
  }
  say($("rate"), `${gate.rate.toFixed(1)} a second`);
  say($("rate-limit"), gate.limit ? `of ${gate.limit} allowed` : "no limit set");
  showMoment($("contact"), contact_at, "none yet");
};

const showTimes = () => {
  if (!isShown()) return;
  const mirrors = mirrorsBySeverity();
  showMirrorTimes(mirrors, lostAt !== null);
  showHead(mirrors);
  say($("about"), `syncd ${state.version}, pid ${state.pid}, ${lostAt ? "started" : `up ${span(now() - state.began)}, since`} ${absolute(state.began)}`);
  showGate(state);
  showLogTimes();
};

// -- the charts

const showBar = (name) => (bar) => {
  if (!bar) { showCharts.sums?.[name]?.(); return; }
  const words = name === "changes" ? `${plural(bar.changes, "change")}, ${number.format(bar.failed)} failed` : plural(bar.requests, "request");
  say($(`sum-${name}`), `from ${clock(bar.at)}: ${bar.known ? words : "not known, no daemon was at work"}`);
};

const charts = {
  changes: new Chart($("changes"), 128, ["--bad", "--bar"], (bar) => [bar.changes + bar.failed, bar.changes], showBar("changes")),
  requests: new Chart($("requests"), 108, ["--request"], (bar) => [bar.requests], showBar("requests")),
};

const showCharts = () => {
  const known = lostAt || !spans.length ? spans : [...spans.slice(0, -1), [spans.at(-1)[0], Math.floor(now() / 60)]];
  const shownBars = bars(minutes, known, hours, now());
  const sum = (key) => shownBars.reduce((total, bar) => total + bar[key], 0);
  const failed = sum("failed"), when = hours === 1 ? "the last hour" : `the last ${hours} hours`;
  const texts = { changes: plural(sum("changes"), "change") + (failed ? `, ${number.format(failed)} failed` : ""), requests: plural(sum("requests"), "request") };
  showCharts.sums = Object.fromEntries(Object.entries(texts).map(([name, text]) => [name, () => say($(`sum-${name}`), text)]));
  for (const [name, text] of Object.entries(texts)) {
    say($(`sum-${name}`), text);
    $(name).setAttribute("aria-label", `${text} in ${when}`);
    charts[name].show(shownBars);
  }
  $("unknown").hidden = shownBars.every((bar) => bar.known);
};

// -- the connection

const link = (name, text) => {
  $("link").dataset.state = name;
  say($("link-text"), text);
  document.body.classList.toggle("stale", name === "lost");
  for (const button of document.querySelectorAll("[data-live]")) button.disabled = name === "lost";
};

const connect = () => {
  const events = new EventSource("events");
  const on = (name, take) => events.addEventListener(name, (event) => take(JSON.parse(event.data)));
  events.addEventListener("open", () => {
    // The first messages of a connection hold the whole state.
    forgetLog();
    minutes.clear();
    lostAt = null;
    link("live", "live");
  });
  events.addEventListener("error", () => {
    lostAt ??= now();
    link("lost", "no contact, trying again");
    say($("spoken"), "The connection to syncd is lost.");
    showTimes();
    showCharts();
    if (events.readyState === EventSource.CLOSED) setTimeout(connect, 5000);
  });
  on("state", (newState) => {
    setSkew(newState.now);
    // A new process has a new token.
    if (state && state.pid !== newState.pid) {
      location.reload();
      return;
    }
    state = { ...state, reloading: false, ...newState };
    showState();
    showTimes();
  });
  on("log", (added) => showLog(added, state?.mirrors?.length ?? 1));
  on("minutes", (added) => {
    for (const [minute, ...counts] of added.rows) minutes.set(minute, counts);
    for (const minute of minutes.keys()) if (minute < now() / 60 - DAY) minutes.delete(minute);
    spans = added.spans;
    showCharts();
  });
};

$("range").addEventListener("change", (event) => { hours = Number(event.target.value); showCharts(); });
setInterval(showTimes, 1000);
setInterval(showCharts, 15000);
connect();
