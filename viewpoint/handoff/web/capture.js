// Decides which frame of the camera is taken as the photo of a view: a sharp, confident and steady one.

import { BLURRED, TOO_BRIGHT, TOO_DARK } from "./quality.js";

const WORDS = {
  [TOO_DARK]: "Too dark: find more light",
  [TOO_BRIGHT]: "Too bright: turn away from the sun",
  [BLURRED]: "Blurred: hold still",
};
const HOLD_STILL = "Hold still";
const ADVICE_SECONDS = 1; // how long an advice stays at least, so that it can be read

/** "FrontLeft" as people say it: "Front left". */
export function inWords(view) {
  return view.replace(/\B[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`);
}

/** The same while the picture moves and while the photo is taken, so that it does not flicker. */
const holdStill = (view) => `${HOLD_STILL}: taking ${inWords(view).toLowerCase()}`;

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
    this.shown = { text: "", spoken: "", since: -Infinity };
    this.forget();
  }

  /** Start over, as after a photo was taken or the camera was away. */
  forget() {
    this.run = null;
  }

  /**
   * Judge a frame: {advice, progress, keep, take}.
   *
   * `frame` is {view, score, reason, sideways, motion, blur, time}, with the time in seconds; `captured` has the
   * views that were taken. `advice` is {text, spoken}. `progress` is 0 to 1 on the way to a photo. With `keep`
   * this frame is the sharpest since the camera was steady; with `take` the frame that was kept last is the photo.
   */
  add(frame, captured) {
    const problem = this.problemOf(frame, captured);
    if (problem) {
      this.forget();
      return { advice: this.hold(problem, frame.time), progress: 0, keep: false, take: false };
    }
    if (this.run?.view !== frame.view) this.run = { view: frame.view, start: frame.time, frames: 0, blur: Infinity };
    const run = this.run, { steady_frames: frames, steady_seconds: seconds } = this.settings.capture;
    run.frames++;
    const keep = frame.blur < run.blur;
    if (keep) run.blur = frame.blur;
    const progress = Math.min(run.frames / frames, (frame.time - run.start) / seconds, 1);
    const take = progress === 1;
    if (take) this.forget();
    return { advice: this.hold(holdStill(frame.view), frame.time), progress, keep, take };
  }

  /** The advice to show: `text`, or the one before it until that was there long enough; to speak: what it asks for. */
  hold(text, time) {
    if (text !== this.shown.text && time - this.shown.since >= ADVICE_SECONDS) {
      const isHold = text.startsWith(HOLD_STILL) || text === WORDS[BLURRED];
      this.shown = { text, spoken: isHold ? HOLD_STILL : text, since: time };
    }
    return this.shown;
  }

  /** Why a frame is not taken, in words; null when it may be. */
  problemOf({ view, score, reason, sideways, motion }, captured) {
    const { background, views, min_score: minScore, capture } = this.settings;
    if (sideways) return "The picture lies on its side: turn the phone, or switch off its rotation lock";
    if (reason === TOO_DARK || reason === TOO_BRIGHT) return WORDS[reason];
    if (view === background) return "No whole car here: step back until all of it is in the picture";
    if (score < minScore) return "Not sure which side this is: step back or walk on a little";
    if (captured.has(view)) {
      const next = nextView(views, captured, view);
      return next ? `${inWords(view)} is done: walk on to the ${inWords(next).toLowerCase()}` : "All views are done";
    }
    if (reason) return WORDS[reason];
    return motion > capture.motion_above ? holdStill(view) : null;
  }
}
