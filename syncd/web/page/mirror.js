// One mirror: how much is searchable, what is on the way, what is wrong.

import { Problems } from "./problems.js";
import { absolute, ago, copyOf, number, now, order, partsOf, say, showAnswer, showMoment, span, until } from "./words.js";

const cards = new Map();

export const harmful = (mirror) => mirror.problems.filter((group) => !group.harmless).reduce((sum, group) => sum + group.count, 0);
export const isEmpty = (mirror) => mirror.last_reconcile && mirror.state === "idle" && totalOf(mirror) === 0;
export const rank = (mirror) => ["halted", "degraded"].indexOf(mirror.state) + 1 || (harmful(mirror) || mirror.stuck ? 3 : 4);

const entriesOf = ({ index }) => Object.values(index).reduce((sum, count) => sum + count, 0);

// The files that should be at the remote and the entries that are still there, as far as they are known.
const sharesOf = (mirror) => {
  const { failed, rejected } = mirror.items, { in_step, uploading, waiting, ignored } = mirror.counts;
  const gone = Math.max(0, entriesOf(mirror) - in_step);
  // The deletes of these entries are among the waiting changes.
  const later = Math.max(0, waiting - gone), left = Math.max(0, gone - waiting);
  return { in_step, uploading: Math.max(0, uploading - left), waiting: later, failed, rejected: Math.max(0, rejected - ignored), gone };
};
// The numbers of a pass under way are of different moments, so their sum is wrong.
export const isGrowing = (mirror) => mirror.state === "syncing" && mirror.counts.uploading > 0;
export const totalOf = (mirror) => Object.values(sharesOf(mirror)).reduce((sum, share) => sum + share, 0);

const card = (name) => {
  const root = copyOf("mirror"), part = partsOf(root);
  part("name").textContent = name;
  root.setAttribute("aria-label", `Mirror ${name}`);
  root.id = `mirror-${name}`;
  for (const button of root.querySelectorAll(".acts button")) {
    button.setAttribute("aria-label", `${button.textContent}: ${name}`);
    button.addEventListener("click", async () => {
      const answer = await order(name, button.dataset.act);
      const good = button.dataset.act === "retry" ? "Asked to try failed items again." : "Asked for a full pass.";
      showAnswer(part("answer"), answer.ok ? good : answer.error, !answer.ok);
    });
  }
  return { root, part, problems: new Problems(name, part("problems")) };
};

const showBar = (name, box, shares, words, first) => {
  const meter = box.querySelector(".meter"), text = box.querySelector("p");
  const kinds = Object.keys(shares);
  if (meter.children.length !== kinds.length) meter.replaceChildren(...kinds.map((kind) => Object.assign(document.createElement("span"), { className: kind })));
  Object.values(shares).forEach((share, place) => { meter.children[place].style.flexGrow = share; });
  const counts = kinds.filter((kind) => shares[kind] || kind === first).map((kind) => `${number.format(shares[kind])} ${words[kind]}`).join(" · ");
  say(text, `${name}: ${counts}`);
  meter.setAttribute("aria-label", `${name}: ${counts}`);
};

const showLead = (refs, mirror) => {
  const total = totalOf(mirror), { counts, index } = mirror;
  const indexed = mirror.searchable !== null;
  const lead = indexed ? mirror.searchable : counts.in_step;
  say(refs.part("lead"), number.format(lead));
  const word = indexed ? "searchable" : "in step";
  say(refs.part("total"), isGrowing(mirror) ? `${word} so far` : total ? `of ${number.format(total)} ${word}` : word);
  refs.part("upload").hidden = total === 0;
  showBar(
    "Upload", refs.part("upload"),
    sharesOf(mirror),
    { in_step: "in step", uploading: "uploading", waiting: "waiting", failed: "failed", rejected: "rejected", gone: "still there without a file" },
    "in_step",
  );
  refs.part("index").hidden = !indexed || entriesOf(mirror) === 0;
  showBar(
    "Index", refs.part("index"),
    { completed: index.completed, running: index.running, queued: index.queued, error: index.error, skipped: index.skipped, outdated: index.outdated },
    { completed: "searchable", running: "being indexed", queued: "queued", error: "could not be indexed", skipped: "left out by the index", outdated: "outdated" },
    "completed",
  );
};

