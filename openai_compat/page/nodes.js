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
		if (name in node) node[name] = value;
		else node.setAttribute(name, value);
	}
	node.append(...children);
	return node;
}

export const button = (onclick, look, ...shown) => el(`button.${look}`, { type: 'button', onclick }, ...shown);

/** For those who listen to the page. */
export const say = (text) => ($('status').textContent = text);

export const link = (href, ...shown) =>
	el('a', { href, title: href, target: '_blank', rel: 'noopener noreferrer nofollow' }, ...shown);

export function copyButton(text) {
	const tell = (told) => {
		say((node.textContent = told));
		setTimeout(() => (node.textContent = 'Copy'), 1500);
	};
	const copy = () => navigator.clipboard.writeText(text()).then(() => tell('Copied'), () => tell('Not allowed'));
	const node = button(copy, 'quiet small', 'Copy');
	return node;
}

const CHUNK = 4000;

/** A block of code. `show` changes the end of its text, which stands in chunks: only the last is laid out again. */
export function code(text, language, look = '') {
	const body = el('code', el('span.chunk'));
	const bar = el('div.bar', el('span', language || 'text'), copyButton(() => node.text));
	const node = el(`div.code ${look}`, bar, el('pre', { tabIndex: 0 }, body));
	let from = 0;
	node.show = (shown) => {
		node.text = shown;
		for (;;) {
			const end = shown.length - from > CHUNK ? shown.indexOf('\n', from + CHUNK) : -1;
			body.lastChild.textContent = shown.slice(from, end < 0 ? undefined : end);
			if (end < 0) return;
			from = end + 1;
			body.append(el('span.chunk'));
		}
	};
	node.show(text);
	return node;
}

const words = (text) => inline(text).map(word);

function word(part) {
	if (!part.tag) return part;
	const inside = part.children?.map(word) ?? [part.text ?? ''];
	return part.href ? link(part.href, ...inside) : el(part.tag, ...inside);
}

const cells = (tag, texts, align = []) =>
	el('tr', ...texts.map((text, column) => el(`${tag}.${align[column] ?? ''}`, ...words(text))));

function table(piece) {
	const body = el('tbody');
	const head = el('thead', cells('th', piece.head, piece.align));
	return Object.assign(el('div.scroll', { tabIndex: 0 }, el('table', head, body)), { piece, body });
}

const MADE = {
	paragraph: ({ text }) => el('p', ...words(text)),
	code: ({ text, language }) => code(text, language),
	heading: ({ text, level }) => el(`h${Math.min(level + 2, 6)}`, ...words(text)), // the page has h1 and h2
	rule: () => el('hr'),
	quote: ({ text }, depth) => filled(el('blockquote'), text, depth + 1),
	item: ({ text }, depth) => filled(el('li'), text.replace(/^\[ \] /, '☐ ').replace(/^\[x\] /i, '☑ '), depth + 1),
	table,
	row: ({ cells: texts }, depth, align) => cells('td', texts, align),
};

/** `node` with the pieces of a text in it. An item's first paragraph is its own text. */
function filled(node, text, depth) {
	for (const piece of pieces(text, 0, 0, depth)) {
		if (node.tagName === 'LI' && !node.firstChild && piece.kind === 'paragraph') node.append(...words(piece.text));
		else put(node, piece, depth);
	}
	return node;
}

const MOST = 999; // items of a list, rows of a table, which is laid out as a whole

/** Puts a piece at the end of `parent`: into the list or the table there, if it goes on with that. */
function put(parent, piece, depth) {
	let last = parent.lastElementChild;
	let place = parent;
	if (piece.kind === 'row' && last?.body) {
		if (last.body.childElementCount > MOST) last = parent.appendChild(table(last.piece));
		place = last.body;
	} else if (piece.kind === 'item') {
		place = last?.dataset.mark === piece.mark && last.childElementCount < MOST ? last : parent.appendChild(piece.number >= 0 ? el('ol', { start: piece.number }) : el('ul'));
		place.dataset.mark = piece.mark;
	}
	return place.appendChild(MADE[piece.kind](piece, depth, last?.piece?.align));
}

function remove(node) {
	const list = node.parentElement;
	node.remove();
	if (list.dataset.mark && !list.firstChild) list.remove();
}

const PER_FRAME = 50; // pieces; and milliseconds:
const BUDGET = 8;

/** Shows Markdown while it grows. What is finished is made once; only the last piece is made anew, once a frame. */
export class Markdown {
	text = '';
	from = 0; // where the last piece begins, which may still change
	columns = 0; // of the table that goes on there
	open = null; // that piece, and its node
	node = el('div.md');

	constructor(drawn) {
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
		for (const piece of pieces(this.text, this.from, this.columns)) {
			const { open } = this;
			if (open && piece.start > open.start) {
				this.from = open.end;
				this.columns = open.kind === 'row' ? this.columns : (open.head?.length ?? 0);
				this.open = null;
				left -= 1;
				if (!left || performance.now() > until) {
					this.add('');
					break;
				}
			}
			this.show(piece);
		}
		this.drawn();
	}
	show(piece) {
		let { node, kind, language } = this.open ?? {};
		if (kind === 'code' && piece.kind === kind && piece.language === language) node.show(piece.text);
		else {
			if (node) remove(node);
			node = put(this.node, piece, 0);
		}
		this.open = { ...piece, node };
	}
}
