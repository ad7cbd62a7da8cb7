"""System calls that filesystems get wrong: says, a line each, what they answer in the folder given.

The folder is a union's root; below it lie `low` (8 KiB of "l"), `low2`, `low3`, `sparse` (a hole of 1 MiB, then "data"),
`folder/inner`. Numbers that may differ from run to run (inodes, times) are not said, only how they relate.
"""

import ctypes, errno, fcntl, mmap, os, select, socket, stat, struct, subprocess, sys, time

root = sys.argv[1]
os.chdir(root)
libc = ctypes.CDLL(None, use_errno=True)
AT_FDCWD = -100


def say(name, call):
    try:
        result = call()
    except OSError as error:
        result = errno.errorcode.get(error.errno, error.errno)
    print(f"{name}: {result}", flush=True)


def check(result):
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def rename(old, new, flags):
    return check(libc.renameat2(AT_FDCWD, old.encode(), AT_FDCWD, new.encode(), flags))


def fallocate(fd, mode, offset, size):
    return check(libc.fallocate(fd, mode, ctypes.c_long(offset), ctypes.c_long(size)))


def statx(path, mask=0xfff, flags=0x100):
    buffer = ctypes.create_string_buffer(256)
    check(libc.statx(AT_FDCWD, path.encode(), flags, mask, buffer))
    return struct.unpack_from("IIQIIIH2xQQQQ", buffer)


def write(path, data, flags=0):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | flags, 0o644)
    os.write(fd, data)
    os.close(fd)


def read(path):
    with open(path, "rb") as file:
        return file.read()


def digest(path):
    data = read(path)
    return len(data), sum(data) & 0xffffffff, data[:4], data[-4:]


# Locks, between descriptors and between processes.
def locks(path):
    one, two = os.open(path, os.O_RDWR), os.open(path, os.O_RDWR)
    fcntl.flock(one, fcntl.LOCK_EX)
    say(f"flock {path} held", lambda: fcntl.flock(two, fcntl.LOCK_EX | fcntl.LOCK_NB))
    fcntl.flock(one, fcntl.LOCK_SH)
    say(f"flock {path} shared", lambda: fcntl.flock(two, fcntl.LOCK_SH | fcntl.LOCK_NB))
    fcntl.flock(one, fcntl.LOCK_UN)
    fcntl.lockf(one, fcntl.LOCK_EX, 10, 5)

    def other(start, size):
        code = f"import fcntl, os; fd = os.open({path!r}, os.O_RDWR); fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, {size}, {start})"
        return subprocess.run([sys.executable, "-c", code], stderr=subprocess.DEVNULL).returncode

    say(f"lockf {path} of another process", lambda: (other(0, 5), other(0, 6), other(14, 1), other(15, 1)))
    ofd = lambda kind, start, size: struct.pack("hhqqixxxx", kind, 0, start, size, 0)
    os.close(two)
    two = os.open(path, os.O_RDWR)
    fcntl.lockf(one, fcntl.LOCK_UN)
    say(f"ofd {path}", lambda: fcntl.fcntl(one, 37, ofd(fcntl.F_WRLCK, 0, 10))[:2])
    say(f"ofd {path} again", lambda: fcntl.fcntl(two, 37, ofd(fcntl.F_WRLCK, 9, 10))[:2])
    say(f"ofd {path} beside", lambda: fcntl.fcntl(two, 37, ofd(fcntl.F_WRLCK, 10, 10))[:2])
    say(f"lease {path}", lambda: fcntl.fcntl(two, 1024, fcntl.F_UNLCK))
    os.close(one)
    os.close(two)


# A lock taken on a lower file holds over its copy-up.
def lock_over_copy_up():
    reader = os.open("low2", os.O_RDONLY)
    fcntl.flock(reader, fcntl.LOCK_EX)
    writer = os.open("low2", os.O_RDWR)
    os.pwrite(writer, b"up", 0)
    say("flock over copy-up", lambda: fcntl.flock(writer, fcntl.LOCK_EX | fcntl.LOCK_NB))
    os.close(reader)
    say("flock let go", lambda: fcntl.flock(writer, fcntl.LOCK_EX | fcntl.LOCK_NB))
    os.close(writer)


