/* Loaded into the program under test (LD_PRELOAD), in place of some functions of the C library.
 *
 * SHIM_SHORT=1      read and write transfer at most 7 bytes, and every third call is interrupted (EINTR).
 * SHIM_DURABLE=DIR  keeps in DIR what a power failure would leave: the content of a file as of its last fsync, and the names in a
 *                   directory as of its last fsync. Nothing else is durable. A file or directory is KEY, its number and its time of
 *                   birth; of a directory, KEY has lines `d KEY NAME` and `f KEY NAME`.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static int key(int directory, const char *name, char *key, size_t size, mode_t *mode) {
  struct statx about;
  int flags = AT_SYMLINK_NOFOLLOW | (*name ? 0 : AT_EMPTY_PATH);
  if (statx(directory, name, flags, STATX_BASIC_STATS | STATX_BTIME, &about)) return -1;
  *mode = about.stx_mode;
  snprintf(key, size, "%llu-%lld-%u", (unsigned long long)about.stx_ino, (long long)about.stx_btime.tv_sec, about.stx_btime.tv_nsec);
  return 0;
}

/* Opens DIR/KEY under another name, for `publish`. */
static int begin(const char *into, const char *key, char *draft, size_t size) {
  snprintf(draft, size, "%s/draft-%s-%ld", into, key, (long)syscall(SYS_gettid));
  return open(draft, O_WRONLY | O_CREAT | O_TRUNC, 0600);
}

static void publish(const char *into, const char *key, const char *draft) {
  char path[4096];
  snprintf(path, sizeof path, "%s/%s", into, key);
  rename(draft, path);
}

static void put(int to, const char *bytes, size_t count) {
  while (count) {
    ssize_t done = syscall(SYS_write, to, bytes, count);
    if (done <= 0) abort();
    bytes += done;
    count -= done;
  }
}

static void keep_file(int fd, int to) {
  char bytes[65536];
  off_t at = 0;
  ssize_t count;
  char self[64];
  /* The descriptor may be for writing alone. */
  snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
  int from = open(self, O_RDONLY);
  while (from >= 0 && (count = pread(from, bytes, sizeof bytes, at)) > 0) {
    put(to, bytes, count);
    at += count;
  }
  if (from >= 0) close(from);
}

static void keep_directory(int fd, int to) {
  int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY);
  DIR *entries = copy < 0 ? NULL : fdopendir(copy);
  if (!entries) return;
  struct dirent *entry;
  while ((entry = readdir(entries))) {
    char of[128], line[1024];
    mode_t mode;
    if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..") || key(copy, entry->d_name, of, sizeof of, &mode)) continue;
    int length = snprintf(line, sizeof line, "%c %s %s\n", S_ISDIR(mode) ? 'd' : 'f', of, entry->d_name);
    put(to, line, length);
  }
  closedir(entries);
}

int fsync(int fd) {
  const char *into = getenv("SHIM_DURABLE");
  char of[128], draft[4096];
  mode_t mode;
  if (into && !key(fd, "", of, sizeof of, &mode) && (S_ISREG(mode) || S_ISDIR(mode))) {
    int to = begin(into, of, draft, sizeof draft);
    if (to >= 0) {
      if (S_ISDIR(mode)) keep_directory(fd, to);
      else keep_file(fd, to);
      close(to);
      publish(into, of, draft);
    }
  }
  return syscall(SYS_fsync, fd);
}

int fdatasync(int fd) { return fsync(fd); }

static int is_short(void) {
  static int yes = -1;
  if (yes < 0) yes = getenv("SHIM_SHORT") != NULL;
  return yes;
}

static int is_interrupted(void) {
  static _Atomic unsigned calls;
  return ++calls % 3 == 0;
}

#define MOST 7

ssize_t write(int fd, const void *bytes, size_t count) {
  if (is_short()) {
    if (is_interrupted()) { errno = EINTR; return -1; }
    if (count > MOST) count = MOST;
  }
  return syscall(SYS_write, fd, bytes, count);
}

ssize_t read(int fd, void *bytes, size_t count) {
  if (is_short()) {
    if (is_interrupted()) { errno = EINTR; return -1; }
    if (count > MOST) count = MOST;
  }
  return syscall(SYS_read, fd, bytes, count);
}
