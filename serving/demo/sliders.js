/* The sliders that bend a capsule: one for each of its numbers, and a picture at both its ends. */

const BEND = 0.25; // of one number of a capsule, either way: figure 4 of the paper, arXiv:1710.09829

/** A list of sliders, and a button that sets all of them back to 0. */
export class Sliders {
  #list;
  #button;
  #make;
  #moved;
  #items = []; // {input, ends: [canvas, canvas]} for each number of a capsule
  #areAllowed = false;

  /**
   * @param {HTMLElement} list
   * @param {HTMLButtonElement} button
   * @param {(number: number) => HTMLElement} make an input between two canvases, counted from 1
   * @param {() => void} moved called after a person has moved a slider or pressed the button
   */
  constructor(list, button, make, moved) {
    this.#list = list;
    this.#button = button;
    this.#make = make;
    this.#moved = moved;
    button.addEventListener('click', () => {
      this.straighten();
      moved();
    });
  }

  /** The canvases, in the order of `bend`. */
  get ends() {
    return this.#items.flatMap(({ ends }) => ends);
  }

  /** Makes as many sliders as a capsule has numbers, where they are not there already. */
  build(length) {
    if (this.#items.length === length) return;
    const elements = Array.from({ length }, (_, i) => this.#make(i + 1));
    this.#items = elements.map((element) => {
      const input = element.querySelector('input');
      input.min = -BEND;
      input.max = BEND;
      input.addEventListener('input', () => {
        show(input);
        this.#update();
        this.#moved();
      });
      return { input, ends: [...element.querySelectorAll('canvas')] };
    });
    this.#list.replaceChildren(...elements);
    this.straighten();
  }

  /**
   * @param {number[]} capsule
   * @returns {number[][]} the capsule as it is bent, and what each slider could make of that at its
   *   lower and its upper end
   */
  bend(capsule) {
    const bent = capsule.map((value, i) => value + Number(this.#items[i].input.value));
    const ends = capsule.flatMap((value, i) =>
      [-BEND, BEND].map((end) => bent.map((other, j) => (j === i ? value + end : other))),
    );
    return [bent, ...ends];
  }

  /** Sets all sliders back to 0. */
  straighten() {
    for (const { input } of this.#items) {
      input.value = 0;
      show(input);
    }
    this.#update();
  }

  /** Lets people move the sliders, or not. */
  allow(areAllowed) {
    this.#areAllowed = areAllowed;
    this.#update();
  }

  #update() {
    for (const { input } of this.#items) input.disabled = !this.#areAllowed;
    this.#button.disabled = !this.#items.some(({ input }) => Number(input.value));
  }
}

function show(input) {
  const share = (value) => `${50 + (50 * value) / BEND}%`;
  const value = Number(input.value);
  input.style.setProperty('--from', share(Math.min(0, value)));
  input.style.setProperty('--to', share(Math.max(0, value)));
  input.parentElement.querySelector('.value').textContent = value
    ? value.toFixed(2).replace('-', '−')
    : '';
}
