/* The page: asks the model about a drawing or a picture and shows what it answers. */

import { Drawing } from './drawing.js';
import { fromPhotograph, fromStrokes } from './pictures.js';
import { Model, RequestFailed, latestOnly } from './rest.js';

const BEND = 0.25; // of one number of a capsule, either way: figure 4 of the paper, arXiv:1710.09829
const PAUSE = 50; // ms between requests while the drawing or a slider moves
const RETRY = 2000; // ms
const REFRESH = 10_000; // ms after which it is asked again which version is served
const REST = 800; // ms without a change after which the answer is final, and read out
const LONGEST_NAME = 14; // of a class, in characters

// A PNG of one white pixel. What a model says of it tells what it says of each picture.
const BLANK =
  'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGP4DwABAQEAsTj2FAAAAABJRU5ErkJggg==';

const $ = (id) => document.getElementById(id);

const model = new Model(new URLSearchParams(location.search).get('model') ?? 'capsnet');
const look = latestOnly(() => untilAnswered(askAboutPicture, look), PAUSE, showBusy);
const bend = latestOnly(() => untilAnswered(askForBent, bend), PAUSE, showBusy);

let signature; // the one that is asked; undefined until it is known what the model has
let version; // that is served
let names = []; // of the classes
let canBend = false; // whether the model has a decoder
let photograph = null; // in base64, instead of a drawing
let choices = 0; // of photographs
let answer = null; // {label, scores, isKnown, image, capsule}; null where there is no picture
let bars = []; // an element for each class
let sliders = []; // {input, ends: [canvas, canvas]} for each number of a capsule
let busy = 1; // of `look`, `bend` and the first question about the model, how many still ask
let reading; // timer

const drawing = new Drawing($('drawing'), $('cursor'), () => showPicture(null));
$('undo').addEventListener('click', () => drawing.undo());
$('clear').addEventListener('click', () => drawing.clear());
$('straighten').addEventListener('click', () => {
  straighten();
  bend();
});
for (const [button, input] of [
  [$('choose'), $('file')],
  [$('take'), $('camera')],
]) {
  button.addEventListener('click', () => input.click());
  input.addEventListener('change', () => {
    usePhotograph(input.files[0]);
    input.value = ''; // or the same file could not be chosen again
  });
}
$('drawing').parentElement.addEventListener('click', () => {
  if (!readsStrokes()) $('file').click();
});
document.addEventListener('paste', (event) => usePhotograph(event.clipboardData.files[0]));
document.addEventListener('dragover', (event) => event.preventDefault());
document.addEventListener('drop', (event) => {
  event.preventDefault();
  usePhotograph(event.dataTransfer.files[0]);
});
build(numbers(10), 16);
refresh();

/** Reads what the server serves now, and again from time to time while the page is looked at. */
async function refresh() {
  if (!document.hidden) await untilAnswered(askAboutModel, () => {});
  setTimeout(refresh, signature === undefined ? RETRY : REFRESH);
}

/** Does `ask`; where the server does not, says why, and calls `again` after a while. */
async function untilAnswered(ask, again) {
  try {
    await ask();
    $('trouble').hidden = true;
  } catch (error) {
    if (!(error instanceof RequestFailed)) throw error;
    $('trouble').textContent = `${error.message} The page keeps trying.`;
    $('trouble').hidden = false;
    setTimeout(again, RETRY);
  }
}

async function askAboutModel() {
  const { version: served, signatures } = await model.describe();
  if (served === version) return;
  // Older networks without a decoder have no `explain`, and older models do not show their image.
  const asked = 'explain' in signatures ? 'explain' : 'serving_default';
  const classes = Number(signatures.serving_default.outputs.scores.tensor_shape.dim[1].size);
  const isNamed = 'class_names' in signatures[asked].outputs;
  // Older models have no names for their classes. They read strokes.
  const facts = isNamed ? await model.predict(asked, { image_bytes: [{ b64: BLANK }] }) : null;
  const hasCard = await model.hasCard();
  // All is known: from here on nothing waits, so that nobody sees half of a change.
  const isFirst = signature === undefined;
  [signature, version] = [asked, served];
  canBend = 'decode' in signatures;
  document.body.classList.toggle('strokes', !isNamed || facts.framing[0] === 'strokes');
  // Models that do not say what they have are older: all of those have capsules.
  const isOlder = asked !== 'explain';
  document.body.classList.toggle('capsules', isOlder || 'capsules' in signatures[asked].outputs);
  $('served').textContent = `Model ${model.name}, version ${version}`;
  $('card').href = model.card;
  $('has-card').hidden = !hasCard;
  $('framed').hidden = !('image' in signatures[asked].outputs);
  $('reconstructed').hidden = $('bend').hidden = !canBend;
  build(
    isNamed ? facts.class_names[0] : numbers(classes),
    canBend ? Number(signatures.decode.inputs.capsule.tensor_shape.dim[1].size) : 0,
  );
  if (isFirst) {
    look();
    showBusy(false);
  }
}

