// The token that our server wants with a request that changes something and comes with the login cookie.
function csrfHeaders() {
  const found = document.cookie.match(/(?:^|; )csrf_access_token=([^;]*)/);
  return found ? { "X-CSRF-TOKEN": decodeURIComponent(found[1]) } : {};
}
