/* The page: asks the model about a drawing or a photograph and shows what it answers. */

import { Drawing } from './drawing.js';
import { fromPhotograph, fromStrokes } from './pictures.js';
import { Model, RequestFailed, latestOnly } from './rest.js';

const BEND = 0.25; // of one number of a capsule, either way: figure 4 of the paper, arXiv:1710.09829
const PAUSE = 50; // ms between requests while the drawing or a slider moves
const RETRY = 2000; // ms
const REFRESH = 10_000; // ms after which it is asked again which version is served
const REST = 800; // ms without a change after which the answer is final, and read out

const $ = (id) => document.getElementById(id);

const model = new Model(new URLSearchParams(location.search).get('model') ?? 'capsnet');
const look = latestOnly(() => untilAnswered(askAboutPicture, look), PAUSE, showBusy);
const bend = latestOnly(() => untilAnswered(askForBent, bend), PAUSE, showBusy);

let signature; // the one that is asked; undefined until it is known what the model has
let canBend = false; // whether the model has a decoder
let photograph = null; // in base64, instead of a drawing
let choices = 0; // of photographs
let answer = null; // {label, scores, isKnown, image, capsule}; null where there is no picture
let bars = []; // an element for each class
let sliders = []; // {input, ends: [canvas, canvas]} for each number of a capsule
let busy = 0; // of `look` and `bend`, how many have something to ask
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
document.addEventListener('paste', (event) => usePhotograph(event.clipboardData.files[0]));
document.addEventListener('dragover', (event) => event.preventDefault());
document.addEventListener('drop', (event) => {
  event.preventDefault();
  usePhotograph(event.dataTransfer.files[0]);
});
build(10, 16);
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
  const { version, signatures } = await model.describe();
  const isFirst = signature === undefined;
  // Older networks without a decoder have no `explain`, and older models do not show their image.
  signature = 'explain' in signatures ? 'explain' : 'serving_default';
  canBend = 'decode' in signatures;
  $('served').textContent = `Model ${model.name}, version ${version}`;
  $('framed').hidden = !('image' in signatures[signature].outputs);
  $('reconstructed').hidden = $('bend').hidden = !canBend;
  build(
    Number(signatures.serving_default.outputs.scores.tensor_shape.dim[1].size),
    canBend ? Number(signatures.decode.inputs.capsule.tensor_shape.dim[1].size) : 0,
  );
  if (isFirst) look();
}

/** Takes a file in place of the drawing; nothing if there is none, as in a pasted text. */
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
  $('winner').textContent = answer ? `capsule\u00a0${answer.label}` : 'the winning capsule';
  allowSliders();
  clearTimeout(reading);
  reading = setTimeout(readOut, REST);
}

function showBusy(isBusy) {
  busy += isBusy ? 1 : -1;
  $('lengths').setAttribute('aria-busy', busy > 0);
}

/** Says the answer to who does not see the page; and to all, when it is none of the classes. */
function readOut() {
  // Not earlier: the beginning of a digit is no digit.
  $('unknown').hidden = answer?.isKnown !== false;
  if (!answer) {
    $('says').textContent = 'There is no picture';
    return;
  }
  const winner = `${answer.label}, length ${answer.scores[answer.label].toFixed(2)}`;
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

/** Makes the bars and the sliders, where there are not so many already. */
function build(classes, numbers) {
  if (bars.length !== classes) {
    bars = Array.from({ length: classes }, (_, i) => fromTemplate('bar', i));
    bars.forEach((bar, i) => bar.setAttribute('aria-label', `Capsule ${i}`));
    $('bars').replaceChildren(...bars);
  }
  if (sliders.length !== numbers) {
    sliders = Array.from({ length: numbers }, (_, i) => {
      const item = fromTemplate('slider', i + 1);
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

function fromTemplate(name, number) {
  const element = $(`${name}-template`).content.cloneNode(true).firstElementChild;
  element.querySelector('.number').textContent = number;
  return element;
}

/** Paints rows of values black on nothing; the style sheet makes them light where it is dark. */
function paint(canvas, rows, full) {
  [canvas.width, canvas.height] = [rows[0].length, rows.length];
  const image = new ImageData(canvas.width, canvas.height);
  rows.flat().forEach((value, i) => {
    image.data[4 * i + 3] = (255 * value) / full;
  });
  canvas.getContext('2d').putImageData(image, 0, 0);
}
