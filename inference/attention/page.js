// The choices that are made on the page.

let pointer = null; // the cell under it

function show() {
  const map = currentMap();
  paint($("heat"), map, most(map));
  layOver($("heat"), map);
  $("most").textContent = percent(most(map));
  const [even, side] = [1 / map.weights.length, map.side];
  const cell = side > 1 ? `a block of ${side} x ${side} cells` : "one cell";
  $("unit").textContent = `of the attention in ${cell}; spread evenly (mark) it would be ${percent(even)}`;
  $("nothing").hidden = !zeros(map);
  $("nothingshare").textContent = `${chance(zeros(map))} of the cells have exactly 0`;
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
  const share = weight ? percent(weight) : "exactly 0 %";
  $("readout").textContent = `row ${row + 1}, column ${column + 1}: ${share} of the attention`;
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
  const ramp = { weights: Float32Array.from({ length: 256 }, (_, k) => k || data.almost), columns: 256 };
  paint($("ramp"), ramp, 255);
  fillTexts();
  fillList();
  fillTable();
  listen();
  show();
  document.body.dataset.ready = "yes"; // for whoever waits
}

start();
