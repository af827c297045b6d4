"use strict";
// Data: what `page.py` writes. Maps come as bytes on a scale of their own: see `packing.py`.
const $ = (id) => document.getElementById(id);
const data = JSON.parse($("data").textContent);
const { encoder: encoderLayers, decoder: decoderLayers, heads } = data.layers;
const [h, w] = data.cells;
const MOST_SHARES = 8;
const HINT = encoderLayers
  ? "Click the image to see what the encoder attends to from there, or use the arrow keys on it."
  : "This model has no encoder layers: there is no self-attention of the image to show.";
const percent = (x) => `${x && 100 * x < 1 ? (100 * x).toPrecision(2) : (100 * x).toFixed(1)} %`;
const chance = (x) => `${(100 * x).toFixed(1)} %`;
const blocks = (length, side) => Math.ceil(length / side);

const state = {
  view: "decoder",
  query: 0,
  head: -1, // -1: the mean
  layer: { decoder: decoderLayers - 1, encoder: encoderLayers - 1 },
  cell: [h >> 1, w >> 1],
};
const packed = {};
let pointer = null; // the cell under it

async function unpack(id, steps, rows, length) {
  const bytes = Uint8Array.from(atob($(id).textContent), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  const buffer = await new Response(stream).arrayBuffer();
  return { steps, length, maxima: new Float32Array(buffer, 0, rows), codes: new Uint8Array(buffer, 4 * rows) };
}

function weights({ steps, length, maxima, codes }, row) {
  const scale = maxima[row] / (steps * steps);
  return Float32Array.from(codes.subarray(row * length, (row + 1) * length), (code) => scale * code * code);
}

function meanOf(maps) {
  return maps[0].map((_, cell) => maps.reduce((sum, map) => sum + map[cell], 0) / maps.length);
}

/** Where a query looks in a layer (from 0), by one head or, for -1, by all: {weights, columns, side in cells}. */
function decoderMap(layer, head, query) {
  const { side } = data.decoder;
  const chosen = head < 0 ? [...Array(heads).keys()] : [head];
  const rows = chosen.map((a) => (layer * heads + a) * data.queries.length + query);
  return { weights: meanOf(rows.map((row) => weights(packed.decoder, row))), columns: blocks(w, side), side };
}

/** What a cell (row, column) attends to in a layer of the encoder, in the mean of its heads. */
function encoderMap(layer, [row, column]) {
  const { from, to } = data.encoder;
  const [rows, columns] = [blocks(h, from), blocks(w, from)];
  const place = (layer * rows + Math.floor(row / from)) * columns + Math.floor(column / from);
  return { weights: weights(packed.encoder, place), columns: blocks(w, to), side: to };
}

function currentMap() {
  return state.view === "decoder"
    ? decoderMap(state.layer.decoder, state.head, state.query)
    : encoderMap(state.layer.encoder, state.cell);
}

// ---- drawing

function colour(share) {
  const { stops } = data;
  const place = Math.min(Math.max(share, 0), 1) * (stops.length - 1);
  const k = Math.min(Math.floor(place), stops.length - 2);
  return stops[k].map((channel, i) => channel + (place - k) * (stops[k + 1][i] - channel));
}

/** Paint a map into a canvas, a pixel for each cell, and lay it over the image: its cells may hang over the edge. */
function paint(canvas, map, most) {
  const rows = map.weights.length / map.columns;
  canvas.width = map.columns;
  canvas.height = rows;
  const image = new ImageData(map.columns, rows);
  map.weights.forEach((weight, k) => image.data.set([...colour(weight / most), 255], 4 * k));
  canvas.getContext("2d").putImageData(image, 0, 0);
}

function layOver(canvas, map) {
  const [tall, wide] = data.extent;
  const rows = map.weights.length / map.columns;
  canvas.style.width = `${(100 * wide * map.columns * map.side) / w}%`;
  canvas.style.height = `${(100 * tall * rows * map.side) / h}%`;
}

const most = (map) => map.weights.reduce((a, b) => Math.max(a, b), 1e-12);

/** Share of a map inside a box (left, top, right, bottom), by the centres of its blocks of cells. */
function inside(map, [left, top, right, bottom]) {
  const [tall, wide] = data.extent;
  let share = 0;
  map.weights.forEach((weight, k) => {
    const x = ((k % map.columns) + 0.5) * map.side * (wide / w);
    const y = (Math.floor(k / map.columns) + 0.5) * map.side * (tall / h);
    if (x >= left && x <= right && y >= top && y <= bottom) share += weight;
  });
  return share;
}

function iou(a, b) {
  const area = (box) => Math.max(0, box[2] - box[0]) * Math.max(0, box[3] - box[1]);
  const both = area([Math.max(a[0], b[0]), Math.max(a[1], b[1]), Math.min(a[2], b[2]), Math.min(a[3], b[3])]);
  return both / (area(a) + area(b) - both || 1);
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
        label.innerHTML = `<input type="radio" name="strip" value="${value}"><canvas></canvas><span>${name}</span>`;
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
    canvas.style.width = `${wide}px`;
    canvas.style.height = `${Math.min(120, (wide * data.size[0]) / data.size[1])}px`;
  });
}

