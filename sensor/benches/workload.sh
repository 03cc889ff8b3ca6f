#!/bin/sh
# What the committed trace (workload.trace.gz) was recorded of: a package made and installed, a repository's life, a compile, the last two in
# a container's cgroup. As root, from a session's cgroup:
#
#   cargo build --release -p cairn-sensor --example bench_sensor
#   mkdir -p /sys/fs/cgroup/user.slice/session-1.scope && echo $$ > /sys/fs/cgroup/user.slice/session-1.scope/cgroup.procs
#   env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root target/release/examples/bench_sensor record sensor/benches/workload.trace.gz \
#       "apt, git and a compile" unshare -m sh -s < sensor/benches/workload.sh
set -eu
mount -t tmpfs none /srv
mount -t tmpfs none /etc/apt
mount -t tmpfs none /var/lib/apt
mount -t tmpfs none /var/cache/apt
mount -t tmpfs none /tmp
cd /srv

# apt: a repository on the disk, a simulated and a real installation, a removal.
mkdir -p repo pkg/DEBIAN pkg/usr/share/cairn-trace /etc/apt/apt.conf.d /etc/apt/preferences.d /var/lib/apt/lists/partial /var/cache/apt/archives/partial
printf 'Package: cairn-trace\nVersion: 1\nArchitecture: all\nMaintainer: none <none@example.com>\nDescription: nothing\n' > pkg/DEBIAN/control
echo nothing > pkg/usr/share/cairn-trace/nothing
dpkg-deb --build pkg repo/cairn-trace_1_all.deb > /dev/null
(cd repo && { dpkg-deb -f cairn-trace_1_all.deb; echo "Filename: ./cairn-trace_1_all.deb"; echo "Size: $(stat -c %s cairn-trace_1_all.deb)"; echo "SHA256: $(sha256sum cairn-trace_1_all.deb | cut -d' ' -f1)"; } > Packages)
echo "deb [trusted=yes] file:/srv/repo ./" > /etc/apt/sources.list
apt-get -qq update
apt-get -qq -s install cairn-trace > /dev/null
DEBIAN_FRONTEND=noninteractive apt-get -qq -y install cairn-trace > /dev/null 2>&1
dpkg -L cairn-trace > /dev/null
apt-cache policy cairn-trace > /dev/null
DEBIAN_FRONTEND=noninteractive apt-get -qq -y purge cairn-trace > /dev/null 2>&1

# From here on in what the rules take for a container.
cgroups=/sys/fs/cgroup
[ -d $cgroups/unified ] && cgroups=$cgroups/unified
container=$cgroups/docker-3f4a9c0b7d21e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e.scope
if mkdir -p "$container" 2> /dev/null; then
    echo $$ > "$container/cgroup.procs"
fi

# git: a repository with a history, branches, a merge, a clone, a look at everything.
export GIT_AUTHOR_NAME=ada GIT_AUTHOR_EMAIL=ada@example.com GIT_COMMITTER_NAME=ada GIT_COMMITTER_EMAIL=ada@example.com
git init -q -b main project
cd project
for number in 1 2 3 4 5 6 7 8 9 10 11 12; do
    mkdir -p "src/part$number"
    printf '#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n#include <unistd.h>\n#include <errno.h>\nint part%s(int a) { char *text = strdup("part"); printf("%%s %%d\\n", text, a); free(text); return a + %s; }\n' "$number" "$number" > "src/part$number/part.c"
    git add .
    git commit -q -m "part $number"
done
git checkout -q -b topic main~3
echo "a topic" > TOPIC
git add TOPIC
git commit -q -m topic
git checkout -q main
git merge -q -m merge topic
git log --stat > /dev/null
git status --short > /dev/null
git gc -q
git clone -q . ../clone
git -C ../clone fsck > /dev/null 2>&1

# A compile: make starts a shell, cc, cc1, as, ld.
printf 'objects := $(patsubst %%.c,%%.o,$(wildcard src/*/*.c))\nall: program\nprogram: $(objects) main.o\n\t@cc -o $@ $^\n%%.o: %%.c\n\t@echo compiling $<; cc -O1 -c -o $@ $<\n' > Makefile
echo 'int part1(int); int part12(int); int main(void) { return part1(part12(1)) == 14 ? 0 : 1; }' > main.c
make -s all > /dev/null
./program > /dev/null
find . -name '*.o' -exec size {} + > /dev/null
grep -rn --include='*.c' part1 src | sort | head -n 3 > /dev/null
tar czf ../project.tar.gz .
