// The capture guide: the camera live, a photo of each view, a summary, and a zip of it all.

import { loadClassifier } from "./classifier.js";
import { Capture, inWords, nextView } from "./capture.js";
import { greyCopy, measureQuality, motionBetween } from "./quality.js";
import { drawRing, updateRing } from "./ring.js";

const byId = (id) => document.getElementById(id);
const percent = (score) => `${Math.floor(100 * score)} %`; // never 100 % by rounding
const video = byId("video");
const LONGEST_SIDE = 2048; // of a chosen photo when it is classified; phones cannot hold any canvas
const ASPECT = 4 / 3; // of the photos taken, whichever way the phone is held: the model learned landscape photos
const READY = "Start at any side of the car";
const SHUTTER_SECONDS = 1; // how long a press of the shutter waits for a frame that shows a missing view

const captured = new Map(); // view -> {blob, url, name, source, score, probabilities, blur, time, width, height}
let settings, classifier, capture, zipSync;
let watching = false; // whether the loop over the camera's frames runs
let downloaded = true; // whether all that was captured is in a zip
let gravity = null; // {x, y} in the device's own axes, where the device tells it
let pressed = -Infinity; // when the shutter was pressed

// --- Frames ------------------------------------------------------------------------

/** What the model and the quality measures say of an RGBA frame. */
async function analyse(frame) {
  const probabilities = await classifier.classify(frame);
  const best = probabilities.indexOf(Math.max(...probabilities));
  const grey = greyCopy(frame, settings.quality.size);
  return { probabilities, view: settings.labels[best], score: probabilities[best], grey, ...measureQuality(grey, settings.quality) };
}

function newCanvas() {
  const canvas = document.createElement("canvas");
  return { canvas, context: canvas.getContext("2d", { willReadFrequently: true }) };
}

/** Draw the middle of the camera's picture, as the finder shows it, and give its pixels. */
function grab({ canvas, context }) {
  const width = Math.round(Math.min(video.videoWidth, video.videoHeight * ASPECT)), height = Math.round(width / ASPECT);
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  context.drawImage(video, (video.videoWidth - width) / 2, (video.videoHeight - height) / 2, width, height, 0, 0, width, height);
  return context.getImageData(0, 0, width, height);
}

/** The pixels of an image file, upright, transparency on white. Rejects when the browser cannot read it. */
async function decode(file) {
  const bitmap = await createImageBitmap(file, { imageOrientation: "from-image", colorSpaceConversion: "none" });
  const shrink = Math.min(1, LONGEST_SIDE / Math.max(bitmap.width, bitmap.height));
  const { canvas, context } = newCanvas();
  Object.assign(canvas, { width: Math.round(shrink * bitmap.width), height: Math.round(shrink * bitmap.height) });
  context.fillStyle = "white";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  return context.getImageData(0, 0, canvas.width, canvas.height);
}

function keep(view, photo) {
  URL.revokeObjectURL(captured.get(view)?.url);
  captured.set(view, { ...photo, url: URL.createObjectURL(photo.blob), time: new Date() });
  downloaded = false;
  showProgress();
  if (byId("summary").open) openSummary(); // opened while this photo was taken
}

// --- Camera ------------------------------------------------------------------------

async function startCamera() {
  byId("start").disabled = true;
  advise("Allow the camera when the browser asks");
  await followGravity();
  try {
    if (!navigator.mediaDevices?.getUserMedia) throw new Error("insecure");
    video.srcObject = await navigator.mediaDevices.getUserMedia({
      audio: false,
      video: { facingMode: { ideal: "environment" }, width: { ideal: 1920 }, height: { ideal: 1440 }, frameRate: { ideal: 30 } },
    });
    await video.play();
  } catch (error) {
    showNoCamera(error);
    return;
  } finally {
    byId("start").disabled = false;
  }
  track().addEventListener("ended", () => showNoCamera({ name: "ended" }));
  keepScreenOn();
  byId("torch").hidden = !track().getCapabilities?.().torch;
  byId("torch").ariaPressed = "false";
  byId("notice").hidden = true;
  showProgress();
  watch();
}