function show() {
  const map = currentMap();
  paint($("heat"), map, most(map));
  layOver($("heat"), map);
  $("most").textContent = percent(most(map));
  const [even, side] = [1 / map.weights.length, map.side];
  const cell = side > 1 ? `a block of ${side} x ${side} cells` : "one cell";
  $("unit").textContent = `of the attention in ${cell}; spread evenly (mark) it would be ${percent(even)}`;
  $("even").style.left = `${100 * Math.min(even / most(map), 1)}%`;
  $("caption").textContent = caption();
  readOut();
  drawBoxes();
  drawTags();
  drawStrip();
  const [count, layer] = [data.layers[state.view], state.layer[state.view]];
  Object.assign($("layer"), { max: count, value: layer + 1, disabled: count < 2 });
  $("layer").setAttribute("aria-valuetext", `layer ${layer + 1} of ${count}`);
  $("layername").textContent = `${state.view === "decoder" ? "Decoder" : "Encoder"} layer ${layer + 1} of ${count}`;
  $("back").disabled = layer === 0;
  $("next").disabled = layer === count - 1;
  $("play").disabled = count < 2;
  document.querySelectorAll('input[name="view"]').forEach((input) => (input.checked = input.value === state.view));
  document.querySelectorAll('input[name="query"]').forEach((input, n) => (input.checked = n === state.query));
  $("answers").hidden = state.view !== "decoder";
  $("shares").hidden = state.view !== "encoder";
  if (state.view === "decoder") showAnswers();
  else {
    const shares = data.queries.map((query, n) => [`${n + 1} ${query.name}`, inside(map, query.boxes.at(-1))]);
    setBars($("sharebars"), shares.sort((a, b) => b[1] - a[1]).slice(0, MOST_SHARES));
  }
}

// ---- choices

let timer = null;
function stop() {
  clearInterval(timer);
  timer = null;
  $("play").textContent = "Play";
}

function chooseView(view) {
  stop();
  state.view = view;
  show();
}

function chooseQuery(n) {
  stop();
  Object.assign(state, { view: "decoder", query: n });
  fillTable();
  show();
}

function chooseHead(head) {
  state.head = head;
  show();
}

function chooseLayer(layer, view = state.view) {
  state.layer[view] = Math.min(Math.max(layer, 0), data.layers[view] - 1);
  show();
}

function chooseCell(row, column) {
  if (!encoderLayers) return;
  stop();
  state.cell = [Math.min(Math.max(row, 0), h - 1), Math.min(Math.max(column, 0), w - 1)];
  state.view = "encoder";
  show();
}

function play() {
  if (timer) return stop();
  if (state.layer[state.view] === data.layers[state.view] - 1) chooseLayer(0);
  $("play").textContent = "Stop";
  timer = setInterval(() => {
    chooseLayer(state.layer[state.view] + 1);
    if (state.layer[state.view] === data.layers[state.view] - 1) stop();
  }, 900);
}

/** The cell (row, column) under a pointer. */
function cellAt(event) {
  const frame = $("frame").getBoundingClientRect();
  const y = (event.clientY - frame.top) / frame.height;
  const x = (event.clientX - frame.left) / frame.width;
  return [Math.min(h - 1, Math.floor((y * h) / data.extent[0])), Math.min(w - 1, Math.floor((x * w) / data.extent[1]))];
}

