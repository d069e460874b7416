// The latest actions, grouped by pass, with a filter.

import { absolute, ago, bytes, make, now, plural, say, $ } from "./words.js";

const KEPT = 200;  // actions
const WORDS = { put: "uploaded", delete: "deleted", adopt: "adopted", forget: "forgotten", index: "indexed" };
const KINDS = { all: () => true, put: (each) => each.kind === "put", delete: (each) => each.kind === "delete", failed: (each) => each.outcome === "failed" };
let actions = [];
let several = false;  // mirrors

const rowOf = (action) => {
  const row = make("li");
  const failed = action.outcome === "failed";
  const what = make("span", `what ${failed ? "failed" : action.kind}`);
  const words = { done: WORDS[action.kind], failed: `${action.kind} failed`, again: `${action.kind} put off` };
  what.append(make("b", "", words[action.outcome]), action.kind === "index" ? "" : ` ${action.reason}`);
  const middle = make("div");
  middle.append(make("code", "key", action.key), what);
  row.append(middle, make("span", "size", action.size === null ? "" : bytes(action.size)));
  return row;
};

const sumOf = (group) => {
  const counts = new Map();
  for (const { kind, outcome } of group) {
    const word = outcome === "failed" ? "failed" : outcome === "again" ? "put off" : WORDS[kind];
    counts.set(word, (counts.get(word) ?? 0) + 1);
  }
  return [...counts].map(([word, count]) => `${count} ${word}`).join(", ");
};

const groupOf = (group) => {
  const root = make("section", "pass"), head = make("h3"), when = make("time"), list = make("ol");
  when.dateTime = new Date(group[0].at * 1000).toISOString();
  when.dataset.at = group[0].at;
  showAge(when);
  head.append(when, make("span", "muted", `${several ? `${group[0].mirror}: ` : ""}${sumOf(group)}`));
  list.append(...group.map(rowOf));
  root.append(head, list);
  return root;
};

const showAge = (node) => {
  const at = Number(node.dataset.at);
  node.title = `${absolute(at)}, ${ago(at)}`;
  say(node, now() - at < 60 ? ago(at) : absolute(at));
};

const draw = () => {
  const text = $("filter").value.trim().toLowerCase(), fits = KINDS[$("filter-kind").value];
  const groups = [];
  for (const action of actions) {
    if (!fits(action) || (text && !action.key.toLowerCase().includes(text))) continue;
    const last = groups.at(-1);
    if (last && last[0].pass === action.pass && last[0].mirror === action.mirror) last.push(action);
    else groups.push([action]);
  }
  $("actions").replaceChildren(...groups.map(groupOf));
  $("no-actions").hidden = groups.length > 0;
  say($("no-actions"), actions.length ? "No action fits the filter." : "None since the daemon started.");
  const found = groups.reduce((sum, group) => sum + group.length, 0);
  say($("latest-count"), found ? `${plural(found, "action")} in ${plural(groups.length, "pass", "passes")}` : "");
};

export const showActions = (added, mirrors) => {
  several = mirrors > 1;
  actions = [...added.slice(-KEPT).reverse(), ...actions].slice(0, KEPT);
  draw();
};

export const forgetActions = () => { actions = []; draw(); };
export const showActionTimes = () => { for (const each of $("actions").querySelectorAll("time")) showAge(each); };

$("filter").addEventListener("input", draw);
$("filter-kind").addEventListener("change", draw);
