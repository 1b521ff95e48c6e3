# shellcheck shell=sh
# Sourced by the scripts of this OS definition (ganeti-os-interface(7)). Ganeti starts them with an environment that only
# it has made; what stands in it is data of users: it is quoted, and never part of a command. The node needs dpkg,
# util-linux, bubblewrap and python3 (3.11). See docs/ganeti.md.
# SC2034: image-configure uses some of the variables.
# shellcheck disable=SC2034
set -eu

export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive
umask 022

# Provided by the operator on every node: gandi-agent.deb, and a document for each instance that needs one.
folder=${GANDI_AGENT_FOLDER:-/etc/ganeti/gandi-agent}
mib=1048576

fail() {
	echo "gandi-agent: $1" >&2
	exit 1
}

# With DEBUG_LEVEL=1 the log names each step.
note() {
	[ "${DEBUG_LEVEL:-0}" = 0 ] || echo "gandi-agent: $1" >&2
}

# For a script that takes its input from variables alone.
by_variables() {
	usage="usage: ${0##*/}, by the variables of ganeti-os-interface(7)"
	case ${1-} in
	-h | --help)
		echo "$usage"
		exit 0
		;;
	esac
	[ $# -eq 0 ] || fail "$usage"
}

# Start the script again in a mount namespace of its own: however it ends, also by a kill, the disk is mounted nowhere
# then, and its loop device is gone. What the node unmounts in the meantime, another instance's disk, is unmounted here, too.
alone() {
	[ -n "${GANDI_ALONE:-}" ] || exec env GANDI_ALONE=1 unshare --mount --propagation slave -- "$0" "$@"
}

check_names() {
	[ -n "${INSTANCE_NAME:-}" ] || fail "INSTANCE_NAME: missing: Ganeti must set it"
	case $INSTANCE_NAME in
	*/* | .*) fail "INSTANCE_NAME: not a host name" ;;
	esac
	case ${OLD_INSTANCE_NAME:-} in
	*/* | .*) fail "OLD_INSTANCE_NAME: not a host name" ;;
	esac
}

