"use strict";
// The questions of one task: a list to choose from, of which only the rows in view exist, and one question in full.
// Everything is written as text, never as markup. Blocks are inflated when something of them is first shown.

const byId = (id) => document.getElementById(id);
const STATES = [["✓", "right", "right"], ["✗", "wrong", "wrong"], ["–", "unparsed", "unparsed"], ["…", "too long", "long"]];
const ROW_HEIGHT = 64, ROWS_AROUND = 6, PASSAGES_OPEN = 2;
const number = (value) => value.toLocaleString("en");
const plural = (count, one) => `${number(count)} ${one}${count === 1 ? "" : "s"}`;
const spaced = (name) => name.replaceAll("_", " ");
const numbersOf = (choice) => [choice ?? []].flat(); // where several options may be right a choice is a list
const same = (one, other) => `${one}` === `${other}`;
const lettersOf = (choice) => numbersOf(choice).map(letter).join(", ");
const letter = (option) => (option < 26 ? String.fromCharCode(65 + option) : `${option + 1}`);

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children.filter((child) => child !== null && child !== ""));
  return made;
}

// --- what the page holds ---

const inflated = new Map();

function block(id) {
  if (!inflated.has(id)) inflated.set(id, inflate(byId(id).textContent));
  return inflated.get(id);
}

async function inflate(encoded) {
  const bytes = Uint8Array.from(atob(encoded), (character) => character.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).json();
}

let contents, task, questions, shown, chosen, haystacks;

// A text that the page has no room for has no number.
async function textOf(place) {
  if (place === null) return `not on this page: see answers-${contents.tasks[task]}.jsonl`;
  let at = contents.firsts.length - 1;
  while (contents.firsts[at] > place) at -= 1;
  return (await block(`texts-${at}`))[place - contents.firsts[at]];
}

const textsOf = (places) => Promise.all((places || []).map(textOf));

async function detailOf(place) {
  const size = contents.questions_a_block;
  return (await block(`details-${task}-${Math.floor(place / size)}`))[place % size];
}

// --- the list ---

const titleOf = (place) => questions.documents[questions.document[place]];
const groupOf = (place) => questions.groups[questions.group[place]];

function fill(select, all, names) {
  select.replaceChildren(element("option", { value: "" }, all));
  names.forEach((name, at) => select.append(element("option", { value: at }, name)));
  select.hidden = names.length < 2;
}

function fillStates() {
  const counts = STATES.map((_, state) => questions.state.filter((each) => each === state).length);
  const entries = [["", "all", counts.reduce((sum, count) => sum + count, 0)]];
  STATES.forEach(([sign, name], state) => { if (counts[state] || state < 2) entries.push([state, `${sign} ${name}`, counts[state]]); });
  byId("states").replaceChildren(...entries.map(([state, name, count]) => {
    const button = element("button", { type: "button", "data-state": state, "aria-pressed": state === "" }, name, element("small", {}, number(count)));
    button.addEventListener("click", () => {
      for (const each of byId("states").children) each.setAttribute("aria-pressed", each === button);
      narrow();
    });
    return button;
  }));
}

function haystack(place) {
  haystacks[place] ??= [questions.question[place], ...questions.choices[place], titleOf(place), questions.id[place]].join("\n").toLowerCase();
  return haystacks[place];
}

function narrow() {
  const state = byId("states").querySelector("[aria-pressed=true]").dataset.state;
  const group = byId("group").value, title = byId("document").value;
  const words = byId("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  shown = [];
  for (let place = 0; place < questions.id.length; place++)
    if ((state === "" || questions.state[place] === Number(state))
      && (group === "" || questions.group[place] === Number(group))
      && (title === "" || questions.document[place] === Number(title))
      && words.every((word) => haystack(place).includes(word))) shown.push(place);
  byId("count").textContent = `${number(shown.length)} of ${plural(questions.id.length, "question")}`;
  byId("rows").style.height = `${shown.length * ROW_HEIGHT}px`;
  byId("list").scrollTop = 0;
  drawRows();
  return shown.includes(chosen) ? undefined : choose(shown.length ? shown[0] : null);
}

function drawRows() {
  const list = byId("list");
  const first = Math.max(0, Math.floor(list.scrollTop / ROW_HEIGHT) - ROWS_AROUND);
  const last = Math.min(shown.length, Math.ceil((list.scrollTop + list.clientHeight) / ROW_HEIGHT) + ROWS_AROUND);
  byId("rows").replaceChildren(...Array.from({ length: last - first }, (_, at) => row(first + at)));
}

function row(at) {
  const place = shown[at], [sign, name, kind] = STATES[questions.state[place]];
  const below = [titleOf(place), questions.groups.length > 1 ? spaced(groupOf(place)) : ""].filter(Boolean).join(" · ");
  const made = element("div", {
    class: "row", role: "option", id: `row-${place}`, style: `top: ${at * ROW_HEIGHT}px`, "aria-selected": place === chosen,
    "aria-setsize": shown.length, "aria-posinset": at + 1,
  }, element("span", { class: `state ${kind}`, title: name, "aria-label": name }, sign), element("b", {}, questions.question[place]), element("small", {}, below));
  made.addEventListener("click", () => choose(place));
  return made;
}

function step(event) {
  const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10, Home: -Infinity, End: Infinity };
  if (!(event.key in steps) || !shown.length) return;
  event.preventDefault();
  const at = Math.min(shown.length - 1, Math.max(0, shown.indexOf(chosen) + steps[event.key]));
  choose(shown[at]);
}

