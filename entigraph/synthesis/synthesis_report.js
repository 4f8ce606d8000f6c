"use strict";
// One document at a time: its entity graph drawn in a circle, and the texts on the chosen entity or edge.
// All that is shown is read from the tables of the page, and written as text, never as markup.

const sections = [...document.querySelectorAll("section")];
const select = document.getElementById("document");
const plural = (count, one) => `${count.toLocaleString("en")} ${one}${count === 1 ? "" : "s"}`;
const SIZE_OF_LABEL = 12, LABEL_CHARACTERS = 24, HORIZONTAL_UP_TO = 24, REACH = 8, SMALLEST = 0.8;

function element(name, attributes = {}, text = "") {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = text;
  return made;
}

function shape(name, attributes = {}, text = "") {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text) made.textContent = text;
  return made;
}

function graphOf(section) {
  const rows = [...section.querySelectorAll(".entities tr")].slice(1);
  const entities = rows.map((row) => ({
    name: row.cells[0].textContent, texts: Number(row.cells[1].textContent.replaceAll(",", "")),
  }));
  const articles = [...section.querySelectorAll("article")].map((article) => ({
    article, about: article.dataset.about ? article.dataset.about.split(" ").map(Number) : [],
  }));
  const counts = section.dataset.edges.split(" ").flatMap((run) => (run < 0 ? Array(-run).fill(0) : [Number(run)]));
  const edges = [];
  for (let one = 0, at = 0; one < entities.length; one++)
    for (let other = one + 1; other < entities.length; other++, at++)
      if (counts[at]) edges.push({ one, other, texts: counts[at], here: 0 });
  const known = new Map(edges.map((edge) => [edge.one * entities.length + edge.other, edge]));
  for (const { about } of articles)
    for (const one of about) for (const other of about)
      if (one < other) known.get(one * entities.length + other).here += 1;
  return { entities, edges, articles };
}

function places(entities) {
  const count = entities.length, horizontal = count <= HORIZONTAL_UP_TO;
  const radius = Math.max(horizontal ? 190 : 210, (count * (SIZE_OF_LABEL + 2)) / (2 * Math.PI));
  const longest = Math.min(LABEL_CHARACTERS, Math.max(...entities.map((entity) => entity.name.length)));
  const margin = longest * SIZE_OF_LABEL * 0.58 + 20;
  const width = 2 * (radius + margin), height = horizontal ? 2 * (radius + 40) : width;
  return { width, height, horizontal, at: entities.map((_, number) => {
    const angle = (2 * Math.PI * number) / count - Math.PI / 2;
    return { angle, x: width / 2 + radius * Math.cos(angle), y: height / 2 + radius * Math.sin(angle) };
  }) };
}

function label(entity, place, horizontal) {
  const name = entity.name.length > LABEL_CHARACTERS ? `${entity.name.slice(0, LABEL_CHARACTERS - 1)}…` : entity.name;
  const left = Math.cos(place.angle) < -1e-9, sides = Math.abs(Math.cos(place.angle)) > 0.2;
  const attributes = { "font-size": SIZE_OF_LABEL, "dominant-baseline": "central" };
  if (horizontal) {
    attributes["text-anchor"] = sides ? (left ? "end" : "start") : "middle";
    attributes.x = sides ? (left ? -10 : 10) : 0;
    attributes.y = sides ? 0 : 16 * Math.sign(Math.sin(place.angle));
  } else {
    const turned = (place.angle * 180) / Math.PI + (left ? 180 : 0);
    attributes["text-anchor"] = left ? "end" : "start";
    attributes.transform = `rotate(${turned.toFixed(1)})`;
    attributes.x = left ? -9 : 9;
  }
  return shape("text", attributes, name);
}

function lines(edges, at) {
  return edges.map(({ one, other }) =>
    `M${at[one].x.toFixed(1)} ${at[one].y.toFixed(1)}L${at[other].x.toFixed(1)} ${at[other].y.toFixed(1)}`).join("");
}

function distance(x, y, a, b) {
  const along = ((x - a.x) * (b.x - a.x) + (y - a.y) * (b.y - a.y)) / ((b.x - a.x) ** 2 + (b.y - a.y) ** 2);
  const t = Math.min(1, Math.max(0, along));
  return Math.hypot(x - a.x - t * (b.x - a.x), y - a.y - t * (b.y - a.y));
}

