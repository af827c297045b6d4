// What is drawn on the page, as the choices in `state` say.

const MOST_SHARES = 8;
const HINT = encoderLayers
  ? "Click the image to see what the encoder attends to from there, or use the arrow keys on it."
  : "This model has no encoder layers: there is no self-attention of the image to show.";

const state = {
  view: "decoder",
  query: 0,
  head: -1, // -1: the mean
  layer: { decoder: decoderLayers - 1, encoder: encoderLayers - 1 },
  cell: [h >> 1, w >> 1],
};

function currentMap() {
  return state.view === "decoder"
    ? decoderMap(state.layer.decoder, state.head, state.query)
    : encoderMap(state.layer.encoder, state.cell);
}

function rectangle([left, top, right, bottom], kind) {
  const size = `width="${Math.max(0, right - left)}" height="${Math.max(0, bottom - top)}"`;
  return `<rect class="${kind}" x="${left}" y="${top}" ${size}></rect>`;
}

/** Move the boxes that are there; draw them anew only where there are others, so that a step is seen as a movement. */
function drawBoxes() {
  const query = data.queries[state.query];
  const finals = data.queries.map((other) => other.boxes[decoderLayers - 1]);
  let boxes = finals.filter((_, n) => state.view === "encoder" || n !== state.query).map((box) => [box, "other"]);
  if (state.view === "decoder") {
    const now = query.boxes[state.layer.decoder];
    if (state.layer.decoder) boxes.push([query.boxes[state.layer.decoder - 1], "before"]);
    boxes.push([now, "halo"], [now, "chosen"]);
  }
  const drawing = $("drawing");
  const kinds = boxes.map(([, kind]) => kind).join();
  if (drawing.dataset.kinds !== kinds + state.query) {
    drawing.innerHTML = boxes.map(([box, kind]) => rectangle(box, kind)).join("");
    drawing.dataset.kinds = kinds + state.query;
  } else {
    boxes.forEach(([[left, top, right, bottom]], k) => {
      const sizes = { x: left, y: top, width: Math.max(0, right - left), height: Math.max(0, bottom - top) };
      Object.entries(sizes).forEach(([name, value]) => drawing.children[k].setAttribute(name, value));
    });
  }
}

function drawTags() {
  const tags = data.queries.map((query, n) => {
    const [left, top] = (n === state.query ? query.boxes[state.layer.decoder] : query.boxes[decoderLayers - 1]).map((x) =>
      Math.min(Math.max(x, 0), 0.97),
    );
    const tag = Object.assign(document.createElement("button"), { className: "tag", textContent: n + 1, tabIndex: -1 });
    tag.style.cssText = `left:${100 * left}%;top:${100 * top}%`;
    tag.setAttribute("aria-pressed", state.view === "decoder" && n === state.query);
    tag.setAttribute("aria-label", `Query ${query.id}, ${query.name}`);
    tag.onclick = (event) => {
      event.stopPropagation();
      chooseQuery(n);
    };
    return tag;
  });
  if (state.view === "encoder") {
    const ring = Object.assign(document.createElement("div"), { className: "ring" });
    const [y, x] = [(state.cell[0] + 0.5) * (data.extent[0] / h), (state.cell[1] + 0.5) * (data.extent[1] / w)];
    ring.style.cssText = `left:${100 * Math.min(x, 1)}%;top:${100 * Math.min(y, 1)}%`;
    tags.push(ring);
  }
  $("tags").replaceChildren(...tags);
}

function caption() {
  if (state.view === "decoder") {
    const { id, name } = data.queries[state.query];
    const who = state.head < 0 ? `mean of ${heads} head${heads > 1 ? "s" : ""}` : `head ${state.head + 1}`;
    return `Decoder layer ${state.layer.decoder + 1}, ${who}: where query ${id} (${name}) looks`;
  }
  const [row, column] = state.cell;
  const place = `row ${row + 1}, column ${column + 1}`;
  return `Encoder layer ${state.layer.encoder + 1}, mean of ${heads} heads: what the cell in ${place} attends to`;
}

