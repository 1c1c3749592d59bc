// Reads Markdown: `pieces` finds the blocks of a text, `inline` what is in a line. Pure functions, without a document.
//
// The text is an agent's, and agents say what others have told them. So both take time in proportion to its length
// whatever is in it: no pattern here can go back over what it has read, and nothing is nested deeper than DEEPEST.

const LONG = 8000; // characters of a piece: a longer one is cut, since it is laid out anew whenever it grows
const DEEPEST = 8; // lists and quotes within each other
const MOST_OPEN = 32; // marks that wait for their other half
const LONGEST_ADDRESS = 2000;

const FENCE = /^ {0,3}(`{3,}|~{3,})[ \t]*([\w+#.-]*)/;
const HEADING = /^ {0,3}(#{1,6})(?=\s|$)/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^([ \t]{0,40})([-*+]|\d{1,9}[.)])(?:[ \t]{1,4}|$)/;
const NUMBERED_LATER = /^\s*(?!1[.)])\d/; // "2024. It was" within a paragraph is no list
const MAYBE_RULE = /^ {0,3}([-*_]).*\1/;
const RULE = /^([-*_])\1{2,}$/;
const COLUMN = /^:?-+:?$/;

/** The pieces of `text` from a place on: each has `kind`, `start`, `end` and what it needs to be shown. A list comes as
 * its items, a table as its head and its rows, so that what grows is one small piece. `columns` is that of the table that
 * goes on at `from`, or 0. */
export function* pieces(text, from = 0, columns = 0, depth = 0) {
  for (let at = from; at < text.length; ) {
    const line = lineAt(text, at);
    if (!line.trim()) {
      columns = 0;
      at = after(text, at, line);
      continue;
    }
    const piece = (columns && line.includes('|') && row(text, at, line, columns)) ||
      fence(text, at, line) || heading(text, at, line) || rule(text, at, line) ||
      (depth < DEEPEST && (quote(text, at, line) || item(text, at, line))) || table(text, at, line) || paragraph(text, at);
    columns = piece.kind === 'table' ? piece.head.length : piece.kind === 'row' ? columns : 0;
    at = piece.end;
    yield piece;
  }
}

function lineAt(text, at) {
  const stop = text.indexOf('\n', at);
  return text.slice(at, Math.min(stop < 0 ? text.length : stop, at + LONG));
}

const after = (text, at, line) => at + line.length + (text[at + line.length] === '\n' ? 1 : 0);
const margin = (line) => line.length - line.trimStart().length;
const isRule = (line) => line.length < 200 && MAYBE_RULE.test(line) && RULE.test(line.replace(/\s/g, ''));
const begins = (line) =>
  /^ {0,3}[`~#>*_+\d-]/.test(line) &&
  (FENCE.test(line) || HEADING.test(line) || QUOTE.test(line) || isRule(line) || (ITEM.test(line) && !NUMBERED_LATER.test(line)));

function fence(text, start, line) {
  const found = FENCE.exec(line);
  if (!found || (found[1][0] === '`' && line.includes('`', found[0].length))) return null;
  const begin = after(text, start, line);
  for (let at = begin; at < text.length; ) {
    const one = lineAt(text, at);
    const mark = one.trim();
    const end = after(text, at, one);
    if (mark.length >= found[1].length && mark.startsWith(found[1]) && mark === mark[0].repeat(mark.length)) {
      return { kind: 'code', start, end, language: found[2], text: text.slice(begin, Math.max(begin, at - 1)) };
    }
    at = end;
  }
  return { kind: 'code', start, end: text.length, language: found[2], text: text.slice(begin) };
}

function heading(text, start, line) {
  const found = HEADING.exec(line);
  if (!found) return null;
  let title = line.slice(found[0].length).trim();
  let end = title.length;
  while (end && title[end - 1] === '#') end -= 1;
  if (!end || title[end - 1] === ' ') title = title.slice(0, end).trimEnd();
  return { kind: 'heading', start, end: after(text, start, line), level: found[1].length, text: title };
}

function rule(text, start, line) {
  return isRule(line) ? { kind: 'rule', start, end: after(text, start, line) } : null;
}

function quote(text, start, line) {
  if (!QUOTE.test(line)) return null;
  const lines = [];
  let at = start;
  while (at < text.length && at - start < LONG) {
    const one = lineAt(text, at);
    if (!QUOTE.test(one)) break;
    lines.push(one.replace(QUOTE, ''));
    at = after(text, at, one);
  }
  return { kind: 'quote', start, end: at, text: lines.join('\n') };
}

function item(text, start, line) {
  const found = ITEM.exec(line);
  if (!found) return null;
  const inner = found[1].length + 2; // what stands further to the right belongs to it, though strictly it need stand further
  const lines = [line.slice(found[0].length)];
  let at = after(text, start, line);
  let blanks = 0;
  while (at < text.length && at - start < LONG) {
    const one = lineAt(text, at);
    if (!one.trim()) blanks += 1;
    else {
      const own = margin(one) >= inner;
      if (!own && (blanks || ITEM.test(one) || begins(one))) break;
      lines.push(...Array(blanks).fill(''), one.slice(Math.min(margin(one), found[0].length)));
      blanks = 0;
    }
    at = after(text, at, one);
  }
  const mark = found[2];
  return { kind: 'item', start, end: at, mark: mark.at(-1), number: parseInt(mark, 10), text: lines.join('\n') };
}

function cells(line) {
  const trimmed = line.trim().replace(/^\|/, '');
  const out = [];
  let cell = '';
  for (let at = 0; at < trimmed.length; at += 1) {
    if (trimmed[at] === '\\' && trimmed[at + 1] === '|') cell += trimmed[(at += 1)];
    else if (trimmed[at] === '|') {
      out.push(cell.trim());
      cell = '';
    } else cell += trimmed[at];
  }
  return cell.trim() || !out.length ? [...out, cell.trim()] : out;
}

function table(text, start, line) {
  if (!line.includes('|')) return null;
  const at = after(text, start, line);
  const below = lineAt(text, at);
  if (!below.includes('-') || below.length > 1000) return null;
  const head = cells(line);
  const columns = cells(below);
  if (head.length !== columns.length || !columns.every((cell) => COLUMN.test(cell))) return null;
  const align = columns.map((cell) => (cell.endsWith(':') ? (cell.startsWith(':') ? 'center' : 'end') : ''));
  return { kind: 'table', start, end: after(text, at, below), head, align };
}

function row(text, start, line, columns) {
  return { kind: 'row', start, end: after(text, start, line), cells: cells(line).slice(0, columns) };
}

function paragraph(text, start) {
  let at = start;
  while (at < text.length && at - start < LONG) {
    const one = lineAt(text, at);
    if (at > start && (!one.trim() || begins(one) || table(text, at, one))) break;
    at = after(text, at, one);
  }
  return { kind: 'paragraph', start, end: at, text: text.slice(start, at).trim() };
}

const PLAIN = /[^\\`*_~[\]!<\nh]+|h/y;
const TICKS = /`+/y;
const WORD = /[\p{L}\p{N}]/u;
const BARE = /https?:\/\/[^\s<>"`]{1,2000}/y;
const BRACKETED = /<((?:https?:\/\/|mailto:)[^\s<>]{1,2000})>/y;
const ESCAPED = /[!-/:-@[-`{-~]/;
const TAGS = { '*': 'em', _: 'em', '**': 'strong', __: 'strong', '~~': 's' };
const KINDS = { '***': ['*', '**'], ___: ['_', '__'], ...Object.fromEntries(Object.keys(TAGS).map((mark) => [mark, [mark]])) };

/** What is in a text: strings, and objects with `tag` and either `text` or `children`; links have `href`. */
export function inline(text) {
  const out = [];
  const open = []; // marks that wait for their other half: what they are, and where in `out` they stand
  const waiting = {}; // how many of each kind there are, so that none is looked for in vain
  const runs = backticks(text);
  let at = 0;

  const match = (pattern) => {
    pattern.lastIndex = at;
    return pattern.exec(text);
  };
  const push = (kind, shown) => {
    if (open.length === MOST_OPEN) waiting[open.shift().kind] -= 1;
    waiting[kind] = (waiting[kind] ?? 0) + 1;
    open.push({ kind, place: out.length });
    out.push(shown);
  };
  const pop = (kind) => {
    for (;;) {
      const last = open.pop();
      waiting[last.kind] -= 1;
      if (last.kind === kind) return last.place;
    }
  };
  const wrap = (place, node) => {
    node.children = joined(out.splice(place + 1));
    out[place] = node;
  };

  while (at < text.length) {
    const char = text[at];
    if (char === '\\') {
      const next = text[at + 1] ?? '';
      out.push(next === '\n' ? { tag: 'br' } : ESCAPED.test(next) ? next : `\\${next}`);
      at += 2;
    } else if (char === '\n') {
      out.push({ tag: 'br' });
      at += 1;
      while (text[at] === ' ' || text[at] === '\t') at += 1;
    } else if (char === '`') {
      const mark = match(TICKS)[0];
      const close = runs.next(mark.length, at + mark.length);
      if (close < 0) {
        out.push(mark);
        at += mark.length;
      } else {
        const code = text.slice(at + mark.length, close);
        out.push({ tag: 'code', text: /^ .*[^ ].* $/s.test(code) ? code.slice(1, -1) : code });
        at = close + mark.length;
      }
    } else if (char === '*' || char === '_' || char === '~') {
      let end = at + 1;
      while (text[end] === char) end += 1;
      const mark = text.slice(at, end);
      const before = text[at - 1] ?? ' ';
      const next = text[end] ?? ' ';
      const kinds = KINDS[mark];
      const touches = char === '_' ? (other) => WORD.test(other) : () => false; // snake_case is one word
      at = end;
      if (kinds?.every((kind) => waiting[kind]) && before.trim() && !touches(next)) {
        for (const kind of kinds) if (waiting[kind]) wrap(pop(kind), { tag: TAGS[kind] });
      } else if (kinds && next.trim() && !touches(before)) {
        for (const kind of kinds.toReversed()) push(kind, kind);
      } else out.push(mark);
    } else if (char === '[' || (char === '!' && text[at + 1] === '[')) {
      push('[', char === '!' ? '![' : '[');
      at += char === '!' ? 2 : 1;
    } else if (char === ']') {
      const address = waiting['['] ? addressAt(text, at + 1) : null;
      const href = address && safe(address.href);
      if (href) {
        const place = pop('[');
        const picture = out[place] === '![';
        wrap(place, { tag: 'a', href });
        if (picture) out[place].children.unshift('picture: '); // pictures of strangers are links: loading one tells them
        for (const one of open) if (one.kind === '[') one.kind = 'dead'; // no link in a link
        waiting.dead = (waiting.dead ?? 0) + waiting['['];
        waiting['['] = 0;
        at = address.end;
      } else {
        const last = open.findLastIndex((one) => one.kind === '[');
        if (last >= 0) {
          open.splice(last, 1);
          waiting['['] -= 1;
        }
        out.push(']');
        at += 1;
      }
    } else if (char === 'h' && !WORD.test(text[at - 1] ?? ' ') && match(BARE)) {
      const shown = withoutPunctuation(match(BARE)[0]);
      const href = safe(shown);
      out.push(href ? { tag: 'a', href, children: [shown] } : shown);
      at += shown.length;
    } else if (char === '<' && match(BRACKETED)) {
      const [whole, address] = match(BRACKETED);
      const href = safe(address);
      out.push(href ? { tag: 'a', href, children: [address] } : whole);
      at += whole.length;
    } else {
      const plain = match(PLAIN)?.[0] ?? char;
      out.push(plain);
      at += plain.length;
    }
  }
  return joined(out);
}

/** Where the next run of exactly so many backticks begins. Asked from left to right, so each run is passed once. */
function backticks(text) {
  const places = new Map();
  for (const { 0: run, index } of text.matchAll(/`+/g)) {
    if (!places.has(run.length)) places.set(run.length, { list: [], first: 0 });
    places.get(run.length).list.push(index);
  }
  return {
    next(length, from) {
      const runs = places.get(length);
      if (!runs) return -1;
      while (runs.first < runs.list.length && runs.list[runs.first] < from) runs.first += 1;
      return runs.list[runs.first] ?? -1;
    },
  };
}

/** The address in `(address "title")` at this place, and where that ends. Brackets in it may be nested once. */
function addressAt(text, at) {
  if (text[at] !== '(') return null;
  const most = Math.min(text.length, at + LONGEST_ADDRESS);
  let end = at + 1;
  let depth = 0;
  for (; end < most; end += 1) {
    const char = text[end];
    if (char === '(' && (depth += 1) > 1) return null;
    if (char === ')' && (depth -= 1) < 0) break;
    if (char === ' ' || char === '\n' || char === '\t') break;
  }
  const href = text.slice(at + 1, end).replace(/^<(.*)>$/, '$1');
  const title = /[ \n\t]{0,20}"[^"]{0,300}"[ \n\t]{0,20}\)/y;
  if (text[end] === ')') return { href, end: end + 1 };
  title.lastIndex = end;
  return title.test(text) ? { href, end: title.lastIndex } : null;
}

/** An address that a link may lead to, written out; null for any other. */
function safe(href) {
  return /^(https?:\/\/|mailto:)/i.test(href) && URL.canParse(href) ? new URL(href).href : null;
}

function withoutPunctuation(address) {
  let end = address.length;
  const closed = address.includes('(');
  while (end && (/[.,;:!?'*_~\]]/.test(address[end - 1]) || (address[end - 1] === ')' && !closed))) end -= 1;
  return address.slice(0, end);
}

function joined(parts) {
  const out = [];
  for (const part of parts) {
    if (typeof part === 'string' && typeof out.at(-1) === 'string') out[out.length - 1] += part;
    else out.push(part);
  }
  return out;
}
