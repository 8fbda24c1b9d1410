// The car from above, and around it a sector for each view that fills when the view is captured.

import { inWords } from "./capture.js";

const OUTER = 128, INNER = 76, GAP = 2; // radii and half the gap between sectors, in units of the viewBox

// The car's nose points up, so its left side is on the left.
const CAR = `
  <g class="car">
    <rect class="tyre" x="-31" y="-38" width="8" height="19" rx="3"/><rect class="tyre" x="23" y="-38" width="8" height="19" rx="3"/>
    <rect class="tyre" x="-31" y="23" width="8" height="19" rx="3"/><rect class="tyre" x="23" y="23" width="8" height="19" rx="3"/>
    <path class="body" d="M-18-62Q0-69 18-62Q27-58 28-44L29-14L28 48Q27 60 18 62Q0 66-18 62Q-27 60-28 48L-29-14L-28-44Q-27-58-18-62Z"/>
    <path class="glass" d="M-22-20Q0-31 22-20L18-5Q0-11-18-5ZM-18 36Q0 41 18 36L22 47Q0 53-22 47ZM-24-15L-20-2V33L-24 43ZM24-15L20-2V33L24 43Z"/>
    <path class="lamp" d="M-25-50Q-22-59-13-61L-15-56Q-21-54-25-50ZM25-50Q22-59 13-61L15-56Q21-54 25-50Z"/>
    <path class="tail" d="M-26 53Q-23 60-14 61L-15 57Q-21 57-26 53ZM26 53Q23 60 14 61L15 57Q21 57 26 53Z"/>
    <path class="mirror" d="M-29-17L-36-14L-35-9L-29-11ZM29-17L36-14L35-9L29-11Z"/>
  </g>`;

/** The point of the ring at an angle, clockwise from the top, and a radius. */
function point(degrees, radius) {
  const angle = (degrees * Math.PI) / 180;
  return `${(radius * Math.sin(angle)).toFixed(1)} ${(-radius * Math.cos(angle)).toFixed(1)}`;
}

/** The outline of a sector between two angles; its gap to the next one is equally wide everywhere. */
function sector(from, to) {
  const outer = (GAP / OUTER) * 57.3, inner = (GAP / INNER) * 57.3;
  return `M${point(from + outer, OUTER)}A${OUTER} ${OUTER} 0 0 1 ${point(to - outer, OUTER)}` +
    `L${point(to - inner, INNER)}A${INNER} ${INNER} 0 0 0 ${point(from + inner, INNER)}Z`;
}

/** Draw the ring; `views` are in the order of a clockwise walk around the car that starts at its front. */
export function drawRing(svg, views) {
  const width = 360 / views.length;
  svg.innerHTML = CAR + views.map((view, index) => {
    const middle = index * width, [x, y] = point(middle, (OUTER + INNER) / 2).split(" ");
    const words = inWords(view).split(" ");
    const lines = words.map((word, line) => `<tspan x="${x}" dy="${line ? "1.15em" : `${0.35 - 0.575 * (words.length - 1)}em`}">${word}</tspan>`);
    return `<g class="sector" data-view="${view}"><path d="${sector(middle - width / 2, middle + width / 2)}"/>` +
      `<text x="${x}" y="${y}">${lines.join("")}</text></g>`;
  }).join("");
}

/** Fill the sectors of the captured views, and mark the view that the camera sees. */
export function updateRing(svg, captured, current) {
  for (const group of svg.querySelectorAll(".sector")) {
    group.classList.toggle("captured", captured.has(group.dataset.view));
    group.classList.toggle("current", group.dataset.view === current);
  }
  const label = `The car from above. Captured: ${[...captured.keys()].map(inWords).join(", ") || "no view yet"}`;
  if (svg.getAttribute("aria-label") !== label) svg.setAttribute("aria-label", label);
}
