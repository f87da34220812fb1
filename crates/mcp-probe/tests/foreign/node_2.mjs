// An MCP server of the TypeScript SDK, version 2, as its guide has it: both eras, no sessions. Prints its port.
import { createServer } from 'node:http';
import * as z from 'zod';
import { hostHeaderValidation, toNodeHandler } from '@modelcontextprotocol/node';
import { McpServer, createMcpHandler } from '@modelcontextprotocol/server';

const { HOSTS, TOOLS = '2' } = process.env;

const handler = toNodeHandler(createMcpHandler(() => {
  const server = new McpServer({ name: 'foreign', version: '2' });
  for (let number = 0; number < Number(TOOLS); number++) {
    const name = number === 0 ? 'search' : `search-${number}`;
    server.registerTool(name, { inputSchema: z.object({ query: z.string() }) }, async ({ query }) => {
      if (query === 'fail') throw new Error('nothing to find it in');
      return { content: [{ type: 'text', text: query }] };
    });
  }
  return server;
}));
const known = HOSTS ? hostHeaderValidation(HOSTS.split(',')) : () => true;
const listener = createServer((request, response) => {
  if (!known(request, response)) return;
  if (request.url !== '/mcp') return response.writeHead(404).end();
  handler(request, response);
});
listener.listen(0, '127.0.0.1', () => console.log(`port ${listener.address().port}`));
