/* Two pictures in two colours: each by itself, and one on top of the other. */

/**
 * Gives the ink of a canvas another colour.
 *
 * @param {HTMLCanvasElement} canvas ink on nothing
 * @param {string} colour
 */
export function tint(canvas, colour) {
  const context = canvas.getContext('2d');
  context.globalCompositeOperation = 'source-in';
  context.fillStyle = colour;
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.globalCompositeOperation = 'source-over';
}

/**
 * Paints canvases of one size on top of each other.
 *
 * @param {HTMLCanvasElement} canvas takes their size
 * @param {HTMLCanvasElement[]} layers at least one
 * @param {string} mix how their colours mix where both have ink, such as 'multiply'
 */
export function overlay(canvas, layers, mix) {
  [canvas.width, canvas.height] = [layers[0].width, layers[0].height];
  const context = canvas.getContext('2d');
  context.globalCompositeOperation = mix;
  for (const layer of layers) context.drawImage(layer, 0, 0);
  context.globalCompositeOperation = 'source-over';
}
