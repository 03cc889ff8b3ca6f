#!/bin/sh
# Makes libs-2022.scap and libs-2022.tsv again: libscap writes the one, sysdig reads it for the other. Debian 12's packages sysdig and
# libfalcosecurity0-dev; as root, in namespaces of its own so that nothing of the machine gets in.
set -eu
cd "$(dirname "$0")"
if [ "${1-}" != inside ]; then
    include=/usr/include/falcosecurity-libs
    cc -w -I$include -I$include/userspace/libscap -I$include/userspace/common -I$include/driver -o /tmp/libscap libscap.c -lscap
    python3 write.py events /tmp/libscap.events
    unshare -pfmunC --mount-proc env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin sh record.sh inside </dev/null
    columns='%evt.rawtime|%evt.cpu|%evt.type|%thread.tid|%proc.pid|%evt.rawres|%fd.num|%fd.typechar|%fd.name|%fd.l4proto|%proc.name|%proc.exepath|%proc.cmdline|%proc.cwd|%proc.ppid|%container.id'
    echo "$columns" | tr -d % > libs-2022.tsv
    sysdig -r libs-2022.scap -p "*$columns" 'evt.dir=< or evt.type=procexit' >> libs-2022.tsv
    python3 write.py scap today.scap
    python3 write.py scap today-big-endian.scap big
    exit
fi
mount -t tmpfs none /mnt
mkdir /mnt/etc
printf 'root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\n' > /mnt/etc/passwd
printf 'root:x:0:\nalice:x:1000:\n' > /mnt/etc/group
cp /tmp/libscap /tmp/libscap.events /mnt/
here=$PWD
mount --bind /mnt/etc/passwd /etc/passwd
mount --bind /mnt/etc/group /etc/group
hostname recorder
cd /mnt
env -i sh -c 'cd /var/log; exec sleep 3 3</etc/passwd 4>/mnt/log' &
sleep 0.3
env -i ./libscap out.scap libscap.events 0
cp out.scap "$here/libs-2022.scap"
