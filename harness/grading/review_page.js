"use strict";
// Answers are hostile text: they enter the page as textContent alone.
const CLIPPED_AT = 10000;  // characters; a text of millions, as a loop writes it, would stop the browser
const byId = (id) => document.getElementById(id);
const labels = [...document.querySelectorAll("#choices button")].map((button) => button.dataset.label);
let items = [];
let place = 0;      // the item in view
let given = [];     // places in the order in which they were labelled, for undo
let saving = false;

const nextOpen = (from) => {
  for (let step = 0; step < items.length; step += 1) {
    const candidate = (from + step) % items.length;
    if (items[candidate].label === null) return candidate;
  }
  return -1;
};

function show() {
  const labelled = items.filter((item) => item.label !== null).length;
  const finished = labelled === items.length;
  byId("progress").max = items.length;
  byId("progress").value = labelled;
  byId("count").textContent = `${labelled} / ${items.length}`;
  byId("work").hidden = finished;
  byId("done").hidden = !finished;
  for (const button of document.querySelectorAll("#choices button, #skip")) button.disabled = finished || saving;
  byId("undo").disabled = saving || given.length === 0;
  if (finished) {
    byId("totals").replaceChildren(...[...labels, "skipped"].map((label) => {
      const entry = document.createElement("li");
      const button = document.querySelector(`#choices [data-label="${label}"] b`);
      const name = button ? button.textContent : "건너뜀 · skipped";
      entry.textContent = `${name}: ${items.filter((item) => item.label === label).length}`;
      return entry;
    }));
    return;
  }
  const item = items[place];
  byId("prompt").textContent = item.prompt;
  byId("answer").textContent = item.answer.slice(0, CLIPPED_AT);
  showRest(item.answer.length);
  byId("cut").hidden = !item.cut;
}

function showRest(length) {
  const shown = byId("answer").textContent.length;
  byId("rest").hidden = shown >= length;
  byId("rest").textContent = `더 보기 · Show more (${shown.toLocaleString()} / ${length.toLocaleString()})`;
}

function showMore() {
  const answer = items[place].answer;
  const shown = byId("answer").textContent.length;
  byId("answer").append(answer.slice(shown, shown + CLIPPED_AT));
  showRest(answer.length);
}

function complain(sentence, error) {
  byId("problem").textContent = `${sentence} (${error.message})`;
  byId("problem").hidden = false;
}

async function save(at, label) {
  if (saving) return false;
  saving = true;
  show();
  try {
    const response = await fetch("label", {
      method: "POST",
      headers: {"Content-Type": "application/json"},
      body: JSON.stringify({item: at, label}),
    });
    if (!response.ok) throw new Error(await response.text());
    items[at].label = label;
    byId("problem").hidden = true;
    return true;
  } catch (error) {
    complain("저장하지 못했습니다. 다시 눌러 주십시오. Not saved; please press again.", error);
    return false;
  } finally {
    saving = false;
  }
}

async function give(label) {
  if (place < 0) return;
  if (await save(place, label)) {
    given.push(place);
    place = nextOpen(place + 1);
    window.scrollTo(0, 0);
  }
  show();
}

async function undo() {
  if (given.length === 0) return;
  const last = given[given.length - 1];
  if (await save(last, null)) {
    given.pop();
    place = last;
    window.scrollTo(0, 0);
  }
  show();
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || byId("help").open) return;
  const key = event.key.toLowerCase();
  const number = Number.parseInt(event.code.replace(/^(Digit|Numpad)/, ""), 10);
  if (key === "?") byId("help").showModal();
  else if (event.code === "KeyU" || key === "backspace") undo();
  else if (event.code === "KeyS") give("skipped");
  else if (number >= 1 && number <= labels.length) give(labels[number - 1]);
  else return;
  event.preventDefault();
});
for (const button of document.querySelectorAll("#choices button")) {
  button.addEventListener("click", () => give(button.dataset.label));
}
byId("skip").addEventListener("click", () => give("skipped"));
byId("undo").addEventListener("click", undo);
byId("rest").addEventListener("click", showMore);
byId("help-button").addEventListener("click", () => byId("help").showModal());

async function begin() {
  const response = await fetch("items.json");
  if (!response.ok) throw new Error(String(response.status));
  const content = await response.json();
  items = content.items;
  given = content.order;
  place = nextOpen(0);
  show();
}

begin().catch((error) => complain("답변을 불러오지 못했습니다. 이 창을 새로 고치십시오. Not loaded; please reload.", error));
