"""Lists what a tar of a file tree holds, a line an entry: all but times. Usage: real_load.py layer SAVED-IMAGE | tree EXPORTED

`layer` lists the top layer of a saved image, `tree` an exported root, whose hard links it takes for files of their own.
"""

import hashlib, json, sys, tarfile

# Content that is never twice the same: logs with times in them, and caches that note inodes and times of other files.
RANDOM = ("var/log/", "var/cache/ldconfig/aux-cache", "var/cache/apt/", "srv/clone/.git/index", "srv/origin/.git/index", "srv/clone/.git/worktrees/tree/index")


def describe(tar, entry):
    digest = "-"
    if entry.isreg() and not entry.name.startswith(RANDOM):
        digest = hashlib.file_digest(tar.extractfile(entry), "sha256").hexdigest() + f" {entry.size}"
    attributes = sorted((key, value) for key, value in entry.pax_headers.items() if key.startswith("SCHILY.xattr."))
    return f"{entry.type} {entry.mode:o} {entry.uid}:{entry.gid} {entry.linkname!r} {entry.devmajor}:{entry.devminor} {attributes} {digest}"


def groups(tar, below=None):
    """What each file is, and its names."""
    files, links = {}, {}
    for entry in tar:
        name = entry.name
        if below is not None and name.endswith("/.wh..wh..opq"):
            # Whoever makes a mark gives it a mode; and where nothing lies below it says nothing.
            if name.removesuffix("/.wh..wh..opq") in below:
                files[name] = ("opaque", [name])
            continue
        while entry.islnk() and entry.linkname in links:
            entry.linkname = links[entry.linkname]
        if entry.islnk():
            links[name] = entry.linkname
            files[entry.linkname][1].append(name)
            continue
        files[name] = (describe(tar, entry), [name])
    return files.values()


what, path = sys.argv[1:]
tar = tarfile.open(path)
if what == "layer":
    layers = [tar.extractfile(name) for name in json.load(tar.extractfile("manifest.json"))[0]["Layers"]]
    below = {name.removeprefix("./") for name in tarfile.open(fileobj=layers[0]).getnames()}
    found = groups(tarfile.open(fileobj=layers[-1]), below)
else:
    found = groups(tar)
for text, names in found:
    names.sort()
    for name in names:
        print(repr(name), text, names[0] if len(names) > 1 and what == "layer" else "")