# Shared maps: writes by one way are seen by every other.
def maps(path):
    size = 64 << 10
    fd, other = os.open(path, os.O_RDWR | os.O_CREAT, 0o644), None
    os.ftruncate(fd, size)
    with mmap.mmap(fd, size) as one:
        other = os.open(path, os.O_RDWR)
        with mmap.mmap(other, size) as two:
            one[100:104] = b"maps"
            say(f"{path}: map to map", lambda: two[100:104])
            say(f"{path}: map to read", lambda: os.pread(other, 4, 100))
            os.pwrite(other, b"file", 5000)
            say(f"{path}: write to map", lambda: (one[5000:5004], two[5000:5004]))
            two[size - 2 : size] = b"zz"
            one.flush()
        say(f"{path}: map to another's read", lambda: read(path)[-2:])
        code = f"import mmap, os; fd = os.open({path!r}, os.O_RDWR); m = mmap.mmap(fd, 0); m[0:5] = b'child'"
        subprocess.run([sys.executable, "-c", code], check=True)
        say(f"{path}: another process's map", lambda: one[0:5])
        os.unlink(path)
        one[8:12] = b"gone"
        say(f"{path}: without a name", lambda: (os.pread(fd, 4, 8), os.fstat(fd).st_nlink))
    os.close(fd)
    os.close(other)


def map_private_then_write(path):
    fd = os.open(path, os.O_RDONLY)
    with mmap.mmap(fd, 0, prot=mmap.PROT_READ) as seen:
        say(f"{path}: a read-only map", lambda: seen[:4])
        say(f"{path}: a map for writing of a file open for reading", lambda: mmap.mmap(fd, 0))
    os.close(fd)


def direct(path):
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_DIRECT, 0o644)
    page = mmap.mmap(-1, 8192)
    page.write(b"d" * 8192)
    say(f"{path}: O_DIRECT write", lambda: os.pwritev(fd, [page], 4096))
    plain = os.open(path, os.O_RDWR)
    say(f"{path}: read by the other way", lambda: os.pread(plain, 8, 4090)[-2:])
    os.pwrite(plain, b"cached", 4096)
    say(f"{path}: O_DIRECT read", lambda: (os.preadv(fd, [page], 4096), page[:6]))
    say(f"{path}: size", lambda: os.fstat(fd).st_size)
    say(f"{path}: O_DIRECT past the end", lambda: os.preadv(fd, [page], 1 << 20))
    say(f"{path}: the flag", lambda: bool(fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_DIRECT))
    os.close(fd)
    os.close(plain)


def copies():
    source, target = os.open("low3", os.O_RDONLY), os.open("copy", os.O_RDWR | os.O_CREAT, 0o644)
    say("copy_file_range", lambda: os.copy_file_range(source, target, 5000, 100, 50))
    say("copy_file_range result", lambda: digest("copy"))
    say("copy_file_range to the end", lambda: os.copy_file_range(source, target, 1 << 20, 8000, 0))
    say("copy_file_range past the end", lambda: os.copy_file_range(source, target, 10, 1 << 20, 0))
    say("copy_file_range in one file", lambda: os.copy_file_range(target, target, 100, 0, 1000))
    say("copy_file_range that overlaps", lambda: os.copy_file_range(target, target, 100, 0, 50))
    say("copy_file_range for reading", lambda: os.copy_file_range(target, source, 10))
    appended = os.open("copy", os.O_WRONLY | os.O_APPEND)
    say("copy_file_range appending", lambda: os.copy_file_range(source, appended, 10, 0))
    say("sendfile", lambda: os.sendfile(target, source, 0, 100))
    say("copied", lambda: digest("copy"))
    say("lower", lambda: digest("low3"))
    for fd in (source, target, appended):
        os.close(fd)


def holes(path):
    fd = os.open(path, os.O_RDONLY)
    for offset in (0, 100, (1 << 20) - 1, 1 << 20, (1 << 20) + 3, (1 << 20) + 4, -1):
        say(f"{path}: SEEK_DATA {offset}", lambda: os.lseek(fd, offset, os.SEEK_DATA))
        say(f"{path}: SEEK_HOLE {offset}", lambda: os.lseek(fd, offset, os.SEEK_HOLE))
    say(f"{path}: SEEK_END", lambda: os.lseek(fd, 0, os.SEEK_END))
    os.close(fd)


