/* A disk under the store that fails, hangs, is full, and loses what was never synced: preloaded into the gateway.
 *
 * FAULTY_DISK names a folder. Its file `control` holds what the disk does: `ok`, `fail` (a sync returns EIO, and the pages
 * that it should have written are clean from then on, as on Linux), `hang` (a sync returns once the file says something
 * else) or `full` (no file may grow). For every file of the store the folder holds what a power cut would leave:
 * NAME.disk, brought up to date by every sync that succeeds, with the pages written since in NAME.dirty.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE 4096

static pthread_mutex_t guard = PTHREAD_MUTEX_INITIALIZER;

static ssize_t (*real_write)(int, const void *, size_t);
static ssize_t (*real_pwrite)(int, const void *, size_t, off_t);
static int (*real_fsync)(int);
static int (*real_fdatasync)(int);
static int (*real_unlink)(const char *);

__attribute__((constructor)) static void find(void) {
    real_write = dlsym(RTLD_NEXT, "write");
    real_pwrite = dlsym(RTLD_NEXT, "pwrite64");
    real_fsync = dlsym(RTLD_NEXT, "fsync");
    real_fdatasync = dlsym(RTLD_NEXT, "fdatasync");
    real_unlink = dlsym(RTLD_NEXT, "unlink");
}

/* The store's file that a descriptor or a path is, without its folder; -shm never reaches a disk. */
static const char *name_of(char *path) {
    char *name = strrchr(path, '/');
    name = name ? name + 1 : path;
    if (strncmp(name, "gateway.db", 10) != 0 || strstr(name, "-shm") || strstr(name, " (deleted)")) {
        return NULL;
    }
    return name;
}

static const char *name_of_fd(int fd, char *path, size_t size) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, size - 1);
    if (length < 0) {
        return NULL;
    }
    path[length] = 0;
    return name_of(path);
}

static int control_is(const char *word) {
    char path[4096], text[16] = {0};
    snprintf(path, sizeof path, "%s/control", getenv("FAULTY_DISK"));
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) {
        return 0;
    }
    ssize_t length = read(file, text, sizeof text - 1);
    close(file);
    return length > 0 && strncmp(text, word, strlen(word)) == 0;
}

static int side(const char *name, const char *suffix) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s.%s", getenv("FAULTY_DISK"), name, suffix);
    return open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
}

static void copy(int from, int to, off_t offset, size_t length) {
    char bytes[PAGE];
    ssize_t got = pread(from, bytes, length < PAGE ? length : PAGE, offset);
    if (got > 0) {
        real_pwrite(to, bytes, (size_t)got, offset);
    }
}

/* What was there before the first write counts as synced. */
static void begin(int fd, const char *name) {
    char path[4096];
    struct stat now;
    snprintf(path, sizeof path, "%s/%s.disk", getenv("FAULTY_DISK"), name);
    if (stat(path, &now) == 0 || fstat(fd, &now) != 0) {
        return;
    }
    /* The descriptor may be for writing only. */
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    int disk = side(name, "disk"), from = open(link, O_RDONLY | O_CLOEXEC);
    for (off_t at = 0; at < now.st_size; at += PAGE) {
        copy(from, disk, at, PAGE);
    }
    close(from);
    close(disk);
}

static void mark(const char *name, off_t offset, size_t length) {
    static const char one = 1;
    int dirty = side(name, "dirty");
    for (off_t page = offset / PAGE; page * PAGE < offset + (off_t)length; page++) {
        real_pwrite(dirty, &one, 1, page);
    }
    close(dirty);
}

static void settle(int fd, const char *name, int succeeded) {
    struct stat now;
    int dirty = side(name, "dirty");
    if (succeeded && fstat(fd, &now) == 0) {
        char link[64], flag;
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        int disk = side(name, "disk"), from = open(link, O_RDONLY | O_CLOEXEC);
        for (off_t page = 0; pread(dirty, &flag, 1, page) == 1; page++) {
            if (flag) {
                copy(from, disk, page * PAGE, PAGE);
            }
        }
        if (ftruncate(disk, now.st_size) != 0) {
            abort();
        }
        close(from);
        close(disk);
    }
    if (ftruncate(dirty, 0) != 0) {
        abort();
    }
    close(dirty);
}

static int grows(int fd, off_t end) {
    struct stat now;
    return fstat(fd, &now) == 0 && end > now.st_size && control_is("full");
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off_t offset) {
    char path[4096];
    const char *name = getenv("FAULTY_DISK") ? name_of_fd(fd, path, sizeof path) : NULL;
    if (!name) {
        return real_pwrite(fd, bytes, length, offset);
    }
    if (grows(fd, offset + (off_t)length)) {
        errno = ENOSPC;
        return -1;
    }
    pthread_mutex_lock(&guard);
    begin(fd, name);
    ssize_t written = real_pwrite(fd, bytes, length, offset);
    int error = errno;
    if (written > 0) {
        mark(name, offset, (size_t)written);
    }
    pthread_mutex_unlock(&guard);
    errno = error;
    return written;
}

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t offset) {
    return pwrite64(fd, bytes, length, offset);
}

ssize_t write(int fd, const void *bytes, size_t length) {
    char path[4096];
    const char *name = getenv("FAULTY_DISK") ? name_of_fd(fd, path, sizeof path) : NULL;
    if (!name) {
        return real_write(fd, bytes, length);
    }
    off_t offset = lseek(fd, 0, SEEK_CUR);
    if (grows(fd, offset + (off_t)length)) {
        errno = ENOSPC;
        return -1;
    }
    pthread_mutex_lock(&guard);
    begin(fd, name);
    ssize_t written = real_write(fd, bytes, length);
    int error = errno;
    if (written > 0) {
        mark(name, offset, (size_t)written);
    }
    pthread_mutex_unlock(&guard);
    errno = error;
    return written;
}

static int sync_with(int (*real)(int), int fd) {
    char path[4096];
    const char *name = getenv("FAULTY_DISK") ? name_of_fd(fd, path, sizeof path) : NULL;
    if (!name) {
        return real(fd);
    }
    while (control_is("hang")) {
        usleep(10000);
    }
    int fails = control_is("fail");
    pthread_mutex_lock(&guard);
    begin(fd, name);
    settle(fd, name, !fails);
    pthread_mutex_unlock(&guard);
    if (fails) {
        errno = EIO;
        return -1;
    }
    return 0;
}

int fsync(int fd) {
    return sync_with(real_fsync, fd);
}

int fdatasync(int fd) {
    return sync_with(real_fdatasync, fd);
}

int unlink(const char *path) {
    char copied[4096], other[4200];
    snprintf(copied, sizeof copied, "%s", path);
    const char *name = getenv("FAULTY_DISK") ? name_of(copied) : NULL;
    if (name) {
        static const char *suffixes[] = {"disk", "dirty"};
        for (int at = 0; at < 2; at++) {
            snprintf(other, sizeof other, "%s/%s.%s", getenv("FAULTY_DISK"), name, suffixes[at]);
            real_unlink(other);
        }
    }
    return real_unlink(path);
}
