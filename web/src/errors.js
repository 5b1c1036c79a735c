/** What can be wrong with a stream or an input. The same tree as `pcodec.errors` in Python. */

export class PcodecError extends Error {
  constructor(/** @type {string} */ message) {
    super(message);
    this.name = new.target.name;
  }
}

/** Not a .pcx stream, or one that makes no sense. */
export class FormatError extends PcodecError {}

/** The stream ends before its header does. */
export class TruncatedError extends FormatError {}

/** A checksum of the header does not match. */
export class ChecksumError extends FormatError {}

/** A version or a feature that this reader does not know. */
export class VersionError extends FormatError {}

/** The stream needs another model than the one that is loaded. */
export class ModelMismatchError extends PcodecError {}

/** Samples or indices that cannot be coded. */
export class AudioError extends PcodecError {}
