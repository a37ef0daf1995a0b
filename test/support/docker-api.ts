import { createServer } from 'node:http';

/** Docker's own API on a socket file, for as long as its scope: what it answers to which path. All else it does not know. */
export async function dockerApi(
  socketPath: string,
  answers: Readonly<Record<string, unknown>>,
): Promise<{ readonly asked: string[] } & Disposable> {
  const asked: string[] = [];
  const server = createServer((request, response) => {
    const path = request.url ?? '';
    asked.push(path);
    response.statusCode = path in answers ? 200 : 404;
    response.end(JSON.stringify(answers[path] ?? { message: `network ${path.split('/').pop()} not found` }));
  });
  await new Promise<void>((resolve) => server.listen(socketPath, resolve));
  return {
    asked,
    [Symbol.dispose]: () => {
      server.close();
      server.closeAllConnections();
    },
  };
}
