// The site's own search, without a browser: its worker and its index. Prints the URLs found for each argument after the first.
import { readdirSync, readFileSync } from 'node:fs';

const [site, ...words] = process.argv.slice(2);
const workers = `${site}/assets/javascripts/workers/`;
const code = readFileSync(workers + readdirSync(workers).find((name) => name.startsWith('search')), 'utf-8');
const index = JSON.parse(readFileSync(`${site}/search.json`, 'utf-8'));

const answers = [];
const worker = { postMessage: (message) => answers.shift()(message) };
new Function('self', code)(worker);
const ask = (type, data) =>
  new Promise((resolve) => {
    answers.push(resolve);
    worker.onmessage({ data: { type, data } });
  });

await ask(0, index);
const found = {};
for (const input of words) {
  const filter = { input: { type: 'operator', data: { operator: 'and', operands: [] } }, aggregation: { input: [] } };
  const { data } = await ask(2, { input, filter });
  found[input] = data.items.map((item) => index.items[item.id].location);
}
console.log(JSON.stringify(found));
