/** uapi/linux/if.h: names are shorter than this. */
export const IFNAMSIZ = 16;

/** What the CNI specification allows as an interface name, and the kernel (dev_valid_name; IFNAMSIZ counts bytes). */
export function isLegalIfname(name: string): boolean {
  const { length } = new TextEncoder().encode(name);
  return length > 0 && length < IFNAMSIZ && name !== '.' && name !== '..' && !/[/:\s]/.test(name);
}

/**
 * What the kernel gives an interface as its very name, and every tool reads in the same way. "%" makes a pattern of it
 * (dev_alloc_name); "all" and "default" are folders of /proc/sys/net/ipv4/conf; beyond ASCII it is other bytes to others.
 */
export function isIfname(name: string): boolean {
  return isLegalIfname(name) && /^[\x21-\x7e]+$/.test(name) && !/%|^all$|^default$/.test(name);
}