# Set $disk and $disk_size (bytes) by the value $2 of the variable $1; $3 is rw or ro.
check_disk() {
	disk=$2
	case $disk in
	'') fail "$1: missing: the instance needs a disk that its node can open" ;;
	/*) [ -b "$disk" ] || [ -f "$disk" ] || fail "$1: neither a block device nor a file" ;;
	*) fail "$1: not an absolute path" ;;
	esac
	[ "$3" = rw ] || fail "DISK_0_ACCESS: the disk is read-only: make it writable (gnt-instance modify --disk)"
	if [ -b "$disk" ]; then disk_size=$(blockdev --getsize64 "$disk"); else disk_size=$(stat -L -c %s -- "$disk"); fi
}

# Wait for the end of the disk's loop device, at most 10 seconds. The kernel detaches it with the last copy of the mount;
# the namespaces of the instance's programs, which have one, go a moment after the programs. Ganeti would find the disk in
# use.
wait_until_detached() {
	tries=0
	while [ -n "$(losetup --noheadings --output NAME --associated "$disk")" ] && [ "$tries" -lt 100 ]; do
		sleep 0.1
		tries=$((tries + 1))
	done
}

# Whether services of the instance are held, and whether the disk is half made.
held='' half=''

# Leave nothing: a disk that is still mounted then is unmounted with this script's namespace, and one that is half made
# has no filesystem any more that something could take for the instance.
finish() {
	[ -z "$held" ] || release_services || :
	if mountpoint -q "$work/target"; then
		umount "$work/target" || :
		wait_until_detached
	fi
	[ -z "$half" ] || wipefs -q -a -f -- "$disk" || :
	rm -rf --one-file-system "$work"
}

# Take the agent out of the package; $work becomes a folder that only root can enter, removed at the end.
unpack() {
	[ -f "$folder/gandi-agent.deb" ] || fail "$folder/gandi-agent.deb: missing: put the package there on each node"
	work=$(mktemp -d)
	trap finish EXIT
	trap 'exit 1' HUP INT TERM
	note "taking the agent out of $folder/gandi-agent.deb"
	dpkg-deb --fsys-tarfile "$folder/gandi-agent.deb" | tar -x -C "$work" --strip-components=4 ./usr/lib/gandi-agent/agent ||
		fail "$folder/gandi-agent.deb: contains no agent: put a newer package there"
	[ -f "$work/agent/image-configure" ] || fail "$folder/gandi-agent.deb: too old for this OS definition: put a newer one there"
	ln -s agent/image-exec "$work/image-exec"
	# shellcheck source=agent/image-configure
	. "$work/agent/image-configure"
}

# Run the package's agent on the node, for what is about variables alone.
agent() {
	(cd "$work" && python3 -B -m agent "$@")
}

verify_parameters() {
	agent ganeti verify || fail "nothing was changed"
}

# Set how the disk is to be made, by the parameters: $image, $kind, $suite, $packages, $partition, $swap,
# $filesystem, $bootloader, $export. Each value is of an alphabet without blanks (agent/image/ganeti_creation.py).
read_creation() {
	agent ganeti creation >"$work/creation" || fail "nothing was changed"
	while IFS='=' read -r name value; do
		case $name in
		image) image=$value ;;
		kind) kind=$value ;;
		suite) suite=$value ;;
		packages) packages=$value ;;
		partition) partition=$value ;;
		swap) swap=$value ;;
		filesystem) filesystem=$value ;;
		bootloader) bootloader=$value ;;
		export) export=$value ;;
		esac
	done <"$work/creation"
}

# Run the agent of the instance.
tool() {
	if [ "${DEBUG_LEVEL:-0}" = 0 ]; then
		inside gandi-agent "$@"
	else
		inside gandi-agent --debug "$@"
	fi
}

# Print the value of $1 (TYPE, UUID) of the filesystem that begins at byte $2 of the disk and has $3 bytes, nothing if
# there is none.
value_of() {
	blkid -p -O "$2" -S "$3" -o value -s "$1" -- "$disk" || :
}

# Set $start, $length (bytes) and $type of the root filesystem: the whole disk, else the largest partition that can have
# one; nothing in $type if there is none. $others counts the other filesystems, $swap_found is the size of the swap in MiB.
# The disk is the instance's, so its table may say anything; only numbers are taken from it.
look_for_root() {
	start=0 length=$disk_size largest=0 others=0 swap_found=0
	type=$(value_of TYPE 0 "$length")
	[ -n "$type" ] || while read -r first sectors kind; do
		case $first$sectors in '' | *[!0-9]*) continue ;; esac
		found=$(value_of TYPE $((first * 512)) $((sectors * 512)))
		case $found in
		'') ;;
		swap) swap_found=$((sectors / 2048)) ;;
		ext[234] | xfs | btrfs)
			[ "$largest" -eq 0 ] || others=$((others + 1))
			[ "$sectors" -gt "$largest" ] || continue
			start=$((first * 512)) largest=$sectors length=$((sectors * 512)) type=$found
			;;
		vfat)
			# An ESP has nothing but what import installs again.
			[ "${bootloader:-none}$kind" = grubc12a7328-f81f-11d2-ba4b-00a0c93ec93b ] || others=$((others + 1))
			;;
		*) others=$((others + 1)) ;;
		esac
	done <<-END
		$(partx --noheadings --raw --output START,SECTORS,TYPE -- "$disk" 2>/dev/null || :)
	END
	case $type in
	ext[234] | xfs | btrfs) note "the root filesystem: $type at byte $start, $length bytes" ;;
	*) type='' ;;
	esac
}

find_root() {
	look_for_root
	[ -n "$type" ] || fail "DISK_0_PATH: no root filesystem of ext2, ext3, ext4, xfs or btrfs on it"
	root_uuid=$(value_of UUID "$start" "$length")
}

# Mount it at $TARGET, where only root can come, and without its devices and setuid programs.
mount_target() {
	TARGET=$work/target
	mkdir "$TARGET"
	mount -t "$type" -o "loop,offset=$start,sizelimit=$length,nosuid,nodev,noatime" -- "$disk" "$TARGET" ||
		fail "DISK_0_PATH: its $type filesystem cannot be mounted: is the instance stopped? is the filesystem whole?"
}

check_root() {
	check_isolation
	inside test -f /etc/passwd </dev/null || fail "DISK_0_PATH: no system on its $type filesystem"
}

mount_root() {
	mount_target
	check_root
}

# Name what this node lacks for $bootloader before the disk is touched; $1 is gpt if the disk gets a new ESP.
check_bootloader() {
	[ "$bootloader" = grub ] || return 0
	[ "$(uname -m)" = x86_64 ] || fail "OSP_BOOTLOADER: grub is for instances of amd64, and this node is none: write bootloader=none"
	[ "$1" != gpt ] || command -v mkfs.vfat >/dev/null || fail "mkfs.vfat: not installed on this node: install the package dosfstools"
	[ "$1" = msdos ] || command -v mcopy >/dev/null || fail "mcopy: not installed on this node: install the package mtools"
}

# Install the instance's own GRUB on its disk, when its console is configured. Only this code writes beside the root
# filesystem: no program of the instance has its disk.
install_bootloader() {
	[ "$bootloader" = grub ] || return 0
	note "installing the boot loader"
	agent ganeti bootloader "$TARGET" "$disk" "$root_uuid" "$type" </dev/null >&2 ||
		fail "the boot loader was not installed: see above"
}

# What was written is on the disk when this has returned.
unmount_root() {
	sync -f "$TARGET" || fail "DISK_0_PATH: what was written is not on the disk: see the node's kernel log"
	umount "$TARGET" || fail "DISK_0_PATH: its filesystem is still in use"
	rmdir "$TARGET"
	wait_until_detached
}