const track = () => video.srcObject.getVideoTracks()[0];

async function switchTorch() {
  const on = byId("torch").ariaPressed !== "true";
  await track().applyConstraints({ advanced: [{ torch: on }] });
  byId("torch").ariaPressed = String(on);
}

/** Listen to the motion sensor, for which iPhones ask the user. */
async function followGravity() {
  await window.DeviceMotionEvent?.requestPermission?.().catch(() => {}); // without it, only the advice to turn is missing
  window.addEventListener("devicemotion", feelGravity);
}

function feelGravity({ accelerationIncludingGravity: now }) {
  if (now?.x == null) return;
  const { x, y } = gravity ?? now;
  gravity = { x: 0.9 * x + 0.1 * now.x, y: 0.9 * y + 0.1 * now.y }; // without the shaking of a hand
}

/** Whether the camera's picture lies on its side, as under rotation lock: its shape then is as usual. */
function isSideways() {
  if (!gravity) return false;
  const isTurned = (screen.orientation?.angle ?? window.orientation ?? 0) % 180 !== 0; // the screen, from the device's axes
  const across = Math.abs(isTurned ? gravity.y : gravity.x), along = Math.abs(isTurned ? gravity.x : gravity.y);
  return across > 5 && across > 2 * along; // m/s²; not for a phone that looks down at something
}

function keepScreenOn() {
  navigator.wakeLock?.request("screen").catch(() => {}); // the screen may still go dark; nothing depends on it
}

/** The page is back after another one: phones end the wake lock, and some pause the video. */
function comeBack() {
  if (document.hidden || !cameraIsOn()) return;
  capture.forget();
  keepScreenOn();
  video.play().catch(() => {}); // the camera may be gone; its "ended" event says so
}

function showNoCamera({ name, message }) {
  const reasons = {
    NotAllowedError: "This page may not use the camera. Allow it in the browser's settings for this page, then start it again.",
    NotFoundError: "This device has no camera.",
    NotReadableError: "Another app uses the camera. Close it, then start the camera again.",
    ended: "The camera was switched off, or another app took it. Start it again.",
  };
  const insecure = "Browsers give the camera only to pages with an https:// address.";
  for (const track of video.srcObject?.getTracks() ?? []) track.stop();
  video.srcObject = null;
  byId("notice-title").textContent = "No camera";
  byId("notice-text").textContent = reasons[name] ?? (message === "insecure" ? insecure : "The camera cannot be used.");
  byId("notice").hidden = false;
  byId("now").hidden = byId("steady").hidden = byId("torch").hidden = true;
  advise("You can choose photos of the car instead");
  showProgress();
}

const cameraIsOn = () => Boolean(video.srcObject);
const dialogIsOpen = () => Boolean(document.querySelector("dialog[open]"));

/** The next new frame of the camera, no earlier than `seconds` after the last one. */
async function nextFrame(seconds, last) {
  const wait = seconds * 1000 - (performance.now() - last) - 10; // until shortly before the frame
  if (wait > 0) await new Promise((done) => setTimeout(done, wait));
  await new Promise((done) => (video.requestVideoFrameCallback ? video.requestVideoFrameCallback(done) : requestAnimationFrame(done)));
}

