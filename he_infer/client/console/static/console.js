"use strict";
// Uploads files to the local process, and shows an image with window and level. No request leaves this machine.

const token = document.querySelector("meta[name=csrf-token]")?.content ?? "";
const headers = { "X-CSRF-Token": token };

document.body.addEventListener("htmx:configRequest", (event) => {
  event.detail.headers["X-CSRF-Token"] = token;
  const problem = document.getElementById("problem");
  if (problem && event.detail.verb !== "get") problem.textContent = ""; // a new attempt: the old message is void
});

// ---- adding files ------------------------------------------------------------------------------------------------

async function collect(entry, path = "") {
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    return [[path + file.name, file]];
  }
  const reader = entry.createReader();
  const found = [];
  for (;;) { // the browser gives a folder in portions
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) break;
    for (const inner of some) found.push(...await collect(inner, `${path}${entry.name}/`));
  }
  return found;
}

async function upload(files) {
  const status = document.getElementById("upload");
  let done = 0, refused = 0;
  const queue = [...files];
  const next = async () => {
    for (let pair; (pair = queue.shift());) {
      const [name, file] = pair;
      try {
        const answer = await fetch(`/files?name=${encodeURIComponent(name)}`, { method: "POST", headers, body: file });
        if (!answer.ok) refused += 1;
      } catch { refused += 1; }
      done += 1;
      status.textContent = `${done} of ${files.length} files added` + (refused ? `, ${refused} refused` : "");
      if (done % 25 === 0 || done === files.length) htmx.trigger("#desk", "refresh");
    }
  };
  await Promise.all([next(), next(), next()]);
}

const drop = document.getElementById("drop");
if (drop) {
  for (const kind of ["dragenter", "dragover"]) drop.addEventListener(kind, (event) => {
    event.preventDefault(); drop.classList.add("over");
  });
  drop.addEventListener("dragleave", () => drop.classList.remove("over"));
  drop.addEventListener("drop", async (event) => {
    event.preventDefault(); drop.classList.remove("over");
    const files = [...event.dataTransfer.files].map((file) => [file.name, file]);
    const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry()).filter(Boolean);
    const found = (await Promise.all(entries.map((entry) => collect(entry)))).flat();
    upload(found.length ? found : files); // some sources of a drag give files without entries
  });
  for (const id of ["files", "folder"]) document.getElementById(id).addEventListener("change", (event) => {
    upload([...event.target.files].map((file) => [file.webkitRelativePath || file.name, file]));
    event.target.value = "";
  });
}

// ---- one image, with window and level ----------------------------------------------------------------------------

async function show(canvas) {
  const answer = await fetch(canvas.dataset.source);
  if (!answer.ok) return;
  const about = JSON.parse(answer.headers.get("X-Image"));
  const values = new Float32Array(await answer.arrayBuffer());
  const context = canvas.getContext("2d");
  canvas.width = about.width; canvas.height = about.height;
  const picture = context.createImageData(about.width, about.height);
  const start = { centre: about.centre, span: about.span };
  let { centre, span } = start;
  const said = document.getElementById("window");
  const draw = () => {
    const low = centre - span / 2, scale = 255 / span, out = picture.data, many = about.channels;
    for (let at = 0, pixel = 0; at < values.length; at += many, pixel += 4) {
      for (let channel = 0; channel < 3; channel += 1) {
        const grey = (values[at + (many === 3 ? channel : 0)] - low) * scale;
        out[pixel + channel] = about.invert ? 255 - grey : grey; // the array clamps to 0..255
      }
      out[pixel + 3] = 255;
    }
    context.putImageData(picture, 0, 0);
    said.textContent = `level ${Math.round(centre)}, window ${Math.round(span)}`;
    canvas.dataset.drawn = "yes";
  };
  const move = (level, wider) => {
    const step = Math.max(about.high - about.low, 1) / 200;
    centre += level * step; span = Math.max(1, span + wider * step); draw();
  };
  canvas.addEventListener("pointerdown", (event) => canvas.setPointerCapture(event.pointerId));
  canvas.addEventListener("pointermove", (event) => { if (event.buttons & 1) move(event.movementY, event.movementX); });
  canvas.addEventListener("keydown", (event) => {
    const step = { ArrowUp: [-4, 0], ArrowDown: [4, 0], ArrowLeft: [0, -4], ArrowRight: [0, 4] }[event.key];
    if (step) { event.preventDefault(); move(...step); }
    if (event.key === "Escape" || event.key === "0") { ({ centre, span } = start); draw(); }
  });
  draw();
}

for (const canvas of document.querySelectorAll("canvas[data-source]")) show(canvas);