function numbers(count) {
  return Array.from({ length: count }, (_, i) => `${i}`);
}

function readsStrokes() {
  return document.body.classList.contains('strokes');
}

function hasCapsules() {
  return document.body.classList.contains('capsules');
}

/** Takes a file instead of the drawing; does nothing without a file, as for a pasted text. */
async function usePhotograph(file) {
  if (!file) return;
  choices += 1;
  const choice = choices;
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    $('refused').textContent =
      `This browser cannot read “${file.name}” as a picture. Save it as PNG or JPEG.`;
    $('refused').hidden = false;
    return;
  }
  if (choice === choices) {
    drawing.clear();
    showPicture(fromPhotograph(bitmap, $('photograph'), file.type === 'image/png'));
  }
  bitmap.close();
}

/** Shows a photograph or, if it is null, the drawing, and asks about it. */
function showPicture(chosen) {
  photograph = chosen;
  const isThere = photograph !== null || drawing.strokes.length > 0;
  $('photograph').hidden = photograph === null;
  $('refused').hidden = true;
  $('hint').hidden = isThere;
  $('clear').disabled = !isThere;
  $('undo').disabled = !drawing.canUndo;
  straighten();
  look();
}

async function askAboutPicture() {
  if (signature === undefined) return;
  const { strokes } = drawing;
  const picture = photograph ?? (strokes.length ? fromStrokes(strokes) : null);
  if (picture === null) {
    answer = null;
    show();
    return;
  }
  const outputs = await model.predict(signature, { image_bytes: [{ b64: picture }] });
  const [label] = outputs.label;
  answer = {
    label,
    scores: outputs.scores[0],
    isKnown: outputs.known?.[0] ?? true,
    image: outputs.image?.[0],
    capsule: canBend ? outputs.capsules[0][label] : null,
  };
  show();
  bend();
}

/** Asks for the picture that the sliders make, and for where each of them could lead it. */
async function askForBent() {
  if (!answer?.capsule) return;
  const asked = answer;
  const bent = asked.capsule.map((value, i) => value + Number(sliders[i].input.value));
  const ends = asked.capsule.flatMap((value, i) =>
    [-BEND, BEND].map((end) => bent.map((other, j) => (j === i ? value + end : other))),
  );
  const capsule = [bent, ...ends];
  const label = capsule.map(() => asked.label);
  const pictures = await model.predict('decode', { capsule, label });
  // Where something else was drawn meanwhile, its answer comes next.
  if (asked !== answer) return;
  const [picture, ...others] = pictures;
  paint($('reconstruction'), picture, 1);
  paint($('bent'), picture, 1);
  sliders.flatMap((slider) => slider.ends).forEach((canvas, i) => paint(canvas, others[i], 1));
}

function show() {
  bars.forEach((bar, i) => {
    const length = answer ? answer.scores[i] : 0;
    bar.classList.toggle('wins', i === answer?.label);
    bar.setAttribute('aria-valuenow', length.toFixed(2));
    bar.querySelector('.capsule').style.setProperty('--length', length);
    bar.querySelector('.value').textContent = answer ? length.toFixed(2) : '';
  });
  if (!answer) {
    for (const canvas of document.querySelectorAll('canvas:not(#drawing, #photograph)')) {
      canvas.getContext('2d').clearRect(0, 0, canvas.width, canvas.height);
    }
  }
  if (answer?.image) paint($('seen'), answer.image, 255);
  const isUnknown = answer?.isKnown === false;
  $('lengths').classList.toggle('unknown', isUnknown);
  if (!isUnknown) $('unknown').hidden = true;
  $('winner').textContent = answer ? `capsule\u00a0${names[answer.label]}` : 'the winning capsule';
  allowSliders();
  clearTimeout(reading);
  reading = setTimeout(readOut, REST);
}

