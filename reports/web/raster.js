// A picture set pixel by pixel: what a canvas's own shapes are too slow for once hundreds of thousands are in view.

const DENSE_OPERATIONS = 30_000;

class Raster {
  constructor(width, height) {
    this.width = Math.max(1, Math.ceil(width));
    this.height = Math.max(1, Math.ceil(height));
    this.canvas = new OffscreenCanvas(this.width, this.height);
    this.context = this.canvas.getContext("2d");
    this.image = this.context.createImageData(this.width, this.height);
    this.pixels = new Uint32Array(this.image.data.buffer);
  }

  // Show the picture with its corner at x, y.
  drawTo(context, x, y) {
    this.context.putImageData(this.image, 0, 0);
    context.drawImage(this.canvas, x, y);
  }
}

// "#2f6fb5" as a pixel of this opacity (0 to 255).
function pixelOf(colour, opacity) {
  const [red, green, blue] = [1, 3, 5].map((place) => parseInt(colour.slice(place, place + 2), 16));
  return ((opacity << 24) | (blue << 16) | (green << 8) | red) >>> 0;
}

// A pixel for each outcome's code; 0 paints nothing.
function outcomePixels(colours, opacity) {
  return Uint32Array.from([0, pixelOf(colours.ok, opacity), pixelOf(colours.fail, 255), pixelOf(colours.info, 255)]);
}

// How many operations begin within what is shown.
function operationsInView(view) {
  return firstFrom(view.ops, view.axis.to) - firstFrom(view.ops, view.axis.from);
}
