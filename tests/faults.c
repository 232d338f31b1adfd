/* Lets one system call fail: the k-th that changes a file or a name in a folder. For LD_PRELOAD. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

static char folder[4096];
static long at, seen;
static int error_number, is_once, is_full;

/* Counts from now on; with `once` the k-th call fails alone, else all from it on, as on a full disk. */
void faults_arm(const char *where, long k, int error, int once)
{
    snprintf(folder, sizeof folder, "%s", where);
    at = k, error_number = error, is_once = once, is_full = 0;
    seen = 0;
}

long faults_seen(void) { return seen; }

static int fails(const char *call, const char *path)
{
    char line[5000];
    size_t end = strlen(folder);
    if (!end || strncmp(path, folder, end) || (path[end] && path[end] != '/'))
        return 0;
    long number = __sync_add_and_fetch(&seen, 1);
    if (at <= 0 || number < at || (is_once && number > at))
        return 0;
    int length = snprintf(line, sizeof line, "fault: %s %s\n", call, path);
    syscall(SYS_write, 2, line, length);
    errno = error_number;
    return 1;
}

static int fails_fd(const char *call, int descriptor)
{
    char name[64], path[4096];
    snprintf(name, sizeof name, "/proc/self/fd/%d", descriptor);
    int saved = errno;
    ssize_t length = readlink(name, path, sizeof path - 1);
    errno = saved;
    if (length < 0)
        return 0;
    path[length] = 0;
    return fails(call, path);
}

/* A disk that fills up takes a part of the first write that finds no room. */
static size_t room(size_t size)
{
    if (is_once || is_full || size < 2)
        return 0;
    is_full = 1;
    return size / 2;
}

#define REAL(type, name, ...) \
    static type (*real)(__VA_ARGS__); \
    if (!real) real = (type (*)(__VA_ARGS__)) dlsym(RTLD_NEXT, #name)

ssize_t write(int fd, const void *bytes, size_t size)
{
    REAL(ssize_t, write, int, const void *, size_t);
    if (fails_fd("write", fd)) {
        size = room(size);
        if (!size) return -1;
    }
    return real(fd, bytes, size);
}

#define PWRITE(name) \
    ssize_t name(int fd, const void *bytes, size_t size, off_t offset) \
    { \
        REAL(ssize_t, name, int, const void *, size_t, off_t); \
        if (fails_fd("pwrite", fd)) { \
            size = room(size); \
            if (!size) return -1; \
        } \
        return real(fd, bytes, size, offset); \
    }
PWRITE(pwrite)
PWRITE(pwrite64)

#define SENDFILE(name) \
    ssize_t name(int out, int in, off_t *offset, size_t size) \
    { \
        REAL(ssize_t, name, int, int, off_t *, size_t); \
        return fails_fd("sendfile", out) ? -1 : real(out, in, offset, size); \
    }
SENDFILE(sendfile)
SENDFILE(sendfile64)

int fsync(int fd) { REAL(int, fsync, int); return fails_fd("fsync", fd) ? -1 : real(fd); }
int fdatasync(int fd) { REAL(int, fdatasync, int); return fails_fd("fsync", fd) ? -1 : real(fd); }
int ftruncate(int fd, off_t size)
{
    REAL(int, ftruncate, int, off_t);
    return fails_fd("ftruncate", fd) ? -1 : real(fd, size);
}
int ftruncate64(int fd, off_t size)
{
    REAL(int, ftruncate64, int, off_t);
    return fails_fd("ftruncate", fd) ? -1 : real(fd, size);
}

int rename(const char *from, const char *to)
{
    REAL(int, rename, const char *, const char *);
    return fails("rename", to) ? -1 : real(from, to);
}
int link(const char *from, const char *to)
{
    REAL(int, link, const char *, const char *);
    return fails("link", to) ? -1 : real(from, to);
}
int linkat(int from_fd, const char *from, int to_fd, const char *to, int flags)
{
    REAL(int, linkat, int, const char *, int, const char *, int);
    return fails("link", to) ? -1 : real(from_fd, from, to_fd, to, flags);
}
int mkdir(const char *path, mode_t mode)
{
    REAL(int, mkdir, const char *, mode_t);
    return fails("mkdir", path) ? -1 : real(path, mode);
}

#define OPEN(name) \
    int name(const char *path, int flags, ...) \
    { \
        REAL(int, name, const char *, int, ...); \
        va_list rest; \
        va_start(rest, flags); \
        mode_t mode = va_arg(rest, mode_t); \
        va_end(rest); \
        int creates = (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE; \
        return creates && fails("open", path) ? -1 : real(path, flags, mode); \
    }
OPEN(open)
OPEN(open64)
