/** One member of an archive: a regular file, or a folder where `data` is absent. */
export interface Member {
  readonly path: string;
  readonly data?: Uint8Array;
}

/**
 * Writes a cpio archive in the only form that the kernel unpacks into its initial root file system ("newc").
 * Several archives one after the other are read as one.
 * Format: Documentation/driver-api/early-userspace/buffer-format.rst of the kernel.
 */
export function cpio(members: readonly Member[]): Buffer {
  const parts: Buffer[] = [];
  const all = [...members, { path: 'TRAILER!!!', data: new Uint8Array() }];
  for (const [index, { path, data }] of all.entries()) {
    const name = Buffer.from(`${path}\0`);
    const body = Buffer.from(data ?? []);
    const mode = data ? 0o100755 : 0o040755;
    // ino, mode, uid, gid, nlink, mtime, filesize, devmajor, devminor, rdevmajor, rdevminor, namesize, check
    const fields = [index + 1, mode, 0, 0, 1, 0, body.length, 0, 0, 0, 0, name.length, 0];
    const header = '070701' + fields.map((field) => field.toString(16).padStart(8, '0')).join('');
    parts.push(padded(Buffer.concat([Buffer.from(header), name])), padded(body));
  }
  return Buffer.concat(parts);
}

function padded(bytes: Buffer): Buffer {
  return Buffer.concat([bytes], Math.ceil(bytes.length / 4) * 4);
}