/** Follow the camera until it stops or a dialog opens. */
async function watch() {
  if (watching) return;
  watching = true;
  let spare = newCanvas(), best = newCanvas(), earlier = null, last = -Infinity, rate = null;
  capture.forget();
  while (cameraIsOn() && !dialogIsOpen()) {
    await nextFrame(1 / settings.capture.frames_per_second, last);
    if (!cameraIsOn() || dialogIsOpen() || !video.videoWidth) continue;
    const start = performance.now(), frame = await analyse(grab(spare));
    const motion = earlier ? motionBetween(frame.grey, earlier) : Infinity;
    earlier = frame.grey;
    const verdict = capture.add({ ...frame, sideways: isSideways(), motion, time: start / 1000 }, captured);
    const byHand = start - pressed < 1000 * SHUTTER_SECONDS && settings.views.includes(frame.view) && !captured.has(frame.view);
    if (byHand) await take({ ...spare, frame }, "by hand");
    if (verdict.keep) {
      [spare, best] = [best, spare];
      best.frame = frame;
    }
    rate = last > 0 ? 0.9 * (rate ?? 1000 / (start - last)) + 100 / (start - last) : null;
    last = start;
    showFrame(frame, verdict, performance.now() - start, rate);
    if (verdict.take && !byHand) await take(best, "camera");
  }
  watching = false;
}

async function take({ canvas, frame }, source) {
  pressed = -Infinity;
  const blob = await new Promise((done) => canvas.toBlob(done, "image/jpeg", 0.92));
  const { view, score, probabilities, blur } = frame;
  keep(view, { blob, name: null, source, score, probabilities, blur, width: canvas.width, height: canvas.height });
  navigator.vibrate?.(60);
  byId("finder").classList.add("taken");
  setTimeout(() => byId("finder").classList.remove("taken"), 400);
  if (!nextView(settings.views, captured, view)) openSummary();
}

// --- Photos that were chosen -------------------------------------------------------

async function addPhotos(files) {
  if (!classifier || !files.length) return;
  byId("results").replaceChildren();
  byId("chosen-close").textContent = "Stop";
  byId("chosen").showModal();
  for (const [index, file] of files.entries()) {
    byId("chosen-count").textContent = `Photo ${index + 1} of ${files.length}`;
    await addPhoto(file);
    if (!byId("chosen").open) return;
  }
  byId("chosen-count").textContent = `${captured.size} of ${settings.views.length} views`;
  byId("chosen-close").textContent = "Continue";
}

async function addPhoto(file) {
  const item = document.createElement("li"), text = document.createElement("p");
  const add = (name, content) => text.append(Object.assign(document.createElement("span"), { className: name, textContent: content }));
  item.append(text);
  byId("results").append(item);
  add("name", file.name);
  let pixels, frame;
  try {
    pixels = await decode(file);
    frame = await analyse(pixels);
    item.prepend(await thumbnail(pixels));
  } catch {
    add("use", "This browser cannot read it. Try a JPEG photo.");
    return;
  }
  item.dataset.class = frame.view;
  add("class", `${inWords(frame.view)}, ${percent(frame.score)}`);
  showScores(frame.probabilities);
  const refusal = refuse(frame);
  item.className = refusal ? "" : "used";
  add("use", refusal ?? `Taken as ${inWords(frame.view).toLowerCase()}`);
  if (!refusal) {
    const { view, score, probabilities, blur } = frame;
    keep(view, { blob: file, name: file.name, source: "gallery", score, probabilities, blur, width: pixels.width, height: pixels.height });
  }
}

/** A small picture to show: phones run out of memory when they show many photos at full size. */
async function thumbnail(pixels) {
  const bitmap = await createImageBitmap(pixels, { resizeWidth: 240, resizeQuality: "medium" });
  const { canvas, context } = newCanvas();
  Object.assign(canvas, { width: bitmap.width, height: bitmap.height });
  context.drawImage(bitmap, 0, 0);
  return canvas;
}

/** Why a chosen photo is not taken, in words; null when it is. */
function refuse({ view, score, reason }) {
  if (reason) return `Not used: ${reason}`;
  if (view === settings.background) return "Not used: no whole car in it";
  if (score < settings.min_score) return "Not used: not sure which side this is";
  return captured.has(view) ? "Not used: this view is there already" : null;
}

// --- What the page shows -----------------------------------------------------------

