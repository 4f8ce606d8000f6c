"use strict";
// A list of one task's questions, of which only the visible rows exist, and the details of the selected question.
// Everything is inserted as text, never as markup. Blocks are decompressed when they are first needed.

const byId = (id) => document.getElementById(id);
const STATES = [["✓", "correct", "correct"], ["✗", "incorrect", "incorrect"], ["–", "unparsed", "unparsed"], ["…", "too long", "long"], ["–", "not attempted", "unparsed"]];
const ROW_HEIGHT = 64, EXTRA_ROWS = 6, PASSAGES_OPEN = 2;
const number = (value) => value.toLocaleString("en");
const plural = (count, noun) => `${number(count)} ${noun}${count === 1 ? "" : "s"}`;
const withSpaces = (name) => name.replaceAll("_", " ");
const optionsIn = (choice) => [choice ?? []].flat(); // a choice is a list if several choices may be correct
const sameChoice = (first, second) => `${first}` === `${second}`;
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

let contents, task, questions, visible, selected, searchTexts;

// Texts beyond the page's size limit have no number.
async function loadText(textNumber) {
  if (textNumber === null) return `not on this page: see answers-${contents.tasks[task]}.jsonl`;
  let last = contents.block_starts.length - 1;
  while (contents.block_starts[last] > textNumber) last -= 1;
  return (await block(`texts-${last}`))[textNumber - contents.block_starts[last]];
}

const loadTexts = (textNumbers) => Promise.all((textNumbers || []).map(loadText));

async function loadDetails(index) {
  const size = contents.questions_per_block;
  return (await block(`details-${task}-${Math.floor(index / size)}`))[index % size];
}

// --- the list ---

const titleAt = (index) => questions.documents[questions.document[index]];
const groupAt = (index) => questions.groups[questions.group[index]];

function fillSelect(select, labelForAll, names) {
  select.replaceChildren(element("option", { value: "" }, labelForAll));
  names.forEach((name, position) => select.append(element("option", { value: position }, name)));
  select.hidden = names.length < 2;
}

function renderStates() {
  const counts = STATES.map((_, state) => questions.state.filter((value) => value === state).length);
  const entries = [["", "all", counts.reduce((sum, count) => sum + count, 0)]];
  STATES.forEach(([sign, name], state) => { if (counts[state] || state < 2) entries.push([state, `${sign} ${name}`, counts[state]]); });
  byId("states").replaceChildren(...entries.map(([state, name, count]) => {
    const button = element("button", { type: "button", "data-state": state, "aria-pressed": state === "" }, name, element("small", {}, number(count)));
    button.addEventListener("click", () => {
      for (const other of byId("states").children) other.setAttribute("aria-pressed", other === button);
      applyFilters();
    });
    return button;
  }));
}

function searchText(index) {
  searchTexts[index] ??= [questions.question[index], ...questions.choices[index], titleAt(index), questions.id[index]].join("\n").toLowerCase();
  return searchTexts[index];
}

function applyFilters() {
  const state = byId("states").querySelector("[aria-pressed=true]").dataset.state;
  const group = byId("group").value, title = byId("document").value;
  const words = byId("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  visible = [];
  for (let index = 0; index < questions.id.length; index++)
    if ((state === "" || questions.state[index] === Number(state))
      && (group === "" || questions.group[index] === Number(group))
      && (title === "" || questions.document[index] === Number(title))
      && words.every((word) => searchText(index).includes(word))) visible.push(index);
  byId("count").textContent = `${number(visible.length)} of ${plural(questions.id.length, "question")}`;
  byId("rows").style.height = `${visible.length * ROW_HEIGHT}px`;
  byId("list").scrollTop = 0;
  renderRows();
  return visible.includes(selected) ? undefined : selectQuestion(visible.length ? visible[0] : null);
}

function renderRows() {
  const list = byId("list");
  const first = Math.max(0, Math.floor(list.scrollTop / ROW_HEIGHT) - EXTRA_ROWS);
  const last = Math.min(visible.length, Math.ceil((list.scrollTop + list.clientHeight) / ROW_HEIGHT) + EXTRA_ROWS);
  byId("rows").replaceChildren(...Array.from({ length: last - first }, (_, position) => row(first + position)));
}

function row(position) {
  const index = visible[position], [sign, name, kind] = STATES[questions.state[index]];
  const subtitle = [titleAt(index), questions.groups.length > 1 ? withSpaces(groupAt(index)) : ""].filter(Boolean).join(" · ");
  const node = element("div", {
    class: "row", role: "option", id: `row-${index}`, style: `top: ${position * ROW_HEIGHT}px`, "aria-selected": index === selected,
    "aria-setsize": visible.length, "aria-posinset": position + 1,
  }, element("span", { class: `state ${kind}`, title: name, "aria-label": name }, sign), element("b", {}, questions.question[index]), element("small", {}, subtitle));
  node.addEventListener("click", () => selectQuestion(index));
  return node;
}

function moveSelection(event) {
  const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10, Home: -Infinity, End: Infinity };
  if (!(event.key in steps) || !visible.length) return;
  event.preventDefault();
  const position = Math.min(visible.length - 1, Math.max(0, visible.indexOf(selected) + steps[event.key]));
  selectQuestion(visible[position]);
}

