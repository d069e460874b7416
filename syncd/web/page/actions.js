// The latest actions and problems, grouped by pass, with a filter.

import { absolute, ago, make, now, number, plural, say, $ } from "./words.js";

const KEPT = 300;  // entries
const FIRST = 6;  // rows of a pass
const DONE = { put: "uploaded", delete: "deleted", adopt: "adopted", forget: "forgotten" };
const COUNTS = { ...DONE, failed: "failed", waiting: "waiting", problems: "with a problem", unchanged: "unchanged" };
const bad = (entry) => entry.kind === "problem" || entry.outcome === "failed";
const KINDS = { all: () => true, put: (entry) => entry.kind === "put", delete: (entry) => entry.kind === "delete", bad };
const opened = new Set();  // passes whose rows are all shown
let entries = [];  // the newest first
let several = false;  // mirrors

const idOf = (entry) => `${entry.mirror} ${entry.pass}`;
const at = (entry) => Date.parse(entry.time) / 1000;

const showAge = (node) => {
  const moment = Number(node.dataset.at);
  node.title = `${absolute(moment)}, ${ago(moment)}`;
  say(node, now() - moment < 60 ? ago(moment) : absolute(moment));
};

// The details of two files often differ in the name only.
const plain = (entry) => (bad(entry) ? entry.detail.replaceAll(entry.key, "") : "");

const rowOf = (entry, place, rows) => {
  const row = make("li"), what = make("span", `what ${bad(entry) ? "failed" : entry.kind}`);
  const word = entry.kind === "problem" ? entry.reason.replaceAll("_", " ") : entry.outcome === "failed" ? `${entry.kind} failed` : DONE[entry.kind];
  what.append(make("b", "", word), entry.kind === "problem" ? "" : ` ${entry.reason}`);
  row.append(make("code", "key", entry.key), what);
  if (bad(entry) && entry.detail && (!place || plain(rows[place - 1]) !== plain(entry))) row.append(make("p", "", entry.detail));
  return row;
};

const seconds = (ended) => {
  const took = Math.max(0, (Date.parse(ended.time) - Date.parse(ended.began)) / 1000);
  return `${took < 10 ? took.toFixed(1) : Math.round(took)} s`;
};

const countsOf = (counts) => Object.entries(COUNTS).filter(([kind]) => counts[kind]).map(([kind, word]) => `${number.format(counts[kind])} ${word}`);

const sumOf = ({ ended, rows }) => {
  if (ended) {
    const scope = ended.scope === "all" ? "Full pass" : plural(ended.scope, "change");
    const times = ended.times > 1 ? `, ${number.format(ended.times)} times` : "";
    const counts = countsOf(ended.counts);
    return `${scope}: ${[...(counts.length ? counts : ["nothing to do"]), seconds(ended)].join(", ")}${times}`;
  }
  const counts = {};
  for (const row of rows) {
    const kind = row.kind === "problem" ? "problems" : row.outcome === "failed" ? "failed" : row.kind;
    counts[kind] = (counts[kind] ?? 0) + 1;
  }
  return countsOf(counts).join(", ");
};

const drawGroup = (group) => {
  const { ended, rows, id } = group, root = make("section", "pass"), head = make("h3"), when = make("time"), list = make("ol");
  const moment = at(ended ?? rows[0]);
  when.dateTime = new Date(moment * 1000).toISOString();
  when.dataset.at = moment;
  showAge(when);
  head.append(when, make("span", "muted", `${several ? `${(ended ?? rows[0]).mirror}. ` : ""}${sumOf(group)}`));
  root.append(head);
  if (ended && ended.outcome !== "done") root.append(make("p", "stopped", `${ended.outcome}: ${ended.detail}`));
  else if (ended?.detail) root.append(make("p", "", ended.detail));
  if (!rows.length) return root;
  const all = rows.length <= FIRST + 1 || opened.has(id);
  list.append(...(all ? rows : rows.slice(0, FIRST)).map(rowOf));
  root.append(list);
  if (!all) {
    const more = make("button", "quiet", `Show ${number.format(rows.length - FIRST)} more of this pass`);
    more.type = "button";
    more.addEventListener("click", () => {
      list.append(...rows.map(rowOf).slice(FIRST));
      opened.add(id);
      list.children[FIRST].tabIndex = -1;
      list.children[FIRST].focus();
      more.remove();
    });
    root.append(more);
  }
  return root;
};

const draw = () => {
  const text = $("filter").value.trim().toLowerCase(), kind = $("filter-kind").value, filtered = text || kind !== "all";
  const groups = new Map();
  for (const entry of entries) {
    const id = idOf(entry);
    if (!groups.has(id)) groups.set(id, { id, ended: null, rows: [] });
    if (entry.kind === "pass") groups.get(id).ended = entry;
    else if (KINDS[kind](entry) && (!text || entry.key.toLowerCase().includes(text))) groups.get(id).rows.push(entry);
  }
  const shown = [...groups.values()].filter((group) => group.rows.length || !filtered);
  $("actions").replaceChildren(...shown.map(drawGroup));
  $("no-actions").hidden = shown.length > 0;
  say($("no-actions"), entries.length ? "Nothing fits the filter." : "Nothing was done in the last seven days.");
  const found = shown.reduce((sum, group) => sum + group.rows.length, 0);
  say($("latest-count"), shown.length ? `${found ? `${number.format(found)} in ` : ""}${plural(shown.length, "pass", "passes")}` : "");
};

export const showLog = (added, mirrors) => {
  several = mirrors > 1;
  // A pass that stops again for the same reason replaces the one before.
  const repeated = new Set(added.filter((entry) => entry.kind === "pass" && entry.times > 1).map((entry) => `${entry.mirror} ${entry.began}`));
  const kept = entries.filter((entry) => entry.kind !== "pass" || !repeated.has(`${entry.mirror} ${entry.began}`));
  entries = [...added.reverse(), ...kept].slice(0, KEPT);
  draw();
};

export const forgetLog = () => { entries = []; draw(); };
export const showLogTimes = () => { for (const time of $("actions").querySelectorAll("time")) showAge(time); };

$("filter").addEventListener("input", draw);
$("filter-kind").addEventListener("change", draw);
