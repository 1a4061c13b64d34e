// Tells the server once that a video is watched: on its first play, not for every part of it that the browser fetches.
for (const video of document.querySelectorAll("video[data-watch]")) {
  video.addEventListener("play", () => fetch(video.dataset.watch, { method: "POST", headers: csrfHeaders() }), { once: true });
}