function scrollToChosen() {
  const list = byId("list"), top = shown.indexOf(chosen) * ROW_HEIGHT;
  if (top < 0) return;
  if (top < list.scrollTop) list.scrollTop = top;
  if (top + ROW_HEIGHT > list.scrollTop + list.clientHeight) list.scrollTop = top + ROW_HEIGHT - list.clientHeight;
}

// --- one question ---

async function choose(place) {
  chosen = place;
  const detail = byId("detail");
  if (place === null) {
    byId("list").removeAttribute("aria-activedescendant");
    detail.replaceChildren(element("p", { class: "faint" }, "No such question."));
    return;
  }
  byId("list").setAttribute("aria-activedescendant", `row-${place}`);
  scrollToChosen();
  drawRows();
  history.replaceState(null, "", `#${encodeURIComponent(contents.tasks[task])}/${encodeURIComponent(questions.id[place])}`);
  const own = task, parts = await partsOf(place);
  if (chosen !== place || task !== own) return; // another was chosen meanwhile
  detail.replaceChildren(...parts.flat());
  detail.scrollTop = 0;
}

async function partsOf(place) {
  const found = await detailOf(place);
  return [heading(place), options(place, found), thought(found), await samples(place, found), await source(found), await passages(found), await mention(found)];
}

function heading(place) {
  const [sign, name, kind] = STATES[questions.state[place]];
  const told = [spaced(groupOf(place)), titleOf(place)].filter(Boolean).join(" · ");
  return [
    element("div", {}, element("span", { class: `chip ${kind}` }, `${sign} ${name}`), " ", element("small", {}, told, " · ", element("code", {}, questions.id[place]))),
    element("div", { class: "question" }, questions.question[place]),
  ];
}

function options(place, found) {
  const [right, chosen] = [numbersOf(questions.answer[place]), numbersOf(questions.choice[place])];
  const list = element("ol", { class: "options" });
  const shares = sharesOf(found);
  questions.choices[place].forEach((text, at) => {
    const says = element("span", { class: "says" }, saidOf(found, at));
    if (right.includes(at)) says.append(element("span", { class: "tag right" }, "✓ right"));
    if (chosen.includes(at)) says.append(element("span", { class: `tag ${right.includes(at) ? "right" : "wrong"}` }, "● chosen"));
    const item = element("li", { class: `${right.includes(at) ? "key" : ""} ${chosen.includes(at) ? "chosen" : ""}` }, element("b", {}, letter(at)), element("span", { class: "text" }, text), says);
    if (shares) item.append(element("div", { class: "meter" }, element("i", { style: `width: ${(100 * shares[at]).toFixed(1)}%` })));
    list.append(item);
  });
  const notes = [];
  if (found.scores) notes.push("The bar is an option's share of the likelihood of all; beside it, its log-likelihood in nats.");
  if (found.choice_norm !== undefined && !same(found.choice_norm, questions.choice[place])) notes.push(`Divided by length, ${lettersOf(found.choice_norm)} is the likeliest.`);
  if (questions.state[place] === 3) notes.push("The prompt did not fit the model's context: it was not asked, and the question counts as wrong.");
  return [list, notes.length ? element("p", { class: "faint" }, notes.join(" ")) : ""];
}

function sharesOf(found) {
  if (found.votes) return found.votes.map((count) => count / found.asked);
  if (!found.scores) return null;
  const most = Math.max(...found.scores), likelihoods = found.scores.map((score) => Math.exp(score - most));
  const all = likelihoods.reduce((sum, each) => sum + each, 0);
  return likelihoods.map((each) => each / all);
}

const saidOf = (found, at) => (found.votes ? `${number(found.votes[at])} of ${number(found.asked)}` : found.scores ? found.scores[at].toFixed(2) : "");

function thought(found) {
  return found.thought ? [element("h3", {}, "What it thought first"), element("article", {}, element("p", { class: "body" }, found.thought))] : [];
}

async function samples(place, found) {
  if (!found.asked) return [];
  const unparsed = Object.entries(found.unparsed || {}).map(([reason, count]) => `${reason} ${number(count)}`);
  const texts = await textsOf((found.samples || []).map(([, text]) => text));
  const told = [`${texts.length} of ${plural(found.asked, "sample")} in its own words`, ...(unparsed.length ? [`without an option: ${unparsed.join(", ")}`] : [])].join("; ");
  return [element("h3", {}, "What it said"), element("p", { class: "faint" }, `${told}.`), ...(found.samples || []).map(([choice], at) => {
    const kind = choice === null ? 2 : same(choice, questions.answer[place]) ? 0 : 1, [sign, name, color] = STATES[kind];
    const read = choice === null ? `${sign} ${name}` : `${sign} read as ${lettersOf(choice)}`;
    return element("article", {}, element("header", {}, element("span", {}, `sample ${at + 1}`), element("span", { class: `chip ${color}` }, read)), element("p", { class: "body" }, texts[at].trim() || "(nothing)"));
  })];
}

