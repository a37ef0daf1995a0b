import { parseArgs, type ParseArgsConfig } from 'node:util';

/** Parses a command line; unknown options throw a TypeError that says so. */
export function parseArguments<T extends ParseArgsConfig>(config: T): ReturnType<typeof parseArgs<T>> {
  return parseArgs(config);
}
