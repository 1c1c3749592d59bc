// Makes the page's nodes: by createElement and text, never from a string of HTML.
import { inline, pieces } from './markdown.js';

export const $ = (id) => document.getElementById(id);

/** An element: `tag.class`, its properties if there are any, and what is in it. */
export function el(kind, ...children) {
  const [tag, look = ''] = kind.split('.');
  const node = document.createElement(tag);
  const props = children[0]?.constructor === Object ? children.shift() : {};
  if (look) node.className = look;
  for (const [name, value] of Object.entries(props)) {
    if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
    else if (name in node) node[name] = value;
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

export function icon(name) {
  const [svg, use] = ['svg', 'use'].map((tag) => document.createElementNS('http://www.w3.org/2000/svg', tag));
  use.setAttribute('href', `#i-${name}`);
  svg.setAttribute('aria-hidden', 'true');
  svg.append(use);
  return svg;
}

export const button = (onclick, look, ...shown) => el(`button.${look}`, { type: 'button', onclick }, ...shown);

/** Says it to who listens to the page. */
export const say = (text) => {
  $('status').textContent = text;
};

export const link = (href, ...shown) =>
  el('a', { href, title: href, target: '_blank', rel: 'noopener noreferrer nofollow' }, ...shown);

export function copyButton(text, ...shown) {
  const label = el('span', 'Copy');
  const tell = (told) => {
    say((label.textContent = told));
    setTimeout(() => (label.textContent = 'Copy'), 1500);
  };
  const copy = () => navigator.clipboard.writeText(text()).then(() => tell('Copied'), () => tell('The browser does not allow it'));
  return button(copy, 'quiet small', ...shown, label);
}

export function code(text, language, wrap = false) {
  const body = el('code');
  const growing = new GrowingText(body);
  growing.show(text);
  const bar = el('div.bar', el('span', language || 'text'), copyButton(() => growing.text));
  const node = el(wrap ? 'div.code wrap' : 'div.code', bar, el('pre', { tabIndex: 0 }, body));
  node.growing = growing;
  return node;
}

const CHUNK = 4000;

/** Text that grows at its end, in chunks, so that a browser need not lay out all of it again for every word. */
export class GrowingText {
  constructor(node) {
    this.node = node;
    this.clear();
  }
  clear() {
    this.text = '';
    this.node.replaceChildren();
    this.begin();
  }
  begin() {
    this.last = document.createTextNode('');
    this.node.append(el('span.chunk', this.last));
  }
  show(text) {
    if (!text.startsWith(this.text)) this.clear();
    this.add(text.slice(this.text.length));
  }
  add(more) {
    this.text += more;
    while (more) {
      const over = this.last.length + more.length > CHUNK;
      const end = over ? more.indexOf('\n', Math.max(0, CHUNK - this.last.length)) : -1;
      this.last.appendData(end < 0 ? more : more.slice(0, end));
      if (end >= 0) this.begin(); // the chunk is a block: its end is the end of the line
      more = end < 0 ? '' : more.slice(end + 1);
    }
  }
}

/** The nodes of what `inline` has read. */
function words(parts) {
  return parts.map((part) => {
    if (typeof part === 'string') return part;
    if (part.tag === 'a') return link(part.href, ...words(part.children));
    return el(part.tag, ...(part.children ? words(part.children) : [part.text ?? '']));
  });
}

function made(piece, depth) {
  switch (piece.kind) {
    case 'code':
      return code(piece.text, piece.language);
    case 'heading': // the page's own headings are h1 and h2
      return el(`h${Math.min(piece.level + 2, 6)}.h${piece.level}`, ...words(inline(piece.text)));
    case 'rule':
      return el('hr');
    case 'quote':
      return filled(el('blockquote'), piece.text, depth + 1);
    case 'item':
      return filled(el('li'), piece.text.replace(/^\[ \] /, '☐ ').replace(/^\[x\] /i, '☑ '), depth + 1);
    case 'table':
      return el('div.scroll', { tabIndex: 0 }, el('table', el('thead', cells('th', piece.head, piece.align)), el('tbody')));
    case 'row':
      return cells('td', piece.cells, []);
    default:
      return el('p', ...words(inline(piece.text)));
  }
}

function cells(tag, texts, align) {
  return el('tr', ...texts.map((text, column) => el(`${tag}.${align[column] ?? ''}`, ...words(inline(text)))));
}

/** `node` with the pieces of a text in it. An item's first paragraph is its own text, without the room around one. */
function filled(node, text, depth) {
  for (const piece of pieces(text, 0, 0, depth)) {
    if (node.tagName === 'LI' && !node.firstChild && piece.kind === 'paragraph') node.append(...words(inline(piece.text)));
    else put(node, piece, depth);
  }
  return node;
}

/** Puts a piece at the end of `parent`: into the list or the table there, if it goes on with that. */
function put(parent, piece, depth) {
  const last = parent.lastElementChild;
  const node = made(piece, depth);
  if (piece.kind === 'row' && last?.className === 'scroll') {
    const heads = last.querySelectorAll('th');
    [...node.children].forEach((cell, column) => (cell.className = heads[column]?.className ?? ''));
    last.querySelector('tbody').append(node);
  } else if (piece.kind === 'item') {
    const goesOn = last?.dataset.mark === piece.mark;
    const ordered = !Number.isNaN(piece.number);
    const list = goesOn ? last : el(ordered ? 'ol' : 'ul', ordered ? { start: piece.number } : {});
    list.dataset.mark = piece.mark;
    list.append(node);
    if (!goesOn) parent.append(list);
  } else parent.append(node);
  return node;
}

function remove(node) {
  const parent = node.parentElement;
  node.remove();
  if (parent.dataset.mark && !parent.firstChild) parent.remove(); // a list without items
}

const PER_FRAME = 50; // pieces; and milliseconds:
const BUDGET = 8;

/** Shows Markdown while it grows. What is finished is made once; only the last piece is made anew, once a frame. */
export class Markdown {
  constructor(drawn) {
    this.node = el('div.md');
    this.text = '';
    this.from = 0; // where the last piece begins, which may still change
    this.columns = 0;
    this.open = null;
    this.drawn = drawn;
  }
  add(text) {
    this.text += text;
    this.frame ??= requestAnimationFrame(() => this.draw());
  }
  draw() {
    this.frame = undefined;
    const until = performance.now() + BUDGET;
    let left = PER_FRAME;
    let last = null;
    for (const piece of pieces(this.text, this.from, this.columns)) {
      if (last) {
        this.finish(last);
        left -= 1;
      }
      last = piece;
      if (!left || performance.now() > until) {
        this.frame = requestAnimationFrame(() => this.draw());
        break;
      }
    }
    if (last) this.show(last);
    this.drawn();
  }
  finish(piece) {
    this.show(piece);
    this.open = null;
    this.from = piece.end;
    if (piece.kind === 'table') this.columns = piece.head.length;
    else if (piece.kind !== 'row') this.columns = 0;
  }
  show(piece) {
    const { open } = this;
    if (open && open.kind === 'code' && piece.kind === 'code' && open.language === piece.language) {
      open.node.growing.show(piece.text);
      return;
    }
    if (open) remove(open.node);
    this.open = { ...piece, node: put(this.node, piece, 0) };
  }
}