/** Write the weight under the pointer, which stays where it is while other maps are chosen. */
function readOut() {
  if (!pointer) return void ($("readout").textContent = HINT);
  const [row, column] = pointer;
  const map = currentMap();
  const weight = map.weights[Math.floor(row / map.side) * map.columns + Math.floor(column / map.side)];
  $("readout").textContent = `row ${row + 1}, column ${column + 1}: ${percent(weight)} of the attention`;
}

function listen() {
  document.querySelectorAll('input[name="view"]').forEach((input) => (input.onchange = () => chooseView(input.value)));
  $("layer").oninput = (event) => chooseLayer(event.target.value - 1);
  $("back").onclick = () => chooseLayer(state.layer[state.view] - 1);
  $("next").onclick = () => chooseLayer(state.layer[state.view] + 1);
  $("play").onclick = play;
  const frame = $("frame");
  frame.onclick = (event) => chooseCell(...cellAt(event));
  frame.onpointermove = (event) => {
    pointer = cellAt(event);
    readOut();
  };
  frame.onpointerleave = () => {
    pointer = null;
    readOut();
  };
  frame.onkeydown = (event) => {
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1], Enter: [0, 0] }[event.key];
    if (!step || event.target !== frame) return;
    event.preventDefault();
    // The first key shows where the point is, the next ones move it.
    const moves = state.view === "encoder" ? step : [0, 0];
    chooseCell(state.cell[0] + moves[0], state.cell[1] + moves[1]);
  };
}

// ---- the page

function fillTexts() {
  const [height, width] = data.size;
  const [tall, wide] = data.seen;
  $("about").textContent =
    `Image of ${width} \u00d7 ${height} pixels, seen by the model at ${wide} \u00d7 ${tall} as ${w} \u00d7 ${h} cells; ` +
    `${encoderLayers} encoder and ${decoderLayers} decoder layers, ${heads} heads`;
  if (!data.found) {
    $("notice").hidden = false;
    $("notice").textContent = `No detection is sure enough here: these are the ${data.queries.length} surest queries.`;
  }
  const count = data.left_out ? `${data.queries.length} of ${data.queries.length + data.left_out}` : data.queries.length;
  $("listtitle").textContent = `${data.found ? "Detections" : "Surest queries"} (${count})`;
  const [from, to] = [data.encoder.from, data.encoder.to];
  $("explained").textContent =
    "Cross-attention of the decoder says how a query weighs the cells of the image; the encoder's self-attention how " +
    "a cell weighs all cells. Each map adds up to 100 %, and its darkest colour is its own largest weight. Dashed is " +
    "the box of the layer before." +
    (from > 1 ? ` To keep this page small, points are blocks of ${from} x ${from} cells` : "") +
    (to > 1 ? `, and so are maps, of ${to} x ${to}.` : from > 1 ? "." : "");
}

function fillList() {
  const rows = data.queries.map((query, n) => {
    const label = document.createElement("label");
    label.innerHTML = '<input type="radio" name="query"><span class="number"></span><span class="name"></span><span></span>';
    const [input, number, name, score] = label.children;
    number.textContent = n + 1;
    name.textContent = query.name;
    score.textContent = chance(query.score);
    input.onchange = input.onclick = () => chooseQuery(n); // a click on the chosen one leads back from the encoder
    return label;
  });
  $("queries").replaceChildren(...rows);
}

async function start() {
  const cells = (side) => blocks(h, side) * blocks(w, side);
  const { decoder, encoder } = data;
  const rows = decoderLayers * heads * data.queries.length;
  packed.decoder = await unpack("decodermaps", decoder.steps, rows, cells(decoder.side));
  if (encoderLayers) {
    const points = encoderLayers * cells(encoder.from);
    packed.encoder = await unpack("encodermaps", encoder.steps, points, cells(encoder.to));
  } else document.querySelector('input[value="encoder"]').disabled = true;
  const frame = $("frame");
  frame.style.aspectRatio = `${data.size[1]} / ${data.size[0]}`;
  frame.style.width = `min(100%, calc(66vh * ${data.size[1] / data.size[0]}))`;
  frame.setAttribute("aria-label", `Image ${data.image}`);
  const ramp = { weights: Float32Array.from({ length: 256 }, (_, k) => k), columns: 256 };
  paint($("ramp"), ramp, 255);
  fillTexts();
  fillList();
  fillTable();
  listen();
  show();
  document.body.dataset.ready = "yes"; // for whoever waits
}

start();