/** Set a text only when it changes, so that screen readers do not repeat it. */
function setText(id, text) {
  if (byId(id).textContent !== text) byId(id).textContent = text;
}

function advise(text, spoken = text) {
  setText("advice", text);
  setText("spoken", spoken);
}

function showFrame(frame, verdict, milliseconds, rate) {
  setText("now-view", frame.view === settings.background ? "No car" : inWords(frame.view));
  setText("now-score", percent(frame.score));
  byId("now").classList.toggle("sure", frame.score >= settings.min_score && frame.view !== settings.background);
  byId("now").hidden = byId("steady").hidden = false;
  byId("steady").firstElementChild.style.transform = `scaleX(${verdict.progress})`;
  advise(verdict.advice.text, verdict.advice.spoken);
  updateRing(byId("ring"), captured, frame.view);
  if (document.querySelector("details").open) {
    showScores(frame.probabilities);
    setText("speed", `${Math.round(milliseconds)} ms a frame, ${(rate ?? 0).toFixed(1)} frames a second`);
  }
}

function showScores(probabilities) {
  byId("scores").replaceChildren(...settings.labels.flatMap((label, index) => {
    const [name, bar, number] = ["span", "span", "span"].map((tag) => document.createElement(tag));
    name.textContent = inWords(label);
    bar.className = "bar";
    bar.style.setProperty("--score", probabilities[index]);
    number.textContent = `${(100 * probabilities[index]).toFixed(1)} %`;
    return [name, bar, number];
  }));
}

function showProgress() {
  const count = `${captured.size} of ${settings.views.length}`, complete = captured.size === settings.views.length;
  setText("count", `${count} views`);
  setText("review", `Review ${count}`);
  byId("review").hidden = !captured.size;
  byId("review").classList.toggle("primary", complete);
  byId("start").hidden = cameraIsOn();
  byId("shutter").hidden = !cameraIsOn();
  byId("start").classList.toggle("primary", !complete);
  updateRing(byId("ring"), captured, null);
}

function openSummary() {
  byId("summary-count").textContent = `${captured.size} of ${settings.views.length} views`;
  byId("cards").replaceChildren(...settings.views.map(makeCard));
  byId("download").disabled = !captured.size;
  if (!byId("summary").open) byId("summary").showModal();
}

function makeCard(view) {
  const card = document.createElement("li"), photo = captured.get(view);
  const add = (tag, properties) => card.appendChild(Object.assign(document.createElement(tag), properties));
  card.dataset.view = view;
  if (!photo) {
    card.className = "missing";
    add("h3", { textContent: inWords(view) });
    add("p", { textContent: "Still missing" });
    return card;
  }
  add("img", { src: photo.url, alt: `The photo of the ${inWords(view).toLowerCase()}` });
  add("h3", { textContent: inWords(view) });
  add("p", { textContent: percent(photo.score) + (photo.source === "by hand" ? ", by hand" : "") });
  add("button", { textContent: "Retake", ariaLabel: `Retake ${inWords(view).toLowerCase()}`, onclick: () => retake(view) });
  return card;
}

function retake(view) {
  URL.revokeObjectURL(captured.get(view).url);
  captured.delete(view);
  showProgress();
  if (cameraIsOn()) byId("summary").close();
  else openSummary();
  advise(`Show the ${inWords(view).toLowerCase()} again`);
}

function startAgain() {
  if (!downloaded && !confirm("Delete these photos?")) return;
  for (const { url } of captured.values()) URL.revokeObjectURL(url);
  captured.clear();
  downloaded = true;
  showProgress();
  advise(READY);
  byId("summary").close();
}

// --- The zip -----------------------------------------------------------------------

