// One turn: a request, and its answer as it comes. What of it can be kept as JSON is in `record`.
import { $, GrowingText, Markdown, code, copyButton, el, icon, link, say } from './nodes.js';
import { Failure, call, events, isData } from './wire.js';

const pretty = (text) => {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
};
const seconds = (ms) => `${(ms / 1000).toFixed(ms < 9950 ? 1 : 0)} s`;
const short = (value) => (typeof value === 'string' ? value : JSON.stringify(value));
const fieldsOf = (text) => {
  try {
    const fields = JSON.parse(text);
    if (fields && typeof fields === 'object' && !Array.isArray(fields)) return Object.entries(fields);
  } catch {
    // shown as it is
  }
  return text ? [['arguments', text]] : [];
};

/** `page` is what the turn needs of the page around it: see page.js. */
export class Turn {
  constructor(record, page) {
    this.record = record;
    this.page = page;
    this.wire = [];
    this.items = new Map(); // what is shown of each output item, by its index
    this.waits = 0; // questions and calls that people have to answer
    this.abort = new AbortController();
    this.label = el('span');
    this.clock = el('span', { class: 'num', 'aria-hidden': 'true' });
    this.work = el('div', { class: 'work' }, el('span', { class: 'dot', 'aria-hidden': 'true' }), this.label, this.clock);
    this.node = el('section', { class: 'turn' }, el('h2', { class: 'sr' }, `Turn ${page.turns.length + 1}`));
    if (record.shown) this.node.append(bubble(record.shown));
    if (page.severalAgents()) this.node.append(el('p', { class: 'who' }, record.model));
  }

  put(node) {
    if (this.work.isConnected) this.work.before(node);
    else this.node.append(node);
    this.page.follow();
    return node;
  }

  async run() {
    const { record } = this;
    this.began = performance.now();
    this.node.append(this.work);
    this.now('Waiting for the agent');
    const ticking = setInterval(() => this.tick(), 1000);
    try {
      const answer = await call('responses', {
        method: 'POST',
        headers: { 'Content-Type': 'application/json' },
        body: JSON.stringify(record.request),
        signal: this.abort.signal,
      });
      record.requestId = answer.headers.get('x-request-id');
      for await (const event of events(answer.body)) this.on(event);
      if (!record.status && !record.error) {
        throw new Failure('The connection was lost; the answer above is not whole.', { code: 'connection_lost' });
      }
    } catch (error) {
      if (error.name === 'AbortError') record.stopped = true;
      else this.fail(error);
    } finally {
      clearInterval(ticking);
      record.total = performance.now() - this.began;
      record.output = [...this.items.values()].map((view) => view.item ?? view.partial?.()).filter(Boolean);
      this.work.remove();
      this.close();
    }
  }

  /** Shows a turn that was kept. */
  restore() {
    this.record.output.forEach((item, index) => this.done(index, item));
    this.close();
  }

  now(text) {
    this.label.textContent = text;
    this.since = performance.now();
    this.tick();
  }

  tick() {
    const passed = Math.floor((performance.now() - this.since) / 1000);
    this.clock.textContent = passed ? `${passed} s` : '';
  }

  on(event) {
    const { type, item } = event;
    const at = performance.now() - this.began;
    this.wire.push([at, event]);
    this.page.onEvent(this, at, event);
    if (event.event?.data?.description) this.now(event.event.data.done ? '' : event.event.data.description);
    const view = this.items.get(event.output_index);
    if (type === 'response.output_item.added') this.add(event.output_index, item);
    else if (type === 'response.output_item.done') this.done(event.output_index, item);
    else if (type === 'response.output_text.delta' || type === 'response.refusal.delta') {
      this.record.first ??= at;
      if (this.label.textContent) this.now('');
      view?.markdown?.add(event.delta);
    } else if (/^response\.reasoning\w*\.delta$/.test(type)) view?.thoughts?.add(event.delta);
    else if (type.endsWith('arguments.delta')) view?.peek?.append(event.delta);
    else if (type === 'response.audio.delta') this.speech = (this.speech ?? '') + event.delta;
    else if (type === 'response.audio.transcript.delta') this.transcript = (this.transcript ?? '') + event.delta;
    else if (type === 'response.audio.done') this.put(audio(this.speech ?? '', this.transcript));
    else if (type === 'error') {
      // OpenAI has few codes for failed responses; the server's own is beside them.
      const { message, code: kind, original_code: own, param } = event.error ?? event;
      this.fail(new Failure(message, { code: own ?? kind, param }));
    } else if (['response.completed', 'response.incomplete', 'response.failed'].includes(type)) {
      const { status, usage, incomplete_details: cut, error } = event.response;
      Object.assign(this.record, { status, usage, cut: cut?.reason, response: event.response.id });
      if (status === 'failed') this.fail(new Failure(error?.message, { code: error?.original_code ?? error?.code }));
    }
    if (type.startsWith('response.reasoning') || type === 'response.output_item.added') this.page.follow();
  }

