import { system } from './system.ts';

/** The terminal that stdout is; undefined if it is none. Serial lines do not know their width. */
export function terminal(): { readonly columns: number | undefined } | undefined {
  const columns = system.columns(1);
  return columns === undefined ? undefined : { columns: columns || undefined };
}
