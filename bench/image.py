#!/usr/bin/env python3
"""Makes a Docker archive of layers that are there as tars. Usage: image.py OUT.tar LAYER…"""
import hashlib, io, json, sys, tarfile

out, layers = sys.argv[1], sys.argv[2:]


def digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


config = json.dumps({
    "architecture": "amd64", "os": "linux", "config": {"Cmd": ["sh"]}, "created": "2024-01-01T00:00:00Z",
    "history": [{"created": "2024-01-01T00:00:00Z", "created_by": "layer"} for _ in layers],
    "rootfs": {"type": "layers", "diff_ids": ["sha256:" + digest(layer) for layer in layers]},
}).encode()
names = [f"{at}/layer.tar" for at in range(len(layers))]
manifest = json.dumps([{"Config": "config.json", "RepoTags": None, "Layers": names}]).encode()
with tarfile.open(out, "w") as tar:
    for name, text in ("config.json", config), ("manifest.json", manifest):
        entry = tarfile.TarInfo(name)
        entry.size = len(text)
        tar.addfile(entry, io.BytesIO(text))
    for name, layer in zip(names, layers):
        tar.add(layer, name)
