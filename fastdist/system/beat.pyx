"""Signs of life from a native thread that never needs the GIL.

A task may hold the GIL for minutes: its process lives all the same, and this thread goes on to say so. When the process
is stopped, so is the thread. May import: nothing of fastdist.
"""

import os

cimport cython
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

cdef extern from "<poll.h>" nogil:
    struct pollfd:
        int fd
        short events
        short revents
    int poll(pollfd *fds, unsigned long count, int timeout)
    short POLLIN

cdef extern from "<sys/socket.h>" nogil:
    ssize_t send(int descriptor, const void *bytes, size_t length, int flags)
    int MSG_DONTWAIT
    int MSG_NOSIGNAL

cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_t:
        pass
    ctypedef struct pthread_attr_t:
        pass
    int pthread_attr_init(pthread_attr_t *attributes)
    int pthread_attr_destroy(pthread_attr_t *attributes)
    int pthread_attr_setstacksize(pthread_attr_t *attributes, size_t size)
    int pthread_create(pthread_t *thread, pthread_attr_t *attributes, void *(*start)(void *) noexcept nogil, void *)
    int pthread_join(pthread_t thread, void **result)

cdef extern from *:
    """
    #include <pthread.h>
    #include <signal.h>
    /* Signals belong to the interpreter's main thread. */
    static void fastdist_block_all_signals(void) {
        sigset_t every;
        sigfillset(&every);
        pthread_sigmask(SIG_BLOCK, &every, NULL);
    }
    """
    void fastdist_block_all_signals() noexcept nogil

cdef enum:
    STACK_BYTES = 256 * 1024
    SIZE = 16

# Bytes of one sign of life: the epoch (u64), the worker's number (u32), and a count (u32), little-endian.
BEAT_BYTES = SIZE


cdef struct Pulse:
    int descriptor
    int stop
    int milliseconds
    uint64_t epoch
    uint32_t number


cdef void *_beat(void *argument) noexcept nogil:
    cdef Pulse *pulse = <Pulse *>argument
    cdef uint8_t message[SIZE]
    cdef uint32_t count = 0
    cdef pollfd stop
    fastdist_block_all_signals()
    memcpy(message, &pulse.epoch, 8)
    memcpy(message + 8, &pulse.number, 4)
    stop.fd = pulse.stop
    stop.events = POLLIN
    while True:
        memcpy(message + 12, &count, 4)
        count += 1
        # A scheduler that does not read, or is gone, is noticed by those who talk to it.
        send(pulse.descriptor, message, SIZE, MSG_DONTWAIT | MSG_NOSIGNAL)
        stop.revents = 0
        if poll(&stop, 1, pulse.milliseconds) > 0:
            return NULL


@cython.final
cdef class Beat:
    """Sends signs of life over a socket until it is closed.

    Parameters
    ----------
    sock : socket
        Connected; it belongs to the beat from now on.
    epoch, number : int
        Whose life it is.
    seconds : float
        Between two signs.

    Raises
    ------
    RuntimeError
        If the thread cannot be started.

    Examples
    --------
    >>> beat = Beat(sock, epoch, number, 1.0)  # doctest: +SKIP
    >>> beat.close()  # doctest: +SKIP
    """

    cdef object sock
    cdef Pulse *pulse
    cdef pthread_t thread
    cdef int owner                      # the process in which the thread is

    def __cinit__(self, sock, uint64_t epoch, uint32_t number, double seconds):
        cdef pthread_attr_t attributes
        cdef int failed
        self.pulse = <Pulse *>malloc(sizeof(Pulse))
        if self.pulse == NULL:
            raise MemoryError
        self.owner = os.getpid()
        self.pulse.stop = -1
        self.pulse.stop = os.eventfd(0, os.EFD_CLOEXEC)
        self.pulse.descriptor = sock.fileno()
        self.pulse.milliseconds = max(1, <int>(seconds * 1000))
        self.pulse.epoch = epoch
        self.pulse.number = number
        pthread_attr_init(&attributes)
        pthread_attr_setstacksize(&attributes, STACK_BYTES)
        failed = pthread_create(&self.thread, &attributes, _beat, self.pulse)
        pthread_attr_destroy(&attributes)
        if failed:
            raise RuntimeError(f"cannot start the thread that sends signs of life: {os.strerror(failed)}")
        self.sock = sock

    def close(self) -> None:
        """Stop, and close the socket. In the child of a fork the thread is the parent's, and goes on."""
        cdef pthread_t thread = self.thread
        if self.sock is None:
            return
        if self.owner == os.getpid():
            os.eventfd_write(self.pulse.stop, 1)
            with nogil:
                pthread_join(thread, NULL)
        # Now, not when the last reference goes: an error's traceback may keep the worker for long.
        os.close(self.pulse.stop)
        self.pulse.stop = -1
        sock, self.sock = self.sock, None
        sock.close()

    def __dealloc__(self):
        if self.pulse != NULL:
            if self.sock is not None:
                self.close()
            if self.pulse.stop >= 0:
                os.close(self.pulse.stop)
            free(self.pulse)
