# shellcheck shell=sh
# Sourced by create and import: make the first disk of an instance, by $partition, $swap (MiB), $filesystem and $bootloader.
# SC2034: the scripts use the variables. SC2154: node.sh sets them.
# shellcheck disable=SC2034,SC2154

# Write the table, and set $start and $length (bytes) of the root filesystem, the last one, so that it can grow.
make_table() {
	wipefs -q -a -f -- "$disk"
	start=0 length=$disk_size swap_start=$mib esp=0
	case $partition in
	none) return 0 ;;
	msdos)
		start=$(((1 + swap) * mib)) length=$((disk_size - (1 + swap) * mib))
		{
			echo 'label: dos'
			[ "$swap" -eq 0 ] || echo "start=2048, size=$((swap * 2048)), type=82"
			echo "start=$((start / 512)), size=$((length / 512)), type=83, bootable"
		} >"$work/table"
		;;
	gpt)
		# The first partition is where GRUB has itself on a machine with a BIOS, the ESP (MiB) on one with UEFI; the end is
		# for the second table.
		[ "$bootloader" = none ] || esp=64
		swap_start=$(((2 + esp) * mib)) start=$(((2 + esp + swap) * mib)) length=$((disk_size - (3 + esp + swap) * mib))
		{
			echo 'label: gpt'
			echo 'start=2048, size=2048, type=21686148-6449-6E6F-744E-656564454649, name=bios'
			[ "$esp" -eq 0 ] || echo "start=4096, size=$((esp * 2048)), type=U, name=esp"
			[ "$swap" -eq 0 ] || echo "start=$((swap_start / 512)), size=$((swap * 2048)), type=S, name=swap"
			echo "start=$((start / 512)), size=$((length / 512)), type=L, name=root"
		} >"$work/table"
		;;
	esac
	[ "$length" -ge $((64 * mib)) ] || fail "OSP_SWAP: leaves no room for a root filesystem: write less, or make the disk larger"
	sfdisk -q --no-reread --no-tell-kernel --wipe always --wipe-partitions always -- "$disk" <"$work/table"
}

# Make filesystem and swap at their places, without a loop device that a kill would leave.
make_filesystems() {
	mke2fs -q -F -t "$filesystem" -E "offset=$start" "$disk" "$((length / 1024))k"
	type=$filesystem root_uuid=$(value_of UUID "$start" "$length") swap_uuid=
	if [ "$esp" -ne 0 ]; then
		truncate -s "${esp}M" "$work/fat"
		mkfs.vfat -F 32 -s 1 -n ESP "$work/fat" >/dev/null
		dd if="$work/fat" of="$disk" bs=1M seek=2 conv=notrunc,fsync status=none
		rm "$work/fat"
	fi
	[ "$swap" -ne 0 ] || return 0
	truncate -s "${swap}M" "$work/swap"
	mkswap -q "$work/swap"
	dd if="$work/swap" of="$disk" bs=1M count=1 seek=$((swap_start / mib)) conv=notrunc,fsync status=none
	swap_uuid=$(value_of UUID "$swap_start" $((swap * mib)))
}

# Unpack a tree: with write access to the mounted root alone, since an archive may have any name.
unpack_tree() {
	bwrap --die-with-parent --unshare-pid --unshare-net --unshare-ipc --ro-bind / / --bind "$TARGET" "$TARGET" \
		--chdir "$TARGET" tar --extract --force-local --numeric-owner --preserve-permissions --acls --xattrs \
		--xattrs-include='*' --warning=no-unknown-keyword "$@"
}