  /** Shows an item that begins. */
  add(index, item) {
    const view = { began: performance.now() };
    this.items.set(index, view);
    if (item.type === 'message') {
      view.markdown = new Markdown(() => this.page.follow());
      view.partial = () => view.markdown.text && { ...item, content: [{ type: 'output_text', text: view.markdown.text }] };
      this.put(view.markdown.node);
    } else if (item.type === 'reasoning') {
      const body = el('div');
      view.head = el('span', {}, 'Thinking');
      view.thoughts = new GrowingText(body);
      view.node = this.put(el('details', { class: 'think', open: true }, el('summary', {}, icon('open'), view.head), body));
      this.now('');
    } else if (item.type === 'mcp_call') {
      view.peek = el('span', { class: 'peek' });
      view.state = el('span', { class: 'state' }, el('span', { class: 'dot', 'aria-hidden': 'true' }), 'running');
      const head = el('summary', {}, icon('open'), el('b', {}, item.name), view.peek, view.state);
      view.node = this.put(el('details', { class: 'tool' }, head));
      this.now(`Running ${item.name}`);
    }
    return view;
  }

  /** Shows an item that is done, whether or not it was seen to begin. */
  done(index, item) {
    const view = this.items.get(index) ?? this.add(index, item);
    const live = this.began !== undefined;
    const took = live ? seconds(performance.now() - view.began) : '';
    view.item = item;
    if (item.type === 'message') {
      const parts = item.content ?? [];
      const text = parts.map((part) => part.text ?? part.refusal ?? '').join('');
      if (!view.markdown.text) view.markdown.add(text);
      if (parts.some((part) => part.type === 'refusal')) view.markdown.node.classList.add('refusal');
      const cited = parts.flatMap((part) => part.annotations ?? []).filter((one) => /^https?:/.test(one.url));
      if (cited.length) {
        const sources = cited.map(({ url, title }) => el('li', {}, link(url, title || url)));
        this.put(el('div', { class: 'cited' }, el('b', {}, 'Sources'), el('ol', {}, ...sources)));
      }
    } else if (item.type === 'reasoning') {
      const text = [...(item.summary ?? []), ...(item.content ?? [])].map((part) => part.text).join('\n\n');
      if (!view.thoughts.text) view.thoughts.show(text);
      view.head.textContent = took ? `Thought for ${took}` : 'Thoughts';
      view.node.open = false;
      if (live) this.now('Waiting for the agent');
    } else if (item.type === 'mcp_call') this.ran(view, item, took);
    else if (item.type === 'mcp_approval_request') this.ask(item);
    else if (item.type === 'function_call' || item.type === 'custom_tool_call') this.askForResult(item);
    else if (item.type === 'image_generation_call') {
      if (item.result) this.put(picture(item));
    } else {
      const head = el('summary', {}, icon('open'), el('b', {}, item.type), el('span', { class: 'peek' }, item.status ?? ''));
      this.put(el('details', { class: 'tool' }, head, code(JSON.stringify(item, null, 2), 'json', true)));
    }
  }

