// Loads the guide, and says so when that fails. In a file of its own, because a strict
// Content-Security-Policy allows no code in the page itself.

import("./guide.js").catch(() => {
  document.getElementById("advice").textContent = "The page could not be loaded: check the network, then reload it";
});
