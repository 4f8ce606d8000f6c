"use strict";
// A list of one task's questions, of which only the visible rows exist, and the details of the selected question.
// Everything is inserted as text, never as markup. Blocks are decompressed when they are first needed.

const byId = (id) => document.getElementById(id);
const STATES = [["✓", "right", "right"], ["✗", "wrong", "wrong"], ["–", "unparsed", "unparsed"], ["…", "too long", "long"]];
const ROW_HEIGHT = 64, EXTRA_ROWS = 6, PASSAGES_OPEN = 2;
const number = (value) => value.toLocaleString("en");
const plural = (count, one) => `${number(count)} ${one}${count === 1 ? "" : "s"}`;
const withSpaces = (name) => name.replaceAll("_", " ");
const optionsIn = (choice) => [choice ?? []].flat(); // a choice is a list if several options may be right
const same = (one, other) => `${one}` === `${other}`;
const formatLetters = (choice) => optionsIn(choice).map(letter).join(", ");
const letter = (option) => (option < 26 ? String.fromCharCode(65 + option) : `${option + 1}`);

function element(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children.filter((child) => child !== null && child !== ""));
  return node;
}

// --- data ---

const decompressed = new Map();

function block(id) {
  if (!decompressed.has(id)) decompressed.set(id, decompress(byId(id).textContent));
  return decompressed.get(id);
}

async function decompress(encoded) {
  const bytes = Uint8Array.from(atob(encoded), (character) => character.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).json();
}

let contents, task, questions, visible, chosen, searchTexts;

// Texts beyond the page's size limit have no number.
async function loadText(place) {
  if (place === null) return `not on this page: see answers-${contents.tasks[task]}.jsonl`;
  let at = contents.firsts.length - 1;
  while (contents.firsts[at] > place) at -= 1;
  return (await block(`texts-${at}`))[place - contents.firsts[at]];
}

const loadTexts = (places) => Promise.all((places || []).map(loadText));

async function loadDetails(place) {
  const size = contents.questions_per_block;
  return (await block(`details-${task}-${Math.floor(place / size)}`))[place % size];
}

// --- the list ---

const titleAt = (place) => questions.documents[questions.document[place]];
const groupAt = (place) => questions.groups[questions.group[place]];

function fill(select, all, names) {
  select.replaceChildren(element("option", { value: "" }, all));
  names.forEach((name, at) => select.append(element("option", { value: at }, name)));
  select.hidden = names.length < 2;
}

function renderStates() {
  const counts = STATES.map((_, state) => questions.state.filter((each) => each === state).length);
  const entries = [["", "all", counts.reduce((sum, count) => sum + count, 0)]];
  STATES.forEach(([sign, name], state) => { if (counts[state] || state < 2) entries.push([state, `${sign} ${name}`, counts[state]]); });
  byId("states").replaceChildren(...entries.map(([state, name, count]) => {
    const button = element("button", { type: "button", "data-state": state, "aria-pressed": state === "" }, name, element("small", {}, number(count)));
    button.addEventListener("click", () => {
      for (const each of byId("states").children) each.setAttribute("aria-pressed", each === button);
      applyFilters();
    });
    return button;
  }));
}

function searchText(place) {
  searchTexts[place] ??= [questions.question[place], ...questions.choices[place], titleAt(place), questions.id[place]].join("\n").toLowerCase();
  return searchTexts[place];
}

function applyFilters() {
  const state = byId("states").querySelector("[aria-pressed=true]").dataset.state;
  const group = byId("group").value, title = byId("document").value;
  const words = byId("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  visible = [];
  for (let place = 0; place < questions.id.length; place++)
    if ((state === "" || questions.state[place] === Number(state))
      && (group === "" || questions.group[place] === Number(group))
      && (title === "" || questions.document[place] === Number(title))
      && words.every((word) => searchText(place).includes(word))) visible.push(place);
  byId("count").textContent = `${number(visible.length)} of ${plural(questions.id.length, "question")}`;
  byId("rows").style.height = `${visible.length * ROW_HEIGHT}px`;
  byId("list").scrollTop = 0;
  renderRows();
  return visible.includes(chosen) ? undefined : choose(visible.length ? visible[0] : null);
}

function renderRows() {
  const list = byId("list");
  const first = Math.max(0, Math.floor(list.scrollTop / ROW_HEIGHT) - EXTRA_ROWS);
  const last = Math.min(visible.length, Math.ceil((list.scrollTop + list.clientHeight) / ROW_HEIGHT) + EXTRA_ROWS);
  byId("rows").replaceChildren(...Array.from({ length: last - first }, (_, at) => row(first + at)));
}

function row(at) {
  const place = visible[at], [sign, name, kind] = STATES[questions.state[place]];
  const below = [titleAt(place), questions.groups.length > 1 ? withSpaces(groupAt(place)) : ""].filter(Boolean).join(" · ");
  const node = element("div", {
    class: "row", role: "option", id: `row-${place}`, style: `top: ${at * ROW_HEIGHT}px`, "aria-selected": place === chosen,
    "aria-setsize": visible.length, "aria-posinset": at + 1,
  }, element("span", { class: `state ${kind}`, title: name, "aria-label": name }, sign), element("b", {}, questions.question[place]), element("small", {}, below));
  node.addEventListener("click", () => choose(place));
  return node;
}

function step(event) {
  const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10, Home: -Infinity, End: Infinity };
  if (!(event.key in steps) || !visible.length) return;
  event.preventDefault();
  const at = Math.min(visible.length - 1, Math.max(0, visible.indexOf(chosen) + steps[event.key]));
  choose(visible[at]);
}

