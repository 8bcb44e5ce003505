// Passkeys in the browser: the only script of Stelsel. Without it the pages say what else can be done.
// A page holds <div data-passkey="login|register" data-challenge data-options data-verify>; see identity/pages.py.
(function () {
  "use strict";

  function bytes(text) {
    const plain = atob(text.replace(/-/g, "+").replace(/_/g, "/"));
    return Uint8Array.from(plain, (character) => character.charCodeAt(0));
  }

  function text(buffer) {
    const plain = String.fromCharCode(...new Uint8Array(buffer));
    return btoa(plain).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
  }

  async function post(address, value) {
    const response = await fetch(address, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(value),
      credentials: "same-origin",
      redirect: "error",
    });
    const answer = await response.json();
    if (!response.ok) {
      const refused = new Error(answer.detail || "");
      refused.told = document.documentElement.lang === "en" ? answer.message_en : answer.message_nl;
      throw refused;
    }
    return answer;
  }

  function listed(credentials) {
    return (credentials || []).map((credential) => ({ ...credential, id: bytes(credential.id) }));
  }

  async function login(options) {
    const publicKey = {
      ...options,
      challenge: bytes(options.challenge),
      allowCredentials: listed(options.allowCredentials),
    };
    const credential = await navigator.credentials.get({ publicKey });
    const response = credential.response;
    return {
      id: credential.id,
      rawId: text(credential.rawId),
      type: credential.type,
      response: {
        clientDataJSON: text(response.clientDataJSON),
        authenticatorData: text(response.authenticatorData),
        signature: text(response.signature),
        userHandle: response.userHandle ? text(response.userHandle) : null,
      },
      clientExtensionResults: {},
    };
  }

  async function register(options) {
    const publicKey = {
      ...options,
      challenge: bytes(options.challenge),
      user: { ...options.user, id: bytes(options.user.id) },
      excludeCredentials: listed(options.excludeCredentials),
    };
    const credential = await navigator.credentials.create({ publicKey });
    return {
      id: credential.id,
      rawId: text(credential.rawId),
      type: credential.type,
      response: {
        clientDataJSON: text(credential.response.clientDataJSON),
        attestationObject: text(credential.response.attestationObject),
      },
      clientExtensionResults: {},
    };
  }

  function prepare(element) {
    const button = element.querySelector("[data-passkey-start]");
    const failed = element.querySelector("[data-passkey-failed]");
    const absent = element.querySelector("[data-passkey-absent]");
    if (!button || !window.PublicKeyCredential || !navigator.credentials) return;
    if (absent) absent.hidden = true;
    button.hidden = false;
    button.addEventListener("click", async () => {
      button.disabled = true;
      if (failed) failed.hidden = true;
      try {
        const { challenge, options: where, verify } = element.dataset;
        const options = await post(where, { challenge });
        const ceremony = element.dataset.passkey === "register" ? register : login;
        const answer = await post(verify, { challenge, credential: await ceremony(options) });
        window.location.assign(answer.location);
      } catch (error) {
        if (failed) {
          if (error.told) failed.textContent = error.told;
          failed.hidden = false;
        }
        button.disabled = false;
      }
    });
  }

  document.querySelectorAll("[data-passkey]").forEach(prepare);
})();
