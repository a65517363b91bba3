"use strict";
// The page of mimo serve: no framework, and nothing is fetched from anywhere but this service.

const $ = (id) => document.getElementById(id);
const AT_ONCE = 2; // one is restored while the next arrives
const NAMES = /\.(jpe?g|png|tiff?|webp)$/i;
const items = [];
let running = 0;
let secondsEach = null; // of a photograph, lately
let shown = null;
let zoom = "fit";

// --- talking to the service

const token = () => sessionStorage.getItem("token");
const headers = () => (token() ? { authorization: `Bearer ${token()}` } : {});
const strength = () => Number($("strength").value) / 100;

async function sentenceOf(response) {
  try {
    return (await response.json()).detail || `the service answered ${response.status}.`;
  } catch {
    return `the service answered ${response.status}.`;
  }
}

async function showModel() {
  const response = await fetch("v1/model", { headers: headers() }).catch(() => null);
  $("access").hidden = !response || response.status !== 401;
  if (!response || !response.ok) return;
  const model = await response.json();
  const engine = model.engine ? `${model.engine.name}` : "warming up";
  $("model").textContent = `${model.file}, ${engine}; up to ${model.limits.megapixels} megapixels`;
  if (!model.engine) setTimeout(showModel, 1000);
}

function send(item) {
  return new Promise((resolve) => {
    const request = new XMLHttpRequest(); // fetch does not tell how much has been sent
    item.request = request;
    item.job = newJob();
    item.strength = strength();
    request.open("POST", `v1/deblur?strength=${item.strength}&job=${item.job}`);
    for (const [name, value] of Object.entries(headers())) request.setRequestHeader(name, value);
    request.setRequestHeader("content-type", "application/octet-stream");
    request.responseType = "blob";
    request.upload.onprogress = (event) => {
      if (event.lengthComputable) show(item, "sending", (0.1 * event.loaded) / event.total);
    };
    request.upload.onload = () => show(item, "waiting", 0.1);
    request.onload = () => resolve(request);
    request.onerror = () => resolve(null);
    request.onabort = () => resolve(null);
    request.send(item.file);
  });
}