const toGo = (mirror) => {
  if (!mirror.remaining) return "";
  const left = mirror.until === null ? "" : `, about ${span(Math.max(1, mirror.until - now()))} left`;
  return `, ${number.format(mirror.remaining)} to go${left}`;
};

const stateText = (mirror, lost) => {
  if (lost) return `last known: ${mirror.state}`;
  if (isEmpty(mirror)) return "idle, nothing to mirror";
  const first = mirror.state === "syncing" && !mirror.last_reconcile ? ", first pass" : "";
  return mirror.state + first + toGo(mirror);
};

const jobText = (job) => {
  if (!job || job.kind !== "approve") return "";
  return job.running ? "Deleting what was approved…" : `${absolute(job.ended_at)}: ${job.text}`;
};

const showMirror = (mirror) => {
  const refs = cards.get(mirror.name);
  refs.root.dataset.is = mirror.state;
  say(refs.part("path"), mirror.path);
  say(refs.part("target"), mirror.target);
  showLead(refs, mirror);
  const note = refs.part("note");
  const stuck = mirror.stuck ? `${number.format(mirror.stuck.count)} stored for over half an hour and still not searchable. ` : "";
  const watching = mirror.watch_detail ? `Watching: ${mirror.watch_detail}` : "";
  const empty = isEmpty(mirror) ? "The folder is empty, or the rules leave everything in it out: syncd check --excludes" : "";
  note.hidden = !(stuck || watching || empty);
  say(note, stuck + watching + empty);
  say(refs.part("watch"), mirror.watch === "off" ? "full passes only" : mirror.watch === "poll" ? "polling" : mirror.watch);
  // The headline already shows the reason of a present trouble.
  refs.part("error-line").hidden = !mirror.last_error || rank(mirror) < 3;
  say(refs.part("error"), mirror.last_error?.text ?? "");
  const job = refs.part("job");
  job.hidden = !jobText(mirror.job);
  job.classList.toggle("bad", Boolean(mirror.job && !mirror.job.running && !mirror.job.good));
  say(job, jobText(mirror.job));
  refs.part("retry").hidden = harmful(mirror) === 0;
  refs.problems.show(mirror.problems);
};

export const showMirrors = (box, mirrors) => {
  const names = new Set(mirrors.map((mirror) => mirror.name));
  for (const [name, refs] of cards) if (!names.has(name)) { refs.root.remove(); cards.delete(name); }
  for (const mirror of mirrors) if (!cards.has(mirror.name)) cards.set(mirror.name, card(mirror.name));
  const roots = mirrors.map((mirror) => cards.get(mirror.name).root);
  // A card that moves loses the keyboard focus, so the cards move only if their order has changed.
  if (roots.some((root, place) => box.children[place] !== root)) box.replaceChildren(...roots);
  mirrors.forEach(showMirror);
};

export const showMirrorTimes = (mirrors, lost) => {
  for (const mirror of mirrors) {
    const refs = cards.get(mirror.name);
    say(refs.part("state-text"), stateText(mirror, lost));
    const last = mirror.last_reconcile && Date.parse(mirror.last_reconcile) / 1000;
    showMoment(refs.part("last"), last, mirror.state === "syncing" ? "the first is under way" : "never");
    const none = lost ? "not known" : mirror.state === "syncing" ? "under way" : "not planned";
    showMoment(refs.part("next"), lost ? null : mirror.full_at, none, until);
    showMoment(refs.part("oldest"), mirror.oldest_at, mirror.items.pending ? "found by this pass" : "nothing waits", (at) => span(now() - at));
    if (mirror.last_error) say(refs.part("error-at"), ago(mirror.last_error.at));
  }
};
