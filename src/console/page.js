(() => {
  'use strict';
  const view = document.getElementById('view');
  const live = document.getElementById('live');
  const hand = document.getElementById('hand');
  let source, last;
  const say = (text, state) => {
    live.textContent = text;
    live.className = state;
  };
  // Changes what differs, so that focus, selection and scroll position stay.
  const update = (old, now) => {
    if (old.isEqualNode(now)) return;
    if (old.nodeName !== now.nodeName) return old.replaceWith(now);
    if (old.nodeType === Node.TEXT_NODE) {
      old.data = now.data;
      return;
    }
    if (old.attributes) {
      for (const { name } of [...old.attributes]) if (!now.hasAttribute(name)) old.removeAttribute(name);
      for (const { name, value } of now.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    }
    const nodes = [...now.childNodes];
    nodes.forEach((node, at) => {
      const known = old.childNodes[at];
      if (known) update(known, node);
      else old.append(node);
    });
    while (old.childNodes.length > nodes.length) old.lastChild.remove();
  };
  const open = () => {
    const query = new URLSearchParams(location.search);
    query.set('at', 'events');
    query.set('view', '');
    source = new EventSource('?' + query);
    source.addEventListener('view', (event) => {
      last = Date.now();
      // Text that is being selected stays as it is.
      const selection = document.getSelection();
      if (selection && !selection.isCollapsed && view.contains(selection.anchorNode)) return say('paused while text is selected', '');
      const parsed = new DOMParser().parseFromString('<main id=view>' + event.data, 'text/html');
      update(view, parsed.getElementById('view'));
      say('live', 'on');
    });
    source.onerror = () => {
      say('connection lost, trying again', 'off');
      // Refused for good, as by a proxy or a limit.
      if (source.readyState === EventSource.CLOSED) setTimeout(() => document.hidden || open(), 5000);
    };
  };
  document.addEventListener('visibilitychange', () => {
    source.close();
    if (!document.hidden) open();
  });
  setInterval(() => {
    if (last && !document.hidden && Date.now() - last > 5000) say('no news for ' + Math.round((Date.now() - last) / 1000) + ' s', 'off');
  }, 1000);
  open();
  if (!hand) return;
  const said = hand.querySelector('output');
  hand.addEventListener('submit', async (event) => {
    event.preventDefault();
    const button = event.submitter;
    const form = new URLSearchParams(new FormData(hand, button));
    const what = button.name === 'id' ? button.textContent + ' ' + button.value : button.textContent;
    if (!confirm(what + '?')) return;
    const token = form.get('token');
    form.delete('token');
    try {
      const headers = { Authorization: 'Bearer ' + token };
      const answer = await fetch(button.formAction, { method: 'POST', headers, body: form });
      said.textContent = await answer.text();
      said.className = answer.ok ? 'fine' : 'out';
    } catch {
      said.textContent = 'not sent: no connection';
      said.className = 'out';
    }
  });
})();