async function source(found) {
  const texts = await textsOf(found.evidence);
  return texts.length ? [element("h3", {}, texts.length > 1 ? `What answers it: ${texts.length} parts of its document` : "What answers it, in its document"), ...texts.map((text) => element("article", {}, body(text, found)))] : [];
}

async function passages(found) {
  if (found.retrieved === undefined) return [];
  const yes = (what, whether) => (whether === undefined ? [] : [`${whether ? "with" : "without"} ${what}`]);
  const told = [...yes("a passage of its document", found.article_shown), ...yes("what answers it", found.evidence_shown)];
  const texts = await textsOf(found.passages);
  return [
    element("h3", {}, `What it was shown: ${plural(found.retrieved, "passage")}${told.length ? `, ${told.join(", ")}` : ""}`),
    ...texts.map((text, at) => {
      const whole = element("article", {}, element("header", {}, `passage ${at + 1}`), body(text, found));
      return texts.length <= PASSAGES_OPEN ? whole : element("details", {}, element("summary", {}, `${at + 1}. ${text.slice(0, 110).replace(/\s+/g, " ")}…`), whole);
    }),
  ];
}

async function mention(found) {
  if (!found.mention) return [];
  const title = element("h3", {}, "Its answer in what the model was trained on");
  const { names, asked, texts, naming, together, shown: excerpts } = found.mention;
  if (!names) return [title, element("p", { class: "faint" }, "The right option names no entity of its document.")];
  const words = await textsOf(excerpts.map(([, , text]) => text));
  const told = [element("mark", {}, names.join(" · ")), ` stands in ${number(naming)} of ${plural(texts, "text")} about the document`];
  if (asked.length) told.push(`, in ${number(together)} of them together with `, element("mark", { class: "also" }, asked.join(" or ")));
  return [title, element("p", {}, ...told, "."), ...excerpts.map(([kind, about], at) =>
    element("article", {}, element("header", {}, element("bdi", {}, about.join(" · ")), element("span", {}, spaced(kind))), body(words[at], found)))];
}

// With the names of the answer marked, and those that are asked about, where they are known.
function body(text, found) {
  const { names, asked } = found.mention || {};
  if (!names) return element("p", { class: "body" }, text);
  const escaped = (name) => name.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
  const wanted = [...names, ...asked].sort((a, b) => b.length - a.length).map(escaped).join("|");
  const own = new Set(names.map((name) => name.toLowerCase()));
  const pieces = text.split(new RegExp(`(?<![\\p{L}\\p{N}_])(${wanted})(?![\\p{L}\\p{N}_])`, "giu"));
  return element("p", { class: "body" }, ...pieces.map((piece, at) => (at % 2 ? element("mark", own.has(piece.toLowerCase()) ? {} : { class: "also" }, piece) : piece)));
}

// --- from task to task ---

async function turnTo(at, id) {
  task = at;
  const found = await block(`questions-${at}`);
  if (task !== at) return; // another was chosen meanwhile
  questions = found;
  [haystacks, chosen] = [[], null];
  [...byId("tasks").querySelectorAll("button")].forEach((button, each) => button.setAttribute("aria-pressed", each === at));
  document.querySelectorAll(".scores").forEach((section, each) => { section.hidden = each !== at; });
  fillStates();
  fill(byId("group"), "all kinds", questions.groups.map(spaced));
  fill(byId("document"), "all documents", questions.documents);
  byId("search").value = "";
  const place = questions.id.indexOf(id);
  chosen = place < 0 ? null : place;
  await narrow();
  if (place >= 0) await choose(place);
}

function inAddress() {
  const [name, ...id] = location.hash.slice(1).split("/").map(decodeURIComponent);
  return [Math.max(0, contents.tasks.indexOf(name)), id.join("/")];
}

async function begin() {
  contents = await block("contents");
  for (const part of [byId("filters"), document.querySelector(".browser")]) part.hidden = false;
  byId("tasks").hidden = contents.tasks.length < 2;
  [...byId("tasks").querySelectorAll("button")].forEach((button, at) => button.addEventListener("click", () => turnTo(at)));
  for (const id of ["group", "document"]) byId(id).addEventListener("change", narrow);
  byId("search").addEventListener("input", narrow);
  byId("list").addEventListener("keydown", step);
  byId("list").addEventListener("scroll", drawRows);
  addEventListener("resize", drawRows);
  addEventListener("hashchange", () => turnTo(...inAddress()));
  await turnTo(...inAddress());
  document.documentElement.dataset.ready = Math.round(performance.now());
}

begin();