function scrollToSelected() {
  const list = byId("list"), top = visible.indexOf(selected) * ROW_HEIGHT;
  if (top < 0) return;
  if (top < list.scrollTop) list.scrollTop = top;
  if (top + ROW_HEIGHT > list.scrollTop + list.clientHeight) list.scrollTop = top + ROW_HEIGHT - list.clientHeight;
}

// --- one question ---

async function selectQuestion(index) {
  selected = index;
  const detail = byId("detail");
  if (index === null) {
    byId("list").removeAttribute("aria-activedescendant");
    detail.replaceChildren(element("p", { class: "faint" }, "No matching question."));
    return;
  }
  byId("list").setAttribute("aria-activedescendant", `row-${index}`);
  scrollToSelected();
  renderRows();
  history.replaceState(null, "", `#${encodeURIComponent(contents.tasks[task])}/${encodeURIComponent(questions.id[index])}`);
  const shownTask = task, parts = await renderDetails(index);
  if (selected !== index || task !== shownTask) return; // another one was selected in the meantime
  detail.replaceChildren(...parts.flat());
  detail.scrollTop = 0;
}

async function renderDetails(index) {
  const details = await loadDetails(index);
  return [heading(index), options(index, details), thought(details), await response(index, details), await samples(index, details), await source(details), await passages(details), await mentions(details)];
}

function heading(index) {
  const [sign, name, kind] = STATES[questions.state[index]];
  const notes = [withSpaces(groupAt(index)), titleAt(index)].filter(Boolean).join(" · ");
  return [
    element("div", {}, element("span", { class: `chip ${kind}` }, `${sign} ${name}`), " ", element("small", {}, notes, " · ", element("code", {}, questions.id[index]))),
    element("div", { class: "question" }, questions.question[index]),
  ];
}

function options(index, details) {
  const correct = optionsIn(questions.answer[index]), chosenOptions = optionsIn(questions.choice[index]);
  const list = element("ol", { class: "options" });
  const shares = optionShares(details);
  questions.choices[index].forEach((text, position) => {
    const value = element("span", { class: "value" }, optionValue(details, position));
    if (correct.includes(position)) value.append(element("span", { class: "tag correct" }, "✓ correct"));
    if (chosenOptions.includes(position)) value.append(element("span", { class: `tag ${correct.includes(position) ? "correct" : "incorrect"}` }, "● chosen"));
    const item = element("li", { class: `${correct.includes(position) ? "key" : ""} ${chosenOptions.includes(position) ? "chosen" : ""}` }, element("b", {}, letter(position)), element("span", { class: "text" }, text), value);
    if (shares) item.append(element("div", { class: "meter" }, element("i", { style: `width: ${(100 * shares[position]).toFixed(1)}%` })));
    list.append(item);
  });
  const notes = [];
  if (details.scores) notes.push("The bar is the choice's fraction of the total likelihood; the number is its log-likelihood in nats.");
  if (details.choice_norm !== undefined && !sameChoice(details.choice_norm, questions.choice[index])) notes.push(`Normalized by length, ${formatLetters(details.choice_norm)} is the most likely.`);
  if (questions.state[index] === 3) notes.push("The prompt exceeded the model's context; the question was not sent and counts as incorrect.");
  return [list, notes.length ? element("p", { class: "faint" }, notes.join(" ")) : ""];
}

function optionShares(details) {
  if (details.votes) return details.votes.map((count) => count / details.samples_total);
  if (!details.scores) return null;
  const best = Math.max(...details.scores), likelihoods = details.scores.map((score) => Math.exp(score - best));
  const total = likelihoods.reduce((sum, likelihood) => sum + likelihood, 0);
  return likelihoods.map((likelihood) => likelihood / total);
}

const optionValue = (details, position) => (details.votes ? `${number(details.votes[position])} of ${number(details.samples_total)}` : details.scores ? details.scores[position].toFixed(2) : "");

function thought(details) {
  return details.thought ? [element("h3", {}, "Intermediate thought"), element("article", {}, element("p", { class: "body" }, details.thought))] : [];
}

async function response(index, details) {
  if (details.f1 === undefined) return [];
  const [text] = await loadTexts(details.response === undefined ? [] : [details.response]);
  const notes = [`F1 ${details.f1.toFixed(2)}`, ...(details.verdict ? [`judge: ${withSpaces(details.verdict)}`] : [])].join(" · ");
  return [element("h3", {}, "Answer of the model"), element("article", {}, element("header", {}, notes), element("p", { class: "body" }, text || "(empty)"))];
}

