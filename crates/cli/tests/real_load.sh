#!/bin/bash
# What people do in a container: runs as its command, on a Debian root whose package archives lie there already.
# Usage: real_load.sh FILES (how many small files the last part makes)
set -euo pipefail
files=${1:-60000}
export DEBIAN_FRONTEND=noninteractive LC_ALL=C TZ=UTC HOME=/root
export GIT_AUTHOR_DATE='1700000000 +0000' GIT_COMMITTER_DATE='1700000000 +0000'
mark() { echo "-- $1 ($SECONDS s)"; }

mark "a compiler"
apt-get install -y -qq --no-download --no-install-recommends gcc libc6-dev make git sqlite3 > /tmp/apt.log 2>&1 || { cat /tmp/apt.log; exit 1; }
rm /tmp/apt.log
apt-get clean
dpkg --audit
dpkg --verify
gcc --version | head -1

mark "a build"
mkdir /build && cd /build
for i in $(seq 40); do
  printf '#include <stdio.h>\nint f%d(int x) { return printf("%%d\\n", x + %d) > 0 ? x + 1 : 0; }\n' "$i" "$i" > "f$i.c"
done
{ for i in $(seq 40); do echo "int f$i(int);"; done
  echo 'int main(void) { int x = 0;'; for i in $(seq 40); do echo "x = f$i(x);"; done; echo 'return x == 40 ? 0 : 1; }'; } > main.c
cat > Makefile <<'END'
objects := main.o $(patsubst %.c,%.o,$(wildcard f*.c))
all: program libf.a libf.so
program: $(objects) ; gcc -O2 -g -o $@ $(sort $^)
libf.a: $(objects) ; ar rcsD $@ $(sort $^)
libf.so: $(objects) ; gcc -shared -o $@ $(sort $^)
%.o: %.c ; gcc -O2 -g -fPIC -c $< -o $@
END
make -s -j4
./program > said && test "$(wc -l < said)" = 40
make -s -q || { echo "make would build again what it has built"; exit 1; }
touch f7.c && make -s && ./program | cmp - said
install -s -m 4755 program /usr/local/bin/installed && /usr/local/bin/installed > /dev/null

mark "git"
git config --global user.name someone && git config --global user.email someone@example.org
git config --global init.defaultBranch main && git config --global pack.threads 1 && git config --global gc.auto 0
git init -q /srv/origin && cd /srv/origin
for i in $(seq 1500); do mkdir -p "d$((i % 30))" && echo "file $i" > "d$((i % 30))/f$i"; done
ln -s d1 link && chmod 755 d1/f31
git add . && git commit -qm one
git checkout -q -b second && git rm -rq d2 && git mv d3 moved && sed -i s/file/FILE/ d4/* && git commit -qam two
git checkout -q -b third main && rm -rf d5 && echo file > d5 && git add -A && git commit -qm three
git clone -q /srv/origin /srv/clone && cd /srv/clone
for _ in 1 2 3; do for branch in second third main; do git checkout -q "$branch" && test -z "$(git status --porcelain)"; done; done
git merge -q -m merged origin/second && git fsck --full > /dev/null 2>&1 && git repack -adq && git stash list && git reset -q --hard HEAD~1
git worktree add -q /srv/tree third && test -f /srv/tree/d5 && test -z "$(git -C /srv/tree status --porcelain)"

mark "a database"
mkdir /data && cd /data
rows="WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000) SELECT i, hex(i * 7919) || printf('%0200d', i) FROM n"
for mode in WAL DELETE TRUNCATE; do
  sqlite3 "$mode.db" "PRAGMA journal_mode=$mode; CREATE TABLE t(i INTEGER PRIMARY KEY, s TEXT); CREATE INDEX by_s ON t(s); INSERT INTO t $rows;" > /dev/null
  # Readers and writers at once, by locks and (WAL) shared memory.
  for w in 1 2 3; do
    ( for k in $(seq 8); do sqlite3 -cmd '.timeout 60000' "$mode.db" "BEGIN IMMEDIATE; UPDATE t SET s = s || 'x' WHERE i % 97 = $k; INSERT INTO t(i, s) VALUES($w * 1000000 + $k, 'new'); COMMIT; SELECT count(*) FROM t;" > /dev/null; done ) &
  done
  wait
  sqlite3 "$mode.db" "BEGIN; DELETE FROM t; ROLLBACK; PRAGMA integrity_check; SELECT count(*), sum(length(s)) FROM t;"
  sqlite3 "$mode.db" "DELETE FROM t WHERE i % 3 = 0; VACUUM; PRAGMA integrity_check; SELECT count(*), sum(length(s)) FROM t; PRAGMA journal_mode=DELETE;"
  sqlite3 "$mode.db" .dump | sort | sha256sum > "$mode.sum"
  rm "$mode.db"
done

mark "$files small files"
mkdir /many && cd /many
perl -e 'for my $i (0 .. $ARGV[0] - 1) { my $d = sprintf "%03d", $i / 100; mkdir $d unless $i % 100; open my $f, ">", "$d/$i" or die "$d/$i: $!"; print $f "x" x ($i % 3000); close $f or die }' "$files"
tar --sort=name --mtime=@1 -cf /srv/many.tar .
mkdir /many2 && tar -xf /srv/many.tar -C /many2
diff -r /many /many2
test "$(find /many2 -type f | wc -l)" = "$files"
rm -rf /many2/0* && mv /many2 /kept
sha256sum /srv/many.tar && rm /srv/many.tar

mark "what lay below"
cp -a /usr/share/common-licenses /root/licenses
mv /usr/share/doc/apt /usr/share/doc/moved
rm -rf /usr/share/locale && mkdir /usr/share/locale && touch /usr/share/locale/only
chmod -R g+w /usr/share/perl5 && chown -R 5:6 /usr/share/keyrings
ln /usr/bin/dpkg /usr/bin/another-dpkg && ln -s dpkg /usr/bin/third-dpkg
echo more >> /etc/services && sed -i s/root/root/ /etc/passwd
find /usr/lib -name '*.so*' -type l -exec touch -h -d @5 {} +
truncate -s 3M /etc/debian_version && rm /etc/issue && mkdir /etc/issue && mkfifo /etc/issue/pipe
mv /etc/cron.d /etc/cron.moved && mkdir /etc/cron.d
find / -xdev -type f -newer /many -size -100k -exec cat {} + > /dev/null
mark done