def spaces(path):
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    os.pwrite(fd, b"s" * 20000, 0)
    say(f"{path}: fallocate", lambda: (fallocate(fd, 0, 0, 40000), os.fstat(fd).st_size))
    say(f"{path}: KEEP_SIZE", lambda: (fallocate(fd, 1, 0, 80000), os.fstat(fd).st_size, os.fstat(fd).st_blocks >= 156))
    say(f"{path}: PUNCH_HOLE", lambda: (fallocate(fd, 3, 4096, 8192), os.pread(fd, 2, 4095), os.pread(fd, 2, 12287)))
    say(f"{path}: hole found", lambda: (os.lseek(fd, 0, os.SEEK_HOLE), os.lseek(fd, 4096, os.SEEK_DATA)))
    say(f"{path}: PUNCH_HOLE without KEEP_SIZE", lambda: fallocate(fd, 2, 0, 4096))
    say(f"{path}: ZERO_RANGE", lambda: (fallocate(fd, 16, 14000, 1000), os.pread(fd, 2, 13999), os.pread(fd, 2, 14999)))
    say(f"{path}: ZERO_RANGE that grows", lambda: (fallocate(fd, 16, 50000, 1000), os.fstat(fd).st_size))
    say(f"{path}: negative", lambda: fallocate(fd, 0, -1, 10))
    say(f"{path}: nothing", lambda: fallocate(fd, 0, 0, 0))
    say(f"{path}: too much", lambda: fallocate(fd, 0, 0, 1 << 62))
    reader = os.open(path, os.O_RDONLY)
    say(f"{path}: for reading", lambda: fallocate(reader, 0, 0, 10))
    say(f"{path}: content", lambda: digest(path))
    say(f"{path}: truncate", lambda: (os.ftruncate(fd, 100), os.ftruncate(fd, 6000), digest(path)))
    os.close(reader)
    os.close(fd)


def times():
    write("timed", b"x")
    before = statx("timed")
    time.sleep(0.02)
    os.utime("timed", ns=(1_000_000_001, 2_000_000_002), follow_symlinks=False)
    after = os.stat("timed")
    say("utimensat", lambda: (after.st_atime_ns, after.st_mtime_ns, after.st_ctime_ns > 2_000_000_002))
    os.utime("timed", ns=(-5_000_000_000, -7_999_999_999))
    say("before 1970", lambda: (os.stat("timed").st_atime_ns, os.stat("timed").st_mtime_ns))
    os.utime("timed", ns=(4_000_000_000_000_000_123, 4_000_000_000_000_000_456))
    say("after 2038", lambda: (os.stat("timed").st_atime_ns, os.stat("timed").st_mtime_ns))
    say("statx", lambda: (before[0] & 0x7ff, before[3], before[6], before[9]))
    say("statx fields", lambda: [statx(name)[n] for name in ("timed", "low", "folder") for n in (4, 5, 6)])
    say("statx of nothing", lambda: statx("nothing"))
    say("statx by descriptor", lambda: statx("", flags=0x1000)[6] & 0o170000)


def renames():
    for name, data in (("r1", b"1"), ("r2", b"2")):
        write(name, data)
    say("NOREPLACE over", lambda: rename("r1", "r2", 1))
    say("NOREPLACE", lambda: (rename("r1", "r3", 1), read("r3")))
    say("EXCHANGE", lambda: (rename("r2", "r3", 2), read("r2"), read("r3")))
    say("EXCHANGE with nothing", lambda: rename("r2", "nothing", 2))
    say("EXCHANGE and NOREPLACE", lambda: rename("r2", "r3", 3))
    os.mkdir("rd")
    say("EXCHANGE of a folder", lambda: (rename("rd", "r2", 2), os.listdir("r2"), read("rd")))
    say("EXCHANGE into itself", lambda: rename("r2", "r2/x", 2))
    say("NOREPLACE of a lower file", lambda: (rename("low", "moved", 1), digest("moved"), os.path.exists("low")))
    say("NOREPLACE to where it was", lambda: (rename("moved", "low", 1), digest("low")))
    say("WHITEOUT", lambda: rename("r3", "r4", 4) if os.path.exists("r3") else None)
    say("an unknown flag", lambda: rename("low", "lower", 1 << 10))


