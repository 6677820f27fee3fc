"""What the errors of an object store and of a file system mean to a user."""

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
"""A key lies below that of an object: some servers refuse it as one that exists."""
NO_ANSWER = re.compile(r"HTTP error|error sending request|after \d+ retries|timed out|connection", re.IGNORECASE)

EMPTY_PART = re.compile(r'Path "(?P<key>[^"]*)" contained empty path segment')
BAD_PART = re.compile(r'Error parsing Path "(?P<key>[^"]*)"|Encountered illegal character sequence "(?P<part>[^"]*)"')
"""Keys that obstore cannot list: they are legal on S3, and no paths."""

CONFIG = re.compile(r"Generic Config error: (?P<why>[^\n]*)")
QUOTED = re.compile(r'"([^"]*)"')

DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}
IN_THE_WAY = {errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY}
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
UNREACHABLE = {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN, errno.EHOSTDOWN}


def explain_object(error: Exception, where: str, bucket: str) -> AcdError | None:
    """What an error of obstore's S3 means; None when it can only be a bug."""
    text = str(error)
    if (unfit := EMPTY_PART.search(text) or BAD_PART.search(text)) is not None:
        what = next(part for part in unfit.groups() if part is not None)
        return AcdError(ErrorCode.KEY_UNFIT, f"s3://{bucket}/{what} has a key that cannot be read")
    if (config := CONFIG.search(text)) is not None:
        return AcdError(ErrorCode.STORE_CONFIG_INVALID, f"{where} cannot be opened: {_with_variable(config['why'])}")
    if "NoSuchBucket" in text:
        return AcdError(ErrorCode.BUCKET_UNKNOWN, f"there is no bucket {bucket!r}")
    if "169.254." in text:
        return AcdError(
            ErrorCode.STORE_DENIED,
            f"there are no credentials for {where}",
            "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a web identity.",
        )
    status = HTTP_STATUS.search(text)
    code = int(status.group(1)) if status else 0
    if code in (401, 403):
        return AcdError(ErrorCode.STORE_DENIED, f"{where} is refused (HTTP {code})")
    if PARENT_IS_OBJECT.search(text):
        return AcdError(ErrorCode.STORE_DENIED, f"{where} cannot be written: an object is where a folder should be")
    if code >= 500 or code in (408, 429):
        return AcdError(ErrorCode.STORE_UNREACHABLE, f"{where} keeps answering HTTP {code}")
    if not code and NO_ANSWER.search(text):
        return AcdError(ErrorCode.STORE_UNREACHABLE, f"{where} does not answer")
    return None


def explain_file(error: Exception, where: str) -> AcdError | None:
    """What an error of obstore's folder means; None when it can only be a bug."""
    number = os_error(error)
    reason = os.strerror(number)
    if number in DENIED:
        return AcdError(ErrorCode.STORE_DENIED, f"{where}: {reason}")
    if number in IN_THE_WAY:
        return AcdError(
            ErrorCode.STORE_DENIED,
            f"{where} cannot be written: {reason}",
            "Give another folder, or move away the file that is in the way.",
        )
    if number in FULL:
        return AcdError(ErrorCode.DISK_FULL, f"{where} cannot be written: {reason}")
    if number in UNREACHABLE:
        return AcdError(ErrorCode.STORE_UNREACHABLE, f"{where}: {reason}")
    return None


def _with_variable(why: str) -> str:
    """What obstore says of a value, after the variable of the environment that has it."""
    quoted = QUOTED.search(why)
    names = [name for name, value in os.environ.items() if name.startswith("AWS_") and quoted and value == quoted[1]]
    return f"{' or '.join(sorted(names))}: {why}" if names else why


def is_panic(error: BaseException) -> bool:
    """Whether an exception is a panic of a library in Rust; it is no Exception, and its class cannot be imported."""
    return type(error).__name__ == "PanicException" and type(error).__module__ == "pyo3_runtime"


def panicked(error: BaseException, where: str) -> AcdError:
    """What a panic of the store means: the environment or an address has something that its library cannot take."""
    return AcdError(
        ErrorCode.STORE_CONFIG_INVALID,
        f"{where} cannot be opened: {' '.join(str(error).split())[:200]}",
        "Check AWS_ENDPOINT_URL, the other AWS_ variables and the address.",
    )


def is_unreachable(error: BaseException) -> bool:
    """Whether the error says that the store does not answer."""
    return isinstance(error, AcdError) and error.code is ErrorCode.STORE_UNREACHABLE


def os_error(error: Exception) -> int:
    """The errno that an error has, or that obstore names in its text; 0 for none."""
    if isinstance(error, OSError) and error.errno:
        return error.errno
    found = OS_ERROR.search(str(error))
    return int(found.group(1)) if found else 0
