"""End this process when its parent is gone, from a native thread that never needs the GIL.

A worker that computes in C with the GIL held runs no Python code for minutes, so only a native thread can see to it
that no process outlives the cluster. The thread waits for the parent as a *process*: the kernel's parent-death signal
is bound to the thread that forked and would come too early.

May import: nothing of fastdist.
"""

import os

from libc.errno cimport EINTR, errno
from libc.signal cimport SIG_IGN, SIGTERM, signal
from libc.string cimport memcpy
from posix.types cimport pid_t
from posix.unistd cimport F_OK, _exit, access, getpgrp, getpid, getppid, rmdir, usleep

cdef extern from "<poll.h>" nogil:
    struct pollfd:
        int fd
        short events
        short revents
    int poll(pollfd *fds, unsigned long count, int timeout)
    short POLLIN

cdef extern from "<signal.h>" nogil:
    int kill(pid_t pid, int number)

cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_t:
        pass
    ctypedef struct pthread_attr_t:
        pass
    ctypedef struct pthread_mutex_t:
        pass
    int pthread_attr_init(pthread_attr_t *attributes)
    int pthread_attr_destroy(pthread_attr_t *attributes)
    int pthread_attr_setstacksize(pthread_attr_t *attributes, size_t size)
    int pthread_attr_setdetachstate(pthread_attr_t *attributes, int state)
    int pthread_create(pthread_t *thread, pthread_attr_t *attributes, void *(*start)(void *) noexcept nogil, void *)
    int pthread_mutex_lock(pthread_mutex_t *mutex)
    int pthread_mutex_unlock(pthread_mutex_t *mutex)
    int PTHREAD_CREATE_DETACHED

cdef extern from *:
    """
    #include <ftw.h>
    #include <pthread.h>
    #include <signal.h>
    #include <stdio.h>
    static pthread_mutex_t fastdist_folder_lock = PTHREAD_MUTEX_INITIALIZER;
    /* Signals belong to the interpreter's main thread: none may be delivered to the watch. */
    static void fastdist_block_signals(void) {
        sigset_t every;
        sigfillset(&every);
        pthread_sigmask(SIG_BLOCK, &every, NULL);
    }
    static int fastdist_remove_entry(const char *path, const struct stat *info, int kind, struct FTW *place) {
        (void)info; (void)kind; (void)place;
        remove(path);  /* an entry that stays must not keep the others alive */
        return 0;
    }
    static void fastdist_remove_tree(const char *path) {
        nftw(path, fastdist_remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    }
    """
    pthread_mutex_t fastdist_folder_lock
    void fastdist_block_signals() noexcept nogil
    void fastdist_remove_tree(const char *path) noexcept nogil

cdef enum:
    POLL_MILLISECONDS = 250
    PATH_BYTES = 4096
    STACK_BYTES = 256 * 1024

# The exit code of a process whose parent vanished.
PARENT_GONE_EXIT_CODE = 79
cdef enum:
    EXIT_CODE = 79

cdef pid_t watched_parent = 0
cdef int watched_descriptor = -1
cdef char folder[PATH_BYTES]
cdef char folder_parent[PATH_BYTES]
folder[0] = 0
folder_parent[0] = 0


cdef void _remove_folder() noexcept nogil:
    cdef int _
    pthread_mutex_lock(&fastdist_folder_lock)
    if folder[0] != 0:
        # A task may still write while the tree is removed: a few rounds catch what appeared meanwhile.
        for _ in range(5):
            fastdist_remove_tree(folder)
            if access(folder, F_OK) != 0:
                break
            usleep(1000)
        rmdir(folder_parent)
    pthread_mutex_unlock(&fastdist_folder_lock)


cdef bint _parent_is_gone() noexcept nogil:
    cdef pollfd descriptor
    cdef int ready
    if watched_descriptor < 0:
        usleep(POLL_MILLISECONDS * 1000)
        return getppid() != watched_parent
    descriptor.fd = watched_descriptor
    descriptor.events = POLLIN
    descriptor.revents = 0
    ready = poll(&descriptor, 1, -1)
    if ready < 0:
        if errno != EINTR:
            usleep(POLL_MILLISECONDS * 1000)
        return getppid() != watched_parent
    return descriptor.revents != 0


cdef void *_watch(void *unused) noexcept nogil:
    fastdist_block_signals()
    while not _parent_is_gone():
        pass
    if getpgrp() == getpid():
        # What the tasks started goes too; SIGTERM lets helpers that hold shared memory give it back.
        signal(SIGTERM, SIG_IGN)
        kill(0, SIGTERM)
    _remove_folder()
    _exit(EXIT_CODE)
    return NULL


def watch_parent(parent):
    """Make this process end within a second after the process `parent` ended.

    The exit code is then `PARENT_GONE_EXIT_CODE`. A process that leads its process group takes the group with it.

    Parameters
    ----------
    parent:
        Process id of the parent, as the parent sees it (`os.getpid()` there). If this is not, or no longer,
        the parent of this process, the process ends at once.

    Raises
    ------
    RuntimeError
        A parent is watched already, or the thread cannot be started.
    """
    global watched_parent, watched_descriptor
    cdef pthread_t thread
    cdef pthread_attr_t attributes
    cdef int failed
    if watched_parent:
        raise RuntimeError(f"this process watches its parent {watched_parent} already")
    descriptor = _open_process(parent)
    # Checked after the descriptor was opened: a parent that died in between would leave a descriptor of a stranger.
    if getppid() != parent:
        _exit(EXIT_CODE)
    watched_parent = parent
    watched_descriptor = descriptor
    pthread_attr_init(&attributes)
    pthread_attr_setstacksize(&attributes, STACK_BYTES)
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED)
    failed = pthread_create(&thread, &attributes, _watch, NULL)
    pthread_attr_destroy(&attributes)
    if failed:
        watched_parent = 0
        raise RuntimeError(f"cannot start the thread that watches the parent process: {os.strerror(failed)}")


def remove_at_parent_death(path):
    """Name the folder that is removed, with all it holds, when the watched parent ends first; None for no folder.

    The folder above it is removed too if nothing else is left in it.

    Raises
    ------
    ValueError
        The path is too long for the fixed space that the native thread reads.
    """
    encoded = os.fsencode(path) if path is not None else b""
    above = os.path.dirname(encoded)
    if len(encoded) >= PATH_BYTES:
        raise ValueError(f"the path {path!r} is longer than {PATH_BYTES - 1} bytes")
    cdef const char *source = encoded
    cdef const char *source_above = above
    cdef size_t size = len(encoded)
    cdef size_t size_above = len(above)
    with nogil:
        pthread_mutex_lock(&fastdist_folder_lock)
        memcpy(folder, source, size)
        folder[size] = 0
        memcpy(folder_parent, source_above, size_above)
        folder_parent[size_above] = 0
        pthread_mutex_unlock(&fastdist_folder_lock)


def _open_process(process):
    """A descriptor that becomes readable when `process` ends, or -1 where the system has none."""
    try:
        return os.pidfd_open(process)
    except (AttributeError, OSError):
        return -1