function bar(name, share, kind = "") {
  const row = document.createElement("div");
  row.className = `bar ${kind}`;
  row.innerHTML = "<span></span><i><b></b></i><span></span>";
  row.children[0].textContent = row.children[0].title = name;
  row.querySelector("b").style.width = `${100 * share}%`;
  row.children[2].textContent = chance(share);
  return row;
}

/** Set bars to new values: those of the same names are kept and move. */
function setBars(parent, rows) {
  const names = [...parent.children].map((row) => row.children[0].textContent);
  if (names.join("\n") !== rows.map(([name]) => name).join("\n")) {
    parent.replaceChildren(...rows.map((row) => bar(...row)));
    return;
  }
  rows.forEach(([, share], k) => {
    parent.children[k].querySelector("b").style.width = `${100 * share}%`;
    parent.children[k].children[2].textContent = chance(share);
  });
}

function showAnswers() {
  const query = data.queries[state.query];
  const now = query.probabilities[state.layer.decoder];
  $("answerstitle").textContent = `Query ${query.id} after decoder layer ${state.layer.decoder + 1} of ${decoderLayers}`;
  const rows = query.classes.map((name, k) => [name, now[k], k === query.classes.length - 1 ? "none" : ""]);
  const rest = Math.max(0, 1 - now.reduce((a, b) => a + b, 0));
  if (data.classes > query.classes.length - 1) rows.splice(-1, 0, ["all others", rest, "none"]);
  setBars($("bars"), rows);
  [...$("layers").rows].forEach((row, layer) => row.classList.toggle("now", layer === state.layer.decoder));
}

function fillTable() {
  const query = data.queries[state.query];
  const rows = query.boxes.map((box, layer) => {
    const shares = query.probabilities[layer].slice(0, -1);
    const best = shares.indexOf(Math.max(...shares));
    const row = document.createElement("tr");
    const share = inside(decoderMap(layer, -1, state.query), box);
    const none = query.probabilities[layer].at(-1);
    const overlap = iou(box, query.boxes.at(-1)).toFixed(2);
    const texts = [layer + 1, `${query.classes[best]} ${chance(shares[best])}`, chance(none), overlap, chance(share)];
    row.append(...texts.map((text) => Object.assign(document.createElement("td"), { textContent: text })));
    row.onclick = () => chooseLayer(layer, "decoder");
    return row;
  });
  $("layers").replaceChildren(...rows);
}

/** Thumbnails to choose from: heads of the decoder's layer, or layers of the encoder. */
function drawStrip() {
  const decoder = state.view === "decoder";
  const choices = decoder
    ? [-1, ...Array(heads).keys()].map((head) => [head, head < 0 ? "mean" : `head ${head + 1}`, state.head])
    : [...Array(encoderLayers).keys()].map((layer) => [layer, `layer ${layer + 1}`, state.layer.encoder]);
  $("striptitle").textContent = decoder ? `Heads of decoder layer ${state.layer.decoder + 1}` : "Layers of the encoder";
  const strip = $("thumbs");
  const kind = `${state.view}${choices.length}`;
  if (strip.dataset.kind !== kind) {
    strip.dataset.kind = kind;
    strip.replaceChildren(
      ...choices.map(([value, name]) => {
        const label = document.createElement("label");
        label.innerHTML = `<input type="radio" name="strip" value="${value}"><canvas></canvas><span>${name}</span><span></span>`;
        label.firstChild.onchange = () => (decoder ? chooseHead(value) : chooseLayer(value, "encoder"));
        return label;
      }),
    );
  }
  const wide = Math.max(30, Math.min(70, (64 * data.size[1]) / data.size[0]));
  choices.forEach(([value, , chosen], k) => {
    const [input, canvas] = strip.children[k].children;
    input.checked = value === chosen;
    const map = decoder ? decoderMap(state.layer.decoder, value, state.query) : encoderMap(value, state.cell);
    paint(canvas, map, most(map));
    strip.children[k].children[3].textContent = zeros(map) ? `${Math.floor(100 * zeros(map))} % zero` : "";
    canvas.style.width = `${wide}px`;
    canvas.style.height = `${Math.max(12, Math.min(120, (wide * data.size[0]) / data.size[1]))}px`;
  });
}
