"""Converts errors of object stores and file systems to AcdError."""

from __future__ import annotations

import errno
import os
import re

from acdtask.errors import AcdError, ErrorCode

__all__ = [
    "PARENT_IS_OBJECT",
    "explain_file",
    "explain_object",
    "is_panic",
    "is_unreachable",
    "os_error",
    "panicked",
]

OS_ERROR = re.compile(r"\(os error (\d+)\)")
HTTP_STATUS = re.compile(r"status code: (\d{3})")
PARENT_IS_OBJECT = re.compile(r"Parent\w*Is(File|Object)")
"""A key below that of an existing object; some servers report it as "already exists"."""
NO_ANSWER = re.compile(r"HTTP error|error sending request|after \d+ retries|timed out|connection", re.IGNORECASE)

EMPTY_PART = re.compile(r'Path "(?P<key>[^"]*)" contained empty path segment')
BAD_PART = re.compile(r'Error parsing Path "(?P<key>[^"]*)"|Encountered illegal character sequence "(?P<part>[^"]*)"')
"""Messages about keys that are legal on S3 but not valid paths for obstore."""

CONFIG = re.compile(r"Generic Config error: (?P<why>[^\n]*)")
QUOTED = re.compile(r'"([^"]*)"')

DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}
OBSTRUCTED = {errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY}
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
UNREACHABLE = {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN, errno.EHOSTDOWN}


def explain_object(error: Exception, where: str, bucket: str) -> AcdError | None:
    """Convert an obstore error about S3; None if it is a bug."""
    text = str(error)
    if (unfit := EMPTY_PART.search(text) or BAD_PART.search(text)) is not None:
        key = next(part for part in unfit.groups() if part is not None)
        return AcdError(ErrorCode.KEY_UNFIT, f"s3://{bucket}/{key} has a key that acd cannot read")
    if (config := CONFIG.search(text)) is not None:
        return AcdError(ErrorCode.STORE_CONFIG_INVALID, f"{where} cannot be opened: {_with_variable(config['why'])}")
    if "NoSuchBucket" in text:
        return AcdError(ErrorCode.BUCKET_UNKNOWN, f"bucket {bucket!r} does not exist")
    if "169.254." in text:
        return AcdError(
            ErrorCode.STORE_DENIED,
            f"no credentials for {where}",
            "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a web identity.",
        )
    status = HTTP_STATUS.search(text)
    code = int(status.group(1)) if status else 0
    if code in (401, 403):
        return AcdError(ErrorCode.STORE_DENIED, f"access to {where} is denied (HTTP {code})")
    if PARENT_IS_OBJECT.search(text):
        return AcdError(ErrorCode.STORE_DENIED, f"{where} cannot be written: one of its parent folders is an object")
    if code >= 500 or code in (408, 429):
        return AcdError(ErrorCode.STORE_UNREACHABLE, f"{where} keeps responding with HTTP {code}")
    if not code and NO_ANSWER.search(text):
        return AcdError(ErrorCode.STORE_UNREACHABLE, f"{where} does not respond")
    return None


def explain_file(error: Exception, where: str) -> AcdError | None:
    """Convert an obstore or OS error about a folder; None if it is a bug."""
    number = os_error(error)
    reason = os.strerror(number)
    if number in DENIED:
        return AcdError(ErrorCode.STORE_DENIED, f"{where}: {reason}")
    if number in OBSTRUCTED:
        return AcdError(
            ErrorCode.STORE_DENIED,
            f"{where} cannot be written: {reason}",
            "Choose another folder, or remove the file at this path.",
        )
    if number in FULL:
        return AcdError(ErrorCode.DISK_FULL, f"{where} cannot be written: {reason}")
    if number in UNREACHABLE:
        return AcdError(ErrorCode.STORE_UNREACHABLE, f"{where}: {reason}")
    return None


def _with_variable(why: str) -> str:
    """Prefix obstore's message about a value with the environment variable that has the value."""
    quoted = QUOTED.search(why)
    names = [name for name, value in os.environ.items() if name.startswith("AWS_") and quoted and value == quoted[1]]
    return f"{' or '.join(sorted(names))}: {why}" if names else why


def is_panic(error: BaseException) -> bool:
    """Whether an exception is a panic of a Rust library. It is a BaseException whose class cannot be imported."""
    return type(error).__name__ == "PanicException" and type(error).__module__ == "pyo3_runtime"


def panicked(error: BaseException, where: str) -> AcdError:
    """Convert a panic of obstore, which is caused by an invalid environment variable or address."""
    return AcdError(
        ErrorCode.STORE_CONFIG_INVALID,
        f"{where} cannot be opened: {' '.join(str(error).split())[:200]}",
        "Check AWS_ENDPOINT_URL, the other AWS_ variables and the address.",
    )


def is_unreachable(error: BaseException) -> bool:
    """Whether an error means that the store cannot be reached."""
    return isinstance(error, AcdError) and error.code is ErrorCode.STORE_UNREACHABLE


def os_error(error: Exception) -> int:
    """Get the errno of an error, from its attribute or from obstore's text; 0 if unknown."""
    if isinstance(error, OSError) and error.errno:
        return error.errno
    match = OS_ERROR.search(str(error))
    return int(match[1]) if match else 0
