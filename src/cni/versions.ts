import { quoted } from '../kernel/printable.ts';
import { CniError, Code } from './errors.ts';
import { parseObject } from '../kernel/json.ts';

/** Every version of the specification, oldest first. */
export const supportedVersions = ['0.1.0', '0.2.0', '0.3.0', '0.3.1', '0.4.0', '1.0.0', '1.1.0'] as const;
export type CniVersion = (typeof supportedVersions)[number];

export const newestVersion: CniVersion = '1.1.0';

export function isSupported(version: unknown): version is CniVersion {
  return supportedVersions.includes(version as CniVersion);
}

/** A configuration without cniVersion is one of 0.1.0. */
function orOldest(version: unknown): unknown {
  return version === undefined || version === null || version === '' ? '0.1.0' : version;
}

/** @throws CniError 1 */
export function parseVersion(version: unknown): CniVersion {
  const text = orOldest(version);
  if (isSupported(text)) return text;
  throw new CniError(
    Code.IncompatibleVersion,
    `Incompatible CNI version: "cniVersion": ${quoted(version)}`,
    `Supported: ${supportedVersions.join(', ')}`,
  );
}

export function isAtLeast(version: CniVersion, minimum: CniVersion): boolean {
  return supportedVersions.indexOf(version) >= supportedVersions.indexOf(minimum);
}

/**
 * The version of an error: the configuration's where it is one of ours, so that whoever asked can read
 * it, else the newest.
 */
export function answeredVersion(stdin: string): CniVersion {
  const config = parseObject(stdin);
  const asked = config && orOldest(config.cniVersion);
  return isSupported(asked) ? asked : newestVersion;
}

/**
 * The answer to VERSION. Runtimes refuse one without cniVersion, so anything unusable on stdin gets
 * our newest.
 */
export function formatVersion(stdin: string): string {
  const asked = parseObject(stdin)?.cniVersion;
  return JSON.stringify({ cniVersion: isSupported(asked) ? asked : newestVersion, supportedVersions });
}
