// A picture set pixel by pixel: what a canvas's own shapes are too slow for once thousands are in view.

const DENSE_OPERATIONS = 4_000;

// The picture's memory is kept from frame to frame.
class Raster {
  reset(width, height) {
    const [wide, high] = [Math.max(1, Math.ceil(width)), Math.max(1, Math.ceil(height))];
    if (wide !== this.width || high !== this.height) {
      this.width = wide;
      this.height = high;
      this.canvas = new OffscreenCanvas(wide, high);
      this.context = this.canvas.getContext("2d", { willReadFrequently: true });
      this.image = this.context.createImageData(wide, high);
      this.pixels = new Uint32Array(this.image.data.buffer);
    } else {
      this.pixels.fill(0);
    }
    return this;
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