function showBusy(isBusy) {
  busy += isBusy ? 1 : -1;
  $('lengths').setAttribute('aria-busy', busy > 0);
}

/** Says the answer to people who do not see the page, and to all if it is no class. */
function readOut() {
  // Not earlier: the beginning of a digit is no digit.
  $('unknown').hidden = answer?.isKnown !== false;
  if (!answer) {
    $('says').textContent = 'There is no picture';
    return;
  }
  const score = hasCapsules() ? 'length' : 'score';
  const winner = `${names[answer.label]}, ${score} ${answer.scores[answer.label].toFixed(2)}`;
  $('says').textContent = answer.isKnown
    ? winner
    : `None of the classes that the network knows; the closest is ${winner}`;
}

function straighten() {
  for (const { input } of sliders) setSlider(input, 0);
  allowSliders();
}

function setSlider(input, value) {
  input.value = value;
  showSlider(input);
}

function showSlider(input) {
  const share = (value) => `${50 + (50 * value) / BEND}%`;
  const value = Number(input.value);
  input.style.setProperty('--from', share(Math.min(0, value)));
  input.style.setProperty('--to', share(Math.max(0, value)));
  input.parentElement.querySelector('.value').textContent = value
    ? value.toFixed(2).replace('-', '−')
    : '';
}

function allowSliders() {
  for (const { input } of sliders) input.disabled = !answer;
  $('straighten').disabled = !sliders.some(({ input }) => Number(input.value));
}

/**
 * Makes the bars and the sliders, where they are not there already.
 *
 * @param {string[]} classes names
 * @param {number} length of a capsule
 */
function build(classes, length) {
  if (classes.join('\n') !== names.join('\n')) {
    names = classes;
    bars = names.map((name) => fromTemplate('bar', '.name', name));
    bars.forEach((bar, i) => {
      bar.title = names[i];
    });
    const longest = Math.max(...names.map((name) => name.length));
    $('bars').classList.toggle('named', longest > 2);
    if (longest > 2) {
      $('bars').style.setProperty('--names', `${0.6 * Math.min(longest, LONGEST_NAME)}rem`);
    } else {
      $('bars').style.removeProperty('--names');
    }
    $('bars').style.setProperty('--classes', names.length);
    $('bars').replaceChildren(...bars);
  }
  bars.forEach((bar, i) => {
    bar.setAttribute('aria-label', `${hasCapsules() ? 'Capsule' : 'Score of'} ${names[i]}`);
  });
  if (sliders.length !== length) {
    sliders = Array.from({ length }, (_, i) => {
      const item = fromTemplate('slider', '.number', i + 1);
      const input = item.querySelector('input');
      input.min = -BEND;
      input.max = BEND;
      input.addEventListener('input', () => {
        showSlider(input);
        allowSliders();
        bend();
      });
      return { item, input, ends: [...item.querySelectorAll('canvas')] };
    });
    $('sliders').replaceChildren(...sliders.map(({ item }) => item));
    straighten();
  }
  show();
}

function fromTemplate(name, place, text) {
  const element = $(`${name}-template`).content.cloneNode(true).firstElementChild;
  element.querySelector(place).textContent = text;
  return element;
}

/**
 * Paints rows of values or, in colour, of three values each.
 *
 * Strokes are painted black on nothing; the style sheet makes them light where it is dark.
 */
function paint(canvas, rows, full) {
  [canvas.width, canvas.height] = [rows[0].length, rows.length];
  const image = new ImageData(canvas.width, canvas.height);
  rows.flat().forEach((value, i) => {
    const shares = [value].flat().map((each) => (255 * each) / full);
    const [red, green = red, blue = red] = shares;
    image.data.set(readsStrokes() ? [0, 0, 0, red] : [red, green, blue, 255], 4 * i);
  });
  canvas.getContext('2d').putImageData(image, 0, 0);
}
