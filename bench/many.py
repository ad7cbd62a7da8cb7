#!/usr/bin/env python3
"""Adds COUNT images to the store at ROOT through `strata`'s own front door: one archive of COUNT configs over one shared layer.

Usage: many.py ROOT COUNT. The binary is taken from $STRATA, or target/release/strata.
"""
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile


def add(out, name, data):
    info = tarfile.TarInfo(name)
    info.size = len(data)
    out.addfile(info, io.BytesIO(data))


def layer(number):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        add(tar, f"etc/layer-{number}", str(number).encode())
    return buffer.getvalue()


def main():
    root, count = sys.argv[1], int(sys.argv[2])
    strata = os.environ.get("STRATA", "target/release/strata")
    base = layer("base")
    layers = {hashlib.sha256(base).hexdigest(): base}
    manifest = []
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as out:
        for number in range(count):
            own = layer(number)
            diffs = [hashlib.sha256(base).hexdigest(), hashlib.sha256(own).hexdigest()]
            layers[diffs[1]] = own
            config = json.dumps(
                {
                    "architecture": "amd64",
                    "os": "linux",
                    "created": "2024-01-01T00:00:00Z",
                    "config": {"Cmd": ["sh"], "Labels": {"number": str(number)}},
                    "rootfs": {"type": "layers", "diff_ids": [f"sha256:{diff}" for diff in diffs]},
                }
            ).encode()
            name = f"{hashlib.sha256(config).hexdigest()}.json"
            add(out, name, config)
            manifest.append({"Config": name, "RepoTags": [f"many/{number}:1"], "Layers": [f"{diff}/layer.tar" for diff in diffs]})
        for diff, data in layers.items():
            add(out, f"{diff}/layer.tar", data)
        add(out, "manifest.json", json.dumps(manifest).encode())
    subprocess.run([strata, "--data-root", root, "load", "-q"], input=buffer.getvalue(), stdout=subprocess.DEVNULL, check=True)


main()