  ran(view, item, took) {
    const failed = item.error !== null && item.error !== undefined;
    // The text of an error is what the tool said; the object around it only says that it is a tool's.
    const said = item.error?.content?.map((part) => part.text).join('\n') ?? short(item.error ?? '');
    view.peek.textContent = fieldsOf(item.arguments).map(([name, value]) => `${name}: ${short(value)}`).join(', ');
    view.state.textContent = [failed ? 'failed' : item.status === 'incomplete' ? 'not run' : '', took].filter(Boolean).join(', ') || 'done';
    view.state.className = failed ? 'state bad' : 'state good';
    view.node.append(el('h3', {}, 'Arguments'), el('pre', { tabIndex: 0 }, pretty(item.arguments ?? '')));
    view.node.append(el('h3', {}, failed ? 'Error' : 'Result'), el('pre', { tabIndex: 0 }, failed ? said : pretty(item.output ?? '')));
    if (this.began !== undefined) this.now('Waiting for the agent');
  }

  // what people have to answer

  /** A card for a question. Its heading takes the focus when the turn ends, and never one of its buttons: who types on
   * when it comes must not have allowed something. */
  card(title, ...content) {
    this.waits += 1;
    return this.put(el('div', { class: 'ask', role: 'group', tabIndex: -1, 'aria-label': title.textContent }, title, ...content));
  }

  ask(item) {
    const { record } = this;
    const title = el('h3', {}, 'May the agent run ', el('code', {}, item.name), '?');
    const fields = fieldsOf(item.arguments);
    const list = el('dl', {}, ...fields.flatMap(([name, value]) => [el('dt', {}, name), el('dd', {}, short(value))]));
    const reason = el('input', { placeholder: 'Reason, if you deny', 'aria-label': 'Reason for denying' });
    const changed = el('textarea', { class: 'mono', 'aria-label': 'Arguments', spellcheck: false, rows: 4 });
    const problem = el('p', { class: 'bad', role: 'alert' });
    const editor = el('div', { hidden: true }, changed, problem);
    const decide = (approve, more, told) => {
      if (approve && !editor.hidden) {
        try {
          const read = JSON.parse(changed.value);
          if (fieldsOf(item.arguments).length && (!read || typeof read !== 'object' || Array.isArray(read))) throw new Error('it has to be an object');
        } catch (error) {
          problem.textContent = `This is no JSON: ${error.message}`;
          return;
        }
        more.arguments = changed.value;
      }
      this.answer(card, `${told} ${item.name}`, { type: 'mcp_approval_response', approval_request_id: item.id, approve, ...more });
    };
    const edit = el('button', { type: 'button', onclick: () => {
      editor.hidden = false;
      edit.hidden = true;
      changed.value = pretty(item.arguments);
      changed.focus();
    } }, 'Edit');
    edit.hidden = !this.page.canEdit(record.model);
    const card = this.card(title, list, editor, el('div', { class: 'row' },
      el('button', { type: 'button', class: 'primary', onclick: () => decide(true, {}, 'You allowed') }, 'Allow once'),
      el('button', { type: 'button', onclick: () => decide(true, { always: true }, 'You allowed for always:') }, 'Always allow'),
      edit,
      el('button', { type: 'button', onclick: () => decide(false, reason.value ? { reason: reason.value } : {}, 'You denied') }, 'Deny'),
      reason));
    this.unlessAnswered(card, item.id);
  }

  askForResult(item) {
    const title = el('h3', {}, 'The agent calls your tool ', el('code', {}, item.name));
    const field = el('textarea', { rows: 2, class: 'mono', 'aria-label': `Result of ${item.name}`, placeholder: 'What your tool returns' });
    const type = item.type === 'function_call' ? 'function_call_output' : 'custom_tool_call_output';
    const send = () => this.answer(card, `You answered for ${item.name}: ${field.value}`, { type, call_id: item.call_id, output: field.value });
    const card = this.card(title, el('pre', { tabIndex: 0 }, pretty(item.arguments ?? item.input ?? '')),
      el('div', { class: 'row' }, field, el('button', { type: 'button', class: 'primary', onclick: send }, 'Send the result')));
    this.unlessAnswered(card, item.call_id);
  }

  unlessAnswered(card, id) {
    card.dataset.id = id;
    const told = this.record.answered?.[id];
    if (told) this.settle(card, told);
  }

  settle(card, told) {
    this.waits -= 1;
    card.classList.add('settled');
    card.replaceChildren(told);
  }

  answer(card, told, item) {
    const { record } = this;
    record.answered = { ...record.answered, [card.dataset.id]: told };
    record.answers = [...(record.answers ?? []), item];
    this.settle(card, told);
    if (!this.waits) this.page.start({ input: record.answers, model: record.model });
    else this.node.querySelector('.ask:not(.settled)').focus();
  }

