"use strict";
// Data: what `page.py` writes. Maps come as bytes on a scale of their own: see `packing.py`.
const $ = (id) => document.getElementById(id);
const data = JSON.parse($("data").textContent);
const { encoder: encoderLayers, decoder: decoderLayers, heads } = data.layers;
const [h, w] = data.cells;
const zeros = (map) => map.weights.reduce((count, weight) => count + (weight === 0), 0) / map.weights.length;
// Less than the least step of the scale, and not exactly 0.
const tiny = (x) => x > 0 && x < 2 * data.almost;
const percent = (x) => tiny(x) ? "0.0 %" : `${x && 100 * x < 1 ? (100 * x).toPrecision(2) : (100 * x).toFixed(1)} %`;
const chance = (x) => `${(100 * x).toFixed(1)} %`;
const blocks = (length, side) => Math.ceil(length / side);

const packed = {};

async function unpack(id, steps, rows, length) {
  const bytes = Uint8Array.from(atob($(id).textContent), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  const buffer = await new Response(stream).arrayBuffer();
  return { steps, length, maxima: new Float32Array(buffer, 0, rows), codes: new Uint8Array(buffer, 4 * rows) };
}

function weights({ steps, length, maxima, codes }, row) {
  const scale = maxima[row] / (steps - 1) ** 2;
  const weight = (code) => code && Math.max(scale * (code - 1) ** 2, data.almost);
  return Float32Array.from(codes.subarray(row * length, (row + 1) * length), weight);
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


function colour(share) {
  const { stops } = data;
  const place = Math.min(Math.max(share, 0), 1) * (stops.length - 1);
  const k = Math.min(Math.floor(place), stops.length - 2);
  return stops[k].map((channel, i) => channel + (place - k) * (stops[k + 1][i] - channel));
}

/** Paint a map into a canvas, a pixel for each cell; cells of exactly 0 have a colour of their own. */
function paint(canvas, map, most) {
  const rows = map.weights.length / map.columns;
  canvas.width = map.columns;
  canvas.height = rows;
  const image = new ImageData(map.columns, rows);
  map.weights.forEach((weight, k) => image.data.set([...(weight ? colour(weight / most) : data.nothing), 255], 4 * k));
  canvas.getContext("2d").putImageData(image, 0, 0);
}

/** Lay a painted map over the image: its cells may hang over the edge. */
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
