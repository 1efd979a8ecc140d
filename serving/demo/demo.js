/* The page: asks the model about a drawing or a picture and shows what it answers. */

import { Drawing } from './drawing.js';
import { overlay, tint } from './overlay.js';
import { fromPhotograph, fromStrokes } from './pictures.js';
import { Model, RequestFailed, latestOnly } from './rest.js';
import { Sliders } from './sliders.js';

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
const redraw = latestOnly(() => untilAnswered(askForPictures, redraw), PAUSE, showBusy);

let signature; // the one that is asked; undefined until it is known what the model has
let version; // that is served
let names = []; // of the classes
let canBend = false; // whether the model has a decoder
let photograph = null; // in base64, instead of a drawing
let choices = 0; // of photographs
let answer = null; // {ranking, scores, isKnown, image, capsules}; null without a picture
let wantsTwo = false; // whether two digits are drawn on top of each other
let bars = []; // an element for each class
let busy = 1; // of `look`, `redraw` and the first question about the model, how many still ask
let reading; // timer

const sliders = new Sliders(
  $('sliders'),
  $('straighten'),
  (number) => fromTemplate('slider', '.number', number),
  redraw,
);
const drawing = new Drawing($('drawing'), $('cursor'), () => showPicture(null));
$('undo').addEventListener('click', () => drawing.undo());
$('clear').addEventListener('click', () => drawing.clear());
$('two').addEventListener('click', () => lookForTwo(!wantsTwo));
// The colours are the style sheet's, which has others where it is dark.
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', showBoth);
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
  answer = null; // it was the answer of the version before
  canBend = 'decode' in signatures;
  document.body.classList.toggle('strokes', !isNamed || facts.framing[0] === 'strokes');
  if (!readsStrokes()) lookForTwo(false);
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
  look();
  if (isFirst) showBusy(false);
}

function numbers(count) {
  return Array.from({ length: count }, (_, i) => `${i}`);
}

/** The classes that are taken for the answer, the one with the highest score first. */
function winners() {
  return answer?.ranking.slice(0, wantsTwo ? 2 : 1) ?? [];
}

/** Whether the model knows no such class, which it can say of one digit only. */
function isUnknown() {
  return answer?.isKnown === false && !wantsTwo;
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
  sliders.straighten();
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
  const [scores] = outputs.scores;
  answer = {
    ranking: scores.map((_, label) => label).sort((a, b) => scores[b] - scores[a]),
    scores,
    isKnown: outputs.known?.[0] ?? true,
    image: outputs.image?.[0],
    capsules: canBend ? outputs.capsules[0] : null,
  };
  show();
  redraw();
}

/** Looks for two digits or, again, for one. */
function lookForTwo(isTwo) {
  if (isTwo === wantsTwo) return;
  wantsTwo = isTwo;
  document.body.classList.toggle('two', wantsTwo);
  $('two').setAttribute('aria-pressed', wantsTwo);
  clear($('reconstruction')); // the next one has other colours
  show();
  redraw();
}

async function askForPictures() {
  if (answer?.capsules) await (wantsTwo ? askForBoth() : askForBent());
}

/** Asks for the pictures of the two best classes, each from its own capsule. */
async function askForBoth() {
  const asked = answer;
  const label = winners();
  const capsule = label.map((each) => asked.capsules[each]);
  const pictures = await model.predict('decode', { capsule, label });
  if (asked !== answer || !wantsTwo) return;
  answer.both = pictures;
  showBoth();
}

/** Shows each of two pictures in its colour, and one on top of the other. */
function showBoth() {
  if (!wantsTwo || !answer?.both) return;
  const style = getComputedStyle(document.body);
  const canvases = [...$('apart').querySelectorAll('canvas')];
  canvases.forEach((canvas, i) => {
    paint(canvas, answer.both[i], 1);
    tint(canvas, style.getPropertyValue(['--accent', '--second'][i]));
  });
  overlay($('reconstruction'), canvases, style.getPropertyValue('--mix'));
}

/** Asks for the picture that the sliders make, and for where each of them could lead it. */
async function askForBent() {
  const asked = answer;
  const [winner] = winners();
  const capsule = sliders.bend(asked.capsules[winner]);
  const label = capsule.map(() => winner);
  const pictures = await model.predict('decode', { capsule, label });
  // Where something else was drawn meanwhile, its answer comes next.
  if (asked !== answer || wantsTwo) return;
  const [picture, ...others] = pictures;
  paint($('reconstruction'), picture, 1);
  paint($('bent'), picture, 1);
  sliders.ends.forEach((canvas, i) => paint(canvas, others[i], 1));
}

function show() {
  const won = winners();
  bars.forEach((bar, i) => {
    const length = answer ? answer.scores[i] : 0;
    bar.classList.toggle('wins', won.includes(i));
    bar.classList.toggle('second', i === won[1]);
    bar.setAttribute('aria-valuenow', length.toFixed(2));
    bar.querySelector('.capsule').style.setProperty('--length', length);
    bar.querySelector('.value').textContent = answer ? length.toFixed(2) : '';
  });
  if (!answer) {
    document.querySelectorAll('canvas:not(#drawing, #photograph)').forEach(clear);
  }
  if (answer?.image) paint($('seen'), answer.image, 255);
  $('lengths').classList.toggle('unknown', isUnknown());
  if (!isUnknown()) $('unknown').hidden = true;
  $('winner').textContent = answer ? `capsule\u00a0${names[won[0]]}` : 'the winning capsule';
  $('apart').querySelectorAll('figcaption').forEach((caption, i) => {
    caption.textContent = names[won[i]] ?? '';
  });
  $('reconstruction').setAttribute(
    'aria-label',
    wantsTwo ? 'Both reconstructions, one on top of the other' : 'The reconstruction',
  );
  sliders.allow(answer !== null);
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
  $('unknown').hidden = !isUnknown();
  if (!answer) {
    $('says').textContent = 'There is no picture';
    return;
  }
  const score = hasCapsules() ? 'length' : 'score';
  const best = winners()
    .map((label) => `${names[label]}, ${score} ${answer.scores[label].toFixed(2)}`)
    .join(', and ');
  $('says').textContent = isUnknown()
    ? `None of the classes that the network knows; the closest is ${best}`
    : best;
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
  sliders.build(length);
  show();
}

function fromTemplate(name, place, text) {
  const element = $(`${name}-template`).content.cloneNode(true).firstElementChild;
  element.querySelector(place).textContent = text;
  return element;
}

function clear(canvas) {
  canvas.getContext('2d').clearRect(0, 0, canvas.width, canvas.height);
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