function newJob() {
  // crypto.randomUUID exists in secure contexts only; a service in the local network is none.
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

async function watch(item) {
  const job = item.job;
  while (item.job === job && item.state === "running") {
    await pause(500);
    const response = await fetch(`v1/jobs/${job}`, { headers: headers() }).catch(() => null);
    if (!response || !response.ok || item.job !== job || item.state !== "running") continue;
    const at = await response.json();
    item.left = at.seconds_left;
    const left = at.seconds_left === null ? "" : `, ${time(at.seconds_left)} left`;
    if (at.state === "working") {
      const part = at.tiles ? at.tile / at.tiles : 0;
      show(item, `restoring${left}`, 0.1 + 0.9 * part);
    } else if (at.state === "waiting") {
      show(item, `waiting, ${at.before} before it${left}`, 0.1);
    }
    overview();
  }
}

const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

async function work() {
  if (running >= AT_ONCE) return;
  const item = items.find((one) => one.state === "queued");
  if (!item) return;
  running += 1;
  item.state = "running";
  show(item, "sending", 0);
  work();
  await restore(item);
  running -= 1;
  overview();
  work();
}

async function restore(item) {
  for (;;) {
    const began = performance.now();
    const sent = send(item);
    watch(item);
    const request = await sent;
    if (item.state !== "running") return; // cleared meanwhile
    if (request && request.status === 200) {
      const seconds = (performance.now() - began) / 1000 / AT_ONCE;
      secondsEach = secondsEach === null ? seconds : 0.7 * secondsEach + 0.3 * seconds;
      finish(item, request.response, request.getResponseHeader("x-mimo-not-kept"));
      return;
    }
    if (request && request.status === 429) {
      const seconds = Number(request.getResponseHeader("retry-after")) || 2;
      show(item, `the service is busy: trying again in ${time(seconds)}`, 0);
      await pause(1000 * seconds);
      if (item.state !== "running") return;
      continue;
    }
    item.state = "failed";
    show(item, request ? await sentenceOf(await responseOf(request)) : "the service cannot be reached: is it running?", 0);
    if (request && request.status === 401) $("access").hidden = false;
    return;
  }
}

const responseOf = (request) => new Response(request.response, { status: request.status || 500 });

function finish(item, blob, notKept) {
  if (item.after) URL.revokeObjectURL(item.after);
  item.result = blob;
  item.after = URL.createObjectURL(blob);
  item.state = "done";
  const percent = Math.round(100 * item.strength);
  show(item, `done, ${percent} %${notKept ? `; not kept: ${notKept}` : ""}`, 1);
  if (shown === item) $("after").src = item.after;
}

// --- the list

function add(files) {
  for (const [file, name] of files) {
    if (items.some((item) => item.name === name && item.file.size === file.size && item.file.lastModified === file.lastModified)) continue;
    const item = { file, name, state: "queued", before: URL.createObjectURL(file) };
    item.row = row(item);
    items.push(item);
    $("list").append(item.row);
    show(item, "in the queue", 0);
  }
  overview();
  work();
}

function row(item) {
  const line = document.createElement("li");
  const thumb = button("", () => view(item), "thumb");
  thumb.setAttribute("aria-label", `Compare ${item.name}`);
  const image = new Image();
  image.alt = "";
  image.onerror = () => {
    image.remove(); // a TIFF, which browsers do not show
    item.unseen = thumb.disabled = true;
    thumb.textContent = "no preview";
    item.actions.querySelector(".compare-button")?.remove();
  };
  image.src = item.before;
  thumb.append(image);
  const middle = document.createElement("div");
  item.bar = document.createElement("progress");
  item.bar.max = 1;
  item.bar.setAttribute("aria-label", item.name);
  item.text = Object.assign(document.createElement("div"), { className: "state" });
  middle.append(Object.assign(document.createElement("div"), { className: "name", textContent: item.name }), item.bar, item.text);
  item.actions = Object.assign(document.createElement("div"), { className: "actions" });
  line.append(thumb, middle, item.actions);
  return line;
}

function button(text, action, name) {
  const made = document.createElement("button");
  made.type = "button";
  made.textContent = text;
  if (name) made.className = name;
  made.onclick = action;
  return made;
}

function show(item, text, part) {
  item.part = part;
  item.text.textContent = text;
  item.bar.value = part;
  item.bar.hidden = item.state === "done" || item.state === "failed";
  item.row.className = item.state;
  if (item.drawn !== item.state) {
    item.drawn = item.state;
    item.actions.replaceChildren();
    if (item.state === "done") {
      const link = Object.assign(document.createElement("a"), { className: "button download", textContent: "Download", href: item.after });
      link.download = fileName(item);
      if (!item.unseen) item.actions.append(button("Compare", () => view(item), "compare-button"));
      item.actions.append(link);
    } else if (item.state === "failed") {
      item.actions.append(button("Try again", () => requeue([item])));
    }
  } else if (item.state === "done") {
    item.actions.querySelector(".download").href = item.after;
  }
}

const fileName = (item) => item.name.split("/").pop();

function requeue(some) {
  for (const item of some) {
    item.state = "queued";
    show(item, "in the queue", 0);
  }
  overview();
  work();
}

function overview() {
  const done = items.filter((item) => item.state === "done");
  const failed = items.filter((item) => item.state === "failed");
  const open = items.filter((item) => item.state === "queued" || item.state === "running");
  $("overview").hidden = !items.length;
  $("progress").hidden = !open.length;
  $("progress").value = items.length ? items.reduce((sum, item) => sum + (item.state === "failed" ? 1 : item.part), 0) / items.length : 0;
  const queued = open.filter((item) => item.state === "queued").length;
  const active = Math.max(0, ...open.map((item) => (item.state === "running" && item.left) || 0));
  const known = secondsEach !== null || (!queued && active);
  const left = open.length && known ? `, ${time(active + queued * (secondsEach || 0))} left` : "";
  $("status").textContent = `${done.length} of ${items.length} done${failed.length ? `, ${failed.length} not done` : ""}${left}`;
  $("all").hidden = done.length < 2;
  const other = done.filter((item) => item.strength !== strength());
  $("again").hidden = !other.length;
  $("again").textContent = `Do ${other.length === 1 ? "one" : other.length} again at ${$("strength").value} %`;
  $("again").onclick = () => requeue(other);
}

function time(seconds) {
  const whole = Math.ceil(seconds);
  return whole < 60 ? `${whole} s` : whole < 3600 ? `${Math.ceil(whole / 60)} min` : `${(whole / 3600).toFixed(1)} h`;
}

// --- comparing

function view(item) {
  shown = item;
  $("viewer-name").textContent = item.name;
  $("before").src = item.before;
  $("after").hidden = !item.after;
  if (item.after) $("after").src = item.after;
  $("viewer-download").hidden = !item.after;
  $("viewer-download").href = item.after || "";
  $("viewer-download").download = fileName(item);
  $("viewer").showModal();
  zoomTo("fit");
}

function zoomTo(to) {
  zoom = to;
  for (const one of document.querySelectorAll("[data-zoom]")) one.setAttribute("aria-pressed", String(one.dataset.zoom === to));
  const { naturalWidth: width, naturalHeight: height } = $("before");
  if (!width) return;
  const stage = $("stage");
  const factor = to === "fit" ? Math.min(stage.clientWidth / width, stage.clientHeight / height) : Number(to) / devicePixelRatio;
  $("canvas").style.width = `${Math.floor(width * factor)}px`;
  $("canvas").style.height = `${Math.floor(height * factor)}px`;
  $("canvas").style.imageRendering = factor * devicePixelRatio >= 2 ? "pixelated" : "auto";
  stage.scrollLeft = (stage.scrollWidth - stage.clientWidth) / 2;
  stage.scrollTop = (stage.scrollHeight - stage.clientHeight) / 2;
  split();
}

function split() {
  // The slider spans what is in sight, so that it also works on a part of the picture.
  const stage = $("stage");
  const canvas = $("canvas");
  const width = canvas.offsetWidth;
  const sight = Math.min(width, stage.clientWidth);
  const at = (width > stage.clientWidth ? stage.scrollLeft : 0) + (sight * Number($("slider").value)) / 100;
  $("after").style.clipPath = `inset(0 0 0 ${at}px)`;
  $("line").style.left = `${at - 1}px`;
}

let held = false;
function drag(event) {
  if (!held || zoom !== "fit") return;
  const box = $("canvas").getBoundingClientRect();
  $("slider").value = (100 * (event.clientX - box.left)) / box.width;
  split();
}

// --- a zip of all, stored without compression: photographs are compressed already

const CRC = Uint32Array.from({ length: 256 }, (_, number) => {
  for (let bit = 0; bit < 8; bit++) number = number & 1 ? (number >>> 1) ^ 0xedb88320 : number >>> 1;
  return number;
});

function crc32(bytes) {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = (crc >>> 8) ^ CRC[(crc ^ byte) & 255];
  return (crc ^ 0xffffffff) >>> 0;
}

function little(...fields) {
  const bytes = [];
  for (const [value, size] of fields) for (let at = 0; at < size; at++) bytes.push(Math.floor(value / 256 ** at) & 255);
  return new Uint8Array(bytes);
}

async function zipped(some) {
  const parts = [];
  const directory = [];
  const taken = new Set();
  let offset = 0;
  for (const item of some) {
    let path = item.name;
    for (let number = 2; taken.has(path.toLowerCase()); number++) path = item.name.replace(/(\.[^.]*)?$/, ` (${number})$1`);
    taken.add(path.toLowerCase());
    const name = new TextEncoder().encode(path);
    const crc = crc32(new Uint8Array(await item.result.arrayBuffer()));
    const when = new Date(item.file.lastModified);
    const clock = (when.getHours() << 11) | (when.getMinutes() << 5) | (when.getSeconds() >> 1);
    const day = (Math.max(0, when.getFullYear() - 1980) << 9) | ((when.getMonth() + 1) << 5) | when.getDate();
    const facts = [[20, 2], [0x800, 2], [0, 2], [clock, 2], [day, 2], [crc, 4], [item.result.size, 4], [item.result.size, 4], [name.length, 2], [0, 2]];
    const head = little([0x04034b50, 4], ...facts);
    parts.push(head, name, item.result);
    directory.push(little([0x02014b50, 4], [20, 2], ...facts, [0, 2], [0, 2], [0, 2], [0, 4], [offset, 4]), name);
    offset += head.length + name.length + item.result.size;
  }
  const size = directory.reduce((sum, part) => sum + part.length, 0);
  const end = little([0x06054b50, 4], [0, 2], [0, 2], [some.length, 2], [some.length, 2], [size, 4], [offset, 4], [0, 2]);
  return new Blob([...parts, ...directory, end], { type: "application/zip" });
}

const MOST_IN_ZIP = 2 ** 32 - 2 ** 24; // what its 32-bit sizes hold, and a margin for the names

async function downloadAll() {
  const done = items.filter((item) => item.state === "done");
  if (done.length > 65000 || done.reduce((sum, item) => sum + item.result.size, 0) > MOST_IN_ZIP) {
    $("status").textContent = "too much for one zip file: download them one by one, or use mimo deblur on the folder.";
    return;
  }
  $("all").disabled = true;
  const url = URL.createObjectURL(await zipped(done));
  Object.assign(document.createElement("a"), { href: url, download: "photographs.zip" }).click();
  $("all").disabled = false;
  setTimeout(() => URL.revokeObjectURL(url), 60000);
}

// --- dropping

async function entriesOf(entry, path) {
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    return [[file, path + file.name]];
  }
  const reader = entry.createReader();
  const found = [];
  for (;;) {
    // A reader gives a hundred at a time.
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) return found;
    for (const one of some) found.push(...(await entriesOf(one, `${path}${entry.name}/`)));
  }
}

