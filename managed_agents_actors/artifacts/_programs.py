"""The programs that a store runs in a session's machine. They are sent as text, and import nothing of ours.

Each may run twice, or beside a copy of itself, and comes to the same: an answer may be lost and its command repeated.
They are Python rather than shell because a rename that cannot move into a directory, and exact exit statuses, are not
to be had there. Exit statuses beside 0 and Python's own 1 and 2 are those named here.
"""

from __future__ import annotations

from typing import Final

__all__ = ["DELETE", "DIFFERENT", "DISCARD", "FINISH", "LIST", "NOT_THERE", "NO_PARTS", "PARTS_PREFIX", "READ", "WRITE"]

NOT_THERE: Final = 3
DIFFERENT: Final = 4
NO_PARTS: Final = 5

# The directory of a put's parts begins so. Only regular files are artifacts, so it is never taken for one.
PARTS_PREFIX: Final = ".put-"

# Write one part. It gets its name when it is complete, so that a late copy of this program never makes it shorter.
# The first makes the directory; any other finds it gone if the put was given up. What was left behind by others more
# than a day ago, because their process died, goes too.
WRITE: Final = """
import base64, os, shutil, sys, time
parts, number, text = sys.argv[1:]
if number == "0":
    base, name = os.path.split(parts)
    os.makedirs(parts, exist_ok=True)
    with os.scandir(base) as entries:
        for entry in entries:
            try:
                if entry.name.startswith(".put-") and time.time() - entry.stat().st_mtime > 86400:
                    if entry.is_dir(follow_symlinks=False):
                        shutil.rmtree(entry.path, ignore_errors=True)
            except OSError:
                pass
draft = os.path.join(parts, "%s.%d" % (number, os.getpid()))
with open(draft, "wb") as file:
    file.write(base64.b64decode(text, validate=True))
os.replace(draft, os.path.join(parts, number))
"""

# Put the parts together, check what came of it, and let it take the file's place in one step.
FINISH: Final = """
import hashlib, os, shutil, sys
parts, target, count, size, wanted = sys.argv[1:]

def digest(path):
    found = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            found.update(block)
    return found.hexdigest()

whole = os.path.join(parts, "whole.%d" % os.getpid())
try:
    with open(whole, "wb") as file:
        for number in range(int(count)):
            with open(os.path.join(parts, str(number)), "rb") as part:
                shutil.copyfileobj(part, file)
        file.flush()
        os.fsync(file.fileno())
    if os.path.getsize(whole) != int(size) or digest(whole) != wanted:
        sys.exit(4)
    os.replace(whole, target)
except FileNotFoundError:
    # An earlier copy of this program has finished, or nothing ever will.
    if not os.path.isfile(target) or digest(target) != wanted:
        sys.exit(5)
shutil.rmtree(parts, ignore_errors=True)
"""

DISCARD: Final = """
import shutil, sys
shutil.rmtree(sys.argv[1], ignore_errors=True)
"""

# Read a range; with the first, the digest of the whole. Of what is too large only the size is told.
READ: Final = """
import base64, hashlib, json, os, stat, sys
path, start, length, most = sys.argv[1], *map(int, sys.argv[2:])
try:
    if not stat.S_ISREG(os.lstat(path).st_mode):
        sys.exit(3)
    file = open(path, "rb")
except (FileNotFoundError, NotADirectoryError):
    sys.exit(3)
with file:
    digest, data = hashlib.sha256(), b""
    size = os.fstat(file.fileno()).st_size
    if size <= most:
        if start == 0:
            for block in iter(lambda: file.read(1 << 20), b""):
                digest.update(block)
        file.seek(start)
        data = file.read(length)
data = base64.b64encode(data).decode("ascii")
print(json.dumps({"size": size, "sha256": digest.hexdigest(), "data": data}))
"""

# Names are bytes there: what is no UTF-8 is shown with replacement characters.
LIST: Final = """
import json, os, stat, sys
found = []
try:
    with os.scandir(os.fsencode(sys.argv[1])) as entries:
        for entry in entries:
            try:
                about = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            if stat.S_ISREG(about.st_mode):
                name = entry.name.decode("utf-8", "replace")
                found.append({"name": name, "size": about.st_size, "mtime_ns": about.st_mtime_ns})
except FileNotFoundError:
    pass
print(json.dumps(found))
"""

DELETE: Final = """
import os, stat, sys
try:
    if not stat.S_ISREG(os.lstat(sys.argv[1]).st_mode):
        sys.exit(3)
    os.unlink(sys.argv[1])
except (FileNotFoundError, NotADirectoryError):
    sys.exit(3)
"""
