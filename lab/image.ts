import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { hostProgram } from './host-program.ts';

/**
 * Makes a read-only file system of a folder. EROFS because its module is small: ext4's with all that it needs takes a
 * second longer to load in an emulated processor; uncompressed for the same reason.
 */
export async function packImage(hostTree: string, folder: string, image: string): Promise<void> {
  const args = ['--quiet', '--all-root', image, folder];
  await promisify(execFile)(...hostProgram(hostTree, 'usr/bin/mkfs.erofs', args));
}