# What O_APPEND, O_TRUNC and others answer, and what an open reader sees.
def opens():
    reader = os.open("low", os.O_RDONLY)
    write("low", b"end", os.O_APPEND)
    say("append seen", lambda: os.pread(reader, 10, 8190))
    say("O_EXCL", lambda: write("low", b"", os.O_EXCL))
    say("O_DIRECTORY", lambda: os.open("low", os.O_RDONLY | os.O_DIRECTORY))
    say("O_NOFOLLOW", lambda: (os.symlink("low", "ln"), os.open("ln", os.O_RDONLY | os.O_NOFOLLOW)))
    say("folder for writing", lambda: os.open("folder", os.O_WRONLY))
    say("O_PATH", lambda: os.read(os.open("low", os.O_PATH), 1))
    write("low", b"", os.O_TRUNC)
    say("truncated", lambda: (os.pread(reader, 10, 0), os.fstat(reader).st_size))
    os.unlink("low")
    say("unlinked", lambda: (os.fstat(reader).st_nlink, os.path.exists("low")))
    fd = os.open(f"/proc/self/fd/{reader}", os.O_RDWR)
    os.pwrite(fd, b"ghost", 0)
    say("opened without a name", lambda: os.pread(reader, 5, 0))
    say("linked again", lambda: os.link(f"/proc/self/fd/{reader}", "again", follow_symlinks=True))
    os.fchmod(fd, 0o600)
    os.ftruncate(fd, 3)
    say("changed without a name", lambda: (stat.S_IMODE(os.fstat(reader).st_mode), os.pread(reader, 9, 0)))
    os.close(fd)
    os.close(reader)
    say("read past the end", lambda: os.pread(os.open("low3", os.O_RDONLY), 10, 1 << 40))
    fd = os.open("big", os.O_RDWR | os.O_CREAT)
    say("a byte far away", lambda: (os.pwrite(fd, b"x", 1 << 40), os.fstat(fd).st_size, os.pread(fd, 2, (1 << 40) - 1)))
    say("too far away", lambda: os.pwrite(fd, b"x", (1 << 63) - 1))
    os.close(fd)


def special():
    os.mkfifo("fifo")
    one = os.open("fifo", os.O_RDWR | os.O_NONBLOCK)
    os.write(one, b"pipe")
    say("fifo", lambda: os.read(one, 10))
    os.close(one)
    server = socket.socket(socket.AF_UNIX)
    server.bind("socket")
    server.listen(1)
    client = socket.socket(socket.AF_UNIX)
    client.connect("socket")
    connection, _ = server.accept()
    client.send(b"hello")
    say("socket", lambda: connection.recv(10))
    say("poll", lambda: len(select.select([os.open("low3", os.O_RDONLY)], [], [], 1)[0]))
    say("fsync", lambda: [os.fsync(os.open(name, os.O_RDONLY)) for name in ("low3", "folder", "sparse", "copy")])
    say("syncfs", lambda: check(libc.syncfs(os.open("folder", os.O_RDONLY))))
    os.setxattr("copy", "user.a", b"1")
    say("xattrs", lambda: (os.listxattr("copy"), os.getxattr("copy", "user.a")))
    say("xattr again", lambda: os.setxattr("copy", "user.a", b"1", os.XATTR_CREATE))
    say("xattr absent", lambda: os.setxattr("copy", "user.b", b"1", os.XATTR_REPLACE))
    say("xattr of nothing", lambda: os.getxattr("copy", "user.b"))
    say("xattr of a fifo", lambda: os.setxattr("fifo", "user.b", b"1"))
    say("xattr removed", lambda: (os.removexattr("copy", "user.a"), os.listxattr("copy")))
    say("xattr removed again", lambda: os.removexattr("copy", "user.a"))
    say("name too long", lambda: os.mkdir("n" * 256))


# Owner, group and set-group-ID of what users make, who are or are not in a folder's group.
def owners():
    os.mkdir("shared")
    os.chown("shared", 0, 50)
    os.chmod("shared", 0o2777)

    def make(name, groups):
        os.setgroups(groups)
        os.setresgid(1001, 1001, 1001)
        os.setresuid(1001, 1001, 1001)
        os.umask(0)
        os.close(os.open(f"shared/{name}", os.O_CREAT | os.O_WRONLY, 0o2775))
        os.mknod(f"shared/{name}-node", 0o102775)
        os.mkdir(f"shared/{name}-dir", 0o775)
        os.symlink("x", f"shared/{name}-link")

    for name, groups in (("member", [50]), ("stranger", [60])):
        child = os.fork()
        if child == 0:
            try:
                make(name, groups)
            finally:
                os._exit(0)
        os.waitpid(child, 0)
    for name in sorted(os.listdir("shared")):
        info = os.lstat(f"shared/{name}")
        say(f"made {name}", lambda: (oct(info.st_mode), info.st_uid, info.st_gid))


say("O_TMPFILE", lambda: os.close(os.open(".", os.O_TMPFILE | os.O_RDWR)))
for path in ("low3", "own"):
    if path == "own":
        write(path, b"own" * 100)
    locks(path)
lock_over_copy_up()
maps("map")
map_private_then_write("low3")
direct("direct")
copies()
write("hole", b"")
fd = os.open("hole", os.O_WRONLY)
os.pwrite(fd, b"data", 1 << 20)
os.close(fd)
for path in ("hole", "sparse"):
    holes(path)
write("sparse", b"", os.O_APPEND)
say("sparse after copy-up", lambda: os.stat("sparse").st_blocks < 64)
holes("sparse")
spaces("space")
times()
renames()
opens()
special()
owners()
