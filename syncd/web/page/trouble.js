// What is wrong now, why, and what to do: for each mirror in trouble, and for a daemon that is gone.

import { showCommands } from "./problems.js";
import { absolute, ago, ask, commandRow, copyOf, make, now, number, order, partsOf, plural, say, showAnswer, showList, until, $ } from "./words.js";

const GONE = ["systemctl status syncd", "journalctl -u syncd -n 50"];
const items = new Map();
let latest = [];
let shown = null;  // the mirror whose plan the dialog shows
let waitingFor = 0;  // the number of the last job before the one that was asked for

const itemOf = (name) => {
  const root = copyOf("trouble-one"), part = partsOf(root);
  part("preview").addEventListener("click", () => openPlan(name));
  part("preview").setAttribute("aria-label", `${part("preview").textContent} ${name}`);
  part("again").setAttribute("aria-label", `${part("again").textContent}: ${name}`);
  part("again").addEventListener("click", async () => {
    const answer = await order(name, "reconcile");
    showAnswer(part("answer"), answer.ok ? "Trying now." : answer.error, !answer.ok);
  });
  return { root, part };
};

const lastJob = (name) => latest.find((mirror) => mirror.name === name)?.job?.number ?? 0;

const nextOf = ({ state, plan_id, next_at }) => {
  if (plan_id) return "Nothing is deleted until you approve. Uploads go on.";
  if (!next_at) return "";
  const when = next_at - now() < 1 ? "Trying now." : `Next try ${until(next_at)}, at ${absolute(next_at)}.`;
  return state === "degraded" ? `${when} Nothing is lost: what waits goes up when it succeeds.` : when;
};

export const showTrouble = (mirrors, lostAt) => {
  latest = mirrors;
  const troubled = lostAt ? [] : mirrors.filter((mirror) => ["halted", "degraded"].includes(mirror.state));
  const box = $("trouble");
  for (const [name, refs] of items) if (!troubled.some((mirror) => mirror.name === name)) { refs.root.remove(); items.delete(name); }
  for (const mirror of troubled) {
    if (!items.has(mirror.name)) {
      items.set(mirror.name, itemOf(mirror.name));
      box.append(items.get(mirror.name).root);
    }
    const refs = items.get(mirror.name);
    refs.root.dataset.is = mirror.state;
    refs.part("who").hidden = mirrors.length === 1;
    say(refs.part("who"), `${mirror.name} is ${mirror.state}`);
    say(refs.part("why"), mirror.detail ?? "");
    showCommands(refs.part("remedies"), mirror.remedies.length ? mirror.remedies : ["syncd check"]);
    refs.part("preview").hidden = !mirror.plan_id;
    refs.part("again").hidden = Boolean(mirror.plan_id);
    say(refs.part("next"), nextOf(mirror));
  }
  box.hidden = troubled.length === 0;
  showGone(mirrors, lostAt);
  const planned = mirrors.find((mirror) => mirror.name === shown);
  if (shown && planned) followPlan(planned);
};

const showGone = (mirrors, lostAt) => {
  $("gone").hidden = !lostAt;
  if (!lostAt) return;
  say($("gone-why"), `The daemon has ended, or the tunnel to it is closed. The page shows what was so at ${absolute(lostAt)} (${ago(lostAt)}), and goes on trying.`);
  showList($("gone-remedies"), GONE, commandRow);
};

// -- the plan that the delete guard has refused

const dialog = $("plan"), part = partsOf(dialog);

const openPlan = (name) => {
  shown = name;
  say(part("plan-title"), `What would be deleted: ${name}`);
  if (!dialog.open) dialog.showModal();
  look();
};

const look = async () => {
  part("yes").hidden = part("look").hidden = true;
  part("plan-list").replaceChildren();
  part("plan-more").replaceChildren();
  say(part("plan-text"), "Comparing the folder with the target. This changes nothing…");
  waitingFor = lastJob(shown);
  const answer = await order(shown, "plan");
  if (!answer.ok) failed(answer.error);
};

const failed = (text) => {
  waitingFor = Infinity;
  say(part("plan-text"), text);
  part("yes").hidden = true;
  part("look").hidden = false;
};

const followPlan = async ({ name, job }) => {
  if (!job || job.running || job.number <= waitingFor || !dialog.open) return;
  waitingFor = job.number;
  if (!job.good) { failed(job.text); return; }
  if (job.kind === "approve") { dialog.close(); return; }
  const plan = await ask(name, "plan");
  if (!plan.ok) { failed(plan.error); return; }
  const puts = plan.puts ? ` ${plural(plan.puts, "file")} would be uploaded.` : "";
  if (!plan.deletes) { failed(`Nothing would be deleted any more.${puts}`); return; }
  const guard = plan.refused ? "" : " The delete guard lets the next pass do this.";
  say(part("plan-text"), `${plural(plan.deletes, "entry", "entries")} would be deleted from the target.${puts}${guard}`);
  part("plan-list").replaceChildren(...plan.first.map(({ key, reason }) => {
    const row = make("li");
    row.append(make("code", "key", key), make("span", "muted", REASONS[reason] ?? reason));
    return row;
  }));
  const more = plan.deletes - plan.first.length;
  if (more > 0) part("plan-more").replaceChildren(make("p", "muted", `and ${number.format(more)} more. All of them:`), commandRow(`syncd plan ${name}`));
  part("yes").hidden = false;
  part("yes").dataset.plan = plan.plan_id;
  say(part("yes"), `Delete ${plan.deletes === 1 ? "this entry" : `these ${number.format(plan.deletes)} entries`}`);
};

const REASONS = { stale: "its file is gone", orphan: "it has no file", gone: "its file is gone" };

part("yes").addEventListener("click", async () => {
  waitingFor = lastJob(shown);
  part("yes").hidden = true;
  say(part("plan-text"), "Deleting exactly this plan…");
  const answer = await order(shown, "approve", { plan: part("yes").dataset.plan });
  if (!answer.ok) failed(answer.error);
});
part("look").addEventListener("click", look);
part("no").addEventListener("click", () => dialog.close());
dialog.addEventListener("close", () => { shown = null; });
