// The problems of one mirror: by kind, the worst kind first; the files of a kind are fetched when it is opened.

import { ask, commandRow, make, number, order, plural, say, showAnswer, showList } from "./words.js";

const SEARCH_FROM = 8;  // problems
const FIRST = 10, MORE = 50;  // rows
const PAUSE = 250;  // milliseconds after the last key

const explain = async (view, key, why, facts) => {
  facts.hidden = !facts.hidden;
  why.setAttribute("aria-expanded", String(!facts.hidden));
  if (facts.hidden) return;
  const answer = await ask(view.name, "explain", { key });
  const lines = answer.ok ? answer.facts : [["error", answer.error]];
  facts.replaceChildren(...lines.map(([name, value]) => {
    const line = make("div");
    line.append(make("dt", "", name), make("dd", "", value));
    return line;
  }));
};

const rowOf = (view, problem, group, repeated) => {
  const item = make("li"), head = make("div", "row"), acts = make("div", "row-acts");
  const why = make("button", "quiet", "Explain"), again = make("button", "quiet", "Retry");
  for (const button of [why, again]) {
    button.type = "button";
    button.dataset.live = "";
    button.setAttribute("aria-label", `${button.textContent}: ${problem.key}`);
  }
  why.setAttribute("aria-expanded", "false");
  const answerText = make("span", "answer"), facts = make("dl", "explained");
  answerText.setAttribute("role", "status");
  facts.hidden = true;
  why.addEventListener("click", () => explain(view, problem.key, why, facts));
  again.hidden = group.harmless;
  again.addEventListener("click", async () => {
    const answer = await order(view.name, "retry", { key: problem.key });
    const good = answer.count ? "It is due now." : "There is nothing to try again.";
    showAnswer(answerText, answer.ok ? good : answer.error, !answer.ok);
  });
  acts.append(answerText, why, again);
  head.append(make("code", "key", problem.key), acts);
  item.append(head);
  if (!repeated) item.append(make("p", "", problem.message));
  item.append(facts);
  return item;
};

// Two problems of a kind often differ in the name of the file only.
const plain = ({ key, message }) => message.replaceAll(key, "");

const sectionOf = (view, group) => {
  const root = make("details", group.harmless ? "group harmless" : "group");
  const title = make("summary"), body = make("div", "group-body"), list = make("ul"), more = make("button", "", "");
  const acts = make("div", "group-acts"), all = make("button", "quiet", "Retry all of these"), answerText = make("span", "answer");
  const count = make("b", "count");
  title.append(make("span", "title", group.title), count);
  all.type = more.type = "button";
  all.dataset.live = more.dataset.live = "";
  all.hidden = group.harmless;
  all.setAttribute("aria-label", `Retry all of these: ${group.title}`);
  answerText.setAttribute("role", "status");
  acts.append(all, answerText);
  body.append(acts, list, more);
  root.append(title, body);
  const section = { root, list, count, shown: 0, kind: group.kind };
  const fetchMore = async (from) => {
    const answer = await ask(view.name, "problems", { kind: group.kind, q: view.text, offset: from, limit: from ? MORE : FIRST });
    if (!answer.ok) { showAnswer(answerText, answer.error, true); return; }
    if (!from) section.last = null;
    const rows = answer.problems.map((problem) => {
      const before = section.last;
      section.last = plain(problem);
      return rowOf(view, problem, group, before === section.last);
    });
    if (from) list.append(...rows); else list.replaceChildren(...rows);
    section.shown = from + rows.length;
    section.found = answer.found;
    section.fetched = `${group.count} ${view.text}`;
    say(count, number.format(answer.found));
    root.hidden = view.text !== "" && answer.found === 0;
    more.hidden = section.shown >= answer.found;
    say(more, `Show ${number.format(Math.min(MORE, answer.found - section.shown))} more of ${number.format(answer.found)}`);
    if (from && rows.length) { rows[0].tabIndex = -1; rows[0].focus(); }
  };
  section.refresh = () => fetchMore(0);
  section.update = (newGroup) => {
    const changed = group.count !== newGroup.count;
    group.count = newGroup.count;
    if (!view.text) say(count, number.format(group.count));
    if (changed && root.open && section.shown <= FIRST) fetchMore(0);
  };
  root.addEventListener("toggle", () => { if (root.open && section.fetched !== `${group.count} ${view.text}`) fetchMore(0); });
  more.addEventListener("click", () => fetchMore(section.shown));
  all.addEventListener("click", async () => {
    const answer = await order(view.name, "retry", { kind: group.kind });
    showAnswer(answerText, answer.ok ? `${plural(answer.count, "file is", "files are")} due now.` : answer.error, !answer.ok);
  });
  say(count, number.format(group.count));
  more.hidden = true;
  return section;
};

export class Problems {
  constructor(name, box) {
    this.name = name;
    this.box = box;
    this.text = "";
    this.sections = new Map();
    this.search = box.querySelector("input");
    this.search.setAttribute("aria-label", `Search the problems of ${name}`);
    this.search.addEventListener("input", () => {
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.find(), PAUSE);
    });
  }

  async find() {
    this.text = this.search.value.trim();
    const sections = [...this.sections.values()];
    await Promise.all(sections.map((section) => section.refresh()));
    const found = sections.reduce((sum, section) => sum + (section.found ?? 0), 0);
    for (const section of sections) if (this.text && section.found) section.root.open = true;
    say(this.box.querySelector("[data-found]"), this.text ? `${number.format(found)} found` : "");
  }

  show(groups) {
    const total = groups.reduce((sum, group) => sum + group.count, 0);
    const bad = groups.filter((group) => !group.harmless).reduce((sum, group) => sum + group.count, 0);
    this.box.hidden = total === 0;
    const parts = [bad ? plural(bad, "problem") : "", total - bad ? `${number.format(total - bad)} ignored on purpose` : ""];
    say(this.box.querySelector("[data-problems-title]"), parts.filter(Boolean).join(", "));
    this.search.parentElement.hidden = total < SEARCH_FROM;
    const list = this.box.querySelector("[data-groups]");
    for (const [kind, section] of this.sections) if (!groups.some((group) => group.kind === kind)) { section.root.remove(); this.sections.delete(kind); }
    const first = this.sections.size === 0;
    groups.forEach((group, place) => {
      if (!this.sections.has(group.kind)) {
        const section = sectionOf(this, { ...group });
        this.sections.set(group.kind, section);
        list.insertBefore(section.root, list.children[place] ?? null);
        if (first && place === 0 && !group.harmless && group.count <= FIRST) section.root.open = true;
      }
      this.sections.get(group.kind).update(group);
    });
  }
}

export const showCommands = (node, commands) => showList(node, commands, commandRow);
