// Whether a picture is usable at all, by the same measures and limits as viewpoint/quality.py, which
// explains them. The limits are in settings.json.

import { resize } from "./classifier.js";

export const TOO_DARK = "too dark", TOO_BRIGHT = "too bright", BLURRED = "blurred";

/** The small grey copy of an RGBA frame, on which quality and motion are measured: size x size values, 0 to 255. */
export function greyCopy({ data, width, height }, size) {
  const grey = new Uint8Array(width * height);
  // Pillow's weights of red, green and blue (ITU-R 601-2 luma).
  for (let i = 0, at = 0; i < grey.length; i++, at += 4) {
    grey[i] = (19595 * data[at] + 38470 * data[at + 1] + 7471 * data[at + 2] + 32768) >> 16;
  }
  return resize({ data: grey, width, height }, size, 1);
}

/** {reason, blur}: why a grey copy is hardly usable, null when it is usable, and how blurred it is, 0 to 1. */
export function measureQuality(grey, limits) {
  const size = limits.size, border = Math.floor(size / 5);
  const blur = Math.max(blurAlong(grey, size, size, 1), blurAlong(grey, size, 1, size));
  if (grey.filter((value) => value >= limits.too_dark_below).length < limits.bright_share * grey.length) {
    return { reason: TOO_DARK, blur };
  }
  let clipped = 0;
  for (let y = border; y < size - border; y++) {
    for (let x = border; x < size - border; x++) clipped += grey[y * size + x] >= limits.clipped_level;
  }
  if (clipped > limits.too_bright_above * (size - 2 * border) ** 2) return { reason: TOO_BRIGHT, blur };
  return { reason: blur > limits.blurred_above ? BLURRED : null, blur };
}

/** How blurred an image is along lines whose pixels are `step` apart and which start `next` apart. */
function blurAlong(grey, size, step, next) {
  const window = 9, half = Math.floor(window / 2);
  let before = 0, lost = 0;
  for (let line = 0; line < size; line++) {
    for (let i = 0; i + window < size; i++) {
      const at = line * next + i * step;
      const after = Math.abs(grey[at + window * step] - grey[at]) / window;
      const difference = Math.abs(grey[at + (half + 1) * step] - grey[at + half * step]);
      before += difference;
      lost += Math.max(difference - after, 0);
    }
  }
  return 1 - lost / Math.max(before, 1e-6);
}

/** How much two grey copies differ: the mean difference of their grey levels. */
export function motionBetween(grey, earlier) {
  let sum = 0;
  for (let i = 0; i < grey.length; i++) sum += Math.abs(grey[i] - earlier[i]);
  return sum / grey.length;
}
