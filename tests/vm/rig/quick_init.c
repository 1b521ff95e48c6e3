/* The first process of the rig's quick initrd: what Debian's does for a root disk, without udev and without a shell.
 *
 * /modules/always is loaded, then a folder of modules for each PCI class found ("0106": SATA), then the one named as
 * the root's filesystem. The root is what has the UUID of root=UUID= in its superblock. /overlay is copied to /run.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { TRIES = 3000, PAUSE_US = 10000, SIZE = 16384, UUID_SIZE = 16 };

/* Where a filesystem's superblock has its magic and its UUID. */
static const struct kind {
	const char *name, *magic;
	off_t magic_at, uuid_at;
	size_t magic_size;
} KINDS[] = {
	{"ext4", "\x53\xef", 1024 + 56, 1024 + 104, 2},
	{"xfs", "XFSB", 0, 32, 4},
	{"btrfs", "_BHRfS_M", 65536 + 64, 65536 + 32, 8},
};

/* The kernel panics when its first process ends, and the serial log has the reason. */
static void need(int good, const char *what)
{
	if (good)
		return;
	fprintf(stderr, "rig's initrd: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void load(const char *group)
{
	char path[PATH_MAX];
	struct dirent **files;
	snprintf(path, sizeof path, "/modules/%s", group);
	int count = scandir(path, &files, NULL, alphasort);
	for (int number = 0; number < count; number++) {
		if (files[number]->d_name[0] == '.')
			continue;
		snprintf(path, sizeof path, "/modules/%s/%s", group, files[number]->d_name);
		int file = open(path, O_RDONLY | O_CLOEXEC);
		need(file >= 0, path);
		need(syscall(SYS_finit_module, file, "", 0) == 0 || errno == EEXIST, path);
		close(file);
	}
}

static void load_for_devices(void)
{
	char path[PATH_MAX], class[16] = "";
	DIR *devices = opendir("/sys/bus/pci/devices");
	need(devices != NULL, "PCI devices");
	for (struct dirent *device; (device = readdir(devices)) != NULL;) {
		snprintf(path, sizeof path, "/sys/bus/pci/devices/%s/class", device->d_name);
		FILE *file = fopen(path, "r");
		if (file == NULL)
			continue;
		if (fscanf(file, "0x%4[0-9a-f]", class) == 1)
			load(class);
		fclose(file);
	}
	closedir(devices);
}

/* The UUID that the kernel command line asks for. */
static void wanted(unsigned char *uuid)
{
	char line[4096] = "";
	FILE *file = fopen("/proc/cmdline", "r");
	need(file != NULL && fgets(line, sizeof line, file) != NULL, "/proc/cmdline");
	fclose(file);
	char *at = strstr(line, "root=UUID=");
	need(at != NULL, "no root=UUID= in /proc/cmdline");
	at += strlen("root=UUID=");
	for (int number = 0; number < UUID_SIZE; number++, at += 2) {
		at += *at == '-';
		need(sscanf(at, "%2hhx", &uuid[number]) == 1, "the UUID of root=UUID=");
	}
}

static const struct kind *kind_of(const char *device, const unsigned char *uuid)
{
	unsigned char magic[8], found[UUID_SIZE];
	const struct kind *kind = NULL;
	int file = open(device, O_RDONLY | O_CLOEXEC);
	if (file < 0)
		return NULL;
	for (const struct kind *one = KINDS; one < KINDS + sizeof KINDS / sizeof *KINDS && kind == NULL; one++)
		if (pread(file, magic, one->magic_size, one->magic_at) == (ssize_t)one->magic_size &&
		    memcmp(magic, one->magic, one->magic_size) == 0 &&
		    pread(file, found, UUID_SIZE, one->uuid_at) == UUID_SIZE && memcmp(found, uuid, UUID_SIZE) == 0)
			kind = one;
	close(file);
	return kind;
}

/* Mount the root read-only as soon as its disk is there; disks on other buses than virtio's come on their own time. */
static void mount_root(const unsigned char *uuid)
{
	char device[PATH_MAX];
	for (int tries = 0; tries < TRIES; tries++, usleep(PAUSE_US)) {
		DIR *blocks = opendir("/sys/class/block");
		need(blocks != NULL, "/sys/class/block");
		for (struct dirent *block; (block = readdir(blocks)) != NULL;) {
			snprintf(device, sizeof device, "/dev/%s", block->d_name);
			const struct kind *kind = kind_of(device, uuid);
			if (kind == NULL)
				continue;
			load(kind->name);
			need(mount(device, "/root", kind->name, MS_RDONLY, NULL) == 0, device);
			closedir(blocks);
			return;
		}
		closedir(blocks);
	}
	errno = ENODEV;
	need(0, "no disk with the UUID of root=UUID=");
}

static void copy_file(const char *from, const char *to)
{
	char bytes[SIZE];
	int source = open(from, O_RDONLY | O_CLOEXEC), target = open(to, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	ssize_t length = read(source, bytes, sizeof bytes);
	need(length >= 0 && write(target, bytes, length) == length, to);
	close(source);
	close(target);
}

static void copy_folder(const char *from, const char *to)
{
	char source[PATH_MAX], target[PATH_MAX], link[PATH_MAX];
	DIR *folder = opendir(from);
	need(folder != NULL, from);
	for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		snprintf(source, sizeof source, "%s/%s", from, entry->d_name);
		snprintf(target, sizeof target, "%s/%s", to, entry->d_name);
		ssize_t length = readlink(source, link, sizeof link - 1);
		if (length > 0) {
			link[length] = 0;
			need(symlink(link, target) == 0, target);
		} else if (entry->d_type == DT_DIR) {
			need(mkdir(target, 0755) == 0, target);
			copy_folder(source, target);
		} else {
			copy_file(source, target);
		}
	}
	closedir(folder);
}

static void empty(const char *path)
{
	char inside[PATH_MAX];
	DIR *folder = opendir(path);
	for (struct dirent *entry; folder != NULL && (entry = readdir(folder)) != NULL;) {
		snprintf(inside, sizeof inside, "%s/%s", path, entry->d_name);
		if (entry->d_name[0] != '.' && unlink(inside) != 0)
			empty(inside);
	}
	if (folder != NULL)
		closedir(folder);
	rmdir(path);
}

static void move(const char *path)
{
	char target[PATH_MAX];
	snprintf(target, sizeof target, "/root%s", path);
	need(mount(path, target, NULL, MS_MOVE, NULL) == 0, target);
}

int main(int count, char **arguments)
{
	unsigned char uuid[UUID_SIZE];
	unsigned long strict = MS_NOSUID | MS_NODEV | MS_NOEXEC;
	need(count > 0 && mount("udev", "/dev", "devtmpfs", MS_NOSUID, "mode=0755") == 0, "/dev");
	need(mkdir("/dev/pts", 0755) == 0, "/dev/pts");
	need(mount("devpts", "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "gid=5,mode=0620") == 0, "/dev/pts");
	need(mount("proc", "/proc", "proc", strict, NULL) == 0, "/proc");
	need(mount("sysfs", "/sys", "sysfs", strict, NULL) == 0, "/sys");
	need(mount("tmpfs", "/run", "tmpfs", strict, "mode=0755,size=10%") == 0, "/run");
	wanted(uuid);
	load("always");
	load_for_devices();
	copy_folder("/overlay", "/run");
	mount_root(uuid);
	empty("/modules");
	empty("/overlay");
	move("/dev");
	move("/proc");
	move("/sys");
	move("/run");
	need(chdir("/root") == 0 && mount(".", "/", NULL, MS_MOVE, NULL) == 0 && chroot(".") == 0, "the new root");
	need(chdir("/") == 0, "/");
	arguments[0] = "/sbin/init";
	execv(arguments[0], arguments);
	need(0, arguments[0]);
}
