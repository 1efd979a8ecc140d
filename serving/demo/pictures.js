/* From strokes or a photograph to the file that the model is asked about. The model frames it. */

// A drawing is a file of 224 x 224 pixels. The digit takes as much of it as MNIST's digits take of
// their 28 x 28 pixels, and strokes of MNIST are a little over two of these pixels wide.
const SIDE = 224;
const EXTENT = (20 / 28) * SIDE;
const PEN = (2.4 / 28) * SIDE;

// Pixels along a photograph's longer side: far more than any network here looks at.
const LARGEST = 1024;
const JPEG_QUALITY = 0.92;

/**
 * Adds a stroke to a canvas's path: a smooth line through the middles between its points.
 *
 * @param {CanvasRenderingContext2D} context
 * @param {{x: number, y: number}[]} points at least one
 */
export function trace(context, points) {
  const [first] = points;
  const last = points[points.length - 1];
  context.moveTo(first.x, first.y);
  for (let i = 1; i < points.length - 1; i++) {
    const { x, y } = points[i];
    const next = points[i + 1];
    context.quadraticCurveTo(x, y, (x + next.x) / 2, (y + next.y) / 2);
  }
  // A line of no length is a dot, with round caps.
  context.lineTo(last.x, last.y);
}

/**
 * Draws strokes in one size, black on white, whatever theirs is. The pen is in proportion to them:
 * a digit that was drawn small is as thick for the network as one that was drawn large.
 *
 * @param {{x: number, y: number}[][]} strokes in any unit; each has at least one point
 * @returns {string} a PNG in base64
 */
export function fromStrokes(strokes) {
  const points = strokes.flat();
  const [xs, ys] = [points.map(({ x }) => x), points.map(({ y }) => y)];
  const [left, right, top, bottom] = [xs, ys].flatMap((all) => [Math.min(...all), Math.max(...all)]);
  const extent = Math.max(right - left, bottom - top);
  const scale = extent > 0 ? (EXTENT - PEN) / extent : 1;

  const canvas = document.createElement('canvas');
  canvas.width = canvas.height = SIDE;
  const context = canvas.getContext('2d');
  context.fillStyle = 'white';
  context.fillRect(0, 0, SIDE, SIDE);
  context.lineWidth = PEN;
  context.lineCap = context.lineJoin = 'round';
  context.beginPath();
  for (const stroke of strokes) {
    trace(
      context,
      stroke.map(({ x, y }) => ({
        x: SIDE / 2 + scale * (x - (left + right) / 2),
        y: SIDE / 2 + scale * (y - (top + bottom) / 2),
      })),
    );
  }
  context.stroke();
  return encoded(canvas, 'image/png');
}

/**
 * Draws a photograph on a canvas, no larger than the network has a use for.
 *
 * @param {ImageBitmap} bitmap
 * @param {HTMLCanvasElement} canvas gets the photograph's proportions
 * @param {boolean} isExact whether to keep each of its values, unless it becomes smaller
 * @returns {string} a PNG or a JPEG in base64; a PNG where something is transparent
 */
export function fromPhotograph(bitmap, canvas, isExact) {
  const scale = Math.min(1, LARGEST / Math.max(bitmap.width, bitmap.height));
  canvas.width = Math.max(1, Math.round(scale * bitmap.width));
  canvas.height = Math.max(1, Math.round(scale * bitmap.height));
  const context = canvas.getContext('2d', { willReadFrequently: true });
  context.imageSmoothingQuality = 'high';
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
  const isOpaque = data.every((value, i) => i % 4 !== 3 || value === 255);
  return encoded(canvas, isOpaque && !isExact ? 'image/jpeg' : 'image/png');
}

function encoded(canvas, type) {
  return canvas.toDataURL(type, JPEG_QUALITY).split(',')[1];
}
