"""The exit code and the message of an error that ends a command."""

import errno

SHOWN = 40  # characters at either end of a path that is too long
DISK_EXIT_CODES = {errno.EACCES: 2, errno.EPERM: 2, errno.EROFS: 2} | dict.fromkeys(
    (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ESTALE), 1
)
PERMIT = "Allow this user to read or write it (chmod, or chown by an administrator), or type another path."
PATH_REMEDIES = {  # of a path that no file can have, or that this user may not use
    **dict.fromkeys((errno.EACCES, errno.EPERM), PERMIT),
    errno.ENAMETOOLONG: "A name may have 255 bytes, a whole path 4,095. Type a shorter one.",
    errno.ELOOP: "A link there points back to itself. Remove the link, or type another path.",
    errno.ENOTDIR: "A part of this path is a file, not a folder. Type another path.",
}


def exit_code_and_message(error: Exception) -> tuple[int | None, str]:
    """The exit code of an error, None where it needs a traceback, and what to print."""
    if exit_code := getattr(error, "exit_code", None):
        return exit_code, str(error)
    if isinstance(error, RuntimeError) and str(error).startswith("Symlink loop"):  # Path.resolve before 3.13
        return 2, f"{error}. {PATH_REMEDIES[errno.ELOOP]}"
    if isinstance(error, ValueError) and str(error) == "embedded null byte":
        return 2, "A path contains a zero byte (\\0), which no file name can have. Type another path."
    if not isinstance(error, OSError) or error.errno is None:
        return None, ""
    if (remedy := PATH_REMEDIES.get(error.errno)) and error.filename:
        path = str(error.filename)
        if error.errno == errno.ENAMETOOLONG and len(path) > 2 * SHOWN:
            path = f"{path[:SHOWN]}...{path[-SHOWN:]}"
        return 2, f"{path}: {error.strerror}. {remedy}"
    return DISK_EXIT_CODES.get(error.errno), str(error)