function scrollToChosen() {
  const list = byId("list"), top = visible.indexOf(chosen) * ROW_HEIGHT;
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
    detail.replaceChildren(element("p", { class: "faint" }, "No matching question."));
    return;
  }
  byId("list").setAttribute("aria-activedescendant", `row-${place}`);
  scrollToChosen();
  renderRows();
  history.replaceState(null, "", `#${encodeURIComponent(contents.tasks[task])}/${encodeURIComponent(questions.id[place])}`);
  const selected = task, parts = await renderDetails(place);
  if (chosen !== place || task !== selected) return; // another one was selected in the meantime
  detail.replaceChildren(...parts.flat());
  detail.scrollTop = 0;
}

async function renderDetails(place) {
  const details = await loadDetails(place);
  return [heading(place), options(place, details), thought(details), await samples(place, details), await source(details), await passages(details), await mentions(details)];
}

function heading(place) {
  const [sign, name, kind] = STATES[questions.state[place]];
  const notes = [withSpaces(groupAt(place)), titleAt(place)].filter(Boolean).join(" · ");
  return [
    element("div", {}, element("span", { class: `chip ${kind}` }, `${sign} ${name}`), " ", element("small", {}, notes, " · ", element("code", {}, questions.id[place]))),
    element("div", { class: "question" }, questions.question[place]),
  ];
}

function options(place, details) {
  const [right, chosen] = [optionsIn(questions.answer[place]), optionsIn(questions.choice[place])];
  const list = element("ol", { class: "options" });
  const shares = optionShares(details);
  questions.choices[place].forEach((text, at) => {
    const says = element("span", { class: "says" }, optionValue(details, at));
    if (right.includes(at)) says.append(element("span", { class: "tag right" }, "✓ right"));
    if (chosen.includes(at)) says.append(element("span", { class: `tag ${right.includes(at) ? "right" : "wrong"}` }, "● chosen"));
    const item = element("li", { class: `${right.includes(at) ? "key" : ""} ${chosen.includes(at) ? "chosen" : ""}` }, element("b", {}, letter(at)), element("span", { class: "text" }, text), says);
    if (shares) item.append(element("div", { class: "meter" }, element("i", { style: `width: ${(100 * shares[at]).toFixed(1)}%` })));
    list.append(item);
  });
  const notes = [];
  if (details.scores) notes.push("The bar is the option's share of the total likelihood; the number is its log-likelihood in nats.");
  if (details.choice_norm !== undefined && !same(details.choice_norm, questions.choice[place])) notes.push(`Normalized by length, ${formatLetters(details.choice_norm)} is the likeliest.`);
  if (questions.state[place] === 3) notes.push("The prompt exceeded the model's context; the question was not asked and counts as wrong.");
  return [list, notes.length ? element("p", { class: "faint" }, notes.join(" ")) : ""];
}

function optionShares(details) {
  if (details.votes) return details.votes.map((count) => count / details.samples_total);
  if (!details.scores) return null;
  const most = Math.max(...details.scores), likelihoods = details.scores.map((score) => Math.exp(score - most));
  const all = likelihoods.reduce((sum, each) => sum + each, 0);
  return likelihoods.map((each) => each / all);
}

const optionValue = (details, at) => (details.votes ? `${number(details.votes[at])} of ${number(details.samples_total)}` : details.scores ? details.scores[at].toFixed(2) : "");

function thought(details) {
  return details.thought ? [element("h3", {}, "Intermediate thought"), element("article", {}, element("p", { class: "body" }, details.thought))] : [];
}

async function samples(place, details) {
  if (!details.samples_total) return [];
  const unparsed = Object.entries(details.unparsed || {}).map(([reason, count]) => `${reason} ${number(count)}`);
  const texts = await loadTexts((details.samples || []).map(([, text]) => text));
  const notes = [`${texts.length} of ${plural(details.samples_total, "sample")} shown`, ...(unparsed.length ? [`without an option: ${unparsed.join(", ")}`] : [])].join("; ");
  return [element("h3", {}, "Samples"), element("p", { class: "faint" }, `${notes}.`), ...(details.samples || []).map(([choice], at) => {
    const kind = choice === null ? 2 : same(choice, questions.answer[place]) ? 0 : 1, [sign, name, color] = STATES[kind];
    const read = choice === null ? `${sign} ${name}` : `${sign} read as ${formatLetters(choice)}`;
    return element("article", {}, element("header", {}, element("span", {}, `sample ${at + 1}`), element("span", { class: `chip ${color}` }, read)), element("p", { class: "body" }, texts[at].trim() || "(empty)"));
  })];
}

