// OpenAI's own JavaScript client on stored objects: `node kept_client.mjs BASE_URL` prints the results as JSON.
import OpenAI, { toFile } from 'openai';

const [, , baseURL] = process.argv;
const client = new OpenAI({ baseURL, apiKey: 'sk-right', maxRetries: 0 });
const all = async (pages) => {
  const found = [];
  for await (const one of pages) found.push(one.id);
  return found;
};
const faultOf = async (promise) => {
  try {
    await promise;
    return 'no error';
  } catch (error) {
    return { status: error.status, code: error.code, param: error.param };
  }
};

const conversation = await client.conversations.create({
  items: [{ role: 'user', content: 'One' }],
  metadata: { topic: 'demo' },
});
const added = await client.conversations.items.create(conversation.id, { items: [{ role: 'user', content: 'Two' }] });
await client.responses.create({ model: 'agent', input: 'Three', conversation: conversation.id });
const items = await all(client.conversations.items.list(conversation.id, { limit: 1, order: 'asc' }));
const afterwards = await client.conversations.items.delete(items[0], { conversation_id: conversation.id });
const gone = await faultOf(client.conversations.items.retrieve(items[0], { conversation_id: conversation.id }));

const file = await client.files.create({
  file: await toFile(Buffer.from([0, 13, 10, 255]), 'bytes.bin'),
  purpose: 'user_data',
  expires_after: { anchor: 'created_at', seconds: 3600 },
});
const bytes = [...new Uint8Array(await (await client.files.content(file.id)).arrayBuffer())];
const files = await all(client.files.list());
const answer = await client.chat.completions.create({
  model: 'agent',
  messages: [{ role: 'user', content: [{ type: 'file', file: { file_id: file.id } }] }],
});
const deleted = await client.files.delete(file.id);
const missing = await faultOf(client.files.retrieve(file.id));

const embeddings = await client.embeddings.create({ model: 'small', input: ['one', 'three'] });

console.log(
  JSON.stringify({
    conversation: [conversation.object, conversation.metadata, afterwards.id === conversation.id],
    items: [items.length, items[1] === added.data[0].id, gone],
    file: [file.bytes, file.filename, file.expires_at - file.created_at, bytes, files.length, deleted.deleted, missing],
    answer: answer.choices[0].message.content,
    embeddings: embeddings.data.map((one) => [...one.embedding]),
  }),
);