// The state is one entity, or none, and one edge, or none; everything drawn follows from it.
function draw(section) {
  const { entities, edges, articles } = graphOf(section);
  const { width, height, horizontal, at } = places(entities);
  const drawing = section.querySelector(".drawing"), texts = section.querySelector(".texts");
  const told = texts.querySelector("summary"), before = told.textContent;
  const svg = shape("svg", {
    width, height, viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": "entity graph",
    style: `min-width: ${Math.round(width * SMALLEST)}px`,
  });
  const rest = svg.appendChild(shape("g", { class: "rest" })), chosen = svg.appendChild(shape("g", { class: "chosen" }));
  const pointed = svg.appendChild(shape("g", { class: "pointed" }));
  const panel = element("div", { class: "panel" }), box = element("div", { class: "graph" });
  const key = edges.every((each) => each.here)
    ? "Darker: more texts on the edge." : "Darker: more texts on the edge. Gray or dashed: none of them is on this page.";
  const legend = element("p", { class: "faint" }, key);
  let entity = null, edge = null;

  const most = edges.reduce((found, each) => Math.max(found, each.texts), 1);
  for (const here of [false, true]) {
    const own = edges.filter((each) => each.here > 0 === here), sparse = Math.min(1, 90 / (own.length + 1) + 0.1);
    for (let step = 1; step <= 4; step++) {
      const group = own.filter((each) => Math.ceil((4 * each.texts) / most) === step);
      if (group.length) rest.append(shape("path", {
        d: lines(group, at), class: here ? "here" : "elsewhere",
        "stroke-opacity": ((0.3 + 0.175 * step) * sparse).toFixed(2), "stroke-width": 0.6 + 0.4 * step,
      }));
    }
  }
  const nodes = entities.map((each, number) => {
    const node = svg.appendChild(shape("g", {
      class: "node", transform: `translate(${at[number].x.toFixed(1)} ${at[number].y.toFixed(1)})`,
      tabindex: number ? -1 : 0, role: "button", "aria-label": `${each.name}, ${plural(each.texts, "text")}`,
    }));
    node.append(shape("title", {}, each.name), shape("circle", { r: entities.length > 60 ? 3 : 4.5 }), label(each, at[number], horizontal));
    node.addEventListener("click", (event) => { event.stopPropagation(); choose(entity === number && !edge ? null : number, null); });
    node.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (step) focus((number + step + entities.length) % entities.length);
      else if (event.key === "Enter" || event.key === " ") choose(number, null);
      else return;
      event.preventDefault();
    });
    return node;
  });

  function focus(number) {
    nodes.forEach((node, each) => node.setAttribute("tabindex", each === number ? 0 : -1));
    nodes[number].focus();
  }

  const of = (number) => edges.filter((each) => each.one === number || each.other === number);
  const across = (each, number) => (each.one === number ? each.other : each.one);

  function nearest(event) {
    const inside = svg.getScreenCTM().inverse(), point = new DOMPoint(event.clientX, event.clientY).matrixTransform(inside);
    let found = null, least = REACH;
    for (const each of entity === null ? edges : of(entity)) {
      const far = distance(point.x, point.y, at[each.one], at[each.other]);
      if (far < least) [found, least] = [each, far];
    }
    return found;
  }
  svg.addEventListener("click", (event) => {
    const found = nearest(event);
    choose(found ? entity : null, found);
  });
  svg.addEventListener("pointermove", (event) => point(nearest(event)));
  svg.addEventListener("pointerleave", () => point(null));
  drawing.addEventListener("keydown", (event) => { if (event.key === "Escape") choose(edge ? entity : null, null); });

  function point(found) {
    pointed.replaceChildren(...(found ? [shape("path", { d: lines([found], at) })] : []));
    legend.textContent = found
      ? `${entities[found.one].name} and ${entities[found.other].name}: ${plural(found.texts, "text")}, ${found.here} on this page`
      : key;
  }

  function choose(newEntity, newEdge) {
    [entity, edge] = [newEntity, newEdge];
    show();
    if (edge) told.scrollIntoView({ block: "nearest" });
  }

  function show() {
    const own = edge ? [edge] : entity === null ? [] : of(entity);
    const near = new Set(own.flatMap((each) => [each.one, each.other]));
    svg.classList.toggle("narrowed", own.length > 0 || entity !== null);
    chosen.replaceChildren();
    for (const here of [false, true]) {
      const group = own.filter((each) => each.here > 0 === here);
      if (group.length) chosen.append(shape("path", { d: lines(group, at), class: here ? "here" : "elsewhere", "stroke-width": edge ? 3 : 1.5 }));
    }
    nodes.forEach((node, number) => {
      node.classList.toggle("on", edge ? near.has(number) : number === entity);
      node.classList.toggle("near", near.has(number) || number === entity);
    });
    read();
    list();
  }

  function read() {
    const wanted = edge ? [edge.one, edge.other] : entity === null ? [] : [entity];
    let here = 0;
    for (const { article, about } of articles) {
      article.hidden = !wanted.every((number) => about.includes(number));
      here += !article.hidden;
    }
    const all = edge ? edge.texts : entity === null ? 0 : entities[entity].texts;
    const names = wanted.map((number) => entities[number].name).join(" and ");
    told.textContent = wanted.length ? `${names}: ${plural(all, "text")}, ${here} on this page` : before;
    texts.open = wanted.length > 0;
  }

  function entry(name, count, pressed, act) {
    const button = element("button", { type: "button", "aria-pressed": pressed });
    button.append(element("span", {}, name), element("small", {}, count));
    button.addEventListener("click", act);
    const item = element("li");
    item.append(button);
    return item;
  }

  function list() {
    const top = panel.scrollTop, sameList = panel.dataset.entity === String(entity);
    const focused = panel.contains(document.activeElement);
    const names = element("ul");
    panel.replaceChildren();
    if (entity === null) {
      panel.append(element("div", { class: "faint" }, "Choose an entity, here or in the graph, or click an edge."), names);
      const order = entities.map((_, number) => number).sort((a, b) => entities[b].texts - entities[a].texts || a - b);
      for (const number of order)
        names.append(entry(entities[number].name, plural(entities[number].texts, "text"), false, () => choose(number, null)));
    } else {
      const back = element("button", { type: "button" }, "← all entities");
      back.addEventListener("click", () => choose(null, null));
      const own = of(entity).sort((a, b) => (b.here > 0) - (a.here > 0) || b.texts - a.texts || across(a, entity) - across(b, entity));
      panel.append(back, element("b", {}, entities[entity].name), element("div", { class: "faint" }, `${plural(own.length, "edge")} of ${entities.length - 1}`), names);
      for (const each of own) {
        const count = `${plural(each.texts, "text")}${each.here < each.texts ? `, ${each.here} here` : ""}`;
        names.append(entry(entities[across(each, entity)].name, count, each === edge, () => choose(entity, each)));
      }
      const partners = new Set(own.map((each) => across(each, entity)));
      const missing = entities.filter((_, number) => number !== entity && !partners.has(number)).map((each) => each.name);
      if (missing.length) panel.append(element("div", { class: "faint" }, `No text with: ${missing.join(", ")}`));
    }
    panel.dataset.entity = String(entity);
    panel.scrollTop = sameList ? top : 0;
    if (focused) (panel.querySelector("[aria-pressed=true]") || panel.querySelector("button")).focus({ preventScroll: true });
  }

  box.append(svg, legend);
  drawing.append(box, panel);
  drawing.hidden = false;
  show();
}

function turnTo(number) {
  select.value = number;
  sections.forEach((section, each) => { section.hidden = each !== number; });
  const section = sections[number];
  if (section.dataset.edges && !section.dataset.drawn) {
    section.dataset.drawn = "yes";
    draw(section);
  } else if (!section.dataset.edges) section.querySelector(".texts").open = true;
}

const inAddress = () => Number((location.hash.match(/^#view-(\d+)$/) || [0, -1])[1]);
if (sections.length) {
  document.querySelector(".chooser").hidden = false;
  turnTo(Math.max(0, Math.min(inAddress(), sections.length - 1)));
  select.addEventListener("change", () => turnTo(Number(select.value)));
  for (const [id, step] of [["previous", -1], ["next", 1]])
    document.getElementById(id).addEventListener("click", () =>
      turnTo((Number(select.value) + step + sections.length) % sections.length));
  addEventListener("hashchange", () => {
    const number = inAddress();
    if (!sections[number]) return;
    turnTo(number);
    sections[number].scrollIntoView();
  });
}
