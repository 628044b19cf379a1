// Hashes a file in the browser and asks for the verdicts on the hash; the file itself never leaves.
"use strict";

(function () {
  const drop = document.getElementById("drop");
  const input = document.getElementById("verify-file");
  if (!drop || !input) {
    return;
  }

  async function verify(file) {
    const digest = await crypto.subtle.digest("SHA-256", await file.arrayBuffer());
    const digits = Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("");
    window.htmx.ajax("GET", "/verify/" + digits, { target: "#verdicts", swap: "innerHTML" });
  }

  function chosen() {
    if (input.files.length === 1) {
      verify(input.files[0]);
    }
  }

  input.addEventListener("change", chosen);
  chosen(); // a file may have been chosen before this script ran
  drop.addEventListener("dragover", (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
  drop.addEventListener("dragleave", () => drop.classList.remove("over"));
  drop.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    if (event.dataTransfer.files.length === 1) {
      verify(event.dataTransfer.files[0]);
    }
  });
})();
