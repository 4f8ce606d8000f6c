"use strict";
// Shows one document at a time: its entity graph as a circle, and the texts on the selected entity or edge.
// All data is read from the tables of the page and inserted as text, never as markup.

const sections = [...document.querySelectorAll("section")];
const select = document.getElementById("document");
const plural = (count, one) => `${count.toLocaleString("en")} ${one}${count === 1 ? "" : "s"}`;
const LABEL_SIZE = 12, LABEL_CHARACTERS = 24, MAX_HORIZONTAL_LABELS = 24, MAX_CLICK_DISTANCE = 8, MIN_SCALE = 0.8;

function element(name, attributes = {}, text = "") {
  const created = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) created.setAttribute(key, value);
  created.textContent = text;
  return created;
}

function svgElement(name, attributes = {}, text = "") {
  const created = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) created.setAttribute(key, value);
  if (text) created.textContent = text;
  return created;
}

function readGraph(section) {
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

function layoutNodes(entities) {
  const count = entities.length, horizontal = count <= MAX_HORIZONTAL_LABELS;
  const radius = Math.max(horizontal ? 190 : 210, (count * (LABEL_SIZE + 2)) / (2 * Math.PI));
  const longest = Math.min(LABEL_CHARACTERS, Math.max(...entities.map((entity) => entity.name.length)));
  const margin = longest * LABEL_SIZE * 0.58 + 20;
  const width = 2 * (radius + margin), height = horizontal ? 2 * (radius + 40) : width;
  return { width, height, horizontal, at: entities.map((_, number) => {
    const angle = (2 * Math.PI * number) / count - Math.PI / 2;
    return { angle, x: width / 2 + radius * Math.cos(angle), y: height / 2 + radius * Math.sin(angle) };
  }) };
}

function label(entity, place, horizontal) {
  const name = entity.name.length > LABEL_CHARACTERS ? `${entity.name.slice(0, LABEL_CHARACTERS - 1)}…` : entity.name;
  const left = Math.cos(place.angle) < -1e-9, sides = Math.abs(Math.cos(place.angle)) > 0.2;
  const attributes = { "font-size": LABEL_SIZE, "dominant-baseline": "central" };
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
  return svgElement("text", attributes, name);
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

// The state is at most one selected entity and at most one selected edge; render() derives everything else from it.
function draw(section) {
  const { entities, edges, articles } = readGraph(section);
  const { width, height, horizontal, at } = layoutNodes(entities);
  const drawing = section.querySelector(".drawing"), texts = section.querySelector(".texts");
  const heading = texts.querySelector("summary"), defaultHeading = heading.textContent;
  const svg = svgElement("svg", {
    width, height, viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": "entity graph",
    style: `min-width: ${Math.round(width * MIN_SCALE)}px`,
  });
  const rest = svg.appendChild(svgElement("g", { class: "rest" })), chosen = svg.appendChild(svgElement("g", { class: "chosen" }));
  const pointed = svg.appendChild(svgElement("g", { class: "pointed" }));
  const panel = element("div", { class: "panel" }), box = element("div", { class: "graph" });
  const key = edges.every((link) => link.here)
    ? "Darker: more texts on the edge." : "Darker: more texts on the edge. Gray or dashed: none of them is on this page.";
  const legend = element("p", { class: "faint" }, key);
  let entity = null, edge = null;

  const most = edges.reduce((maximum, link) => Math.max(maximum, link.texts), 1);
  for (const here of [false, true]) {
    const links = edges.filter((link) => link.here > 0 === here), density = Math.min(1, 90 / (links.length + 1) + 0.1);
    for (let step = 1; step <= 4; step++) {
      const group = links.filter((link) => Math.ceil((4 * link.texts) / most) === step);
      if (group.length) rest.append(svgElement("path", {
        d: lines(group, at), class: here ? "here" : "elsewhere",
        "stroke-opacity": ((0.3 + 0.175 * step) * density).toFixed(2), "stroke-width": 0.6 + 0.4 * step,
      }));
    }
  }
  const nodes = entities.map((item, number) => {
    const node = svg.appendChild(svgElement("g", {
      class: "node", transform: `translate(${at[number].x.toFixed(1)} ${at[number].y.toFixed(1)})`,
      tabindex: number ? -1 : 0, role: "button", "aria-label": `${item.name}, ${plural(item.texts, "text")}`,
    }));
    node.append(svgElement("title", {}, item.name), svgElement("circle", { r: entities.length > 60 ? 3 : 4.5 }), label(item, at[number], horizontal));
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
    nodes.forEach((node, index) => node.setAttribute("tabindex", index === number ? 0 : -1));
    nodes[number].focus();
  }

  const linksOf = (number) => edges.filter((link) => link.one === number || link.other === number);
  const otherEnd = (link, number) => (link.one === number ? link.other : link.one);

  function nearest(event) {
    const inside = svg.getScreenCTM().inverse(), point = new DOMPoint(event.clientX, event.clientY).matrixTransform(inside);
    let closest = null, shortest = MAX_CLICK_DISTANCE;
    for (const link of entity === null ? edges : linksOf(entity)) {
      const length = distance(point.x, point.y, at[link.one], at[link.other]);
      if (length < shortest) [closest, shortest] = [link, length];
    }
    return closest;
  }
  svg.addEventListener("click", (event) => {
    const link = nearest(event);
    choose(link ? entity : null, link);
  });
  svg.addEventListener("pointermove", (event) => highlight(nearest(event)));
  svg.addEventListener("pointerleave", () => highlight(null));
  drawing.addEventListener("keydown", (event) => { if (event.key === "Escape") choose(edge ? entity : null, null); });

  function highlight(link) {
    pointed.replaceChildren(...(link ? [svgElement("path", { d: lines([link], at) })] : []));
    legend.textContent = link
      ? `${entities[link.one].name} and ${entities[link.other].name}: ${plural(link.texts, "text")}, ${link.here} on this page`
      : key;
  }

  function choose(newEntity, newEdge) {
    [entity, edge] = [newEntity, newEdge];
    render();
    if (edge) heading.scrollIntoView({ block: "nearest" });
  }

  function render() {
    const links = edge ? [edge] : entity === null ? [] : linksOf(entity);
    const near = new Set(links.flatMap((link) => [link.one, link.other]));
    svg.classList.toggle("narrowed", links.length > 0 || entity !== null);
    chosen.replaceChildren();
    for (const here of [false, true]) {
      const group = links.filter((link) => link.here > 0 === here);
      if (group.length) chosen.append(svgElement("path", { d: lines(group, at), class: here ? "here" : "elsewhere", "stroke-width": edge ? 3 : 1.5 }));
    }
    nodes.forEach((node, number) => {
      node.classList.toggle("on", edge ? near.has(number) : number === entity);
      node.classList.toggle("near", near.has(number) || number === entity);
    });
    filterTexts();
    renderPanel();
  }

  function filterTexts() {
    const wanted = edge ? [edge.one, edge.other] : entity === null ? [] : [entity];
    let here = 0;
    for (const { article, about } of articles) {
      article.hidden = !wanted.every((number) => about.includes(number));
      here += !article.hidden;
    }
    const all = edge ? edge.texts : entity === null ? 0 : entities[entity].texts;
    const names = wanted.map((number) => entities[number].name).join(" and ");
    heading.textContent = wanted.length ? `${names}: ${plural(all, "text")}, ${here} on this page` : defaultHeading;
    texts.open = wanted.length > 0;
  }

  function panelEntry(name, count, pressed, onClick) {
    const button = element("button", { type: "button", "aria-pressed": pressed });
    button.append(element("span", {}, name), element("small", {}, count));
    button.addEventListener("click", onClick);
    const item = element("li");
    item.append(button);
    return item;
  }

  function renderPanel() {
    const top = panel.scrollTop, sameList = panel.dataset.entity === String(entity);
    const focused = panel.contains(document.activeElement);
    const names = element("ul");
    panel.replaceChildren();
    if (entity === null) {
      panel.append(element("div", { class: "faint" }, "Choose an entity, here or in the graph, or click an edge."), names);
      const order = entities.map((_, number) => number).sort((a, b) => entities[b].texts - entities[a].texts || a - b);
      for (const number of order)
        names.append(panelEntry(entities[number].name, plural(entities[number].texts, "text"), false, () => choose(number, null)));
    } else {
      const back = element("button", { type: "button" }, "← all entities");
      back.addEventListener("click", () => choose(null, null));
      const links = linksOf(entity).sort((a, b) => (b.here > 0) - (a.here > 0) || b.texts - a.texts || otherEnd(a, entity) - otherEnd(b, entity));
      panel.append(back, element("b", {}, entities[entity].name), element("div", { class: "faint" }, `${plural(links.length, "edge")} of ${entities.length - 1}`), names);
      for (const link of links) {
        const count = `${plural(link.texts, "text")}${link.here < link.texts ? `, ${link.here} here` : ""}`;
        names.append(panelEntry(entities[otherEnd(link, entity)].name, count, link === edge, () => choose(entity, link)));
      }
      const partners = new Set(links.map((link) => otherEnd(link, entity)));
      const missing = entities.filter((_, number) => number !== entity && !partners.has(number)).map((item) => item.name);
      if (missing.length) panel.append(element("div", { class: "faint" }, `No text with: ${missing.join(", ")}`));
    }
    panel.dataset.entity = String(entity);
    panel.scrollTop = sameList ? top : 0;
    if (focused) (panel.querySelector("[aria-pressed=true]") || panel.querySelector("button")).focus({ preventScroll: true });
  }

  box.append(svg, legend);
  drawing.append(box, panel);
  drawing.hidden = false;
  render();
}

function showDocument(number) {
  select.value = number;
  sections.forEach((section, index) => { section.hidden = index !== number; });
  const section = sections[number];
  if (section.dataset.edges && !section.dataset.drawn) {
    section.dataset.drawn = "yes";
    draw(section);
  } else if (!section.dataset.edges) section.querySelector(".texts").open = true;
}

const documentInAddress = () => Number((location.hash.match(/^#view-(\d+)$/) || [0, -1])[1]);
if (sections.length) {
  document.querySelector(".chooser").hidden = false;
  showDocument(Math.max(0, Math.min(documentInAddress(), sections.length - 1)));
  select.addEventListener("change", () => showDocument(Number(select.value)));
  for (const [id, step] of [["previous", -1], ["next", 1]])
    document.getElementById(id).addEventListener("click", () =>
      showDocument((Number(select.value) + step + sections.length) % sections.length));
  addEventListener("hashchange", () => {
    const number = documentInAddress();
    if (!sections[number]) return;
    showDocument(number);
    sections[number].scrollIntoView();
  });
}
