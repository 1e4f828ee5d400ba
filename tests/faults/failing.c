/* Makes the n-th call fail of those that change files below one folder, or all from the n-th on. Preloaded; armed from
   within the process, by `fail_at`. Calls on other files go through as they are. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define SHORT -1 /* not an error: the call does half of what it was asked for */
#define MOST_FILES 4096

static char folder[PATH_MAX];
static long number;
static int problem, from_there_on;
static atomic_long seen;
static char ours[MOST_FILES]; /* by descriptor: is it of a file below the folder? */

void fail_at(const char *below, long at, int with, int for_good) {
    number = at, problem = with, from_there_on = for_good, seen = 0;
    snprintf(folder, sizeof folder, "%s/", below);
}

long calls_seen(void) { return seen; }

static int fails(int does_half) {
    if (problem == SHORT && !does_half) return 0;
    long now = ++seen;
    if (now != number && !(from_there_on && number > 0 && now > number)) return 0;
    errno = problem == SHORT ? ENOSPC : problem;
    return 1;
}

static int below(const char *path) {
    char here[PATH_MAX], whole[2 * PATH_MAX];
    if (!folder[0] || !path) return 0;
    if (path[0] == '/' || !getcwd(here, sizeof here)) return !strncmp(path, folder, strlen(folder));
    snprintf(whole, sizeof whole, "%s/%s", here, path);
    return !strncmp(whole, folder, strlen(folder));
}

static int is_ours(int file) { return folder[0] && file >= 0 && file < MOST_FILES && ours[file]; }
static int at_ours(int place, const char *path) { return is_ours(place) || below(path); }

static int opened(int file, int is_below) {
    if (file >= 0 && file < MOST_FILES) ours[file] = is_below;
    return file;
}

#define REAL(type, name, parameters) static type(*real) parameters; if (!real) real = dlsym(RTLD_NEXT, #name)

#define MODE(flags) \
    int mode = 0; \
    if ((flags) & (O_CREAT | O_TMPFILE)) { va_list rest; va_start(rest, flags); mode = va_arg(rest, int); va_end(rest); }

#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        REAL(int, name, (const char *, int, ...)); \
        MODE(flags) \
        int is_below = below(path); \
        return is_below && fails(0) ? -1 : opened(real(path, flags, mode), is_below); \
    }

#define OPENAT(name) \
    int name(int place, const char *path, int flags, ...) { \
        REAL(int, name, (int, const char *, int, ...)); \
        MODE(flags) \
        int is_below = at_ours(place, path); \
        return is_below && fails(0) ? -1 : opened(real(place, path, flags, mode), is_below); \
    }

#define FOPEN(name) \
    FILE *name(const char *path, const char *mode) { \
        REAL(FILE *, name, (const char *, const char *)); \
        int is_below = below(path); \
        if (is_below && fails(0)) return NULL; \
        FILE *file = real(path, mode); \
        if (file) opened(fileno(file), is_below); \
        return file; \
    }

/* Does nothing, and says that it failed. */
#define CALL(name, parameters, arguments, touches) \
    int name parameters { \
        REAL(int, name, parameters); \
        return touches && fails(0) ? -1 : real arguments; \
    }

/* The same, where the error is what comes back. */
#define RESERVE(name, type) \
    int name(int file, type from, type size) { \
        REAL(int, name, (int, type, type)); \
        return is_ours(file) && fails(0) ? errno : real(file, from, size); \
    }

#define WRITE(name, parameters, arguments, half) \
    ssize_t name parameters { \
        REAL(ssize_t, name, parameters); \
        if (!is_ours(file) || !fails(1)) return real arguments; \
        return problem == SHORT ? real half : -1; \
    }

OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)
FOPEN(fopen)
FOPEN(fopen64)

int creat(const char *path, mode_t mode) { return open(path, O_CREAT | O_WRONLY | O_TRUNC, mode); }

WRITE(write, (int file, const void *data, size_t size), (file, data, size), (file, data, (size + 1) / 2))
WRITE(pwrite, (int file, const void *data, size_t size, off_t at), (file, data, size, at), (file, data, (size + 1) / 2, at))
WRITE(pwrite64, (int file, const void *data, size_t size, off64_t at), (file, data, size, at),
      (file, data, (size + 1) / 2, at))
WRITE(writev, (int file, const struct iovec *parts, int count), (file, parts, count), (file, parts, (count + 1) / 2))
WRITE(sendfile, (int file, int from, off_t *at, size_t size), (file, from, at, size), (file, from, at, (size + 1) / 2))
WRITE(sendfile64, (int file, int from, off64_t *at, size_t size), (file, from, at, size),
      (file, from, at, (size + 1) / 2))

size_t fwrite(const void *data, size_t size, size_t count, FILE *file) {
    REAL(size_t, fwrite, (const void *, size_t, size_t, FILE *));
    if (!is_ours(fileno(file)) || !fails(1)) return real(data, size, count, file);
    return problem == SHORT ? real(data, size, count / 2, file) : 0;
}

CALL(fflush, (FILE * file), (file), (file && is_ours(fileno(file))))
CALL(fsync, (int file), (file), is_ours(file))
CALL(fdatasync, (int file), (file), is_ours(file))
CALL(ftruncate, (int file, off_t size), (file, size), is_ours(file))
CALL(ftruncate64, (int file, off64_t size), (file, size), is_ours(file))
CALL(fallocate, (int file, int mode, off_t from, off_t size), (file, mode, from, size), is_ours(file))
CALL(fallocate64, (int file, int mode, off64_t from, off64_t size), (file, mode, from, size), is_ours(file))
RESERVE(posix_fallocate, off_t)
RESERVE(posix_fallocate64, off64_t)
CALL(rename, (const char *from, const char *to), (from, to), below(to))
CALL(renameat, (int at, const char *from, int place, const char *to), (at, from, place, to), at_ours(place, to))
CALL(link, (const char *from, const char *to), (from, to), below(to))
CALL(linkat, (int at, const char *from, int place, const char *to, int how), (at, from, place, to, how),
     at_ours(place, to))
CALL(unlink, (const char *path), (path), below(path))
CALL(unlinkat, (int place, const char *path, int how), (place, path, how), at_ours(place, path))
CALL(mkdir, (const char *path, mode_t mode), (path, mode), below(path))
CALL(rmdir, (const char *path), (path), below(path))
CALL(chmod, (const char *path, mode_t mode), (path, mode), below(path))

/* What is closed is closed, whatever closing says. */
int close(int file) {
    REAL(int, close, (int));
    int was_ours = is_ours(file), ended = (opened(file, 0), real(file));
    return was_ours && fails(0) ? -1 : ended;
}

int fclose(FILE *file) {
    REAL(int, fclose, (FILE *));
    int was_ours = is_ours(fileno(file));
    opened(fileno(file), 0);
    int ended = real(file);
    return was_ours && fails(0) ? EOF : ended;
}