async function samples(index, details) {
  if (!details.samples_total) return [];
  const unparsed = Object.entries(details.unparsed || {}).map(([reason, count]) => `${reason} ${number(count)}`);
  const texts = await loadTexts((details.samples || []).map(([, text]) => text));
  const notes = [`${texts.length} of ${plural(details.samples_total, "sample")} shown`, ...(unparsed.length ? [`without a choice: ${unparsed.join(", ")}`] : [])].join("; ");
  return [element("h3", {}, "Samples"), element("p", { class: "faint" }, `${notes}.`), ...(details.samples || []).map(([choice], position) => {
    const kind = choice === null ? 2 : sameChoice(choice, questions.answer[index]) ? 0 : 1, [sign, name, color] = STATES[kind];
    const parsed = choice === null ? `${sign} ${name}` : `${sign} parsed as ${formatLetters(choice)}`;
    return element("article", {}, element("header", {}, element("span", {}, `sample ${position + 1}`), element("span", { class: `chip ${color}` }, parsed)), element("p", { class: "body" }, texts[position].trim() || "(empty)"));
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
    ...texts.map((text, position) => {
      const article = element("article", {}, element("header", {}, `passage ${position + 1}`), body(text, details));
      return texts.length <= PASSAGES_OPEN ? article : element("details", {}, element("summary", {}, `${position + 1}. ${text.slice(0, 110).replace(/\s+/g, " ")}…`), article);
    }),
  ];
}

async function mentions(details) {
  if (!details.mentions) return [];
  const title = element("h3", {}, "The answer in the training texts");
  const { answer_names: answerNames, question_names: questionNames, texts, answer_mentions: answerMentions, joint_mentions: jointMentions, excerpts } = details.mentions;
  if (!answerNames) return [title, element("p", { class: "faint" }, "The correct choice contains no entity of its document.")];
  const excerptTexts = await loadTexts(excerpts.map(([, , text]) => text));
  const notes = [element("mark", {}, answerNames.join(" · ")), ` occurs in ${number(answerMentions)} of ${plural(texts, "text")} about the document`];
  if (questionNames.length) notes.push(`, in ${number(jointMentions)} of them together with `, element("mark", { class: "also" }, questionNames.join(" or ")));
  return [title, element("p", {}, ...notes, "."), ...excerpts.map(([kind, about], position) =>
    element("article", {}, element("header", {}, element("bdi", {}, about.join(" · ")), element("span", {}, withSpaces(kind))), body(excerptTexts[position], details)))];
}

// Marks the names of the answer and of the question, if known.
function body(text, details) {
  const { answer_names: answerNames, question_names: questionNames } = details.mentions || {};
  if (!answerNames) return element("p", { class: "body" }, text);
  const escaped = (name) => name.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
  const pattern = [...answerNames, ...questionNames].sort((a, b) => b.length - a.length).map(escaped).join("|");
  const marked = new Set(answerNames.map((name) => name.toLowerCase()));
  const pieces = text.split(new RegExp(`(?<![\\p{L}\\p{N}_])(${pattern})(?![\\p{L}\\p{N}_])`, "giu"));
  return element("p", { class: "body" }, ...pieces.map((piece, position) => (position % 2 ? element("mark", marked.has(piece.toLowerCase()) ? {} : { class: "also" }, piece) : piece)));
}

// --- switching tasks ---

async function showTask(index, id) {
  task = index;
  const listing = await block(`questions-${index}`);
  if (task !== index) return; // another one was selected in the meantime
  questions = listing;
  [searchTexts, selected] = [[], null];
  [...byId("tasks").querySelectorAll("button")].forEach((button, number) => button.setAttribute("aria-pressed", number === index));
  document.querySelectorAll(".scores").forEach((section, number) => { section.hidden = number !== index; });
  renderStates();
  fillSelect(byId("group"), "all kinds", questions.groups.map(withSpaces));
  fillSelect(byId("document"), "all documents", questions.documents);
  byId("search").value = "";
  const linked = questions.id.indexOf(id);
  selected = linked < 0 ? null : linked;
  await applyFilters();
  if (linked >= 0) await selectQuestion(linked);
}

function parseHash() {
  const [name, ...id] = location.hash.slice(1).split("/").map(decodeURIComponent);
  return [Math.max(0, contents.tasks.indexOf(name)), id.join("/")];
}

async function start() {
  contents = await block("contents");
  for (const part of [byId("filters"), document.querySelector(".browser")]) part.hidden = false;
  byId("tasks").hidden = contents.tasks.length < 2;
  [...byId("tasks").querySelectorAll("button")].forEach((button, position) => button.addEventListener("click", () => showTask(position)));
  for (const id of ["group", "document"]) byId(id).addEventListener("change", applyFilters);
  byId("search").addEventListener("input", applyFilters);
  byId("list").addEventListener("keydown", moveSelection);
  byId("list").addEventListener("scroll", renderRows);
  addEventListener("resize", renderRows);
  addEventListener("hashchange", () => showTask(...parseHash()));
  await showTask(...parseHash());
  document.documentElement.dataset.ready = Math.round(performance.now());
}

start();
