// Decides which frame of the camera is taken as the photo of a view: a sharp, confident and steady one.

import { BLURRED, TOO_BRIGHT, TOO_DARK } from "./quality.js";

const WORDS = {
  [TOO_DARK]: "Too dark: find more light",
  [TOO_BRIGHT]: "Too bright: turn away from the sun",
  [BLURRED]: "Blurred: hold still",
};

/** "FrontLeft" as people say it: "Front left". */
export function inWords(view) {
  return view.replace(/\B[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`);
}

/** A reason of quality.js in words. */
export function reasonInWords(reason) {
  return WORDS[reason];
}

/** The missing view that is reached first by walking on around the car; null when none is missing. */
export function nextView(views, captured, from) {
  const start = Math.max(views.indexOf(from), 0);
  for (let steps = 0; steps <= views.length / 2; steps++) {
    for (const index of [start + steps, start - steps]) {
      const view = views.at(index % views.length);
      if (!captured.has(view)) return view;
    }
  }
  return null;
}

/** Follows the frames of the camera, one after the other. */
export class Capture {
  constructor(settings) {
    this.settings = settings;
    this.forget();
  }

  /** Start over, as after a photo was taken or the camera was away. */
  forget() {
    this.run = null;
  }

  /**
   * Judge a frame: {advice, progress, keep, take}.
   *
   * `frame` is {view, score, reason, motion, blur, time}, with the time in seconds; `captured` has the views
   * that were taken. `progress` is 0 to 1 on the way to a photo. With `keep` this frame is the sharpest since
   * the camera was steady; with `take` the frame that was kept last is the photo.
   */
  add(frame, captured) {
    const problem = this.problemOf(frame, captured);
    if (problem) {
      this.forget();
      return { advice: problem, progress: 0, keep: false, take: false };
    }
    if (this.run?.view !== frame.view) this.run = { view: frame.view, start: frame.time, frames: 0, blur: Infinity };
    const run = this.run, { steady_frames: frames, steady_seconds: seconds } = this.settings.capture;
    run.frames++;
    const keep = frame.blur < run.blur;
    if (keep) run.blur = frame.blur;
    const progress = Math.min(run.frames / frames, (frame.time - run.start) / seconds, 1);
    const take = progress === 1;
    if (take) this.forget();
    return { advice: `Hold still: taking ${inWords(frame.view).toLowerCase()}`, progress, keep, take };
  }

  /** Why a frame is not taken, in words; null when it may be. */
  problemOf({ view, score, reason, motion }, captured) {
    const { background, views, min_score: minScore, capture } = this.settings;
    if (reason === TOO_DARK || reason === TOO_BRIGHT) return WORDS[reason];
    if (view === background) return "No whole car here: step back until all of it is in the picture";
    if (score < minScore) return "Not sure which side this is: step back or walk on a little";
    if (captured.has(view)) {
      const next = nextView(views, captured, view);
      return next ? `${inWords(view)} is done: walk on to the ${inWords(next).toLowerCase()}` : "All views are done";
    }
    if (reason) return WORDS[reason];
    return motion > capture.motion_above ? "Hold still" : null;
  }
}