async function source(details) {
  const texts = await loadTexts(details.evidence);
  return texts.length ? [element("h3", {}, texts.length > 1 ? `Evidence: ${texts.length} parts of the document` : "Evidence in the document"), ...texts.map((text) => element("article", {}, body(text, details)))] : [];
}

async function passages(details) {
  if (details.retrieved === undefined) return [];
  const withOrWithout = (name, included) => (included === undefined ? [] : [`${included ? "with" : "without"} ${name}`]);
  const notes = [...withOrWithout("a passage of its document", details.article_shown), ...withOrWithout("the evidence", details.evidence_shown)];
  const texts = await loadTexts(details.passages);
  return [
    element("h3", {}, `Retrieved: ${plural(details.retrieved, "passage")}${notes.length ? `, ${notes.join(", ")}` : ""}`),
    ...texts.map((text, at) => {
      const whole = element("article", {}, element("header", {}, `passage ${at + 1}`), body(text, details));
      return texts.length <= PASSAGES_OPEN ? whole : element("details", {}, element("summary", {}, `${at + 1}. ${text.slice(0, 110).replace(/\s+/g, " ")}…`), whole);
    }),
  ];
}

async function mentions(details) {
  if (!details.mentions) return [];
  const title = element("h3", {}, "The answer in the training texts");
  const { answer_names: answerNames, question_names: questionNames, texts, answer_mentions: answerMentions, joint_mentions: jointMentions, excerpts } = details.mentions;
  if (!answerNames) return [title, element("p", { class: "faint" }, "The right option contains no entity of its document.")];
  const words = await loadTexts(excerpts.map(([, , text]) => text));
  const notes = [element("mark", {}, answerNames.join(" · ")), ` occurs in ${number(answerMentions)} of ${plural(texts, "text")} about the document`];
  if (questionNames.length) notes.push(`, in ${number(jointMentions)} of them together with `, element("mark", { class: "also" }, questionNames.join(" or ")));
  return [title, element("p", {}, ...notes, "."), ...excerpts.map(([kind, about], at) =>
    element("article", {}, element("header", {}, element("bdi", {}, about.join(" · ")), element("span", {}, withSpaces(kind))), body(words[at], details)))];
}

// Marks the names of the answer and of the question, if known.
function body(text, details) {
  const { answer_names: answerNames, question_names: questionNames } = details.mentions || {};
  if (!answerNames) return element("p", { class: "body" }, text);
  const escaped = (name) => name.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
  const pattern = [...answerNames, ...questionNames].sort((a, b) => b.length - a.length).map(escaped).join("|");
  const marked = new Set(answerNames.map((name) => name.toLowerCase()));
  const pieces = text.split(new RegExp(`(?<![\\p{L}\\p{N}_])(${pattern})(?![\\p{L}\\p{N}_])`, "giu"));
  return element("p", { class: "body" }, ...pieces.map((piece, at) => (at % 2 ? element("mark", marked.has(piece.toLowerCase()) ? {} : { class: "also" }, piece) : piece)));
}

// --- switching tasks ---

async function showTask(at, id) {
  task = at;
  const listing = await block(`questions-${at}`);
  if (task !== at) return; // another one was selected in the meantime
  questions = listing;
  [searchTexts, chosen] = [[], null];
  [...byId("tasks").querySelectorAll("button")].forEach((button, each) => button.setAttribute("aria-pressed", each === at));
  document.querySelectorAll(".scores").forEach((section, each) => { section.hidden = each !== at; });
  renderStates();
  fill(byId("group"), "all kinds", questions.groups.map(withSpaces));
  fill(byId("document"), "all documents", questions.documents);
  byId("search").value = "";
  const place = questions.id.indexOf(id);
  chosen = place < 0 ? null : place;
  await applyFilters();
  if (place >= 0) await choose(place);
}

function fromAddress() {
  const [name, ...id] = location.hash.slice(1).split("/").map(decodeURIComponent);
  return [Math.max(0, contents.tasks.indexOf(name)), id.join("/")];
}

async function start() {
  contents = await block("contents");
  for (const part of [byId("filters"), document.querySelector(".browser")]) part.hidden = false;
  byId("tasks").hidden = contents.tasks.length < 2;
  [...byId("tasks").querySelectorAll("button")].forEach((button, at) => button.addEventListener("click", () => showTask(at)));
  for (const id of ["group", "document"]) byId(id).addEventListener("change", applyFilters);
  byId("search").addEventListener("input", applyFilters);
  byId("list").addEventListener("keydown", step);
  byId("list").addEventListener("scroll", renderRows);
  addEventListener("resize", renderRows);
  addEventListener("hashchange", () => showTask(...fromAddress()));
  await showTask(...fromAddress());
  document.documentElement.dataset.ready = Math.round(performance.now());
}

start();
