// Sends a form to the API and shows how far the upload is: XMLHttpRequest tells the progress of a body, fetch does not.
for (const form of document.querySelectorAll("form[data-upload]")) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    send(form);
  });
}

function send(form) {
  const data = new FormData(form);
  const chosen = form.querySelector("select[data-target]")?.selectedOptions[0].dataset ?? {};
  for (const name of ["videoType", "moduleId", "lessonId"]) {
    if (chosen[name]) data.set(name, chosen[name]);
  }
  const button = form.querySelector("button");
  const bar = form.querySelector(".progress");
  const request = new XMLHttpRequest();
  request.open("POST", chosen.action ?? form.action);
  for (const [name, value] of Object.entries(csrfHeaders())) request.setRequestHeader(name, value);
  request.responseType = "json";
  request.upload.addEventListener("progress", (event) => {
    if (event.lengthComputable) show(bar, Math.floor((100 * event.loaded) / event.total));
  });
  request.addEventListener("load", () => {
    if (request.status === 201) {
      location.assign(form.dataset.done + (request.response.product?.id ?? chosen.course));
    } else if (request.status === 401) {
      location.assign("/login?next=" + encodeURIComponent(location.pathname));
    } else {
      fail(explain(request.response) || `The server answered ${request.status}.`);
    }
  });
  request.addEventListener("error", () => fail("The connection was lost."));
  const message = form.querySelector("[role=alert]");
  message.hidden = true;
  button.disabled = true;
  bar.hidden = false;
  show(bar, 0);
  request.send(data);

  function fail(text) {
    message.textContent = text;
    message.hidden = false;
    button.disabled = false;
    bar.hidden = true;
  }
}

function show(bar, percent) {
  bar.querySelector("progress").value = percent;
  bar.querySelector("output").textContent = percent < 100 ? `${percent} %` : "Saving …";
}

function explain(error) {
  const fields = Object.entries(error?.errors ?? {}).map(([name, messages]) => `${name}: ${[].concat(messages).join(" ")}`);
  return fields.length ? fields.join(" ") : error?.message;
}
