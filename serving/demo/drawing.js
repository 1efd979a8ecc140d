/* The drawing area: strokes by mouse, finger, pen or keyboard. */

import { trace } from './pictures.js';

const PEN = 0.07; // width of the pen, as a share of the area's side
const STEP = 0.02; // what an arrow key moves the keyboard's pen by, likewise

const ARROWS = {
  ArrowLeft: [-1, 0],
  ArrowRight: [1, 0],
  ArrowUp: [0, -1],
  ArrowDown: [0, 1],
};

/**
 * Strokes on a canvas. Coordinates are shares of its side, 0 to 1.
 *
 * By keyboard: arrows move the pen, two at once diagonally; space puts it down and lifts it;
 * Backspace or Ctrl+Z takes back; Delete or Escape clears.
 */
export class Drawing {
  strokes = [];
  #past = [];
  #canvas;
  #cursor;
  #changed;
  #pointer = null; // id of the pointer that draws
  #pen = { x: 0.5, y: 0.25, down: false }; // the keyboard's
  #held = new Set(); // arrows

  /**
   * @param {HTMLCanvasElement} canvas
   * @param {HTMLElement} cursor shows where the keyboard's pen is
   * @param {() => void} changed called after each change
   */
  constructor(canvas, cursor, changed) {
    this.#canvas = canvas;
    this.#cursor = cursor;
    this.#changed = changed;
    canvas.addEventListener('pointerdown', (event) => this.#pointerDown(event));
    canvas.addEventListener('pointermove', (event) => this.#pointerMove(event));
    for (const end of ['pointerup', 'pointercancel']) {
      canvas.addEventListener(end, (event) => {
        if (event.pointerId === this.#pointer) this.#pointer = null;
      });
    }
    canvas.addEventListener('keydown', (event) => this.#keyDown(event));
    canvas.addEventListener('keyup', (event) => this.#held.delete(event.key));
    canvas.addEventListener('blur', () => {
      this.#held.clear();
      this.#pen.down = false;
      this.#showCursor();
    });
    new ResizeObserver(() => this.#paint()).observe(canvas);
    this.#showCursor();
  }

  get canUndo() {
    return this.#past.length > 0;
  }

  /** Takes the last stroke, or the last clearing, back. */
  undo() {
    if (!this.canUndo) return;
    this.strokes = this.#past.pop();
    this.#lift();
    this.#update();
  }

  /** Takes all strokes away; `undo` brings them back. It counts as a change without strokes, too. */
  clear() {
    if (this.strokes.length) this.#past.push(this.strokes);
    this.strokes = [];
    this.#lift();
    this.#update();
  }

  #begin(point) {
    this.#past.push(this.strokes);
    this.strokes = [...this.strokes, [point]];
    this.#update();
  }

  #extend(points) {
    this.strokes.at(-1).push(...points);
    this.#update();
  }

  #lift() {
    this.#pointer = null;
    this.#pen.down = false;
    this.#showCursor();
  }

  #update() {
    this.#paint();
    this.#changed();
  }

  #paint() {
    const canvas = this.#canvas;
    const side = Math.round(canvas.clientWidth * devicePixelRatio);
    if (canvas.width !== side) canvas.width = canvas.height = side;
    const context = canvas.getContext('2d');
    context.clearRect(0, 0, side, side);
    context.save();
    context.scale(side, side);
    context.lineWidth = PEN;
    context.lineCap = context.lineJoin = 'round';
    context.beginPath();
    for (const stroke of this.strokes) trace(context, stroke);
    context.stroke();
    context.restore();
  }

  #pointerDown(event) {
    if (this.#pointer !== null || event.button !== 0) return;
    this.#lift();
    this.#pointer = event.pointerId;
    this.#canvas.setPointerCapture(event.pointerId);
    this.#begin(this.#place(event));
  }

  #pointerMove(event) {
    if (event.pointerId !== this.#pointer) return;
    const events = event.getCoalescedEvents();
    this.#extend((events.length ? events : [event]).map((part) => this.#place(part)));
  }

  #place(event) {
    const area = this.#canvas.getBoundingClientRect();
    return {
      x: within((event.clientX - area.left) / area.width),
      y: within((event.clientY - area.top) / area.height),
    };
  }

  #keyDown(event) {
    const { key, ctrlKey, metaKey } = event;
    if (key in ARROWS) {
      this.#held.add(key);
      this.#movePen();
    } else if (key === ' ') {
      // Held down it repeats, and would lift the pen again.
      if (!event.repeat) this.#togglePen();
    } else if (key === 'Backspace' || (key === 'z' && (ctrlKey || metaKey))) {
      this.undo();
    } else if (key === 'Delete' || key === 'Escape') {
      this.clear();
    } else {
      return;
    }
    event.preventDefault();
  }

  #movePen() {
    const pen = this.#pen;
    for (const key of this.#held) {
      pen.x = within(pen.x + STEP * ARROWS[key][0]);
      pen.y = within(pen.y + STEP * ARROWS[key][1]);
    }
    this.#showCursor();
    if (pen.down) this.#extend([{ x: pen.x, y: pen.y }]);
  }

  #togglePen() {
    const pen = this.#pen;
    this.#pointer = null;
    pen.down = !pen.down;
    this.#showCursor();
    if (pen.down) this.#begin({ x: pen.x, y: pen.y });
  }

  #showCursor() {
    const { x, y, down } = this.#pen;
    this.#cursor.style.left = `${100 * x}%`;
    this.#cursor.style.top = `${100 * y}%`;
    this.#cursor.classList.toggle('down', down);
  }
}

const within = (share) => Math.min(1, Math.max(0, share));
