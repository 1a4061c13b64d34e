// Shows the picture of a thumbnail on the stage. Without scripts the thumbnails are links to the pictures.
const stage = document.getElementById("stage");
const thumbs = document.querySelectorAll(".thumbs a");
for (const thumb of thumbs) {
  thumb.addEventListener("click", (event) => {
    event.preventDefault();
    stage.src = thumb.href;
    stage.alt = thumb.querySelector("img").alt;
    for (const other of thumbs) other.removeAttribute("aria-current");
    thumb.setAttribute("aria-current", "true");
  });
}
