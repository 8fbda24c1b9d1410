// Runs the model in the browser, with WebAssembly: the part to copy into a web page of your own.
//
//     const classifier = await loadClassifier("model.tflite", "runtime/");   // once, then keep it
//     const probabilities = await classifier.classify(frame);   // frame: {data, width, height}, RGBA, upright
//
// Copy runtime/ too. A photo becomes a frame so:
//
//     const photo = await createImageBitmap(file, { imageOrientation: "from-image" });
//     const context = new OffscreenCanvas(photo.width, photo.height).getContext("2d");
//     context.drawImage(photo, 0, 0);
//     const frame = context.getImageData(0, 0, photo.width, photo.height);

let runtime; // a page can load it only once, however many models it loads

/** Load the runtime and the model: {size, classify(frame), close()}. Rejects when one of them is missing. */
export async function loadClassifier(modelUrl, runtimeUrl) {
  const response = await fetch(modelUrl);
  if (!response.ok) throw new Error(`${modelUrl} is missing`);
  const folder = new URL(runtimeUrl, document.baseURI), module = new URL("litert.js", folder).href;
  const { loadAndCompile, loadLiteRt, Tensor } = await import(module).catch(() => explain(module));
  runtime ??= loadLiteRt(new URL("wasm/", folder).href).catch((error) => {
    runtime = undefined; // so that the next call tries again
    throw error;
  });
  await runtime;
  const model = await loadAndCompile(new Uint8Array(await response.arrayBuffer()), { accelerator: "wasm" });
  const { dtype } = model.getInputDetails()[0], shape = Array.from(model.getInputDetails()[0].shape);

  /** The probability of each class, in the order of labels.txt, for an upright RGBA frame of any size. */
  async function classify(frame) {
    const pixels = resize(frame, shape[1], 3);
    const input = new Tensor(dtype === "uint8" ? pixels : Float32Array.from(pixels, (value) => value / 127.5 - 1), shape);
    const [output] = await model.run(input);
    const values = Array.from(output.toTypedArray());
    const type = model.getOutputDetails()[0].dtype;
    input.delete(); // the runtime's memory is not garbage collected
    output.delete();
    return type === "uint8" ? values.map((value) => value / 256) : values;
  }
  return { size: shape[1], classify, close: () => model.delete() };
}

/** Say why the runtime's module could not be loaded: browsers do not tell a page whether it is there. */
async function explain(module) {
  const { status } = await fetch(module);
  if (status === 404) throw new Error("The browser runtime is missing: run npm ci in the folder of this page.");
  throw new Error("The browser runtime cannot be loaded: see the browser's console.");
}

/**
 * Resize a whole image, uncropped, to size x size with an antialiased bilinear filter.
 *
 * This is Pillow's Image.resize(..., BILINEAR), with which the model was trained and tested. A canvas
 * resizes in another way in each browser, and that changes answers. Takes {data, width, height} of 4 values
 * a pixel, or 1; gives `channels` values a pixel, 0 to 255, as Uint8Array.
 */
export function resize({ data, width, height }, size, channels) {
  const step = data.length / (width * height);
  const across = weightsOf(width, size), down = weightsOf(height, size);
  const rows = new Uint8ClampedArray(height * size * channels); // rounds, as Pillow does between its two passes
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < size; x++) {
      const { start, weights } = across[x];
      for (let channel = 0; channel < channels; channel++) {
        let sum = 0, at = (y * width + start) * step + channel;
        for (let i = 0; i < weights.length; i++, at += step) sum += weights[i] * data[at];
        rows[(y * size + x) * channels + channel] = sum;
      }
    }
  }
  const result = new Uint8ClampedArray(size * size * channels);
  const line = size * channels;
  for (let y = 0; y < size; y++) {
    const { start, weights } = down[y];
    for (let x = 0; x < line; x++) {
      let sum = 0, at = start * line + x;
      for (let i = 0; i < weights.length; i++, at += line) sum += weights[i] * rows[at];
      result[y * line + x] = sum;
    }
  }
  return new Uint8Array(result.buffer);
}

/** For each pixel of the result along one axis: the first source pixel that it averages, and all their weights. */
function weightsOf(length, size) {
  const scale = length / size, reach = Math.max(scale, 1);
  return Array.from({ length: size }, (_, index) => {
    const centre = (index + 0.5) * scale;
    const start = Math.max(Math.trunc(centre - reach + 0.5), 0);
    const end = Math.min(Math.trunc(centre + reach + 0.5), length);
    const weights = new Float64Array(end - start)
      .map((_, i) => Math.max(0, 1 - Math.abs((start + i + 0.5 - centre) / reach)));
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    return { start, weights: weights.map((weight) => weight / total) };
  });
}