async function dropped(event) {
  event.preventDefault();
  $("drop").classList.remove("over");
  const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry()).filter(Boolean);
  const files = [];
  for (const entry of entries) {
    const found = await entriesOf(entry, "");
    files.push(...(entry.isDirectory ? found.filter(([, name]) => NAMES.test(name) && !hidden(name)) : found));
  }
  add(files);
}

const hidden = (name) => name.split("/").some((part) => part.startsWith("."));

$("files").onchange = (event) => {
  add([...event.target.files].map((file) => [file, file.name]));
  event.target.value = "";
};
$("folder").onchange = (event) => {
  const files = [...event.target.files].map((file) => [file, file.webkitRelativePath || file.name]);
  add(files.filter(([, name]) => NAMES.test(name) && !hidden(name)));
  event.target.value = "";
};
for (const type of ["dragenter", "dragover"]) {
  addEventListener(type, (event) => {
    event.preventDefault();
    $("drop").classList.add("over");
  });
}
addEventListener("dragleave", () => $("drop").classList.remove("over"));
addEventListener("drop", dropped);
$("folder-label").hidden = !("webkitdirectory" in $("folder")) || matchMedia("(pointer: coarse)").matches;
$("strength").oninput = () => {
  $("strength-value").textContent = `${$("strength").value} %`;
  overview();
};
$("all").onclick = downloadAll;
$("clear").onclick = () => {
  for (const item of items.splice(0)) {
    item.state = "cleared";
    item.request?.abort();
    item.row.remove();
    URL.revokeObjectURL(item.before);
    if (item.after) URL.revokeObjectURL(item.after);
  }
  overview();
};
$("close").onclick = () => $("viewer").close();
$("slider").oninput = split;
$("stage").onscroll = split;
$("before").onload = () => zoomTo(zoom);
addEventListener("resize", () => $("viewer").open && zoomTo(zoom));
$("canvas").onpointerdown = (event) => {
  held = true;
  drag(event);
};
addEventListener("pointermove", drag);
addEventListener("pointerup", () => (held = false));
$("canvas").ondragstart = () => false;
for (const one of document.querySelectorAll("[data-zoom]")) one.onclick = () => zoomTo(one.dataset.zoom);
$("access").onsubmit = (event) => {
  event.preventDefault();
  sessionStorage.setItem("token", $("token").value.trim());
  showModel();
  requeue(items.filter((item) => item.state === "failed"));
};
showModel();