async function download() {
  const files = {}, views = [];
  for (const view of settings.views.filter((name) => captured.has(name))) {
    const { blob, name, source, score, probabilities, blur, time, width, height } = captured.get(view);
    const file = `${view}.${name?.match(/\.(\w+)$/)?.[1].toLowerCase() ?? "jpg"}`;
    files[file] = new Uint8Array(await blob.arrayBuffer());
    const scores = Object.fromEntries(settings.labels.map((label, index) => [label, probabilities[index]]));
    views.push({ view, file, score, scores, time: time.toISOString(), source, original_name: name, blur, width, height });
  }
  const { name, version, sha256, min_score } = settings;
  const missing = settings.views.filter((view) => !captured.has(view));
  const content = { model: { name, version, sha256 }, min_score, created: new Date().toISOString(), views, missing };
  files["capture.json"] = new TextEncoder().encode(`${JSON.stringify(content, null, 2)}\n`);
  const url = URL.createObjectURL(new Blob([zipSync(files, { level: 0 })], { type: "application/zip" })); // photos are compressed already
  const stamp = content.created.slice(0, 19).replace(/[-:]/g, "").replace("T", "_");
  Object.assign(document.createElement("a"), { href: url, download: `vehicle_${stamp}.zip` }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
  downloaded = true;
}

// --- Offline -----------------------------------------------------------------------

/** Let the service worker keep the page and all that it loaded; say whether that worked. */
async function keepOffline() {
  try {
    const worker = navigator.serviceWorker, wasKept = Boolean(worker.controller);
    const changed = new Promise((done) => worker.addEventListener("controllerchange", done, { once: true }));
    await worker.register("sw.js");
    if (!wasKept) await changed;
    const loaded = performance.getEntriesByType("resource").map((entry) => entry.name);
    await Promise.all(loaded.filter((url) => url.includes("/runtime/")).map((url) => fetch(url)));
    byId("offline").textContent = "Works without a network now.";
    if (!wasKept) return;
    await changed;
    byId("offline").textContent = "There is a newer version: reload the page to get it.";
  } catch {
    byId("offline").textContent = "Needs the network each time: browsers keep a page only from an https:// address that they trust.";
  }
}

// --- Start -------------------------------------------------------------------------

async function load() {
  if (!window.HTMLDialogElement) throw new Error("This browser is too old for this page.");
  const response = await fetch("settings.json");
  if (!response.ok) throw new Error("settings.json is missing");
  settings = await response.json();
  capture = new Capture(settings);
  drawRing(byId("ring"), settings.views);
  showProgress();
  classifier = await loadClassifier("model.tflite", "runtime/");
  ({ zipSync } = await import("./runtime/fflate.js"));
}

byId("start").addEventListener("click", startCamera);
byId("torch").addEventListener("click", switchTorch);
byId("shutter").addEventListener("click", () => (pressed = performance.now()));
byId("review").addEventListener("click", openSummary);
byId("files").addEventListener("change", async (event) => {
  await addPhotos([...event.target.files]);
  event.target.value = ""; // so that the same photo can be chosen again
});
byId("back").addEventListener("click", () => byId("summary").close());
byId("again").addEventListener("click", startAgain);
byId("download").addEventListener("click", download);
byId("chosen-close").addEventListener("click", () => byId("chosen").close());
byId("chosen").addEventListener("close", () => {
  if (!nextView(settings.views, captured, null)) openSummary();
});
for (const dialog of document.querySelectorAll("dialog")) dialog.addEventListener("close", () => cameraIsOn() && watch());
for (const name of ["dragover", "drop"]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    if (name === "drop" && !dialogIsOpen()) addPhotos([...event.dataTransfer.files]);
  });
}
document.addEventListener("visibilitychange", comeBack);
window.addEventListener("beforeunload", (event) => downloaded || event.preventDefault());

try {
  await load();
  byId("start").disabled = byId("files").disabled = false;
  advise(READY);
  document.body.dataset.ready = "";
  keepOffline();
} catch (error) {
  byId("notice-title").textContent = "The guide cannot start";
  byId("notice-text").textContent = error.message && !(error instanceof TypeError) ? error.message : "A file could not be loaded: check the network.";
  advise("Mend this, then reload the page");
}
