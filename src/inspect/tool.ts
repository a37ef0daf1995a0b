import type { Outcome } from './usage.ts';

/**
 * Runs the tool. In the executable this module and all that it imports are a script of their own
 * (build/bundle.ts).
 * @param version the program's
 */
export async function main(
  args: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
  version: string,
): Promise<Outcome & { readonly stderr?: string }> {
  try {
    const { runTool } = await import('./cli.ts');
    return await runTool(args, env, version);
  } catch (error) {
    const { CannotLoadAddon } = await import('../kernel/addon.ts');
    if (!(error instanceof CannotLoadAddon)) throw error;
    return { exitCode: 1, stdout: '', stderr: `sriov: ${error.message}` };
  }
}
