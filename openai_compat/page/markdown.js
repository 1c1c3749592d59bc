// Reads Markdown: `pieces` finds the blocks of a text, `inline` what is in a line. Pure functions, without a document.
//
// The text may mean harm. So both take time in proportion to its length: no pattern goes back over more than a limit of its
// own, and nothing is nested deeper than DEEPEST.

const LONG = 4000; // characters of a piece, which is made anew whenever it grows: a longer one is cut
const DEEPEST = 8; // lists and quotes within each other
const MOST_OPEN = 16; // marks that wait for their other half
const MOST_PARTS = 2000; // words and marks of a piece: none that says something has more

const FENCE = /^ {0,3}(`{3,}|~{3,})[ \t]*([\w+#.-]*)/;
const HEADING = /^ {0,3}(#{1,6})(?=\s|$)/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^([ \t]{0,40})([-*+]|\d{1,9}[.)])(?:[ \t]{1,4}|$)/;
const NUMBERED_LATER = /^\s*(?!1[.)])\d/; // "2024. It was" within a paragraph is no list
const RULE = /^ {0,3}([-*_])(?:[ \t]*\1){2,200}[ \t]*$/;
const COLUMN = /^:?-+:?$/;

/** The pieces of `text` from a place on: each has `kind`, `start`, `end` and what it needs to be shown. Items and rows come
 * one by one, so that what grows is small. `columns` is that of the table that goes on at `from`, or 0. */
export function* pieces(text, from = 0, columns = 0, depth = 0) {
	for (let at = from; at < text.length; ) {
		const [line, next] = lineAt(text, at);
		const piece = { start: at, end: next, ...(line.trim() && pieceAt(text, at, line, next, columns, depth)) };
		columns = piece.kind === 'row' ? columns : (piece.head?.length ?? 0);
		at = piece.end;
		if (piece.kind) yield piece;
	}
}

function pieceAt(text, at, line, next, columns, depth) {
	if (columns && line.includes('|')) return { kind: 'row', cells: cells(line).slice(0, columns) };
	const simple = fence(text, line, next) ?? heading(line) ?? (RULE.test(line) ? { kind: 'rule' } : null);
	const nested = () => (depth < DEEPEST ? (quote(text, line, next) ?? item(text, line, next)) : null);
	return simple ?? nested() ?? table(text, line, next) ?? paragraph(text, at, next);
}

/** The line at a place, and where the next one begins. */
function lineAt(text, at) {
	const near = text.slice(at, at + LONG);
	const stop = near.indexOf('\n');
	return stop < 0 ? [near, at + near.length] : [near.slice(0, stop), at + stop + 1];
}

/** Where the lines end that are taken, one after the other. */
function follow(text, from, takes, most = LONG) {
	let at = from;
	while (at < text.length && at - from < most) {
		const [line, next] = lineAt(text, at);
		if (!takes(line, next)) break;
		at = next;
	}
	return at;
}

const margin = (line) => line.length - line.trimStart().length;
const begins = (line) =>
	/^ {0,3}[`~#>*_+\d-]/.test(line) &&
	([FENCE, HEADING, QUOTE, RULE].some((one) => one.test(line)) || (ITEM.test(line) && !NUMBERED_LATER.test(line)));

function fence(text, line, begin) {
	const [all, mark, language] = FENCE.exec(line) ?? [];
	if (!all || (mark[0] === '`' && line.includes('`', all.length))) return null;
	const end = follow(text, begin, (one) => !one.trim().startsWith(mark) || one.trim().replaceAll(mark[0], ''), Infinity);
	return { kind: 'code', end: lineAt(text, end)[1], language, text: text.slice(begin, end).replace(/\n$/, '') };
}

function heading(line) {
	const [all, marks] = HEADING.exec(line) ?? [];
	return all ? { kind: 'heading', level: marks.length, text: line.slice(all.length).trim() } : null;
}

function quote(text, line, next) {
	if (!QUOTE.test(line)) return null;
	const lines = [line];
	const end = follow(text, next, (one) => QUOTE.test(one) && lines.push(one));
	return { kind: 'quote', end, text: lines.map((one) => one.replace(QUOTE, '')).join('\n') };
}

function item(text, line, next) {
	const [head, indent, mark] = ITEM.exec(line) ?? [];
	if (!mark) return null;
	const lines = [line.slice(head.length)];
	let blanks = [];
	const end = follow(text, next, (one) => {
		if (!one.trim()) return blanks.push('');
		const own = margin(one) >= indent.length + 2;
		if (!own && (blanks.length || ITEM.test(one) || begins(one))) return false;
		const inside = one.slice(Math.min(margin(one), head.length));
		lines.push(...blanks, inside);
		blanks = [];
		return true;
	});
	return { kind: 'item', end, mark: mark.at(-1), number: parseInt(mark, 10), text: lines.join('\n') };
}

function cells(line) {
	const inside = line.trim().replace(/^\||(?<!\\)\|$/g, '');
	return inside.split(/(?<!\\)\|/).map((cell) => cell.replaceAll('\\|', '|').trim());
}

function table(text, line, next) {
	if (!line.includes('|')) return null;
	const [below, end] = lineAt(text, next);
	if (!below.includes('-') || below.length > 1000) return null;
	const head = cells(line);
	const columns = cells(below);
	if (head.length !== columns.length || !columns.every((cell) => COLUMN.test(cell))) return null;
	const align = columns.map((cell) => (cell.endsWith(':') ? (cell.startsWith(':') ? 'center' : 'end') : ''));
	return { kind: 'table', end, head, align };
}

function paragraph(text, start, next) {
	const end = follow(text, next, (one, after) => one.trim() && !begins(one) && !table(text, one, after));
	return { kind: 'paragraph', end, text: text.slice(start, end).trim() };
}

const TAGS = { '*': 'em', _: 'em', '**': 'strong', __: 'strong', '~~': 's' };
const WORD = /[\p{L}\p{N}]/u;
const ADDRESS = /\(<?([^\s()<>]{1,2000}(?:\([^\s()<>]{0,2000}\)[^\s()<>]{0,2000})?)>?(?:\s{1,20}"[^"]{0,300}")?\s{0,20}\)/y;
// What is in a line, one after the other; what is none of these is a single character.
const TOKENS = [
	/[^\\`*_~[\]!<\nh]+/, // words
	/\\[\n!-/:-@[-`{-~]/, // escaped
	/\n[ \t]*/,
	/`+/,
	/\*+|_+|~+/,
	/!?\[/,
	/(?<![a-z0-9])https?:\/\/(?:[^\s<>"`()]|\([^\s<>"`()]{0,99}\)){1,2000}(?<![.,;:!?'*_~\]])/,
	/<(?:https?:\/\/|mailto:)[^\s<>]{1,2000}>/,
	/[^]/,
];
const TOKEN = new RegExp(TOKENS.map((one) => one.source).join('|'), 'y');

/** What is in a text: strings, and objects with `tag` and either `text` or `children`; links have `href`. */
export function inline(text) {
	const out = [];
	let open = []; // marks that wait for their other half: what they are, and where in `out` they stand
	const lonely = new Set(); // runs of backticks that do not come again

	const begin = (kind, shown) => {
		if (open.length === MOST_OPEN) open.shift();
		open.push({ kind, place: out.length });
		out.push(shown);
	};
	const waiting = (kind) => open.findLastIndex((mark) => mark.kind === kind);
	/** Makes a node of what has come since a mark that waited. */
	const close = (kind, node) => {
		const [{ place }] = open.splice(waiting(kind));
		node.children = joined(out.splice(place + 1));
		if (out[place] === '![') node.children.unshift('picture: '); // never loaded: that would tell its server
		out[place] = node;
	};

	TOKEN.lastIndex = 0;
	for (let found, parts = 0; (found = TOKEN.exec(text)); parts += 1) {
		const token = found[0];
		const char = token[0];
		const at = TOKEN.lastIndex;
		if (parts === MOST_PARTS) return joined([...out, text.slice(found.index)]);
		if (char === '\n' || token === '\\\n') out.push({ tag: 'br' });
		else if (char === '\\') out.push(token[1] ?? token);
		else if (char === '`') {
			const again = new RegExp(`(?<!\`)${token}(?!\`)`, 'g');
			again.lastIndex = at;
			const found = lonely.has(token) ? null : again.exec(text);
			if (found) {
				const code = text.slice(at, found.index);
				out.push({ tag: 'code', text: /^ .*[^ ].* $/s.test(code) ? code.slice(1, -1) : code });
				TOKEN.lastIndex = again.lastIndex;
			} else {
				lonely.add(token);
				out.push(token);
			}
		} else if ('*_~'.includes(char)) {
			const before = text[found.index - 1] ?? ' ';
			const next = text[at] ?? ' ';
			const inWord = (other) => char === '_' && WORD.test(other); // snake_case is one word
			const [inner, outer] = token.length === 3 ? [char, char + char] : [token, token]; // three are two marks at once
			if (!TAGS[inner]) out.push(token);
			else if (before.trim() && !inWord(next) && waiting(inner) >= 0 && waiting(outer) >= 0) {
				close(inner, { tag: TAGS[inner] });
				if (inner !== outer && waiting(outer) >= 0) close(outer, { tag: TAGS[outer] });
			} else if (next.trim() && !inWord(before)) {
				begin(outer, outer);
				if (inner !== outer) begin(inner, inner);
			} else out.push(token);
		} else if (char === '[' || token === '![') begin('[', token);
		else if (char === ']' && waiting('[') >= 0) {
			ADDRESS.lastIndex = at;
			const href = safe(ADDRESS.exec(text)?.[1]);
			if (href) {
				close('[', { tag: 'a', href });
				open = open.filter(({ kind }) => kind !== '['); // no link in a link
				TOKEN.lastIndex = ADDRESS.lastIndex;
			} else {
				open.splice(waiting('['), 1);
				out.push(token);
			}
		} else {
			const address = '<h'.includes(char) ? token.replace(/^<|>$/g, '') : '';
			const href = safe(address);
			out.push(href ? { tag: 'a', href, children: [address] } : token);
		}
	}
	return joined(out);
}

/** An address that a link may lead to, written out; null for any other. */
const safe = (href) => (/^(https?:\/\/|mailto:)/i.test(href) && URL.canParse(href) ? new URL(href).href : null);

function joined(parts) {
	const out = [];
	for (const part of parts) {
		if (typeof part === 'string' && typeof out.at(-1) === 'string') out[out.length - 1] += part;
		else out.push(part);
	}
	return out;
}
