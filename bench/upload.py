#!/usr/bin/env python3
"""Uploads a file to a registry on one connection: upload.py HOST:PORT REPOSITORY FILE DIGEST [--chunk BYTES | --hold BYTES COUNT]

Without an option in one PUT; with --chunk in PATCHes of so many bytes. With --hold, COUNT uploads are begun, each says that it
has the whole file to send, sends BYTES of it and stops; then a line is printed, and all end when standard input does.
The file's bytes go by sendfile, so that the client costs little.
"""
import http.client
import os
import sys
import threading


def begin(connection, repository):
    connection.request("POST", f"/v2/{repository}/blobs/uploads/", headers={"Content-Length": "0"})
    return place(connection, 202)


def place(connection, status):
    answer = connection.getresponse()
    body = answer.read()
    if answer.status != status:
        sys.exit(f"answered {answer.status}, not {status}: {body[:500]!r}")
    location = answer.headers.get("Location", "")
    return location[location.index("/v2/"):] if "/v2/" in location else location


def head(connection, method, path, length, headers=()):
    connection.putrequest(method, path)
    for name, value in [("Content-Type", "application/octet-stream"), ("Content-Length", str(length)), *headers]:
        connection.putheader(name, value)
    connection.endheaders()


def with_digest(path, digest):
    return f"{path}{'&' if '?' in path else '?'}digest={digest}"


def whole(host, repository, file, digest):
    connection = http.client.HTTPConnection(host)
    size = os.fstat(file.fileno()).st_size
    head(connection, "PUT", with_digest(begin(connection, repository), digest), size)
    connection.sock.sendfile(file)
    place(connection, 201)


def chunks(host, repository, file, digest, chunk):
    connection = http.client.HTTPConnection(host)
    size = os.fstat(file.fileno()).st_size
    path = begin(connection, repository)
    for at in range(0, size, chunk):
        count = min(chunk, size - at)
        head(connection, "PATCH", path, count, [("Content-Range", f"{at}-{at + count - 1}")])
        connection.sock.sendfile(file, at, count)
        path = place(connection, 202)
    head(connection, "PUT", with_digest(path, digest), 0)
    place(connection, 201)


def hold(host, repository, name, count, sent):
    size = os.stat(name).st_size

    def one(connection):
        head(connection, "PATCH", begin(connection, repository), size)
        with open(name, "rb") as file:
            connection.sock.sendfile(file, 0, sent)

    connections = [http.client.HTTPConnection(host) for _ in range(count)]
    threads = [threading.Thread(target=one, args=(connection,)) for connection in connections]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print("sent", flush=True)
    sys.stdin.read()


def main():
    host, repository, name, digest, *rest = sys.argv[1:]
    if rest and rest[0] == "--hold":
        return hold(host, repository, name, int(rest[2]), int(rest[1]))
    with open(name, "rb") as file:
        if rest and rest[0] == "--chunk":
            return chunks(host, repository, file, digest, int(rest[1]))
        return whole(host, repository, file, digest)


main()
