// The problems of one mirror: by kind, the worst kind first; the files of a kind are fetched when it is opened.

import { ask, commandRow, make, number, order, plural, say, showList, tell } from "./words.js";

const SEARCH_FROM = 8;  // problems
const FIRST = 10, MORE = 50;  // rows
const PAUSE = 250;  // milliseconds after the last key

const explain = async (view, key, why, facts) => {
  facts.hidden = !facts.hidden;
  why.setAttribute("aria-expanded", String(!facts.hidden));
  if (facts.hidden) return;
  const told = await ask(view.name, "explain", { key });
  const lines = told.ok ? told.facts : [["error", told.error]];
  facts.replaceChildren(...lines.map(([name, value]) => {
    const line = make("div");
    line.append(make("dt", "", name), make("dd", "", value));
    return line;
  }));
};

const rowOf = (view, problem, group, repeated) => {
  const item = make("li"), head = make("div", "row"), acts = make("div", "row-acts");
  const why = make("button", "quiet", "Explain"), again = make("button", "quiet", "Retry");
  for (const each of [why, again]) {
    each.type = "button";
    each.dataset.live = "";
    each.setAttribute("aria-label", `${each.textContent}: ${problem.key}`);
  }
  why.setAttribute("aria-expanded", "false");
  const said = make("span", "said"), facts = make("dl", "explained");
  said.setAttribute("role", "status");
  facts.hidden = true;
  why.addEventListener("click", () => explain(view, problem.key, why, facts));
  again.hidden = group.harmless;
  again.addEventListener("click", async () => {
    const told = await order(view.name, "retry", { key: problem.key });
    tell(said, told.ok ? (told.count ? "It is due now." : "There is nothing to try again.") : told.error, !told.ok);
  });
  acts.append(said, why, again);
  head.append(make("code", "key", problem.key), acts);
  item.append(head);
  if (!repeated) item.append(make("p", "", problem.message));
  item.append(facts);
  return item;
};

// Two problems of a kind often differ in the name of the file only.
const plain = ({ key, message }) => message.replaceAll(key, "");

const groupOf = (view, group) => {
  const root = make("details", group.harmless ? "group harmless" : "group");
  const title = make("summary"), body = make("div", "group-body"), list = make("ul"), more = make("button", "", "");
  const acts = make("div", "group-acts"), all = make("button", "quiet", "Retry all of these"), said = make("span", "said");
  const count = make("b", "count");
  title.append(make("span", "title", group.title), count);
  all.type = more.type = "button";
  all.dataset.live = more.dataset.live = "";
  all.hidden = group.harmless;
  all.setAttribute("aria-label", `Retry all of these: ${group.title}`);
  said.setAttribute("role", "status");
  acts.append(all, said);
  body.append(acts, list, more);
  root.append(title, body);
  const made = { root, list, count, shown: 0, kind: group.kind };
  const fetchMore = async (from) => {
    const told = await ask(view.name, "problems", { kind: group.kind, q: view.text, offset: from, limit: from ? MORE : FIRST });
    if (!told.ok) { tell(said, told.error, true); return; }
    if (!from) made.last = null;
    const rows = told.problems.map((problem) => {
      const before = made.last;
      made.last = plain(problem);
      return rowOf(view, problem, group, before === made.last);
    });
    if (from) list.append(...rows); else list.replaceChildren(...rows);
    made.shown = from + rows.length;
    made.found = told.found;
    made.seen = `${group.count} ${view.text}`;
    say(count, number.format(told.found));
    root.hidden = view.text !== "" && told.found === 0;
    more.hidden = made.shown >= told.found;
    say(more, `Show ${number.format(Math.min(MORE, told.found - made.shown))} more of ${number.format(told.found)}`);
    if (from && rows.length) { rows[0].tabIndex = -1; rows[0].focus(); }
  };
  made.refresh = () => fetchMore(0);
  made.update = (told) => {
    const changed = group.count !== told.count;
    group.count = told.count;
    if (!view.text) say(count, number.format(told.count));
    if (changed && root.open && made.shown <= FIRST) fetchMore(0);
  };
  root.addEventListener("toggle", () => { if (root.open && made.seen !== `${group.count} ${view.text}`) fetchMore(0); });
  more.addEventListener("click", () => fetchMore(made.shown));
  all.addEventListener("click", async () => {
    const told = await order(view.name, "retry", { kind: group.kind });
    tell(said, told.ok ? `${plural(told.count, "file is", "files are")} due now.` : told.error, !told.ok);
  });
  say(count, number.format(group.count));
  more.hidden = true;
  return made;
};

export class Problems {
  constructor(name, box) {
    this.name = name;
    this.box = box;
    this.text = "";
    this.groups = new Map();
    this.search = box.querySelector("input");
    this.search.setAttribute("aria-label", `Search the problems of ${name}`);
    this.search.addEventListener("input", () => {
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.find(), PAUSE);
    });
  }

  async find() {
    this.text = this.search.value.trim();
    await Promise.all([...this.groups.values()].map((group) => group.refresh()));
    const found = [...this.groups.values()].reduce((sum, group) => sum + (group.found ?? 0), 0);
    for (const group of this.groups.values()) if (this.text && group.found) group.root.open = true;
    say(this.box.querySelector("[data-found]"), this.text ? `${number.format(found)} found` : "");
  }

  show(kinds) {
    const total = kinds.reduce((sum, group) => sum + group.count, 0);
    const bad = kinds.filter((group) => !group.harmless).reduce((sum, group) => sum + group.count, 0);
    this.box.hidden = total === 0;
    const parts = [bad ? plural(bad, "problem") : "", total - bad ? `${number.format(total - bad)} ignored on purpose` : ""];
    say(this.box.querySelector("[data-problems-title]"), parts.filter(Boolean).join(", "));
    this.search.parentElement.hidden = total < SEARCH_FROM;
    const list = this.box.querySelector("[data-groups]");
    for (const [kind, group] of this.groups) if (!kinds.some((each) => each.kind === kind)) { group.root.remove(); this.groups.delete(kind); }
    const first = this.groups.size === 0;
    kinds.forEach((told, place) => {
      if (!this.groups.has(told.kind)) {
        const made = groupOf(this, { ...told });
        this.groups.set(told.kind, made);
        list.insertBefore(made.root, list.children[place] ?? null);
        if (first && place === 0 && !told.harmless && told.count <= FIRST) made.root.open = true;
      }
      this.groups.get(told.kind).update(told);
    });
  }
}

export const showCommands = (node, commands) => showList(node, commands, commandRow);
