#!/bin/sh
# Boots the host's systemd as the first process of namespaces of its own, on a root made of tmpfs and the host's /usr.
# The network is the host's, so that loopback is shared. usage: boot.sh ROOT CGROUP BASE [DIRECTORY SHOWN-AS]…
# Needs root. ROOT: an empty directory; CGROUP: an empty cgroup of version 2; each DIRECTORY is shown read-only.
# BASE: the directory of an installed system, which takes the place of the host's /usr and stays as it is; or -
set -eu
root=$1 cgroup=$2 base=$3
shift 3

if [ "$cgroup" != - ]; then
  # A cgroup namespace begins where its first process is, which is why this is run twice.
  echo 0 >"$cgroup/cgroup.procs"
  exec unshare --cgroup sh "$0" "$root" - "$base" "$@"
fi

shown() { # shown DIRECTORY SHOWN-AS: read-only, under another name
  mkdir -p "$root$2"
  mount --bind "$1" "$root$2"
  mount -o remount,bind,ro "$root$2"
}

mount -t tmpfs -o mode=755 tmpfs "$root"
if [ "$base" != - ]; then
  mkdir "$root/changes" "$root/work"
  mount -t overlay -o "lowerdir=$base,upperdir=$root/changes,workdir=$root/work" overlay "$root"
fi
cd "$root"
if [ "$base" = - ]; then
  mkdir dev etc home opt proc root run srv sys tmp var var/lib var/log var/tmp
  ln -s ../run var/run
  chmod 700 root
  chmod 1777 tmp var/tmp
  shown /usr /usr
  for name in bin sbin lib lib32 lib64 libx32; do
    if [ -L "/$name" ]; then ln -s "$(readlink "/$name")" "$name"; elif [ -d "/$name" ]; then shown "/$name" "/$name"; fi
  done
  mkdir -p etc/systemd/system
  cp -R /etc/ld.so.* etc/
  ln -s ../usr/lib/os-release etc/os-release
  tr -d - </proc/sys/kernel/random/uuid >etc/machine-id
  printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n' >etc/passwd
  printf 'root:x:0:\nnogroup:x:65534:\n' >etc/group
  printf 'passwd: files systemd\ngroup: files systemd\n' >etc/nsswitch.conf
fi
while [ $# -gt 0 ]; do
  shown "$1" "$2"
  shift 2
done

# Of all that a machine starts only the journal is wanted here.
for wants in "$root"/usr/lib/systemd/system/*.target.wants "$root"/usr/lib/systemd/system-generators; do
  mount -t tmpfs tmpfs "$wants"
done
ln -s /dev/null etc/systemd/system/systemd-journald-audit.socket
printf '[Unit]\nRequires=basic.target systemd-journald.service\nAfter=basic.target\nAllowIsolate=yes\n' \
  >etc/systemd/system/test.target

mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=755 tmpfs dev
mkdir dev/pts dev/shm
for name in null zero full random urandom tty; do
  : >"dev/$name"
  mount --bind "/dev/$name" "dev/$name"
done
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts dev/pts
mount -t tmpfs -o mode=1777 tmpfs dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd

mkdir old
pivot_root . old
umount -l old
rmdir old
mount --make-rshared /
hostname syncd-test
exec env -i container=syncd-test PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
  /lib/systemd/systemd --system --unit=test.target --log-target=journal --show-status=false
