/**
 * The command line of a program out of an unpacked Debian tree, run in place: by the tree's own dynamic loader with the
 * tree's libraries, so that neither the machine's C library nor its packages matter. `name` is what it is called as.
 */
export function hostProgram(
  tree: string,
  path: string,
  args: readonly string[],
  name = path,
): [string, string[]] {
  const libraries = `${tree}/usr/lib/x86_64-linux-gnu`;
  const loader = `${libraries}/ld-linux-x86-64.so.2`;
  return [loader, ['--library-path', libraries, '--argv0', name, `${tree}/${path}`, ...args]];
}