  /** The user has said something else, so nothing that was asked here can be answered any more. */
  passOver() {
    for (const card of this.node.querySelectorAll('.ask:not(.settled)')) {
      this.record.answered = { ...this.record.answered, [card.dataset.id]: 'Not answered: you sent another message.' };
      this.settle(card, 'Not answered: you sent another message.');
    }
  }

  // the end

  get said() {
    const messages = this.record.output.filter((item) => item.type === 'message' && item.role !== 'user');
    return messages.flatMap((item) => item.content ?? []).map((part) => part.text ?? part.refusal ?? '').join('\n\n');
  }

  fail(error) {
    this.record.error ??= { message: error.message, status: error.status, code: error.code, param: error.param, request: error.request ?? this.record.requestId };
  }

  /** What stands below a turn that has ended, however it did. */
  close() {
    const { record, page } = this;
    if (record.stopped) this.put(el('p', { class: 'note' }, 'You stopped the answer.'));
    if (record.status === 'incomplete' && !record.stopped) this.put(el('p', { class: 'note' }, `The answer was cut: ${(record.cut ?? 'unknown reason').replaceAll('_', ' ')}.`));
    if (record.error) this.put(this.errorBox());
    const numbers = [];
    if (record.first !== undefined) numbers.push(`first text ${seconds(record.first)}`);
    if (record.total !== undefined) numbers.push(`total ${seconds(record.total)}`);
    const { usage } = record;
    if (usage?.total_tokens) {
      const thought = usage.output_tokens_details?.reasoning_tokens;
      numbers.push(`${usage.input_tokens} in, ${usage.output_tokens} out${thought ? ` (${thought} thinking)` : ''}`);
    }
    const again = el('button', { type: 'button', class: 'quiet small again', onclick: () => page.again(this) }, icon('again'), record.error ? 'Try again' : 'Regenerate');
    const copy = copyButton(() => this.said, icon('copy'));
    copy.hidden = !this.said;
    again.hidden = this.waits > 0 || JSON.stringify(record.input).includes(':null'); // files that were not kept
    this.node.append(el('div', { class: 'foot' }, copy, again,
      el('button', { type: 'button', class: 'quiet small', onclick: () => page.inspect(this) }, icon('inspect'), 'Inspect'),
      el('span', { class: 'num' }, numbers.join(' · '))));
    page.follow();
  }

  errorBox() {
    const { message, status, code: kind, param, request } = this.record.error;
    const facts = [status, kind, param && `parameter ${param}`, request].filter(Boolean).join(' · ');
    const box = el('div', { class: 'error', role: 'alert' }, el('b', {}, message || 'The agent failed.'), el('small', {}, facts));
    if (kind === 'agent_error' && this.page.isLocal) box.append(el('small', {}, `The reason is in the server's log, at ${request}.`));
    if (kind === 'previous_response_not_found') {
      box.append(el('p', {}, 'The server does not know this conversation any more; it may have been started anew.'));
      if (this.record.shown) box.append(el('button', { type: 'button', onclick: () => this.page.goOn(this) }, 'Go on with what this page has'));
    }
    return box;
  }
}

function bubble({ text, files = [] }) {
  const shown = files.map((file) => (file.url && !file.url.startsWith('data:image/') ? null : file.url) ? el('img', { src: file.url, alt: file.name }) : el('div', { class: 'file' }, icon('clip'), file.name));
  return el('div', { class: 'user' }, ...shown, text);
}

function picture({ result, output_format: format }) {
  const type = format === 'svg' ? 'svg+xml' : (format ?? 'png');
  return el('img', { class: 'made', alt: 'Picture made by the agent', src: `data:image/${type};base64,${result}` });
}

function audio(data, transcript) {
  // The stream does not say what it is. The first bytes do.
  const kinds = { UklG: 'wav', SUQz: 'mpeg', T2dn: 'ogg', Zkxh: 'flac' };
  const player = el('audio', { controls: true, src: `data:audio/${kinds[data.slice(0, 4)] ?? 'mpeg'};base64,${data}` });
  return el('div', { class: 'spoken' }, player, transcript ? el('p', {}, transcript) : null);
}
